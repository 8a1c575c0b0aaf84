//! Code for the vector instructions of the machine it runs on.
//!
//! [`vectorised!`] compiles a function twice on x86-64: for AVX2 with fused multiply-add and for the baseline, and chooses when
//! it is called. Elsewhere the baseline has vectors. What the function calls is compiled with it only if it is inlined, so
//! helpers are `#[inline(always)]`.

/// True if the baseline multiplies and adds in one instruction; where it does not, `mul_add` would call a library.
pub(super) const BASELINE_FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// True if this machine has AVX2 and fused multiply-add.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// `a * b + c`, in one instruction if there is one.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// As [`fma`], of doubles.
#[inline(always)]
pub(super) fn fma64<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// A function in versions for several instruction sets. In its body, the constant `FMA` says whether there is a fused
/// multiply-add. Generic parameters are in brackets: `fn f[T: Copy](..)`.
macro_rules! vectorised {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident $([$($p:ident: $bound:path),*])? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => { $(
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "it is the same for all functions made here")]
        $vis fn $name $(<$($p: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
            #[allow(clippy::too_many_arguments, clippy::extra_unused_type_parameters, reason = "as above")]
            #[inline(always)]
            fn body<$($($p: $bound,)*)? const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments, reason = "as above")]
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$($p: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<$($($p,)*)? true>($($arg),*)
                }
                if $crate::ops::simd::has_avx2() {
                    // SAFETY: the function needs nothing but these features, and the machine has them.
                    return unsafe { avx2 $(::<$($p),*>)? ($($arg),*) };
                }
            }
            body::<$($($p,)*)? { $crate::ops::simd::BASELINE_FMA }>($($arg),*)
        }
    )* };
}
pub(super) use vectorised;

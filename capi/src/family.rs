//! Families: problems with a free number.

use std::ffi::c_char;

use ::kiln_jit::{Family, FamilyOptions};

use crate::error::{free, guard, kiln_status};
use crate::kernel::{kiln_args, with_args};
use crate::pointers::{Out, reference, text};
use crate::runtime::{constant_weights, kiln_runtime};
use crate::tensor::{TensorMemory, kiln_tensor};
use crate::weights::kiln_packed_weights;

/// Problems that differ in one number, such as how many rows there are.
pub struct kiln_family(Family);

/// The family of the problems that `pattern` is the text of, with `?` for the free number: "ip f32 mb?ic768oc3072 +bias". `flags`
/// is 0 or `KILN_CONSTANT_WEIGHTS`; `max` is the largest value, where code has to be made for it. Compiles the code that serves
/// any value now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_family_create(
    runtime: *const kiln_runtime,
    pattern: *const c_char,
    flags: u32,
    max: u64,
    family: *mut *mut kiln_family,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (out, runtime) = unsafe { (Out::new(family, "family")?, reference(runtime, "runtime")?) };
        // SAFETY: the header's rules.
        let pattern = unsafe { text(pattern, "pattern")? };
        let options = FamilyOptions { constant_weights: constant_weights(flags)?, max, ..FamilyOptions::default() };
        out.give(kiln_family(runtime.runtime.family(pattern, &options)?));
        Ok(())
    })
}

/// Frees a family. No call of it may be running.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_family_free(family: *mut kiln_family) {
    // SAFETY: the header's rules.
    unsafe { free(family) }
}

/// Packs weights for all members. `KILN_INVALID_ARGUMENT` if they read them in place, as all do without `KILN_CONSTANT_WEIGHTS`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_family_pack_weights(
    family: *const kiln_family,
    weights: *const kiln_tensor,
    packed: *mut *mut kiln_packed_weights,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (out, family) = unsafe { (Out::new(packed, "packed")?, reference(family, "family")?) };
        // SAFETY: the header's rules.
        let weights = unsafe { TensorMemory::of_input(reference(weights, "weights")?, "weights")?.input() };
        out.give(kiln_packed_weights(family.0.pack_weights(weights)?));
        Ok(())
    })
}

/// Computes `dst` of the member for `n`, at once: on exact code if there is some, else on code that serves any value. Exact code
/// for values asked for often is compiled in the background. Checks what `kiln_kernel_run` checks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_family_run(family: *const kiln_family, n: u64, args: *const kiln_args) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let family = unsafe { reference(family, "family")? };
        // SAFETY: the header's rules.
        unsafe { with_args(args, |args| family.0.run(n, args)) }
    })
}

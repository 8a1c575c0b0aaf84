//! Elementary functions of f32 without branches, so that loops over them become vector code.
//!
//! All are within a few units in the last place of the exact value, with infinities and NaN as IEEE 754 has them. The constant
//! `FMA` says whether multiplication and addition are one instruction in the code that they are inlined into. Polynomials are
//! minimax fits, highest power first.

use super::simd::{fma, fma64};

/// Adding and subtracting it rounds to an integer, ties to even, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;
const ROUND64: f64 = 6_755_399_441_055_744.0;

const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;

#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    let mut i = 1;
    while i < N {
        sum = fma::<FMA>(sum, x, coefficients[i]);
        i += 1;
    }
    sum
}

#[inline(always)]
fn polynomial64<const FMA: bool, const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[0];
    let mut i = 1;
    while i < N {
        sum = fma64::<FMA>(sum, x, coefficients[i]);
        i += 1;
    }
    sum
}

/// `high` if `x` is above it, `low` if below; NaN stays NaN.
#[inline(always)]
pub(super) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// `x`, but finite below zero: what it is multiplied by there goes to 0 faster than it grows.
#[inline(always)]
fn finite_below(x: f32) -> f32 {
    if x < f32::MIN { f32::MIN } else { x }
}

/// `x / (1 + exp(-x))`.
#[inline(always)]
pub fn silu<const FMA: bool>(x: f32) -> f32 {
    finite_below(x) * sigmoid::<FMA>(x)
}

/// `x * min(max(x / 6 + 1/2, 0), 1)`.
#[inline(always)]
pub fn hard_swish<const FMA: bool>(x: f32) -> f32 {
    finite_below(x) * clamp(fma::<FMA>(x, 1.0 / 6.0, 0.5), 0.0, 1.0)
}

/// `n` and `r` so that `x = n ln 2 + r`, `n` an integer with its bits, `r` small.
#[inline(always)]
fn reduced<const FMA: bool>(x: f32) -> (f32, u32, f32) {
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, x));
    (n, shifted.to_bits(), r)
}

/// `(exp(r) - 1 - r) / r^2`.
#[inline(always)]
fn exp_tail<const FMA: bool>(r: f32) -> f32 {
    polynomial::<FMA, 6>(r, [1.989_198e-4, 1.393_454_2e-3, 8.333_31e-3, 4.166_645_7e-2, 0.166_666_67, 0.5])
}

/// Two factors whose product is 2 to the power in the low bits of `n`, which alone may be too large or too small.
#[inline(always)]
fn powers_of_two(n: u32) -> (f32, f32) {
    let n = (n << 9) as i32 >> 9;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    (power(half), power(n - half))
}

/// The exponential.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let (_, n, r) = reduced::<FMA>(clamp(x, -105.0, 89.0));
    let (a, b) = powers_of_two(n);
    fma::<FMA>(r * r, exp_tail::<FMA>(r), r + 1.0) * a * b
}

/// The exponential of what is not positive; 0 where it is below the least normal number.
#[inline(always)]
pub fn exp_negative<const FMA: bool>(x: f32) -> f32 {
    let (_, n, r) = reduced::<FMA>(if x < -87.0 { -87.0 } else { x });
    let power = f32::from_bits((n << 23).wrapping_add(127 << 23));
    let y = fma::<FMA>(r * r, exp_tail::<FMA>(r), r + 1.0) * power;
    if x < -87.0 { 0.0 } else { y }
}

/// `exp(x) - 1`.
#[inline(always)]
pub fn exp_m1<const FMA: bool>(x: f32) -> f32 {
    let (_, n, r) = reduced::<FMA>(clamp(x, -40.0, 89.0));
    let (a, b) = powers_of_two(n);
    // `2^n (exp(r) - 1) + (2^n - 1)`, where powers beyond the range of f32 do not matter: then `a` is taken out.
    let small = fma::<FMA>(r * r, exp_tail::<FMA>(r), r);
    let y = fma::<FMA>(small * a, b, a * b - 1.0);
    let large = (small + 1.0) * a * b;
    if x > 80.0 { large } else { y }
}

/// The natural logarithm.
#[inline(always)]
pub fn log<const FMA: bool>(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // The exponent, so that the rest is between the roots of 1/2 and 2.
    let offset = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (offset as i32 >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let f = f32::from_bits((offset & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let p = polynomial::<FMA, 9>(
        f,
        [
            0.069_716_11,
            -0.114_797_34,
            0.116_854_2,
            -0.124_256_87,
            0.142_490_58,
            -0.166_678_02,
            0.200_007_16,
            -0.249_999_97,
            0.333_333_3,
        ],
    );
    let square = f * f;
    let tail = fma::<FMA>(exponent, LN2_LOW, fma::<FMA>(square * f, p, -0.5 * square));
    let y = fma::<FMA>(exponent, LN2_HIGH, f + tail);
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    // Also what is NaN.
    if x >= 0.0 { y } else { f32::NAN }
}

/// `log(1 + x)` of what is not negative.
#[inline(always)]
pub fn log_1p<const FMA: bool>(x: f32) -> f32 {
    let sum = 1.0 + x;
    let lost = x - (sum - 1.0);
    let y = log::<FMA>(sum) + lost / sum;
    if x == f32::INFINITY { x } else { y }
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let s = x * x;
    let p = polynomial::<FMA, 6>(
        s,
        [2.269_501_7e-3, -8.323_187e-3, 2.176_250_3e-2, -5.395_846e-2, 0.133_333, -0.333_333_34],
    );
    let near = fma::<FMA>(s * p, x, x);
    let far = 1.0 - 2.0 / (exp_positive::<FMA>(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.6 { near } else { far.copysign(x) }
}

/// The exponential of what is not negative, up to a power far beyond what matters next to 1.
#[inline(always)]
fn exp_positive<const FMA: bool>(x: f32) -> f32 {
    let (_, n, r) = reduced::<FMA>(if x > 88.0 { 88.0 } else { x });
    fma::<FMA>(r * r, exp_tail::<FMA>(r), r + 1.0) * f32::from_bits((n << 23).wrapping_add(127 << 23))
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// `1 - erf(x)` of what is not negative.
#[inline(always)]
fn erfc_positive<const FMA: bool>(x: f32) -> f32 {
    let w = 1.0 / fma::<FMA>(0.4, x, 1.0);
    let q = polynomial::<FMA, 10>(
        w,
        [
            -0.031_940_49,
            0.210_029_25,
            -0.525_205_8,
            0.579_936_7,
            -0.308_973,
            0.283_878_6,
            0.126_107_26,
            0.215_570_33,
            0.224_887_72,
            0.225_709_5,
        ],
    );
    let square = x * x;
    // What the square lost to rounding, of which the exponential would be that much wrong.
    let lost = if FMA { fma::<FMA>(x, x, -square) } else { 0.0 };
    let e = exp_negative::<FMA>(-square);
    let e = if square < 100.0 { fma::<FMA>(e, -lost, e) } else { e };
    w * q * e
}

/// The error function.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let s = x * x;
    let p = polynomial::<FMA, 7>(
        s,
        [-1.021_674_8e-5, 1.145_173_7e-4, -8.508_545e-4, 5.222_611e-3, -2.686_594_5e-2, 0.112_837_9, -0.376_126_4],
    );
    // The first coefficient is above 1: of its part above 1 less is lost.
    let near = fma::<FMA>(x, fma::<FMA>(s, p, 0.128_379_17), x);
    let far = 1.0 - erfc_positive::<FMA>(x.abs());
    if x.abs() < 0.9 { near } else { far.copysign(x) }
}

/// `x * (1 + erf(x / sqrt(2))) / 2`.
#[inline(always)]
pub fn gelu_erf<const FMA: bool>(x: f32) -> f32 {
    let x = finite_below(x);
    // Not by way of erf, which 1 would hide where it is near -1.
    let half = 0.5 * x * erfc_positive::<FMA>(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    let y = if x < 0.0 { half } else { x - half };
    if x == f32::INFINITY { x } else { y }
}

/// `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`.
#[inline(always)]
pub fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769;
    let x = finite_below(x);
    // `(1 + tanh(u)) / 2` is the sigmoid of `2 u`.
    x * sigmoid::<FMA>(TWICE_ROOT * x * fma::<FMA>(0.044_715, x * x, 1.0))
}

/// `log(1 + exp(x))`.
#[inline(always)]
pub fn softplus<const FMA: bool>(x: f32) -> f32 {
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + log_1p::<FMA>(exp::<FMA>(-x.abs()))
}

/// `x * tanh(log(1 + exp(x)))`.
#[inline(always)]
pub fn mish<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(if x > 20.0 { 20.0 } else { x });
    let n = e * (e + 2.0);
    finite_below(x) * (n / (n + 2.0))
}

/// The largest angle for the functions below; beyond it they are [`f32::sin`] and [`f32::cos`].
pub const MOST_ANGLE: f32 = 1e6;

/// The sine of `x + quarters * pi / 2`, for `x` up to [`MOST_ANGLE`].
#[inline(always)]
pub fn sin_quarters<const FMA: bool>(x: f32, quarters: u64) -> f32 {
    let x = f64::from(x);
    let shifted = fma64::<FMA>(x, std::f64::consts::FRAC_2_PI, ROUND64);
    let n = shifted - ROUND64;
    let r = fma64::<FMA>(n, -6.123_233_995_736_766e-17, fma64::<FMA>(n, -std::f64::consts::FRAC_PI_2, x));
    let q = shifted.to_bits().wrapping_add(quarters);
    let s = r * r;
    // Of magnitudes up to pi / 4, so these series end beyond 1e-11.
    let sin = fma64::<FMA>(
        r * s,
        polynomial64::<FMA, 5>(s, [-1.0 / 39_916_800.0, 1.0 / 362_880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0]),
        r,
    );
    let cos = fma64::<FMA>(
        s,
        polynomial64::<FMA, 6>(
            s,
            [1.0 / 479_001_600.0, -1.0 / 3_628_800.0, 1.0 / 40_320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5],
        ),
        1.0,
    );
    let y = if q & 1 == 0 { sin } else { cos };
    f64::from_bits(y.to_bits() ^ ((q & 2) << 62)) as f32
}

/// True if [`pow_positive`] has `a^b`.
#[inline(always)]
pub fn is_plain_power(a: f32, b: f32) -> bool {
    a > 0.0 && a < f32::INFINITY && b.abs() < f32::INFINITY
}

/// `a^b` of what is positive and finite.
#[inline(always)]
pub fn pow_positive<const FMA: bool>(a: f32, b: f32) -> f32 {
    // In doubles: errors of the logarithm grow with it and `b`.
    let bits = f64::from(a).to_bits();
    let offset = bits.wrapping_sub(0x3fe6_a09e_667f_3bcd);
    let m = f64::from_bits((offset & 0x000f_ffff_ffff_ffff).wrapping_add(0x3fe6_a09e_667f_3bcd));
    // An integer to a double without an instruction for it: it is added to the bits of a large one.
    let exponent =
        f64::from_bits((offset >> 52).wrapping_add(2048) & 0xfff | 0x4338_0000_0000_0000) - 6_755_399_441_057_792.0;
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let p = polynomial64::<FMA, 8>(
        z,
        [2.0 / 15.0, 2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0],
    );
    let log = fma64::<FMA>(exponent, std::f64::consts::LN_2, s * p);
    let y = f64::from(b) * log;
    let y = if y < -200.0 { -200.0 } else { y };
    let y = if y > 200.0 { 200.0 } else { y };
    let shifted = fma64::<FMA>(y, std::f64::consts::LOG2_E, ROUND64);
    let r = fma64::<FMA>(shifted - ROUND64, -std::f64::consts::LN_2, y);
    let e = polynomial64::<FMA, 10>(
        r,
        [1.0 / 362_880.0, 1.0 / 40_320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0],
    );
    (e * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))) as f32
}

#[cfg(test)]
mod tests {
    use super::super::testing::{sweep, ulps};
    use super::*;

    /// Tests of functions: the exact ones, and the most units in the last place that they are wrong by, with and without fused
    /// multiply-add.
    macro_rules! sweeps {
        ($($name:ident, $low:expr, $high:expr, $most:expr, $exact:expr;)*) => { $(
            #[test]
            fn $name() {
                let exact: fn(f64) -> f64 = $exact;
                for (f, most) in [(super::$name::<true> as fn(f32) -> f32, $most), (super::$name::<false>, 1.5 * $most)] {
                    sweep(stringify!($name), $low, $high, most, f, exact);
                }
            }
        )* };
    }

    sweeps! {
        exp, -110.0, 95.0, 1.5, f64::exp;
        exp_negative, -87.0, 0.0, 1.5, f64::exp;
        exp_m1, -50.0, 95.0, 2.5, f64::exp_m1;
        log, -1.0, f32::INFINITY, 2.0, f64::ln;
        log_1p, 0.0, f32::INFINITY, 2.5, f64::ln_1p;
        tanh, -100.0, 100.0, 2.5, f64::tanh;
        sigmoid, -87.0, 100.0, 3.5, |x| 1.0 / (1.0 + (-x).exp());
        erf, -20.0, 20.0, 3.0, libm::erf;
        softplus, -87.0, 200.0, 3.0, |x| if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() };
    }

    fn relative(x: f32, found: f32, exact: f64, most: f64) {
        let error = (f64::from(found) - exact).abs();
        assert!(error <= most * exact.abs() + 1e-37, "{x}: found {found}, expected {exact}");
    }

    #[test]
    fn products_with_sigmoids_are_right_far_below_zero_too() {
        for i in 0..200_000 {
            let x = (i as f32 / 200_000.0 - 0.5) * 16.0;
            let d = f64::from(x);
            // Exponents that were rounded show in proportion to their magnitude.
            let most = 5e-7 + 3e-7 * d * d;
            let gelu = 0.5 * d * libm::erfc(-d * std::f64::consts::FRAC_1_SQRT_2);
            relative(x, gelu_erf::<true>(x), gelu, 1.5e-6 + 1e-7 * d * d);
            relative(x, gelu_erf::<false>(x), gelu, most);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (d + 0.044715 * d * d * d);
            let gelu = d / (1.0 + (-2.0 * u).exp());
            relative(x, gelu_tanh::<true>(x), gelu, 5e-7 + 2e-7 * (d * d * d).abs());
            let e = d.exp();
            relative(x, mish::<true>(x), d * (e * e + 2.0 * e) / (e * e + 2.0 * e + 2.0), 1e-6);
        }
        for f in [gelu_erf::<true>, gelu_tanh::<true>, mish::<true>] {
            assert_eq!((f(f32::INFINITY), f(0.0), f(f32::NEG_INFINITY)), (f32::INFINITY, 0.0, 0.0));
            assert!(f(f32::NAN).is_nan());
            assert!((f(1e30) - 1e30).abs() < 1e24);
        }
    }

    #[test]
    fn angles() {
        for most in [1.0, 100.0, MOST_ANGLE] {
            for i in 0..200_000 {
                let x = (i as f32 / 100_000.0 - 1.0) * most;
                let d = f64::from(x);
                assert!((f64::from(sin_quarters::<true>(x, 0)) - d.sin()).abs() <= 1e-7 * d.sin().abs() + 1e-10);
                assert!((f64::from(sin_quarters::<false>(x, 1)) - d.cos()).abs() <= 1e-7 * d.cos().abs() + 1e-10);
            }
        }
    }

    #[test]
    fn powers() {
        for i in 0..500_000u32 {
            let a = f32::from_bits(i.wrapping_mul(4243) % 0x7f80_0000);
            let b = (i % 1009) as f32 / 50.0 - 10.0;
            if !is_plain_power(a, b) {
                continue;
            }
            let exact = f64::from(a).powf(f64::from(b));
            assert!(ulps(pow_positive::<true>(a, b), exact) <= 1.0, "{a} to {b}: {exact}");
            assert!(ulps(pow_positive::<false>(a, b), exact) <= 1.0, "{a} to {b}: {exact}");
        }
    }
}

//! The arithmetic of BFDOT and BFMMLA, bit for bit, on cores without FEAT_EBF16 or with FPCR.EBF = 0.
//!
//! Arm Architecture Reference Manual, shared pseudocode `BFDotAdd`, `BFMul`, `BFAdd` and `BFRound`: each product, the sum
//! of the two and its addition to the accumulator are rounded to odd, in that order; denormals are flushed to zero before
//! and after each step; overflow gives infinity; every NaN is the default NaN; FPCR does not matter.

/// The NaN that every NaN becomes.
const DEFAULT_NAN: u32 = 0x7fc0_0000;

/// `addend + a.0 * b.0 + a.1 * b.1`: words hold two bf16, the first in the low half; `addend` and the result are f32 bits.
pub fn dot_add(addend: u32, a: u32, b: u32) -> u32 {
    let low = multiply(a << 16, b << 16);
    let high = multiply(a & 0xffff_0000, b & 0xffff_0000);
    add(addend, add(low, high))
}

/// One element of BFMMLA: two steps of [`dot_add`], in order.
pub fn mmla_element(addend: u32, row: [u32; 2], column: [u32; 2]) -> u32 {
    dot_add(dot_add(addend, row[0], column[0]), row[1], column[1])
}

/// An f32 with denormals flushed, exactly.
fn unpack(bits: u32) -> f64 {
    let value = f32::from_bits(bits);
    f64::from(if value.is_subnormal() { 0.0f32.copysign(value) } else { value })
}

fn multiply(a: u32, b: u32) -> u32 {
    // 8 by 8 significant bits: exact.
    round(unpack(a) * unpack(b), 0.0)
}

fn add(a: u32, b: u32) -> u32 {
    let (a, b) = (unpack(a), unpack(b));
    let sum = a + b;
    // Knuth's TwoSum: `sum + error` is `a + b` exactly. Infinities have no error to speak of.
    let from_b = sum - a;
    let error = (a - (sum - from_b)) + (b - from_b);
    round(sum, if error.is_nan() { 0.0 } else { error })
}

/// The f32 that `value + error` rounds to, to odd, where `error` is below the last bit of `value`.
fn round(value: f64, error: f64) -> u32 {
    if value.is_nan() {
        return DEFAULT_NAN;
    }
    let sign = u32::from(value.is_sign_negative()) << 31;
    if value.is_infinite() {
        return sign | f32::INFINITY.to_bits();
    }
    let mut bits = value.abs().to_bits();
    if error != 0.0 && (error < 0.0) != value.is_sign_negative() {
        // The exact magnitude lies below: truncation takes the neighbour, and what is cut off is not zero.
        bits -= 1;
    }
    if bits < f64::from(f32::MIN_POSITIVE).to_bits() {
        return sign;
    }
    // 29 more bits of fraction in f64 than in f32, and another exponent bias.
    let inexact = error != 0.0 || bits & ((1 << 29) - 1) != 0;
    let magnitude = (bits >> 29) - ((1023 - 127) << 23);
    if magnitude >= u64::from(f32::INFINITY.to_bits()) {
        return sign | f32::INFINITY.to_bits();
    }
    sign | magnitude as u32 | u32::from(inexact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(addend: f32, a: [f32; 2], b: [f32; 2]) -> u32 {
        let pair = |p: [f32; 2]| (p[0].to_bits() >> 16) | (p[1].to_bits() & 0xffff_0000);
        dot_add(addend.to_bits(), pair(a), pair(b))
    }

    #[test]
    fn exact_sums_are_exact() {
        assert_eq!(f32::from_bits(dot(5.0, [2.0, 3.0], [-1.0, 4.0])), 15.0);
        assert_eq!(dot(0.0, [0.0, 0.0], [1.0, 1.0]), 0);
        assert_eq!(dot(-0.0, [-0.0, -0.0], [1.0, 1.0]), (-0.0f32).to_bits());
        assert_eq!(dot(1.0, [-1.0, 0.0], [1.0, 0.0]), 0, "an exact zero is positive");
    }

    #[test]
    fn inexact_sums_are_odd() {
        let tiny = 2f32.powi(-40);
        assert_eq!(dot(1.0, [tiny, 0.0], [1.0, 0.0]), 1.0f32.to_bits() | 1);
        assert_eq!(dot(1.0, [-tiny, 0.0], [1.0, 0.0]), 1.0f32.to_bits() - 1, "the last bit is 1 already");
        assert_eq!(dot(1.0, [2f32.powi(-100), 0.0], [1.0, 0.0]), 1.0f32.to_bits() | 1);
    }

    #[test]
    fn special_values() {
        assert_eq!(dot(f32::NAN, [1.0, 1.0], [1.0, 1.0]), DEFAULT_NAN);
        assert_eq!(dot(0.0, [f32::INFINITY, 0.0], [0.0, 0.0]), DEFAULT_NAN);
        assert_eq!(dot(f32::NEG_INFINITY, [f32::INFINITY, 0.0], [1.0, 0.0]), DEFAULT_NAN);
        assert_eq!(dot(0.0, [f32::INFINITY, 1.0], [-2.0, 0.0]), f32::NEG_INFINITY.to_bits());
        let denormal = f32::from_bits(0x0040_0000);
        assert_eq!(dot(denormal, [0.0, 0.0], [0.0, 0.0]), 0);
        assert_eq!(dot(0.0, [denormal, 0.0], [1e30, 0.0]), 0);
        assert_eq!(dot(0.0, [2f32.powi(-100), 0.0], [2f32.powi(-100), 0.0]), 0);
        assert_eq!(dot(0.0, [2f32.powi(100), 0.0], [-(2f32.powi(100)), 0.0]), f32::NEG_INFINITY.to_bits());
    }
}

//! Sums and maxima of contiguous elements, many lanes at once.

use super::simd::fma;

/// Lanes of partial results: several registers, so that additions do not wait for each other.
pub(super) const LANES: usize = 32;

/// Lanes of a register.
const REGISTER: usize = 8;

/// Elements whose sum is taken in f32; sums of more are added up in f64, so errors do not grow with the number.
const EXACT: usize = 4096;

/// Merges each element into one of the lanes.
#[inline(always)]
pub(super) fn merge_into_lanes(x: &[f32], lanes: &mut [f32; LANES], merge: impl Fn(f32, f32) -> f32) {
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            lanes[i] = merge(lanes[i], x[i]);
        }
    }
    // Rows may be hardly longer than that.
    let (registers, rest) = rest.as_chunks::<REGISTER>();
    for (r, x) in registers.iter().enumerate() {
        for i in 0..REGISTER {
            lanes[r * REGISTER + i] = merge(lanes[r * REGISTER + i], x[i]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = merge(*lane, *x);
    }
}

/// The sum of `f` of all elements.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for chunk in x.chunks(EXACT) {
        let mut lanes = [0.0f32; LANES];
        merge_into_lanes(chunk, &mut lanes, |lane, x| lane + f(x));
        total += f64::from(fold(lanes, |a, b| a + b));
    }
    total
}

/// The sums of all elements less `shift`, and of their squares.
#[inline(always)]
pub(super) fn moments<const FMA: bool>(x: &[f32], shift: f32) -> (f64, f64) {
    let mut total = (0.0, 0.0);
    for chunk in x.chunks(EXACT) {
        let (mut first, mut second) = ([0.0f32; LANES], [0.0f32; LANES]);
        let (whole, rest) = chunk.as_chunks::<LANES>();
        for x in whole {
            for i in 0..LANES {
                let d = x[i] - shift;
                first[i] += d;
                second[i] = fma::<FMA>(d, d, second[i]);
            }
        }
        for (i, x) in rest.iter().enumerate() {
            let d = x - shift;
            first[i] += d;
            second[i] = fma::<FMA>(d, d, second[i]);
        }
        total.0 += f64::from(fold(first, |a, b| a + b));
        total.1 += f64::from(fold(second, |a, b| a + b));
    }
    total
}

/// One of all lanes.
#[inline(always)]
pub(super) fn fold(mut lanes: [f32; LANES], merge: impl Fn(f32, f32) -> f32) -> f32 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = merge(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

/// The greatest element; of what is NaN, that is not certain.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let merge = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    merge_into_lanes(x, &mut lanes, merge);
    fold(lanes, merge)
}

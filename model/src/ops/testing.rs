//! Numbers for tests, and their comparison.

/// Numbers between `-most` and `most`, the same each time.
pub(super) fn numbers(count: usize, most: f32) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * most
    };
    (0..count).map(|_| next()).collect()
}

/// Whether each number is within these errors of the expected one.
#[track_caller]
pub(super) fn close(found: &[f32], expected: &[f64], relative: f64, absolute: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let f = f64::from(*f);
        let same = (f.is_nan() && e.is_nan()) || f == *e || f == f64::from(*e as f32);
        assert!(same || (f - e).abs() <= absolute + relative * e.abs(), "{i}: found {f}, expected {e}");
    }
}

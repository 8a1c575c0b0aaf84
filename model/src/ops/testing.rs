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

/// True if each number is within these errors of the expected one.
#[track_caller]
pub(super) fn close(found: &[f32], expected: &[f64], relative: f64, absolute: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let f = f64::from(*f);
        let same = (f.is_nan() && e.is_nan()) || f == *e || f == f64::from(*e as f32);
        assert!(same || (f - e).abs() <= absolute + relative * e.abs(), "{i}: found {f}, expected {e}");
    }
}

/// The error in units in the last place of the expected value; below the normal numbers, of the least of them.
pub(super) fn ulps(found: f32, expected: f64) -> f64 {
    let nearest = expected as f32;
    if found == nearest || (found.is_nan() && nearest.is_nan()) {
        return 0.0;
    }
    if !nearest.is_finite() || !found.is_finite() {
        return f64::INFINITY;
    }
    let exponent = (nearest.abs().max(f32::MIN_POSITIVE).to_bits() >> 23) as i32 - 127;
    (f64::from(found) - expected).abs() / f64::from(exponent - 23).exp2()
}

/// Compares functions on numbers between two, of which many are small.
#[track_caller]
pub(super) fn sweep(name: &str, low: f32, high: f32, most: f64, f: fn(f32) -> f32, exact: fn(f64) -> f64) {
    let (from, to) = (low.max(-1e3), high.min(1e3));
    let even = (0..300_001).map(|i| from + (to - from) * (i as f32 / 300_000.0));
    let all = (0..200_000).map(|i| f32::from_bits(i * 10_653)).flat_map(|x| [x, -x]);
    let x = even.chain(all).filter(|x| (low..=high).contains(x)).chain([f32::NAN]);
    let errors = x.map(|x| (ulps(f(x), exact(x.into())), x));
    let (error, x) = errors.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are numbers");
    println!("{name}: {error:.2} units in the last place at {x:e}");
    assert!(error <= most, "{name}: {error} units: {x} gives {}, expected {}", f(x), exact(x.into()));
}

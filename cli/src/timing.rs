//! Repeated calls, timed.

use std::time::{Duration, Instant};

use kiln_runtime::RuntimeError;

use crate::counter::Cycles;

/// The least time of a batch of calls, between two readings of the clock, so that reading it adds nothing to speak of.
const BATCH: Duration = Duration::from_micros(100);
/// The fewest samples a median is taken of.
const SAMPLES: usize = 5;

/// The cost of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Median nanoseconds.
    pub ns: f64,
    /// Median user cycles; `None` if they cannot be counted.
    pub cycles: Option<f64>,
}

/// The median cost of `call`, repeated for at least `total`.
pub fn measure(
    total: Duration,
    cycles: &mut Cycles,
    mut call: impl FnMut() -> Result<(), RuntimeError>,
) -> Result<Cost, RuntimeError> {
    call()?;
    let batch = batch(&mut call)?;
    let (mut times, mut counts) = (vec![], vec![]);
    let start = Instant::now();
    while times.len() < SAMPLES || start.elapsed() < total {
        let (before, begin) = (cycles.read(), Instant::now());
        for _ in 0..batch {
            call()?;
        }
        times.push(begin.elapsed().as_nanos() as f64 / batch as f64);
        if let (Some(before), Some(after)) = (before, cycles.read()) {
            counts.push((after - before) as f64 / batch as f64);
        }
    }
    Ok(Cost { ns: median(&mut times).unwrap_or(0.0), cycles: median(&mut counts) })
}

/// The number of calls that take [`BATCH`].
fn batch(call: &mut impl FnMut() -> Result<(), RuntimeError>) -> Result<u32, RuntimeError> {
    let mut batch = 1;
    loop {
        let begin = Instant::now();
        for _ in 0..batch {
            call()?;
        }
        if begin.elapsed() >= BATCH || batch >= 1 << 20 {
            return Ok(batch);
        }
        batch *= 2;
    }
}

/// The median, or `None` without values. Sorts the values.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let mid = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[mid]),
        _ => Some((values[mid - 1] + values[mid]) / 2.0),
    }
}

/// A time as text, in the unit that suits it.
pub fn show_ns(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} us", ns / 1e3),
        ns if ns < 1e9 => format!("{:.3} ms", ns / 1e6),
        ns => format!("{:.3} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn units() {
        assert_eq!(show_ns(12.34), "12.3 ns");
        assert_eq!(show_ns(12_345.0), "12.35 us");
        assert_eq!(show_ns(1_234_567.0), "1.235 ms");
        assert_eq!(show_ns(2.5e9), "2.500 s");
    }

    #[test]
    fn a_sleep_is_measured() {
        let sleep = || {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        };
        let cost = measure(Duration::ZERO, &mut Cycles::user(), sleep).unwrap();
        assert!(cost.ns >= 2e6, "{cost:?}");
    }
}

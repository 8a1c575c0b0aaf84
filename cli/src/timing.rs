//! Repeated calls, timed.

use std::time::{Duration, Instant};

use crate::counter::Cycles;
use crate::error::Error;

/// The least time of a batch of calls, between two readings of the clock, so that reading it adds nothing to speak of.
const BATCH: Duration = Duration::from_micros(100);
/// The fewest samples a median is taken of.
const SAMPLES: usize = 5;
/// The most calls between two looks at the clock.
const MOST_CALLS: u32 = 1 << 20;

/// The cost of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Median nanoseconds.
    pub ns: f64,
    /// Median user cycles; `None` if they cannot be counted.
    pub cycles: Option<f64>,
}

/// The median cost of `call`, repeated for at least `total`.
pub fn measure<E>(total: Duration, cycles: &mut Cycles, mut call: impl FnMut() -> Result<(), E>) -> Result<Cost, Error>
where
    Error: From<E>,
{
    call()?;
    let batch = batch(&mut call)?;
    let (mut times, mut counts) = (vec![], vec![]);
    let span = Span::new(total);
    while times.len() < SAMPLES || !span.is_over()? {
        let (before, begin) = (cycles.read(), Instant::now());
        for _ in 0..batch {
            call()?;
        }
        times.push(begin.elapsed().as_nanos() as f64 / f64::from(batch));
        if let (Some(before), Some(after)) = (before, cycles.read()) {
            counts.push((after - before) as f64 / f64::from(batch));
        }
    }
    Ok(Cost { ns: median(&mut times).unwrap_or(0.0), cycles: median(&mut counts) })
}

/// The number of calls that take [`BATCH`].
fn batch<E>(call: &mut impl FnMut() -> Result<(), E>) -> Result<u32, Error>
where
    Error: From<E>,
{
    let mut batch = 1;
    let span = Span::new(BATCH);
    loop {
        let begin = Instant::now();
        for _ in 0..batch {
            call()?;
        }
        if begin.elapsed() >= BATCH || batch >= MOST_CALLS || span.has_waited()? {
            return Ok(batch);
        }
        batch *= 2;
    }
}

/// A time to measure for. It ends even if the clock stands still or creeps: the system also counts the seconds since it started.
pub struct Span {
    start: Instant,
    up: i64,
    total: Duration,
}

impl Span {
    /// A time of `total` that begins now.
    pub fn new(total: Duration) -> Self {
        Span { start: Instant::now(), up: uptime(), total }
    }

    /// Returns true when the time has passed. Fails if the clock has hardly moved by then.
    pub fn is_over(&self) -> Result<bool, Error> {
        Ok(self.start.elapsed() >= self.total || self.has_waited()?)
    }

    /// Returns true when twice the time and more has passed by the seconds since the system started. Fails if the clock has hardly
    /// moved by then.
    pub fn has_waited(&self) -> Result<bool, Error> {
        /// Seconds that are granted besides: they are counted as whole ones.
        const MERCY: i64 = 2;
        /// A clock that is so many times too slow is as good as none.
        const CREEPING: u32 = 100;
        let total = i64::try_from(self.total.as_secs()).unwrap_or(i64::MAX);
        let (seconds, elapsed) = (uptime() - self.up, self.start.elapsed());
        if seconds <= total.saturating_mul(2).saturating_add(MERCY) {
            return Ok(false);
        }
        match elapsed.saturating_mul(CREEPING) < Duration::from_secs(seconds.unsigned_abs()) {
            true => Err(Error::Clock { elapsed, seconds }),
            false => Ok(true),
        }
    }
}

/// Whole seconds since the system started, which are not read from the clock that measures.
fn uptime() -> i64 {
    rustix::system::sysinfo().uptime as i64
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
            Ok::<(), Error>(())
        };
        let cost = measure(Duration::ZERO, &mut Cycles::user(), sleep).unwrap();
        assert!(cost.ns >= 2e6, "{cost:?}");
    }
}

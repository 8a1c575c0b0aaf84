//! The answer to a preparation.

use std::time::Instant;

use crate::counter::Cycles;

/// A weighted sum, by which results are compared.
pub fn checksum(elements: impl Iterator<Item = f64>) -> f64 {
    elements.enumerate().map(|(i, v)| v * (i % 61 + 1) as f64).sum()
}

/// Nanoseconds and cycles.
pub type Time = (i128, i64);

/// The line about a preparation: the times of its parts, and the sum of its results.
pub fn answer(create: Time, first: Time, again: Option<Time>, sum: f64) -> String {
    let mut answer = String::from("ok");
    for (name, (ns, cycles)) in [("create", create), ("first", first), ("again", again.unwrap_or((-1, -1)))] {
        answer += &format!(" {name}_ns={ns} {name}_cyc={cycles}");
    }
    answer + &format!(" sum={sum:?}")
}

/// A stopwatch for the parts of a preparation.
pub struct Lap<'a> {
    cycles: &'a mut Cycles,
    since: (Instant, Option<u64>),
}

impl<'a> Lap<'a> {
    /// Starts it.
    pub fn start(cycles: &'a mut Cycles) -> Self {
        let count = cycles.read();
        Self { cycles, since: (Instant::now(), count) }
    }

    /// Nanoseconds and cycles since the last time.
    pub fn next(&mut self) -> Time {
        let now = (Instant::now(), self.cycles.read());
        let (start, count) = std::mem::replace(&mut self.since, now);
        ((now.0 - start).as_nanos() as i128, difference(count, now.1))
    }
}

/// The difference of two counts, or -1 if there are none.
pub fn difference(before: Option<u64>, after: Option<u64>) -> i64 {
    before.zip(after).map_or(-1, |(before, after)| after as i64 - before as i64)
}

//! The division of a kernel's call among threads.

use std::ops::Range;

use kiln_compiler::schedule::Schedule;

/// Predicted cycles that are worth a thread: a fork and join takes about a tenth of that while threads are awake.
const CYCLES_PER_THREAD: f64 = 10_000.0;
/// Parts of all threads together, about, of a kernel whose tasks share copies: each part makes again those that it begins within.
const COPYING_PARTS: usize = 8;

/// The threads that are worth dividing so many predicted cycles among.
pub(crate) fn threads_worth(cycles: f64) -> usize {
    ((cycles / CYCLES_PER_THREAD) as usize).max(1)
}

/// A kernel's tasks in parts, of which a thread takes one or more that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Threads that the call is worth.
    pub threads: usize,
    /// Parts that threads share.
    pub parts: u64,
    tasks: u64,
}

impl Division {
    /// The division among at most `threads` threads, at least one, of so many `tasks`, at least one, that take so many predicted `cycles`.
    pub fn new(schedule: &Schedule, tasks: u64, cycles: f64, threads: usize) -> Self {
        let most = usize::try_from(tasks).unwrap_or(usize::MAX);
        let threads = threads.min(threads_worth(cycles)).min(most);
        let parts = match schedule.copies_for_tasks() {
            true => tasks.min((threads * (COPYING_PARTS / threads).max(1)) as u64),
            false => tasks,
        };
        Division { threads, parts, tasks }
    }

    /// The tasks of some parts: equally many in each, but for one.
    pub fn tasks(&self, parts: Range<u64>) -> Range<u64> {
        let first = |part: u64| (u128::from(self.tasks) * u128::from(part) / u128::from(self.parts)) as u64;
        first(parts.start)..first(parts.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_tasks_in_order() {
        let schedule = |lhs: &str| -> Schedule {
            let text = "neon/mmla parallel=mn; n 0..64 tile 4x16 mc=4 nc=64 kc=64 unroll=8 order=nm rhs=packed lhs=";
            text.replace("rhs=packed lhs=", &format!("lhs={lhs} rhs=packed")).parse().unwrap()
        };
        for (lhs, tasks, cycles, threads) in [
            ("inplace", 100, 1e9, 7),
            ("block", 100, 1e9, 7),
            ("block", 100, 1e9, 2),
            ("block", 3, 1e9, 64),
            ("block", 9, 1.0, 4),
        ] {
            let division = Division::new(&schedule(lhs), tasks, cycles, threads);
            assert!((1..=threads).contains(&division.threads) && division.parts >= division.threads as u64);
            let ends: Vec<u64> = (0..division.parts).map(|part| division.tasks(part..part + 1).end).collect();
            assert!(ends.windows(2).all(|w| w[0] < w[1]) && ends.last() == Some(&tasks), "{ends:?}");
        }
        let parts = |lhs, threads| Division::new(&schedule(lhs), 100, 1e9, threads).parts;
        assert_eq!([parts("inplace", 2), parts("block", 2), parts("block", 16)], [100, 8, 16]);
        assert_eq!(Division::new(&schedule("inplace"), 100, 25_000.0, 64).threads, 2);
    }
}

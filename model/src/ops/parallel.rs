//! Division of an operation's result among threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Threads that operations are divided among.
pub trait Parallel: Sync {
    /// Their number, at least 1.
    fn threads(&self) -> usize;

    /// Calls `work` with ranges that partition `0..tasks`, on any threads, and returns when all calls have returned.
    fn each(&self, tasks: usize, work: &(dyn Fn(Range<usize>) + Sync));
}

/// The calling thread alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn each(&self, tasks: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        work(0..tasks);
    }
}

/// Work that is worth a thread, in elements of cheap operations.
const WORTH: usize = 8 << 10;

/// The weight of an element of a costlier operation.
pub(crate) const EXP: usize = 8;

/// Pieces at most, and per thread: a thread that is held up leaves its share to the others.
const MOST_PIECES: usize = 128;
const PIECES_PER_THREAD: usize = 4;

/// Bytes that start a piece at a multiple of themselves, where pieces are large: vectors of it cross no line, and no two threads write to
/// one line.
const LINE: usize = 64;

/// The units of each piece, but perhaps for the last, and how many pieces there are; `None` if one thread does all. One unit is as much work
/// as `cost` cheap operations, and has so many bytes.
pub(crate) fn pieces(units: usize, bytes: usize, cost: usize, threads: usize) -> Option<(usize, usize)> {
    let worth = (units.saturating_mul(cost) / WORTH).min(units);
    if threads < 2 || worth < 2 {
        return None;
    }
    let each = units.div_ceil(worth.min(threads.saturating_mul(PIECES_PER_THREAD)).min(MOST_PIECES));
    // The units that fill whole lines: a line over the largest power of two in a unit.
    let aligned = LINE >> bytes.trailing_zeros().min(LINE.trailing_zeros());
    let each = if each >= 4 * aligned { each.next_multiple_of(aligned) } else { each };
    Some((each, units.div_ceil(each)))
}

/// Calls `work` with ranges of units and the part of `dst` that has them, `unit` elements each but perhaps for the last, so that
/// the ranges partition all of `dst`. One unit is as much work as `cost` cheap operations.
pub(super) fn split<T: Send>(
    parallel: &dyn Parallel,
    dst: &mut [T],
    unit: usize,
    cost: usize,
    work: &(dyn Fn(Range<usize>, &mut [T]) + Sync),
) {
    if dst.is_empty() {
        return;
    }
    let units = dst.len().div_ceil(unit);
    let bytes = unit.saturating_mul(size_of::<T>());
    let Some((each, _)) = pieces(units, bytes, cost, parallel.threads()) else { return work(0..units, dst) };
    // Parts are handed out by way of locks, which nobody waits for: so no promise of `parallel` keeps threads from each other's.
    let mut parts = [const { Mutex::new(None) }; MOST_PIECES];
    let mut count = 0;
    for (slot, part) in parts.iter_mut().zip(dst.chunks_mut(each.saturating_mul(unit))) {
        *slot.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(part);
        count += 1;
    }
    let take = |piece: usize| {
        let part = parts[piece].lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(part) = part {
            work(piece * each..(piece * each + part.len().div_ceil(unit)), part);
        }
    };
    parallel.each(count, &|pieces| pieces.for_each(take));
    (0..count).for_each(take);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two threads, started for each call.
    pub(in super::super) struct Two;

    impl Parallel for Two {
        fn threads(&self) -> usize {
            2
        }

        fn each(&self, tasks: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
            std::thread::scope(|scope| {
                scope.spawn(|| work(0..tasks / 2));
                work(tasks / 2..tasks);
            });
        }
    }

    /// Threads that do nothing.
    struct Idle;

    impl Parallel for Idle {
        fn threads(&self) -> usize {
            100
        }

        fn each(&self, _tasks: usize, _work: &(dyn Fn(Range<usize>) + Sync)) {}
    }

    #[test]
    fn large_pieces_start_at_lines() {
        for (units, bytes) in [(100_003, 4), (5_001, 96), (7_777, 2), (3_001, 64), (9_999, 12)] {
            for threads in [2, 3, 7] {
                let (each, count) = pieces(units, bytes, 1000, threads).unwrap();
                assert_eq!(each * bytes % LINE, 0, "{units} units of {bytes} bytes on {threads} threads");
                assert!(count >= threads.min(MOST_PIECES), "{count} pieces for {threads} threads");
            }
        }
        // Few units are divided all the same.
        assert_eq!(pieces(3, 4, 1 << 20, 3), Some((1, 3)));
    }

    #[test]
    fn units_are_worked_on_once() {
        for parallel in [&Serial as &dyn Parallel, &Two, &Idle] {
            for (len, unit) in [(0, 3), (1, 3), (100_000, 7), (65_536, 65_536), (100, 1)] {
                let mut dst = vec![0u32; len];
                split(parallel, &mut dst, unit, 1000, &|units, part| {
                    assert_eq!(part.len().div_ceil(unit), units.len());
                    for (i, v) in part.iter_mut().enumerate() {
                        *v += (units.start * unit + i) as u32 + 1;
                    }
                });
                assert!(dst.iter().enumerate().all(|(i, v)| *v == i as u32 + 1));
            }
        }
    }
}

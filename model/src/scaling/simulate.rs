//! Tasks given to threads as the runtime's own threads take them (`kiln-team`): each thread has the same share of them, in up to
//! [`PIECES`] pieces, and one that has done its share takes pieces that are left of the others' shares.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use kiln_jit::compiler::work::{KINDS, Part};

/// The most pieces of a share.
const PIECES: u64 = 8;

/// The time and bytes that threads spent on tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spent {
    /// Threads that had a share.
    pub threads: usize,
    /// Cycles until the last one was done.
    pub span: f64,
    /// Cycles of all threads at work.
    pub cycles: f64,
    /// Bytes that all threads together read or write, each thread each byte of its share once.
    pub bytes: [f64; KINDS],
}

/// A time at which a thread is free. Times are not negative, so that their bits are in their order.
type Free = Reverse<(u64, usize)>;

/// Simulates `tasks` on so many threads, where one call for a range of tasks costs what `cost` says.
pub(super) fn simulate(tasks: u64, threads: usize, cost: &mut dyn FnMut(Range<u64>) -> Part) -> Spent {
    let threads = usize::try_from(tasks).map_or(threads, |tasks| tasks.min(threads));
    if threads <= 1 {
        let Part { cycles, bytes, .. } = cost(0..tasks);
        return Spent { threads: 1, span: cycles, cycles, bytes };
    }
    let shares: Vec<Range<u64>> = (0..threads).map(|thread| part(&(0..tasks), thread as u64, threads as u64)).collect();
    let pieces = |owner: usize| (shares[owner].end - shares[owner].start).min(PIECES);
    let mut spent = Spent { threads, span: 0.0, cycles: 0.0, bytes: [0.0; KINDS] };
    for share in &shares {
        let bytes = cost(share.clone()).bytes;
        spent.bytes = std::array::from_fn(|kind| spent.bytes[kind] + bytes[kind]);
    }
    let mut taken = vec![0; threads];
    // How many shares, from its own on, each thread has found to be taken.
    let mut passed = vec![0; threads];
    let mut free: BinaryHeap<Free> = (0..threads).map(|thread| Reverse((0, thread))).collect();
    while let Some(Reverse((time, thread))) = free.pop() {
        let owner = |passed: usize| (thread + passed) % threads;
        while passed[thread] < threads && taken[owner(passed[thread])] == pieces(owner(passed[thread])) {
            passed[thread] += 1;
        }
        if passed[thread] == threads {
            continue;
        }
        let owner = owner(passed[thread]);
        let cycles = cost(part(&shares[owner], taken[owner], pieces(owner))).cycles;
        taken[owner] += 1;
        let end = f64::from_bits(time) + cycles;
        spent.cycles += cycles;
        spent.span = spent.span.max(end);
        free.push(Reverse((end.to_bits(), thread)));
    }
    spent
}

/// The part numbered `at` of `parts` that are as long as each other, but for one task.
pub(super) fn part(tasks: &Range<u64>, at: u64, parts: u64) -> Range<u64> {
    let (each, over) = ((tasks.end - tasks.start) / parts, (tasks.end - tasks.start) % parts);
    let cut = |at: u64| tasks.start + each * at + over * at / parts;
    cut(at)..cut(at + 1)
}

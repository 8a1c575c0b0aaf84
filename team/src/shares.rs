//! Which tasks are whose: shares of threads, and the pieces in which they are taken.

use std::ops::Range;

/// The most pieces of a share.
pub const PIECES: u64 = 8;

/// Tasks cut into a share for each thread. The same tasks and threads give the same shares.
#[derive(Clone, Debug)]
pub struct Shares {
    tasks: Range<u64>,
    threads: u64,
}

impl Shares {
    /// `threads` are at least 1, and no more than there are tasks.
    pub fn new(tasks: Range<u64>, threads: usize) -> Self {
        Self { tasks, threads: threads as u64 }
    }

    pub fn threads(&self) -> usize {
        self.threads as usize
    }

    /// The tasks of a thread.
    fn share(&self, thread: usize) -> Range<u64> {
        part(&self.tasks, thread as u64, self.threads)
    }

    /// The number of pieces of a thread's share.
    #[inline]
    pub fn pieces(&self, thread: usize) -> u64 {
        let share = self.share(thread);
        (share.end - share.start).min(PIECES)
    }

    /// The tasks of one piece of a thread's share.
    #[inline]
    pub fn piece(&self, thread: usize, piece: u64) -> Range<u64> {
        part(&self.share(thread), piece, self.pieces(thread))
    }
}

/// The part numbered `at` of `parts` that are as long as each other, but for one task.
#[inline]
fn part(tasks: &Range<u64>, at: u64, parts: u64) -> Range<u64> {
    let (each, over) = ((tasks.end - tasks.start) / parts, (tasks.end - tasks.start) % parts);
    // This is `tasks * at / parts`, where the product could be too large. There are few parts, so that `over * at` is small.
    let cut = |at: u64| tasks.start + each * at + over * at / parts;
    cut(at)..cut(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_shares_are_all_tasks_in_order() {
        let large = u64::MAX / 3;
        for (tasks, threads) in
            [(0..1, 1), (0..7, 7), (3..100, 4), (0..1000, 64), (5..9, 3), (0..u64::MAX, 1024), (large..large * 2, 7)]
        {
            let shares = Shares::new(tasks.clone(), threads);
            let mut next = tasks.start;
            for thread in 0..threads {
                let pieces = shares.pieces(thread);
                assert!((1..=PIECES).contains(&pieces));
                for piece in 0..pieces {
                    let piece = shares.piece(thread, piece);
                    assert!(piece.start == next && piece.end > piece.start, "{tasks:?} {threads} {piece:?}");
                    next = piece.end;
                }
            }
            assert_eq!(next, tasks.end);
        }
    }

    #[test]
    fn shares_differ_by_one_task_at_most() {
        let shares = Shares::new(0..1003, 64);
        assert!((0..64).all(|thread| {
            let share = shares.share(thread);
            (15..=16).contains(&(share.end - share.start)) && share.start == thread as u64 * 1003 / 64
        }));
    }
}

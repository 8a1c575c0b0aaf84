//! The place of one thread in a team: whether it is inside a job, how much of its share is taken, whether it sleeps.
//!
//! All words that concern a thread are on a cache line of its own. A thread that does its share, while the others do theirs, writes
//! to no line that another one reads or writes.

use std::sync::OnceLock;

use crate::sync::{AtomicBool, AtomicU64, Ordering, Thread, thread};

/// The number of a job. It counts jobs in the lowest 48 bits: as many as a team can begin in years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

impl Generation {
    const BITS: u32 = 48;

    pub const FIRST: Self = Self(0);

    pub fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    pub fn bits(self) -> u64 {
        self.0
    }

    pub fn next(self) -> Self {
        Self::from_bits(self.0 + 1)
    }

    /// Numbers wrap: a job is later than those of the half of all numbers before its own.
    fn is_later_than(self, other: Self) -> bool {
        let unused = u64::BITS - Self::BITS;
        ((self.0.wrapping_sub(other.0) << unused) as i64) > 0
    }
}

/// Two lines of 64 bytes: processors fetch lines in pairs, and some have lines of 128 bytes.
#[repr(align(128))]
pub struct Seat {
    /// A [`Generation`] and what the member is in it. It changes from one generation to a later one only.
    state: AtomicU64,
    /// A generation and the pieces of the thread's share that are taken in it.
    cursor: AtomicU64,
    /// The member sleeps, or is about to, and whoever clears this wakes it. It is changed by swaps alone, each of which sees the
    /// change before it: so a member is woken for each time it falls asleep, and not for the time before.
    asleep: AtomicBool,
    /// The member, from before it first sleeps.
    member: OnceLock<Thread>,
}

/// The member is not in the job: it has left it, or cannot enter it any more.
const OUT: u64 = 0;
/// The member has entered the job.
const INSIDE: u64 = 1;
/// The member has entered the job, whose caller sleeps until it leaves.
const AWAITED: u64 = 2;
const STATE_BITS: u32 = 2;
const PIECE_BITS: u32 = 16;

fn state(generation: Generation, what: u64) -> u64 {
    generation.bits() << STATE_BITS | what
}

impl Seat {
    pub fn new() -> Self {
        Self {
            state: AtomicU64::new(state(Generation::FIRST, OUT)),
            cursor: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            member: OnceLock::new(),
        }
    }

    /// Takes a piece of this thread's share, if one of `pieces` is left. For those inside the job, and its caller.
    ///
    /// The first one to take a piece in a new job sets the cursor back, so that the caller need not write to all lines.
    /// The order is relaxed: the cursor says only who does what. That a job begins after the one before has ended, and ends
    /// after its pieces, is up to the team's word and to the states of seats.
    #[inline]
    pub fn take(&self, generation: Generation, pieces: u64) -> Option<u64> {
        let mut seen = self.cursor.load(Ordering::Relaxed);
        loop {
            if seen >> PIECE_BITS == generation.bits() {
                let taken = |cursor: u64| cursor & ((1 << PIECE_BITS) - 1);
                if taken(seen) >= pieces {
                    return None;
                }
                // Each thread goes beyond the last piece once at most, and there are fewer threads than the bits can count.
                let piece = taken(self.cursor.fetch_add(1, Ordering::Relaxed));
                return (piece < pieces).then_some(piece);
            }
            let first_taken = generation.bits() << PIECE_BITS | 1;
            match self.cursor.compare_exchange(seen, first_taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(0),
                Err(now) => seen = now,
            }
        }
    }

    /// The member enters a job, unless its caller has closed it, and is inside until it [leaves](Self::leave).
    ///
    /// Of the member that enters and the caller that closes, one comes first in the order of changes of this one word; the other
    /// sees that. So no order with other memory is needed here: the member has read the word that announces the job.
    pub fn enter(&self, generation: Generation) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        // If this seat was closed for this job or a later one, the word that the member has read is an old one.
        generation.is_later_than(Generation::from_bits(seen >> STATE_BITS))
            && self
                .state
                .compare_exchange(seen, state(generation, INSIDE), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The member leaves the job: its caller sees all that the member has done. If the caller sleeps until then, `caller`, which is
    /// asked while the member is still inside, says whom to wake.
    pub fn leave(&self, generation: Generation, caller: impl FnOnce() -> Option<Thread>) {
        let [inside, out] = [INSIDE, OUT].map(|what| state(generation, what));
        if self.state.compare_exchange(inside, out, Ordering::Release, Ordering::Acquire).is_err() {
            let caller = caller();
            self.state.store(out, Ordering::Release);
            if let Some(caller) = caller {
                caller.unpark();
            }
        }
    }

    /// The caller keeps the member from entering the job, if it has not. `true` if the member is not inside, after which it
    /// touches nothing of the job: after an acquire fence, all that it has done is seen.
    pub fn close(&self, generation: Generation) -> bool {
        let [out, inside] = [OUT, INSIDE].map(|what| state(generation, what));
        let mut seen = self.state.load(Ordering::Relaxed);
        while seen != out && seen != inside {
            match self.state.compare_exchange(seen, out, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        seen == out
    }

    /// The member has left the job. As for [`close`](Self::close).
    pub fn is_out(&self, generation: Generation) -> bool {
        self.state.load(Ordering::Relaxed) == state(generation, OUT)
    }

    /// The caller sleeps until the member has left, which asks for the caller's thread: this is known by now.
    pub fn sleep_until_out(&self, generation: Generation) {
        let [inside, awaited] = [INSIDE, AWAITED].map(|what| state(generation, what));
        if self.state.compare_exchange(inside, awaited, Ordering::Release, Ordering::Relaxed).is_ok() {
            while !self.is_out(generation) {
                thread::park();
            }
        }
    }

    /// The member tells who it is, before anything else.
    pub fn occupy(&self) {
        let _ = self.member.set(thread::current());
    }

    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Wakes the member if it sleeps.
    pub fn wake(&self) -> bool {
        // The first look saves the write where the member is awake. What the waker did before is seen by the member.
        let sleeps = self.is_asleep() && self.asleep.swap(false, Ordering::AcqRel);
        if sleeps && let Some(member) = self.member.get() {
            member.unpark();
        }
        sleeps
    }

    /// The member is about to sleep. After a sequentially consistent fence it looks once more if there is reason to.
    pub fn fall_asleep(&self) {
        self.asleep.swap(true, Ordering::Release);
    }

    /// The member stays awake. Somebody who wakes it meanwhile makes its next sleep end early, which it expects.
    pub fn stay_awake(&self) {
        self.asleep.swap(false, Ordering::Relaxed);
    }

    /// The member sleeps until somebody wakes it.
    pub fn sleep(&self) {
        while self.asleep.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_entered_once_and_not_when_it_is_closed() {
        let seat = Seat::new();
        let first = Generation::FIRST.next();
        assert!(seat.enter(first) && !seat.enter(first) && !seat.close(first));
        seat.leave(first, || unreachable!("nobody waits"));
        assert!(seat.close(first) && seat.is_out(first) && !seat.enter(first));
        // Some jobs did not concern this member, and it has seen an old announcement.
        let [second, third] = [first.next(), first.next().next()];
        assert!(seat.close(third) && !seat.enter(second) && !seat.enter(third) && seat.enter(third.next()));
    }

    #[test]
    fn generations_wrap() {
        let last = Generation::from_bits(u64::MAX);
        assert_eq!(last.next(), Generation::FIRST);
        assert!(last.next().is_later_than(last) && !last.is_later_than(last.next()) && !last.is_later_than(last));
        let seat = Seat::new();
        seat.state.store(state(last, OUT), Ordering::Relaxed);
        assert!(!seat.enter(last) && seat.enter(last.next()));
    }

    #[test]
    fn pieces_are_taken_once() {
        let seat = Seat::new();
        let first = Generation::FIRST.next();
        let taken = |generation| std::iter::from_fn(|| seat.take(generation, 3)).collect::<Vec<_>>();
        assert_eq!([taken(first), taken(first), taken(first.next())], [vec![0, 1, 2], vec![], vec![0, 1, 2]]);
    }
}

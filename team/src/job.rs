//! A team's job: how it is announced, done and ended.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::time::Duration;

use crate::seat::{Generation, Seat};
use crate::shares::Shares;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, Thread, UnsafeCell, fence, spin, thread};

/// Members that whoever is woken for a job, or begins it, wakes at most.
const WAKES: usize = 2;

/// The time for which a caller waits at least for members that are inside before it sleeps: to sleep and to be woken takes longer.
const LEAST_WAIT: Duration = Duration::from_micros(5);

/// The data that a team's threads share.
pub struct Shared {
    /// Of all threads: first the callers', who have it in turn, then the members'.
    seats: Box<[Seat]>,
    spin: Duration,
    /// Somebody has a job done, or is about to.
    taken: Line<AtomicBool>,
    announced: Line<Announced>,
    ending: Line<Ending>,
}

/// A cache line of its own.
#[repr(align(128))]
struct Line<T>(T);

/// The data that members read when a job begins, in one cache line, so that each fetches it once.
struct Announced {
    /// A [`Word`].
    word: AtomicU64,
    /// Written by the thread that has the team, while no member is inside; read by that thread and by members inside.
    job: UnsafeCell<Option<Job>>,
}

/// The data that is used when somebody sleeps or panics.
struct Ending {
    /// The next member to be looked at by those who wake others. Used by the caller and by members inside.
    next_wake: AtomicUsize,
    /// The caller, where it sleeps. Written by the caller, before it tells a member inside, by its seat, that it sleeps; read by members
    /// that were told, before they leave.
    caller: UnsafeCell<Option<Thread>>,
    has_panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Of a job whose caller waits.
#[derive(Clone)]
struct Job {
    /// A function that the caller has borrowed.
    work: *const (dyn Fn(Range<u64>) + Sync),
    shares: Shares,
}

// SAFETY: the cells are accessed as their comments say, by the protocol of seats, and what a job points to may be called by any thread.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The number of a job and the threads that are to do it, or the end of the team.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const THREAD_BITS: u32 = 16;
    /// In place of a number of threads: members are to end.
    const END: usize = u16::MAX as usize;

    fn new(generation: Generation, threads: usize) -> Self {
        Self(generation.bits() << Self::THREAD_BITS | threads as u64)
    }

    fn generation(self) -> Generation {
        Generation::from_bits(self.0 >> Self::THREAD_BITS)
    }

    fn threads(self) -> usize {
        (self.0 & u64::from(u16::MAX)) as usize
    }
}

/// No member is left to be woken.
const NOBODY: usize = usize::MAX / 2;

impl Shared {
    pub fn new(members: usize, spin: Duration) -> Self {
        Self {
            seats: (0..=members).map(|_| Seat::new()).collect(),
            spin,
            taken: Line(AtomicBool::new(false)),
            announced: Line(Announced {
                word: AtomicU64::new(Word::new(Generation::FIRST, 0).0),
                job: UnsafeCell::new(None),
            }),
            ending: Line(Ending {
                next_wake: AtomicUsize::new(NOBODY),
                caller: UnsafeCell::new(None),
                has_panicked: AtomicBool::new(false),
                panic: Mutex::new(None),
            }),
        }
    }

    /// Has a job done, the calling thread taking part. `false`, with nothing done, if the team is taken.
    pub fn lead(&self, shares: &Shares, work: &(dyn Fn(Range<u64>) + Sync)) -> bool {
        // The first look keeps those who wait from taking the line away. Acquire, so that all of the job before happened before.
        if self.taken.0.load(Ordering::Relaxed) || self.taken.0.swap(true, Ordering::Acquire) {
            return false;
        }
        // From here to the release of the team nothing panics but what `catch_unwind` surrounds.
        let threads = shares.threads();
        let word = Word(self.announced.0.word.load(Ordering::Relaxed));
        let generation = word.generation().next();
        // SAFETY: this changes a lifetime alone. Members use the reference only while they are inside the job, and `close`
        // returns when none is, nor can enter it any more.
        let work_of_any_lifetime =
            unsafe { std::mem::transmute::<&(dyn Fn(Range<u64>) + Sync), &'static (dyn Fn(Range<u64>) + Sync)>(work) };
        let job = Job { work: work_of_any_lifetime, shares: shares.clone() };
        // SAFETY: this thread has the team. Members read the cell inside a job alone: all earlier ones were closed by their callers,
        // who saw all members leave (acquire), before this thread took the team (acquire, after their release).
        self.announced.0.job.with_mut(|cell| unsafe { *cell = Some(job) });
        // Release, so that a member that reads the word sees the job.
        self.announced.0.word.store(Word::new(generation, threads).0, Ordering::Release);
        self.wake_sleepers(threads);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.do_pieces(0, generation, shares, work))) {
            self.keep_panic(panic);
        }
        self.close(generation, threads);
        let panic = self.take_panic();
        self.taken.0.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        true
    }

    /// Does pieces until none is left to take: of the thread's own share first, then of the others'.
    fn do_pieces(&self, thread: usize, generation: Generation, shares: &Shares, work: &(dyn Fn(Range<u64>) + Sync)) {
        for owner in (thread..shares.threads()).chain(0..thread) {
            let pieces = shares.pieces(owner);
            while let Some(piece) = self.seats[owner].take(generation, pieces) {
                work(shares.piece(owner, piece));
            }
        }
    }

    /// Ends a job: no member enters it any more, and those that have entered have left.
    fn close(&self, generation: Generation, threads: usize) {
        let seats = &self.seats[1..threads];
        // First all that are not there, so that none of them enters while this thread waits for others.
        let inside = seats.iter().filter(|seat| !seat.close(generation)).count();
        if inside > 0 {
            self.wait(generation, seats);
        }
        // What members have done in the job happened before what this thread does next: they left by a release.
        fence(Ordering::Acquire);
        self.ending.0.next_wake.store(NOBODY, Ordering::Relaxed);
    }

    /// Waits until all have left.
    fn wait(&self, generation: Generation, seats: &[Seat]) {
        let mut is_known = false;
        for seat in seats {
            // All of them together have the time of one.
            let time = if is_known { Duration::ZERO } else { self.spin.max(LEAST_WAIT) };
            if spin(time, || seat.is_out(generation).then_some(())).is_some() {
                continue;
            }
            if !is_known {
                let caller = Some(thread::current());
                // SAFETY: members read the cell only after their seats say that the caller sleeps, which none does yet in this job;
                // they have left earlier jobs.
                self.ending.0.caller.with_mut(|cell| unsafe { *cell = caller });
                is_known = true;
            }
            seat.sleep_until_out(generation);
        }
    }

    /// Keeps the first panic of a job. A later one is not dropped, since that may panic too.
    fn keep_panic(&self, panic: Box<dyn Any + Send>) {
        self.ending.0.has_panicked.store(true, Ordering::Relaxed);
        let mut first = self.ending.0.panic.lock().unwrap_or_else(PoisonError::into_inner);
        match &*first {
            None => *first = Some(panic),
            Some(_) => std::mem::forget(panic),
        }
    }

    /// The panic of the job that has ended.
    fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        let ending = &self.ending.0;
        if !ending.has_panicked.load(Ordering::Relaxed) {
            return None;
        }
        ending.has_panicked.store(false, Ordering::Relaxed);
        ending.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Wakes members that sleep and are to take part in the job that was announced just now.
    fn wake_sleepers(&self, threads: usize) {
        // A member says that it sleeps, and then looks at the word; here the word was changed, and then it is looked who sleeps. With a
        // fence between the two on either side, at least one of them sees what the other has written.
        fence(Ordering::SeqCst);
        if let Some(first) = (1..threads).find(|member| self.seats[*member].is_asleep()) {
            self.ending.0.next_wake.store(first, Ordering::Relaxed);
            self.wake_some(threads);
        }
    }

    /// Wakes the next few that sleep.
    fn wake_some(&self, threads: usize) {
        let mut woken = 0;
        while woken < WAKES {
            let member = self.ending.0.next_wake.fetch_add(1, Ordering::Relaxed);
            if member >= threads {
                return;
            }
            woken += usize::from(self.seats[member].wake());
        }
    }

    /// A member's life.
    pub fn serve(&self, member: usize) {
        let seat = &self.seats[member];
        seat.occupy();
        let mut word = Word::new(Generation::FIRST, 0);
        loop {
            let was_woken;
            (word, was_woken) = self.next_word(word, member);
            let (generation, threads) = (word.generation(), word.threads());
            if threads == Word::END {
                return;
            }
            if !seat.enter(generation) {
                continue;
            }
            if was_woken {
                self.wake_some(threads);
            }
            // SAFETY: this member is inside the job: it has read the word (acquire) after its caller wrote the job, and the caller
            // does not change the cell before it has seen this member leave.
            let job = self.announced.0.job.with(|cell| unsafe { (*cell).clone() });
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let job = job.expect("it was written before the word");
                // SAFETY: the caller borrows the function until it has seen this member leave.
                self.do_pieces(member, generation, &job.shares, unsafe { &*job.work });
            }));
            if let Err(panic) = outcome {
                self.keep_panic(panic);
            }
            seat.leave(generation, || {
                // SAFETY: this is called if the seat says (acquire) that the caller sleeps, before which the caller wrote the cell.
                // It does not write it again before it has seen this member leave.
                self.ending.0.caller.with(|caller| unsafe { (*caller).clone() })
            });
        }
    }

    /// The next word after `seen` that concerns a member, and whether the member was woken for it.
    fn next_word(&self, mut seen: Word, member: usize) -> (Word, bool) {
        let seat = &self.seats[member];
        // Another word that does not concern the member is passed over.
        let mut look = || {
            let word = Word(self.announced.0.word.load(Ordering::Acquire));
            let is_new = word != seen;
            seen = word;
            (is_new && member < word.threads()).then_some(word)
        };
        let mut was_woken = false;
        loop {
            if let Some(word) = spin(self.spin, &mut look) {
                return (word, was_woken);
            }
            seat.fall_asleep();
            // See `wake_sleepers`.
            fence(Ordering::SeqCst);
            if let Some(word) = look() {
                seat.stay_awake();
                return (word, was_woken);
            }
            seat.sleep();
            was_woken = true;
        }
    }

    /// Has all members end. No job is being done, nor will there be any.
    pub fn end(&self) {
        let word = Word(self.announced.0.word.load(Ordering::Relaxed));
        self.announced.0.word.store(Word::new(word.generation().next(), Word::END).0, Ordering::Release);
        // See `wake_sleepers`.
        fence(Ordering::SeqCst);
        self.seats.iter().for_each(|seat| {
            seat.wake();
        });
    }
}

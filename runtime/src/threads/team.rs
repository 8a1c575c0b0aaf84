//! Threads of a runtime: a team whose members help with calls.
//!
//! A call is a *job*: work that any number of threads may do at once, each until nothing is left of it. The calling thread puts the job
//! on a list, does its share, takes the job off the list, and waits for the members that have joined. So it never waits for a member
//! that has not begun, and calls from several threads at once, or from members in the middle of another job, come to an end whatever the
//! others do.
//!
//! Members sleep until they are woken. A job wakes no more of them than it has use for, each of whom wakes two more while there are
//! seats left: the caller need not call them all, and a team of a thousand costs a small job nothing. A pool that steals work would have
//! each idle thread look into the queues of all others, which takes the square of their number.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle};

use crate::lock::lock;

/// Members that whoever joins a job wakes, at most.
const WAKES: usize = 2;
/// How often an idle member looks for another job before it sleeps, letting others run meanwhile: calls often follow one another.
const LOOKS: usize = 64;

/// See the [module](self).
pub(super) struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Members wait here for jobs.
    job: Condvar,
    /// Callers wait here for members.
    done: Condvar,
    /// Jobs with free seats, to be looked at without the lock.
    open: AtomicUsize,
    looks: usize,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    /// The number of the next job.
    next: u64,
    /// Members that sleep.
    asleep: usize,
    is_closing: bool,
}

/// Work that members may join.
struct Job {
    number: u64,
    work: Work,
    /// Members that may still join.
    seats: usize,
    /// Members that have joined, and have not come back.
    inside: usize,
    panic: Option<Box<dyn Any + Send>>,
}

/// A function on the stack of a caller.
#[derive(Clone, Copy)]
struct Work(*const (dyn Fn() + Sync));

// SAFETY: what it points to may be called by any thread; `Team::run` sees to it that it is there meanwhile.
unsafe impl Send for Work {}

impl Team {
    /// Starts a team of `count` members.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        // Where there are more threads than processors, one that looks around keeps another from its work.
        let has_room = thread::available_parallelism().is_ok_and(|processors| count < processors.get());
        let looks = if has_room { LOOKS } else { 0 };
        let state = Mutex::new(State { jobs: Vec::with_capacity(16), ..State::default() });
        let (job, done, open) = Default::default();
        let mut team = Team { shared: Arc::new(Shared { state, job, done, open, looks }), members: vec![] };
        for number in 0..count {
            let shared = Arc::clone(&team.shared);
            // If the system starts no more, dropping `team` ends those that were started.
            let member = Builder::new().name(format!("kiln-{number}")).spawn(move || shared.serve())?;
            team.members.push(member);
        }
        Ok(team)
    }

    /// Calls `work` on this thread, and meanwhile on up to `helpers` members; returns when all calls have. A panic of any is passed on.
    pub(super) fn run(&self, helpers: usize, work: &(dyn Fn() + Sync)) {
        let seats = helpers.min(self.members.len());
        if seats == 0 {
            return work();
        }
        // SAFETY: this changes a lifetime alone. The reference is not used after this function: members call the work only while
        // they are inside the job, and `Caller`, when it is dropped, by return or panic, waits until none is.
        let work_of_any_lifetime =
            unsafe { std::mem::transmute::<&(dyn Fn() + Sync), &'static (dyn Fn() + Sync)>(work) };
        let number = {
            let mut state = self.shared.lock();
            let number = state.next;
            state.next += 1;
            let work = Work(work_of_any_lifetime);
            state.jobs.push(Job { number, work, seats, inside: 0, panic: None });
            self.shared.open.fetch_add(1, Ordering::Relaxed);
            self.shared.wake(seats, &state);
            number
        };
        let mut caller = Caller { shared: &self.shared, number, panic: None };
        work();
        caller.finish();
        if let Some(panic) = caller.panic.take() {
            resume_unwind(panic);
        }
    }
}

/// A caller whose job is on the list.
struct Caller<'a> {
    shared: &'a Shared,
    number: u64,
    /// Of a member.
    panic: Option<Box<dyn Any + Send>>,
}

impl Caller<'_> {
    /// Takes the job off the list when no member is inside. Does nothing the second time.
    fn finish(&mut self) {
        let mut state = self.shared.lock();
        let Some(job) = state.job(self.number) else { return };
        if std::mem::take(&mut job.seats) > 0 {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
        }
        while state.job(self.number).is_some_and(|job| job.inside > 0) {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(at) = state.jobs.iter().position(|job| job.number == self.number) {
            self.panic = state.jobs.swap_remove(at).panic;
        }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl State {
    fn job(&mut self, number: u64) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.number == number)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Wakes some of the members that sleep, for so many seats.
    fn wake(&self, seats: usize, state: &State) {
        (0..seats.min(state.asleep).min(WAKES)).for_each(|_| self.job.notify_one());
    }

    /// A member's life.
    fn serve(&self) {
        while let Some((number, work)) = self.join() {
            let work = AssertUnwindSafe(work);
            // SAFETY: this member is inside the job, so that its caller has not returned from `Team::run`, which borrows the work.
            let outcome = catch_unwind(std::panic::AssertUnwindSafe(|| unsafe { (*work.0.0)() }));
            let mut state = self.lock();
            let job = state.job(number).expect("its caller waits for this member");
            job.inside -= 1;
            if let Err(panic) = outcome {
                job.panic.get_or_insert(panic);
            }
            if job.inside == 0 {
                self.done.notify_all();
            }
        }
    }

    /// The next job; `None` when the team ends.
    fn join(&self) -> Option<(u64, Work)> {
        for _ in 0..self.looks {
            if self.open.load(Ordering::Relaxed) > 0 {
                break;
            }
            thread::yield_now();
        }
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.iter_mut().find(|job| job.seats > 0) {
                job.seats -= 1;
                job.inside += 1;
                let (number, work, seats) = (job.number, job.work, job.seats);
                if seats == 0 {
                    self.open.fetch_sub(1, Ordering::Relaxed);
                }
                self.wake(seats, &state);
                return Some((number, work));
            }
            if state.is_closing {
                return None;
            }
            state.asleep += 1;
            state = self.job.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.job.notify_all();
        let this = thread::current().id();
        for member in self.members.drain(..).filter(|member| member.thread().id() != this) {
            // Panics were passed on to callers.
            let _ = member.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    use super::*;

    /// Calls `work` with each number below `count`, as kernels have their tasks done.
    fn each(team: &Team, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        team.run(usize::MAX, &|| {
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    at if at < count => work(at),
                    _ => return,
                }
            }
        });
    }

    #[test]
    fn everything_is_done_once_by_all_who_come() {
        let team = Team::start(3).unwrap();
        let threads = Mutex::new(HashSet::new());
        for round in 0..200 {
            let done: Vec<AtomicUsize> = (0..round).map(|_| AtomicUsize::new(0)).collect();
            each(&team, round, &|at| {
                done[at].fetch_add(1, Ordering::Relaxed);
                lock(&threads).insert(thread::current().id());
                if round % 50 == 49 {
                    thread::sleep(Duration::from_micros(100));
                }
            });
            assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{round}");
        }
        // On a machine with other work the members may take a while to come.
        let start = Instant::now();
        while lock(&threads).len() < 4 {
            each(&team, 64, &|_| {
                thread::sleep(Duration::from_millis(1));
                lock(&threads).insert(thread::current().id());
            });
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "three members and the caller, of which some do not come"
            );
        }
        let state = team.shared.lock();
        assert_eq!((state.jobs.len(), team.shared.open.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn calls_from_many_threads_and_from_members_come_to_an_end() {
        let team = Team::start(3).unwrap();
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        each(&team, 8, &|at| {
                            each(&team, at, &|_| {
                                each(&team, 2, &|_| {
                                    sum.fetch_add(1, Ordering::Relaxed);
                                });
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 50 * 28 * 2);
    }

    #[test]
    fn a_panic_goes_to_its_caller_and_the_team_goes_on() {
        let team = Team::start(2).unwrap();
        let caller = thread::current().id();
        for of_member in [true, false] {
            let (inside, start) = (AtomicUsize::new(0), Instant::now());
            // Members may come too late, on a machine with other work.
            let panic = loop {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    each(&team, 64, &|_| {
                        inside.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(1));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        assert!((thread::current().id() == caller) == of_member, "expected {of_member}");
                    });
                }));
                assert!(start.elapsed() < Duration::from_secs(60), "nobody panics");
                if let Err(panic) = outcome {
                    break panic;
                }
            };
            assert_eq!(inside.load(Ordering::SeqCst), 0, "nobody is at it any more");
            assert_eq!(panic.downcast_ref::<String>(), Some(&format!("expected {of_member}")));
        }
        let sum = AtomicUsize::new(0);
        each(&team, 100, &|at| {
            sum.fetch_add(at, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4950);
    }

    /// The time of each thread does not grow with their number.
    #[test]
    fn a_thousand_threads_start_and_work_at_once() {
        // Emulated threads take a long time each.
        let count = if cfg!(target_arch = "aarch64") { 100 } else { 1023 };
        let start = Instant::now();
        let team = Team::start(count).unwrap();
        let started = start.elapsed();
        let sum = AtomicUsize::new(0);
        for _ in 0..10 {
            each(&team, 4 * count, &|_| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
        }
        drop(team);
        assert_eq!(sum.into_inner(), 40 * count);
        assert!(start.elapsed() < Duration::from_secs(20), "started in {started:?}, ended in {:?}", start.elapsed());
    }
}

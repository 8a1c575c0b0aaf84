use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::*;

/// No thread of a test is late by that much, even on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);
const SPINS: [Duration; 2] = [Duration::ZERO, Duration::from_micros(50)];

fn settings(members: usize, spin: Duration) -> Settings {
    Settings { members, spin, name: "test".into() }
}

fn team(members: usize, spin: Duration) -> Team {
    Team::start(&settings(members, spin)).unwrap()
}

/// A place where so many threads wait for each other.
struct Meeting {
    missing: Mutex<usize>,
    complete: Condvar,
}

impl Meeting {
    fn of(threads: usize) -> Self {
        Meeting { missing: Mutex::new(threads), complete: Condvar::new() }
    }

    fn attend(&self) {
        let mut missing = self.missing.lock().unwrap();
        *missing -= 1;
        self.complete.notify_all();
        let (missing, _) = self.complete.wait_timeout_while(missing, PATIENCE, |missing| *missing > 0).unwrap();
        assert_eq!(*missing, 0, "threads that do not come");
    }
}

#[test]
fn each_task_is_done_once() {
    for spin in SPINS {
        for members in [0, 1, 3] {
            let team = team(members, spin);
            for tasks in (0..40).chain([63, 64, 65, 1000]) {
                for threads in [0, 1, 2, 3, 4, 100] {
                    let done: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    team.run(tasks, threads, &|range| {
                        assert!(range.start < range.end);
                        range.for_each(|task| {
                            done[task as usize].fetch_add(1, Ordering::Relaxed);
                        });
                    });
                    assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{tasks} {threads} {members}");
                }
            }
        }
    }
}

/// All threads of a job are in the first piece of their share at once, so that none is late.
#[test]
fn a_share_goes_to_the_same_thread_each_time() {
    for spin in SPINS {
        let team = team(3, spin);
        for (tasks, threads) in [(4, 4), (100, 4), (3, 100), (50, 2)] {
            let shares = threads.min(tasks).min(4);
            let begins: Vec<u64> = (0..shares).map(|share| share * tasks / shares).collect();
            let mut before: Option<Vec<ThreadId>> = None;
            for _ in 0..50 {
                let meeting = Meeting::of(shares as usize);
                let threads_of: Vec<Mutex<Option<ThreadId>>> = begins.iter().map(|_| Mutex::new(None)).collect();
                team.run(tasks, threads as usize, &|range| {
                    if let Some(share) = begins.iter().position(|begin| *begin == range.start) {
                        *threads_of[share].lock().unwrap() = Some(thread::current().id());
                        meeting.attend();
                    }
                });
                let now: Vec<ThreadId> =
                    threads_of.into_iter().map(|id| id.into_inner().unwrap().expect("done")).collect();
                assert_eq!(now[0], thread::current().id());
                assert_eq!(now.iter().collect::<HashSet<_>>().len(), shares as usize);
                assert_eq!(*before.get_or_insert_with(|| now.clone()), now);
            }
        }
    }
}

/// Whichever thread holds the piece that takes long, the others do all the rest meanwhile.
#[test]
fn a_late_thread_holds_up_its_own_piece() {
    for spin in SPINS {
        let team = team(2, spin);
        for late_share in 0..3 {
            let (tasks, begin) = (120, late_share * 40);
            let rest = Mutex::new(0);
            let all_else = Condvar::new();
            let late_piece = AtomicU64::new(0);
            team.run(tasks, 3, &|range| {
                let count = range.end - range.start;
                if range.start != begin {
                    *rest.lock().unwrap() += count;
                    all_else.notify_all();
                    return;
                }
                late_piece.store(count, Ordering::Relaxed);
                let (rest, _) =
                    all_else.wait_timeout_while(rest.lock().unwrap(), PATIENCE, |done| *done + count < tasks).unwrap();
                assert_eq!(*rest + count, tasks, "others wait for the late thread");
            });
            assert_eq!(late_piece.into_inner(), 40 / PIECES);
        }
    }
}

/// Members that have not begun, as if they had not run since the team was started: the caller does everything.
#[test]
fn a_member_that_has_not_begun_is_not_waited_for() {
    let shared = Shared::new(3, SPINS[1]);
    for _ in 0..3 {
        let done = AtomicU64::new(0);
        let count = |range: Range<u64>| {
            done.fetch_add(range.end - range.start, Ordering::Relaxed);
        };
        assert!(shared.lead(&Shares::new(0..100, 4), &count));
        assert_eq!(done.into_inner(), 100);
    }
}

#[test]
fn a_call_that_finds_the_team_taken_goes_on_alone() {
    let team = team(1, Duration::ZERO);
    let [begun, ended] = [(); 2].map(|()| Meeting::of(3));
    thread::scope(|scope| {
        // Both threads of this job are inside until the call below has returned.
        scope.spawn(|| {
            team.run(2, 2, &|_| {
                begun.attend();
                ended.attend();
            });
        });
        begun.attend();
        let (done, caller) = (AtomicU64::new(0), thread::current().id());
        team.run(100, 2, &|range| {
            assert_eq!(thread::current().id(), caller);
            done.fetch_add(range.end - range.start, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 100);
        ended.attend();
    });
}

/// A call that began alone has help as soon as the other has ended.
#[test]
fn a_call_that_goes_on_alone_takes_the_team_when_it_is_free() {
    let team = team(1, Duration::ZERO);
    let begun = Meeting::of(3);
    let may_end = Meeting::of(3);
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            team.run(2, 2, &|_| {
                begun.attend();
                may_end.attend();
            });
        });
        begun.attend();
        let (first, both) = (Mutex::new(Some(first)), Meeting::of(2));
        team.run(1000, 2, &|range| {
            if range.start == 0 {
                may_end.attend();
                first.lock().unwrap().take().unwrap().join().unwrap();
            } else if range.start == 63 || range.start == 63 + 937 / 2 {
                // The shares of the two threads in what is left.
                both.attend();
            }
        });
        assert_eq!(*both.missing.lock().unwrap(), 0);
    });
}

#[test]
fn calls_from_many_threads_and_from_members_come_to_an_end() {
    for spin in SPINS {
        let teams = Teams::start(2, &settings(2, spin)).unwrap();
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        teams.run(8, 3, &|outer| {
                            for at in outer {
                                teams.run(at, 3, &|middle| {
                                    middle.for_each(|_| {
                                        teams.run(2, 2, &|inner| {
                                            sum.fetch_add(inner.count(), Ordering::Relaxed);
                                        });
                                    });
                                });
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 50 * 28 * 2);
    }
}

/// Calls at once have a team each, and a thread has the one that it had before.
#[test]
fn teams_do_not_wait_for_each_other() {
    let teams = Teams::start(3, &settings(1, Duration::ZERO)).unwrap();
    // Three callers and a member of each team, none of whom returns before all have come.
    for _ in 0..20 {
        let meeting = Meeting::of(6);
        thread::scope(|scope| {
            (0..3).for_each(|_| drop(scope.spawn(|| teams.run(2, 2, &|_| meeting.attend()))));
        });
    }
    let mut members = HashSet::new();
    for _ in 0..20 {
        let (meeting, caller) = (Meeting::of(2), thread::current().id());
        let member = Mutex::new(None);
        teams.run(2, 2, &|_| {
            meeting.attend();
            if thread::current().id() != caller {
                *member.lock().unwrap() = Some(thread::current().id());
            }
        });
        members.insert(member.into_inner().unwrap());
    }
    assert_eq!(members.len(), 1);
}

#[test]
fn a_panic_goes_to_its_caller_and_the_team_goes_on() {
    for spin in SPINS {
        let team = team(2, spin);
        let caller = thread::current().id();
        for of_member in [true, false] {
            let (inside, meeting) = (AtomicUsize::new(0), Meeting::of(3));
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                team.run(3, 3, &|_| {
                    inside.fetch_add(1, Ordering::SeqCst);
                    meeting.attend();
                    if (thread::current().id() == caller) != of_member {
                        inside.fetch_sub(1, Ordering::SeqCst);
                        panic!("expected {of_member}");
                    }
                    // The panic waits for those that are at it.
                    thread::sleep(Duration::from_millis(20));
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }));
            assert_eq!(inside.load(Ordering::SeqCst), 0, "somebody is still at it");
            assert_eq!(outcome.unwrap_err().downcast_ref::<String>(), Some(&format!("expected {of_member}")));
        }
        let sum = AtomicU64::new(0);
        team.run(100, 3, &|range| {
            sum.fetch_add(range.sum(), Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4950);
    }
}

/// A caller that has slept at its end, and members that have slept between jobs.
#[test]
fn threads_that_sleep_are_woken() {
    for spin in SPINS {
        let team = team(5, spin);
        for round in 0..30 {
            let meeting = Meeting::of(6);
            team.run(6, 6, &|range| {
                meeting.attend();
                if range.start > 0 {
                    thread::sleep(Duration::from_millis(round % 3));
                }
            });
            thread::sleep(Duration::from_millis(round % 2));
        }
    }
}

/// The time of each thread does not grow with their number.
#[test]
fn a_thousand_threads_start_and_work_at_once() {
    // Emulated threads take a long time each.
    let count = if cfg!(target_arch = "aarch64") { 100 } else { 1023 };
    let start = Instant::now();
    let team = team(count, Duration::ZERO);
    let started = start.elapsed();
    let sum = AtomicU64::new(0);
    for _ in 0..10 {
        team.run(4 * count as u64, usize::MAX, &|range| {
            sum.fetch_add(range.count() as u64, Ordering::Relaxed);
        });
    }
    // All are woken, and are inside at once.
    let meeting = Meeting::of(count + 1);
    team.run(count as u64 + 1, usize::MAX, &|_| meeting.attend());
    drop(team);
    assert_eq!(sum.into_inner(), 40 * count as u64);
    assert!(start.elapsed() < Duration::from_secs(20), "started in {started:?}, ended in {:?}", start.elapsed());
}

#[test]
fn more_members_than_there_may_be_are_refused() {
    let refused = Team::start(&settings(MAX_MEMBERS + 1, Duration::ZERO));
    assert_eq!(refused.err().map(|e| e.kind()), Some(io::ErrorKind::InvalidInput));
}

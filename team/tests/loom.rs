//! The team's protocol under interleavings of its threads: `RUSTFLAGS="--cfg loom" cargo test -p kiln-team --test loom`.
//!
//! Loom checks every access of the job's cell and of the tasks' own for races, and that no thread sleeps for ever.
#![cfg(loom)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kiln_team::{Settings, Team};
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// Tasks that loom sees: two threads that did the same one, or a caller that did not see what was done, would be a race.
struct Tasks(Vec<UnsafeCell<u32>>);

// SAFETY: loom checks each access.
unsafe impl Sync for Tasks {}
// SAFETY: as above.
unsafe impl Send for Tasks {}

impl Tasks {
    fn new(count: usize) -> Self {
        Tasks((0..count).map(|_| UnsafeCell::new(0)).collect())
    }

    fn do_all(&self, tasks: Range<u64>) {
        for task in tasks {
            // SAFETY: loom checks that nobody else accesses the cell.
            self.0[task as usize].with_mut(|done| unsafe { *done += 1 });
        }
    }

    fn check(&self, times: u32) {
        // SAFETY: as above.
        assert!(self.0.iter().all(|task| task.with(|done| unsafe { *done == times })));
    }
}

/// A model of so many threads in all, with so many switches of threads that run on.
fn model(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

fn team(members: usize) -> Team {
    Team::start(&Settings { members, spin: Duration::ZERO, name: "loom".into() }).unwrap()
}

#[test]
fn a_member_enters_or_is_kept_out() {
    model(6, || {
        let (team, tasks) = (team(1), Tasks::new(2));
        team.run(2, 2, &|range| tasks.do_all(range));
        tasks.check(1);
    });
}

/// The member may be late for the first job, and read the word of either.
#[test]
fn one_job_after_another() {
    model(3, || {
        let (team, tasks) = (team(1), Tasks::new(2));
        for times in 1..=2 {
            team.run(2, 2, &|range| tasks.do_all(range));
            tasks.check(times);
        }
    });
}

/// A team that is dropped while its member falls asleep, with no job before.
#[test]
fn the_end_is_not_slept_through() {
    model(5, || drop(team(1)));
}

/// A job that the caller leaves to the member: without a wake-up it would wait for ever.
#[test]
fn a_job_is_not_slept_through() {
    model(5, || {
        let team = team(1);
        let (has_come, change, caller) = (Mutex::new(false), Condvar::new(), thread::current().id());
        team.run(2, 2, &|_| {
            let mut has_come = has_come.lock().unwrap();
            if thread::current().id() != caller {
                *has_come = true;
                change.notify_one();
            }
            while !*has_come {
                has_come = change.wait(has_come).unwrap();
            }
        });
    });
}

#[test]
fn two_members() {
    model(1, || {
        let (team, tasks) = (team(2), Tasks::new(3));
        team.run(3, 3, &|range| tasks.do_all(range));
        tasks.check(1);
    });
}

/// A job for one of two members, then one for both.
#[test]
fn a_member_that_was_not_needed_before() {
    model(1, || {
        let (team, tasks) = (team(2), Tasks::new(3));
        team.run(2, 2, &|range| tasks.do_all(range));
        team.run(3, 3, &|range| tasks.do_all(range));
        // SAFETY: loom checks that nobody else accesses the cells.
        let done: Vec<u32> = tasks.0.iter().map(|task| task.with(|done| unsafe { *done })).collect();
        assert_eq!(done, [2, 2, 1]);
    });
}

#[test]
fn two_callers() {
    model(2, || {
        let team = Arc::new(team(1));
        let other = {
            let team = team.clone();
            thread::spawn(move || {
                let tasks = Tasks::new(2);
                team.run(2, 2, &|range| tasks.do_all(range));
                tasks.check(1);
            })
        };
        let tasks = Tasks::new(2);
        team.run(2, 2, &|range| tasks.do_all(range));
        tasks.check(1);
        other.join().unwrap();
    });
}

#[test]
fn a_job_within_a_job() {
    model(2, || {
        let (team, tasks) = (team(1), Tasks::new(4));
        team.run(2, 2, &|outer| {
            for task in outer {
                team.run(2, 2, &|inner| tasks.do_all(2 * task + inner.start..2 * task + inner.end));
            }
        });
        tasks.check(1);
    });
}

#[test]
fn a_panic_of_either_thread() {
    model(3, || {
        let (team, tasks) = (team(1), Tasks::new(2));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            team.run(2, 2, &|range| {
                tasks.do_all(range.clone());
                if range.contains(&1) {
                    std::panic::resume_unwind(Box::new("expected"));
                }
            });
        }));
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"expected"));
        tasks.check(1);
    });
}

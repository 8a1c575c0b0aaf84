//! The threads that a call is divided among.

mod team;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use team::Team;

use crate::error::RuntimeError;
use crate::lock::lock;

/// The most threads that calls are divided among.
pub const MAX_THREADS: usize = 1024;

/// Pieces per thread: a thread that is held up leaves its share to the others.
const PIECES: u64 = 4;

/// Threads of the program that embeds Kiln.
pub trait Executor: Send + Sync {
    /// How many threads calls may be divided among, at least 1. The same at each call.
    fn threads(&self) -> usize;

    /// Calls `work` once with each number below `count`, on any threads, the calling one perhaps among them, at once or one
    /// after the other, and returns when all calls have returned. The calling thread may itself be one of the executor's, in a
    /// call of this method too: it must not wait for a thread that waits for it.
    ///
    /// A panic of `work` is to be passed on, or the call of the kernel returns an error.
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// A closure that [runs](Executor::run) work on so many threads.
impl<F: Fn(usize, &(dyn Fn(usize) + Sync)) + Send + Sync> Executor for (usize, F) {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        self.1(count, work);
    }
}

/// Where the threads come from.
#[derive(Clone)]
pub(crate) enum Source {
    /// So many of the runtime's own.
    Own(usize),
    /// A pool that others use as well.
    Rayon(Arc<rayon::ThreadPool>),
    /// Something else that runs work.
    Executor(Arc<dyn Executor>),
}

impl Source {
    fn count(&self) -> usize {
        match self {
            Source::Own(count) => *count,
            Source::Rayon(pool) => pool.current_num_threads(),
            Source::Executor(executor) => executor.threads(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Own(_) => write!(f, "Own({})", self.count()),
            Source::Rayon(_) => write!(f, "Rayon({})", self.count()),
            Source::Executor(_) => write!(f, "Executor({})", self.count()),
        }
    }
}

/// A fixed set of threads. Own ones have ended when it is dropped.
pub(crate) struct Threads {
    count: usize,
    kind: Kind,
}

enum Kind {
    /// The calling thread.
    None,
    /// The calling thread and a team.
    Own(Team),
    Rayon(Arc<rayon::ThreadPool>),
    Executor(Arc<dyn Executor>),
}

impl Threads {
    /// Threads of `source`. Own ones are started now, one less than are asked for: the calling thread is one of them.
    pub(crate) fn new(source: Source) -> Result<Self, RuntimeError> {
        let count = source.count();
        if !(1..=MAX_THREADS).contains(&count) {
            return Err(RuntimeError::ThreadCount { threads: count });
        }
        let kind = match source {
            Source::Own(1) => Kind::None,
            Source::Own(count) => {
                let refused = |e: io::Error| RuntimeError::Threads {
                    threads: count,
                    why: format!(
                        "the system starts no more: {e}; limits are RLIMIT_NPROC (`ulimit -u`), memory and those of the control group"
                    ),
                };
                Kind::Own(Team::start(count - 1).map_err(refused)?)
            }
            Source::Rayon(pool) => Kind::Rayon(pool),
            Source::Executor(executor) => Kind::Executor(executor),
        };
        Ok(Self { count, kind })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Calls `work` on ranges that partition `0..tasks`, on all threads; the first error, if any.
    pub(crate) fn each(
        &self,
        tasks: u64,
        work: &(dyn Fn(u64, u64) -> Result<(), RuntimeError> + Sync),
    ) -> Result<(), RuntimeError> {
        let piece = tasks.div_ceil(self.count as u64 * PIECES);
        let next = AtomicU64::new(0);
        let drain = || {
            loop {
                let begin = next.fetch_add(piece, Ordering::Relaxed);
                if begin >= tasks {
                    return Ok(());
                }
                work(begin, (begin + piece).min(tasks))?;
            }
        };
        // No more threads than there are pieces.
        let pieces = tasks.div_ceil(piece.max(1)).min(self.count as u64) as usize;
        match &self.kind {
            _ if self.count == 1 => work(0, tasks),
            Kind::None => work(0, tasks),
            Kind::Own(team) => {
                let error = Mutex::new(None);
                team.run(pieces.saturating_sub(1), &|| {
                    if let Err(e) = drain() {
                        lock(&error).get_or_insert(e);
                    }
                });
                error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
            }
            Kind::Rayon(pool) => pool.install(|| spread(pieces, &drain)),
            Kind::Executor(executor) => {
                let (done, error) = (AtomicU64::new(0), Mutex::new(None));
                executor.run(self.count, &|_| {
                    match drain() {
                        Ok(()) => {}
                        Err(e) => {
                            lock(&error).get_or_insert(e);
                        }
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
                if let Some(e) = error.into_inner().unwrap_or_else(PoisonError::into_inner) {
                    return Err(e);
                }
                // The tasks are all given out by the first call that returned, but one that panicked may have had some.
                match done.into_inner() {
                    all if all == self.count as u64 => Ok(()),
                    some => Err(RuntimeError::Threads {
                        threads: self.count,
                        why: format!("the executor finished {some} of as many calls; the result is not complete"),
                    }),
                }
            }
        }
    }
}

/// Calls `work` so many times, on as many threads as are idle. Joins are on the stacks of their threads: nothing is allocated.
fn spread(times: usize, work: &(dyn Fn() -> Result<(), RuntimeError> + Sync)) -> Result<(), RuntimeError> {
    if times <= 1 {
        return work();
    }
    let half = times / 2;
    let (first, second) = rayon::join(|| spread(times - half, work), || spread(half, work));
    first.and(second)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn own_threads_have_ended_when_their_last_user_is_gone() {
        static ALIVE: AtomicUsize = AtomicUsize::new(0);
        struct Count;
        impl Drop for Count {
            fn drop(&mut self) {
                ALIVE.fetch_sub(1, Ordering::SeqCst);
            }
        }
        thread_local!(static COUNT: Count = {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            Count
        });
        let threads = Threads::new(Source::Own(3)).unwrap();
        let caller = std::thread::current().id();
        // Until both members have come: the caller leaves the tasks to them.
        while ALIVE.load(Ordering::SeqCst) < 2 {
            let work = |_, _| {
                match std::thread::current().id() == caller {
                    true => std::thread::sleep(std::time::Duration::from_millis(1)),
                    false => COUNT.with(|_| ()),
                }
                Ok(())
            };
            threads.each(64, &work).unwrap();
        }
        assert_eq!(ALIVE.load(Ordering::SeqCst), 2);
        drop(threads);
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    }
}

//! The threads that a call is divided among.

pub(crate) mod source;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kiln_team::{Settings, Teams};

use crate::error::RuntimeError;
use crate::lock::lock;
use crate::numa;
pub(crate) use source::Source;
pub use source::{Executor, MAX_THREADS};

/// Pieces per thread of a pool or an executor: a thread that is held up leaves its share to the others.
const PIECES: u64 = 4;
/// The time for which an idle thread looks for work, where it takes no core from another: longer than from one kernel to the next, and not much
/// longer than it takes to wake a thread.
const SPIN: Duration = Duration::from_micros(100);

/// The settings of a runtime's own threads, but for their number.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnThreads {
    /// The time for which an idle thread looks for work.
    pub(crate) spin: Option<Duration>,
    /// Calls at once that have threads of their own.
    pub(crate) streams: Option<usize>,
    /// The environment variables that said how many threads or streams there are.
    pub(crate) variables: Vec<&'static str>,
}

/// A fixed set of threads. Own ones have ended when it is dropped.
pub(crate) struct Threads {
    count: usize,
    streams: usize,
    kind: Kind,
}

enum Kind {
    /// The calling thread.
    None,
    /// The calling thread and a team.
    Own(Own),
    Rayon(Arc<rayon::ThreadPool>),
    Executor(Arc<dyn Executor>),
}

/// Teams that can be started again.
struct Own {
    count: usize,
    streams: usize,
    spin: Duration,
    /// Each call reads it, those of all streams at once: nothing is counted or locked for that.
    teams: ArcSwap<Teams>,
}

impl Own {
    fn start(count: usize, streams: usize, spin: Duration) -> Result<Self, RuntimeError> {
        let teams = ArcSwap::from_pointee(teams(count, streams, spin)?);
        Ok(Own { count, streams, spin, teams })
    }

    /// Starts others instead of threads that are not there any more.
    fn renew(&self) -> Result<(), RuntimeError> {
        let new = Arc::new(teams(self.count, self.streams, self.spin)?);
        let old = self.teams.swap(new);
        // To drop a team is to wait for its threads, which nobody ends.
        std::mem::forget(old);
        Ok(())
    }
}

/// Teams of so many threads, the calling one among them.
fn teams(count: usize, streams: usize, spin: Duration) -> Result<Teams, RuntimeError> {
    let refused = |e: io::Error| RuntimeError::Threads {
        threads: count * streams,
        why: format!(
            "the system starts no more: {e}; limits are RLIMIT_NPROC (`ulimit -u`), memory and those of the control group"
        ),
    };
    let settings = Settings { members: count - 1, spin, name: "kiln".into() };
    let nodes = numa::nodes();
    // A team that is larger than a node, or the only one, goes where the system lets it.
    let begin = move |stream: usize| {
        let node = &nodes[stream % nodes.len()];
        if streams > 1 && nodes.len() > 1 && count <= node.len() {
            numa::bind(node);
        }
    };
    Teams::start_with(streams, &settings, &begin).map_err(refused)
}

impl Threads {
    /// Threads of `source`. Own ones are started now, for each stream one less than are asked for: the calling thread is one of them.
    pub(crate) fn new(source: Source, own: OwnThreads) -> Result<Self, RuntimeError> {
        let count = source.count();
        if !(1..=MAX_THREADS).contains(&count) {
            return Err(RuntimeError::ThreadCount { threads: count });
        }
        let streams = own.streams.unwrap_or(1);
        if !(1..=MAX_THREADS).contains(&count.saturating_mul(streams)) {
            return Err(RuntimeError::StreamCount { threads: count, streams, variables: own.variables });
        }
        let is_own = matches!(source, Source::Own(_));
        let kind = match source {
            Source::Own(1) => Kind::None,
            Source::Own(count) => {
                let spin = own.spin.unwrap_or_else(|| default_spin(count * streams));
                Kind::Own(Own::start(count, streams, spin)?)
            }
            Source::Rayon(pool) => Kind::Rayon(pool),
            Source::Executor(executor) => Kind::Executor(executor),
        };
        Ok(Self { count, streams: if is_own { streams } else { 1 }, kind })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Starts own threads again, of which a process that was forked off has none.
    pub(crate) fn renew(&self) -> Result<(), RuntimeError> {
        match &self.kind {
            Kind::Own(own) => own.renew(),
            Kind::None | Kind::Rayon(_) | Kind::Executor(_) => Ok(()),
        }
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams
    }

    /// Calls `work` on ranges that partition `0..tasks`, on at most so many threads; the first error, if any. The runtime's own threads
    /// begin with the same tasks each time.
    pub(crate) fn each_on(
        &self,
        threads: usize,
        tasks: u64,
        work: &(dyn Fn(u64, u64) -> Result<(), RuntimeError> + Sync),
    ) -> Result<(), RuntimeError> {
        let threads = threads.clamp(1, self.count);
        match &self.kind {
            _ if threads == 1 => work(0, tasks),
            Kind::None => work(0, tasks),
            Kind::Own(own) => {
                let teams = own.teams.load();
                let (has_failed, error) = (AtomicBool::new(false), Mutex::new(None));
                teams.run(tasks, threads, &|range| {
                    // Once something failed, the rest would be done for nothing.
                    if !has_failed.load(Ordering::Relaxed)
                        && let Err(e) = work(range.start, range.end)
                    {
                        has_failed.store(true, Ordering::Relaxed);
                        lock(&error).get_or_insert(e);
                    }
                });
                error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
            }
            Kind::Rayon(pool) => {
                let queue = Queue::new(tasks, threads, work);
                pool.install(|| fork_join(queue.most_threads(), &|| queue.drain()))
            }
            Kind::Executor(executor) => {
                let queue = Queue::new(tasks, threads, work);
                let (done, error) = (AtomicU64::new(0), Mutex::new(None));
                executor.run(threads, &|_| {
                    match queue.drain() {
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
                let why = match done.into_inner() {
                    all if all == threads as u64 => return Ok(()),
                    some if some < threads as u64 => {
                        format!("the executor finished {some} of {threads} calls; the result is not complete")
                    }
                    more => format!(
                        "the executor finished {more} calls where {threads} were asked for, so some were made twice"
                    ),
                };
                Err(RuntimeError::Threads { threads, why })
            }
        }
    }
}

/// The time for which idle threads look for work where nothing is said: none at all if there are more of them than processors.
fn default_spin(threads: usize) -> Duration {
    // On Linux this heeds the process's affinity mask and the quota of its control group.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if threads <= processors { SPIN } else { Duration::ZERO }
}

/// Tasks in pieces, of which the threads of a pool or an executor take one after the other.
struct Queue<'a> {
    next: AtomicU64,
    tasks: u64,
    piece: u64,
    threads: usize,
    work: &'a (dyn Fn(u64, u64) -> Result<(), RuntimeError> + Sync),
}

impl<'a> Queue<'a> {
    fn new(tasks: u64, threads: usize, work: &'a (dyn Fn(u64, u64) -> Result<(), RuntimeError> + Sync)) -> Self {
        Queue { next: AtomicU64::new(0), tasks, piece: tasks.div_ceil(threads as u64 * PIECES), threads, work }
    }

    /// No more threads than there are pieces.
    fn most_threads(&self) -> usize {
        self.tasks.div_ceil(self.piece.max(1)).min(self.threads as u64) as usize
    }

    /// Does pieces until none is left, or one fails.
    fn drain(&self) -> Result<(), RuntimeError> {
        loop {
            let begin = self.next.fetch_add(self.piece, Ordering::Relaxed);
            if begin >= self.tasks {
                return Ok(());
            }
            (self.work)(begin, (begin + self.piece).min(self.tasks))?;
        }
    }
}

/// Calls `work` so many times, on as many threads as are idle. Joins are on the stacks of their threads: nothing is allocated.
fn fork_join(times: usize, work: &(dyn Fn() -> Result<(), RuntimeError> + Sync)) -> Result<(), RuntimeError> {
    if times <= 1 {
        return work();
    }
    let half = times / 2;
    let (first, second) = rayon::join(|| fork_join(times - half, work), || fork_join(half, work));
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
        let threads = Threads::new(Source::Own(3), OwnThreads::default()).unwrap();
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
            threads.each_on(3, 64, &work).unwrap();
        }
        assert_eq!(ALIVE.load(Ordering::SeqCst), 2);
        drop(threads);
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    }
}

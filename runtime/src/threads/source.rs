//! The sources of the threads that a call is divided among.

use std::fmt;
use std::sync::Arc;

/// The most threads that calls are divided among, and that a runtime has in all its streams.
pub const MAX_THREADS: usize = 1024;

/// Threads of the program that embeds Kiln.
pub trait Executor: Send + Sync {
    /// The number of threads that calls may be divided among, at least 1. The same at each call.
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
    pub(super) fn count(&self) -> usize {
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

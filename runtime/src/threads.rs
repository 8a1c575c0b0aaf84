//! The threads that a call is divided among.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::RuntimeError;

/// Pieces per thread: a thread that is held up leaves its share to the others.
const PIECES: u64 = 4;

/// A fixed set of threads, made once; the calling thread waits inside it.
#[derive(Debug)]
pub(crate) struct Threads {
    count: usize,
    pool: Option<rayon::ThreadPool>,
}

impl Threads {
    /// `count` threads; none are started for 1.
    pub(crate) fn new(count: usize) -> Result<Self, RuntimeError> {
        let fail = |why: String| RuntimeError::Threads { threads: count, why };
        let pool = match count {
            0 => return Err(fail("at least 1 is needed".into())),
            1 => None,
            _ => {
                let named = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("kiln-{i}"));
                Some(named.build().map_err(|e| fail(e.to_string()))?)
            }
        };
        Ok(Self { count, pool })
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
        let Some(pool) = &self.pool else { return work(0, tasks) };
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
        pool.install(|| spread(self.count, &drain))
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

//! The runtimes of this process that nobody made by hand: one for each arithmetic and number of threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use kiln_jit::{MathMode, Runtime, default_threads};

use crate::error::{Error, Result};

/// The number of threads that calls are divided among; 0 until somebody says it.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The number of times that this process was forked off from another one.
static FORKS: AtomicU64 = AtomicU64::new(0);

static ALL: Mutex<Option<HashMap<Which, Shared>>> = Mutex::new(None);

/// Which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Which {
    /// The arithmetic of problems that name none.
    pub fpmath: MathMode,
    /// Threads.
    pub threads: usize,
}

struct Shared {
    runtime: Runtime,
    /// The forks before its threads began.
    forks: u64,
}

/// Divides calls among so many threads from now on.
pub fn set_threads(threads: usize) -> Result<()> {
    THREADS.store(checked(threads)?, Ordering::Relaxed);
    Ok(())
}

/// A number of threads that there may be.
pub fn checked(threads: usize) -> Result<usize> {
    match threads {
        1..=kiln_jit::MAX_THREADS => Ok(threads),
        _ => Err(Error::Value(format!("{threads} threads: expected from 1 to {}", kiln_jit::MAX_THREADS))),
    }
}

/// Threads that calls are divided among.
pub fn threads() -> Result<usize> {
    match THREADS.load(Ordering::Relaxed) {
        0 => {
            let threads = default_threads()?;
            THREADS.store(threads, Ordering::Relaxed);
            Ok(threads)
        }
        threads => Ok(threads),
    }
}

/// The runtime with these settings.
pub fn shared(which: Which) -> Result<Runtime> {
    notice_forks();
    after_fork()?;
    let forks = FORKS.load(Ordering::Relaxed);
    let mut all = lock(&ALL);
    let all = all.get_or_insert_default();
    if let Some(shared) = all.get(&which) {
        return Ok(shared.runtime.clone());
    }
    let runtime = Runtime::builder().fpmath(which.fpmath).threads(which.threads).build()?;
    all.insert(which, Shared { runtime: runtime.clone(), forks });
    Ok(runtime)
}

/// Begins the threads of all runtimes again, in a process that was forked off.
pub fn after_fork() -> Result<()> {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let forks = FORKS.load(Ordering::Relaxed);
    if SEEN.load(Ordering::Relaxed) == forks {
        return Ok(());
    }
    for shared in lock(&ALL).iter_mut().flat_map(|all| all.values_mut()).filter(|shared| shared.forks != forks) {
        shared.runtime.renew_threads()?;
        shared.forks = forks;
    }
    SEEN.store(forks, Ordering::Relaxed);
    Ok(())
}

/// Counts forks from now on.
fn notice_forks() {
    extern "C" fn count() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    // SAFETY: the function does nothing but to change an atomic number, which it may between a fork and anything else.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(count));
    });
}

/// The sums of the counters of all runtimes: packings, bytes of packed weights, kernels compiled.
pub fn totals() -> (u64, usize, u64) {
    let all = lock(&ALL);
    let stats = all.iter().flatten().map(|(_, shared)| shared.runtime.stats());
    stats.fold((0, 0, 0), |(packings, bytes, compiled), stats| {
        (packings + stats.packings, bytes + stats.packed_bytes, compiled + stats.kernels.compilations)
    })
}

/// Locks. What is guarded is whole after a panic: nothing here leaves it in between.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

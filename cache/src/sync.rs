//! Locks, atomics and threads: std's, or loom's where all their interleavings are to be run.

#[cfg(loom)]
pub use loom::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
};
#[cfg(not(loom))]
pub use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
};

use std::sync::PoisonError;

/// A lock for what one thread uses nearly alone, for a few instructions: taking it is one atomic operation and giving it back
/// none, where std's lock needs one for each. A thread that finds it taken lets others run.
#[cfg(not(loom))]
pub type HitLock<T> = spin::mutex::SpinMutex<T, spin::relax::Yield>;
#[cfg(loom)]
pub type HitLock<T> = LoomLock<T>;

/// Loom's lock with the face of [`spin`]'s.
#[cfg(loom)]
pub struct LoomLock<T>(Mutex<T>);

#[cfg(loom)]
impl<T> LoomLock<T> {
    pub fn new(value: T) -> Self {
        LoomLock(Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        lock(&self.0)
    }
}

/// The lock, though a thread panicked with it: for state that no panic leaves half changed.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small number of the calling thread, each thread's own: the n-th thread that asks gets n.
#[cfg(not(loom))]
#[inline]
pub fn thread_number() -> usize {
    use std::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}

/// Loom's threads start with numbers of their own in each execution.
#[cfg(loom)]
pub fn thread_number() -> usize {
    let text = format!("{:?}", thread::current().id());
    text.bytes().filter(u8::is_ascii_digit).fold(0, |n, digit| n * 10 + usize::from(digit - b'0'))
}

//! Atomics, cells and threads: std's, or loom's where all their interleavings are to be run.

#[cfg(loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::{self, Builder, JoinHandle, Thread},
};
#[cfg(not(loom))]
pub use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::{self, Builder, JoinHandle, Thread},
};

use std::time::Duration;

/// A cell with the face of loom's, which checks that no access races with another.
#[cfg(not(loom))]
#[derive(Default)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Looks between two readings of the clock, which takes as long as a few of them.
#[cfg(not(loom))]
const LOOKS: u32 = 64;

/// Asks `ready` until it gives something, for about `time`: once if that is zero. After the first microseconds another thread that waits for
/// this processor has its turn between looks: it may be the one that `ready` waits for, or another program's.
#[cfg(not(loom))]
#[inline]
pub fn spin<T>(time: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let mut start = None;
    loop {
        for _ in 0..LOOKS {
            let found = ready();
            if found.is_some() || time.is_zero() {
                return found;
            }
            std::hint::spin_loop();
        }
        let now = std::time::Instant::now();
        if start.is_some() {
            std::thread::yield_now();
        }
        if now.duration_since(*start.get_or_insert(now)) >= time {
            return None;
        }
    }
}

/// Under loom a second look is another interleaving of the first.
#[cfg(loom)]
pub fn spin<T>(_: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    ready()
}

//! Locks whose holders leave what they guard whole, whatever happens.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock, though a thread panicked with it: for state that no panic leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

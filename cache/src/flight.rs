//! A computation that one thread does and any number wait for.

use std::sync::PoisonError;

use crate::sync::{Arc, Condvar, Mutex, ThreadId, lock, thread};

/// The end of a flight.
pub(super) enum Landing<V, E> {
    /// The maker returned.
    Result(Result<V, E>),
    /// The maker panicked; there is no result.
    Abandoned,
}

impl<V: Clone, E: Clone> Clone for Landing<V, E> {
    fn clone(&self) -> Self {
        match self {
            Landing::Result(result) => Landing::Result(result.clone()),
            Landing::Abandoned => Landing::Abandoned,
        }
    }
}

/// A computation in progress.
pub(super) struct Flight<V, E> {
    /// The thread that makes it.
    pub maker: ThreadId,
    landing: Mutex<Option<Landing<V, E>>>,
    landed: Condvar,
}

impl<V: Clone, E: Clone> Flight<V, E> {
    /// A flight that the calling thread makes.
    pub(super) fn start() -> Arc<Self> {
        let maker = thread::current().id();
        Arc::new(Flight { maker, landing: Mutex::new(None), landed: Condvar::new() })
    }

    /// Wakes all that wait.
    pub(super) fn land(&self, landing: Landing<V, E>) {
        *lock(&self.landing) = Some(landing);
        self.landed.notify_all();
    }

    /// Blocks until the flight has landed.
    pub(super) fn wait(&self) -> Landing<V, E> {
        let mut landing = lock(&self.landing);
        loop {
            if let Some(landing) = &*landing {
                return landing.clone();
            }
            landing = self.landed.wait(landing).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

//! The limit on the memory of packed weights.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::RuntimeError;

/// Bytes of packed weights alive, and how many there may be.
pub(crate) struct PackedBudget {
    bytes: AtomicUsize,
    limit: usize,
    /// The number of times that weights were packed so far.
    packings: AtomicU64,
}

impl PackedBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit, packings: AtomicU64::new(0) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count_packing(&self) {
        self.packings.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn packings(&self) -> u64 {
        self.packings.load(Ordering::Relaxed)
    }

    pub(super) fn reserve(&self, requested: usize) -> Result<(), RuntimeError> {
        let add = |live: usize| live.checked_add(requested).filter(|sum| *sum <= self.limit);
        let error = |live| RuntimeError::PackedLimit { requested, live, limit: self.limit };
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map(drop).map_err(error)
    }

    pub(super) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

//! Constant weights, packed once for the kernels that read them.

mod cache;

use std::alloc::Layout;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use kiln_compiler::packed::{PackedLayout, Weights};
use kiln_ir::contraction::View;

pub use cache::WeightsId;
pub(crate) use cache::{PackedCache, Registration};

use crate::error::RuntimeError;
use crate::scratch::{Buffer, MIN_ALIGN, ScratchError};

/// Weights in the order in which kernels read them, made by [`Kernel::pack_weights`](crate::Kernel::pack_weights) or
/// [`Runtime::packed_weights`](crate::Runtime::packed_weights).
///
/// Any kernel with an equal [layout](Self::layout) takes them, of any runtime, whatever its number of rows. A clone shares the
/// memory.
#[derive(Clone)]
pub struct PackedWeights(Arc<Packed>);

struct Packed {
    layout: Arc<PackedLayout>,
    buffer: Buffer,
    bytes: usize,
    budget: Arc<PackedBudget>,
    /// The cache to tell when this goes.
    cached: Option<Registration>,
}

/// Bytes of packed weights alive, and how many there may be.
pub(crate) struct PackedBudget {
    bytes: AtomicUsize,
    limit: usize,
}

impl PackedBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn reserve(&self, requested: usize) -> Result<(), RuntimeError> {
        let add = |live: usize| live.checked_add(requested).filter(|sum| *sum <= self.limit);
        let error = |live| RuntimeError::PackedLimit { requested, live, limit: self.limit };
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map(drop).map_err(error)
    }

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl PackedWeights {
    /// Packs `weights`, which `view` and the elements between `taps` say how to find, within a budget. Slices are as long as the
    /// view says.
    pub(crate) fn pack(
        layout: &Arc<PackedLayout>,
        view: &View,
        taps: u64,
        weights: Weights<'_>,
        budget: &Arc<PackedBudget>,
        cached: Option<Registration>,
    ) -> Result<Self, RuntimeError> {
        let bytes = layout.bytes() as usize;
        let shape =
            Layout::from_size_align(bytes, MIN_ALIGN).map_err(|_| ScratchError::Layout { bytes, align: MIN_ALIGN })?;
        budget.reserve(bytes)?;
        let Some(mut buffer) = Buffer::allocate(shape) else {
            budget.release(bytes);
            return Err(ScratchError::OutOfMemory { bytes }.into());
        };
        layout.pack(view, taps, weights, buffer.bytes_mut());
        Ok(Self(Arc::new(Packed { layout: layout.clone(), buffer, bytes, budget: budget.clone(), cached })))
    }

    /// Where each element is.
    pub fn layout(&self) -> &PackedLayout {
        &self.0.layout
    }

    /// Bytes of memory, which clones share.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// The memory, aligned to 64 bytes; [`PackedLayout`] says what is where.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.buffer.bytes()
    }

    pub(crate) fn shared_layout(&self) -> &Arc<PackedLayout> {
        &self.0.layout
    }

    fn downgrade(&self) -> WeakWeights {
        WeakWeights(Arc::downgrade(&self.0))
    }
}

/// [`PackedWeights`] that somebody else has, or had.
#[derive(Default)]
struct WeakWeights(Weak<Packed>);

impl WeakWeights {
    fn upgrade(&self) -> Option<PackedWeights> {
        self.0.upgrade().map(PackedWeights)
    }

    fn are_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedWeights({}, {} bytes)", crate::args::describe(self.layout()), self.bytes())
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
        if let Some(registration) = self.cached.take() {
            registration.dropped();
        }
    }
}

//! Constant weights, packed once for the kernels that read them.

mod cache;
mod prepared;

use std::alloc::Layout;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use kiln_compiler::Package;
use kiln_compiler::packed::{PackedLayout, Weights};
use kiln_ir::contraction::View;
use memmap2::MmapMut;

pub use cache::WeightsId;
pub(crate) use cache::{PackedCache, Registration};
pub use prepared::PreparedWeights;

use crate::args::{Input, Signature};
use crate::error::RuntimeError;
use crate::pack::Found;
use crate::scratch::{Buffer, MIN_ALIGN, ScratchError};

/// Weights in the order in which kernels read them, made by [`Kernel::pack_weights`](crate::Kernel::pack_weights) or
/// [`Runtime::packed_weights`](crate::Runtime::packed_weights).
///
/// Any kernel with an equal [layout](Self::layout) takes them, of any runtime, whatever its number of rows. A clone shares the
/// memory.
#[derive(Clone)]
pub struct PackedWeights(Arc<Packed>);

struct Packed {
    packing: Packing,
    memory: Memory,
    bytes: usize,
    budget: Arc<PackedBudget>,
    /// The cache to tell when this goes.
    cached: Option<Registration>,
}

/// Where packed weights lie, aligned to [`MIN_ALIGN`].
enum Memory {
    Own(Buffer),
    /// Pages of its own, which go back to the system when they are dropped: an allocator keeps some of what it gets.
    Pages(MmapMut),
    /// Somebody else's, a mapped file's for example.
    Shared(Bytes),
}

impl Memory {
    /// Memory of a layout, filled.
    fn filled(layout: Layout, fill: impl FnOnce(&mut [u8]) -> Result<(), RuntimeError>) -> Result<Self, RuntimeError> {
        /// The least bytes that have pages of their own.
        const LARGE: usize = 1 << 20;
        let bytes = layout.size();
        let none = || RuntimeError::from(ScratchError::OutOfMemory { bytes });
        if bytes >= LARGE {
            let mut pages = MmapMut::map_anon(bytes).map_err(|_| none())?;
            fill(&mut pages)?;
            return Ok(Memory::Pages(pages));
        }
        let mut buffer = Buffer::allocate(layout).ok_or_else(none)?;
        fill(buffer.bytes_mut())?;
        Ok(Memory::Own(buffer))
    }
}

/// How a kernel's weights become packed ones: where each element is, and where it goes. What it makes of equal weights is equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packing {
    pub layout: Arc<PackedLayout>,
    /// Elements between neighbours in the weights.
    pub view: View,
    /// Elements between taps in the weights.
    pub tap: u64,
}

/// Bytes of packed weights alive, and how many there may be.
pub(crate) struct PackedBudget {
    bytes: AtomicUsize,
    limit: usize,
    /// How often weights were packed so far.
    packings: AtomicU64,
}

impl Packing {
    /// The packing for the code of a package; `None` if it reads its weights where they are.
    pub(crate) fn of(package: &Package) -> Option<Self> {
        let layout = Arc::new(package.packed_layout()?.clone());
        let contraction = package.contraction();
        Some(Packing { layout, view: contraction.rhs.clone(), tap: contraction.rhs_tap() })
    }
}

impl PackedBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit, packings: AtomicU64::new(0) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn packings(&self) -> u64 {
        self.packings.load(Ordering::Relaxed)
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
    /// Packs `weights`, given as the problem's right operand, for the code of a package, whatever target that is for: packing is a copy,
    /// which any machine makes, byte for byte the same. They do not count towards the limit of a runtime.
    ///
    /// Fails for weights of another length or type than the problem's, and if the code reads its weights where they are.
    pub fn for_package<'a>(package: &Package, weights: impl Into<Input<'a>>) -> Result<Self, RuntimeError> {
        let problem = &package.facts().problem;
        let packing =
            Packing::of(package).ok_or_else(|| RuntimeError::NotPacked { problem: Box::new(problem.clone()) })?;
        let values = Signature::new(problem, package.packed_layout()).weights(weights.into())?;
        Self::pack(&packing, values, &Arc::new(PackedBudget::new(usize::MAX)), None)
    }

    /// Packs `weights` within a budget. Slices are as long as the packing's view says.
    pub(crate) fn pack(
        packing: &Packing,
        weights: Weights<'_>,
        budget: &Arc<PackedBudget>,
        cached: Option<Registration>,
    ) -> Result<Self, RuntimeError> {
        Self::fill(packing, budget, cached, |memory| {
            packing.layout.pack(&packing.view, packing.tap, weights, memory);
            budget.packings.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Weights that were packed before, of as many bytes as the layout has. Those in memory are not copied, if they are aligned.
    pub(crate) fn packed_before(
        packing: &Packing,
        found: &Found<'_>,
        budget: &Arc<PackedBudget>,
        cached: Option<Registration>,
    ) -> Result<Self, RuntimeError> {
        assert_eq!(found.len() as u64, packing.layout.bytes(), "kernels read as much");
        let is_aligned = |bytes: &Bytes| bytes.as_ptr().addr().is_multiple_of(MIN_ALIGN);
        match found.in_memory().filter(is_aligned) {
            Some(bytes) => {
                budget.reserve(bytes.len())?;
                Ok(Self::of(packing, bytes.len(), Memory::Shared(bytes), budget, cached))
            }
            None => Self::fill(packing, budget, cached, |memory| found.copy_into(memory)),
        }
    }

    fn fill(
        packing: &Packing,
        budget: &Arc<PackedBudget>,
        cached: Option<Registration>,
        fill: impl FnOnce(&mut [u8]) -> Result<(), RuntimeError>,
    ) -> Result<Self, RuntimeError> {
        let bytes = packing.layout.bytes() as usize;
        let shape =
            Layout::from_size_align(bytes, MIN_ALIGN).map_err(|_| ScratchError::Layout { bytes, align: MIN_ALIGN })?;
        budget.reserve(bytes)?;
        match Memory::filled(shape, fill) {
            Ok(memory) => Ok(Self::of(packing, bytes, memory, budget, cached)),
            Err(e) => {
                budget.release(bytes);
                Err(e)
            }
        }
    }

    fn of(
        packing: &Packing,
        bytes: usize,
        memory: Memory,
        budget: &Arc<PackedBudget>,
        cached: Option<Registration>,
    ) -> Self {
        Self(Arc::new(Packed { packing: packing.clone(), memory, bytes, budget: budget.clone(), cached }))
    }

    /// Where each element is.
    pub fn layout(&self) -> &PackedLayout {
        &self.0.packing.layout
    }

    /// Bytes of memory, which clones share.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// The memory, aligned to 64 bytes; [`PackedLayout`] says what is where.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0.memory {
            Memory::Own(buffer) => buffer.bytes(),
            Memory::Pages(pages) => &pages[..self.0.bytes],
            Memory::Shared(bytes) => bytes,
        }
    }

    pub(crate) fn packing(&self) -> &Packing {
        &self.0.packing
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

//! Packed weights, which those who want the same ones share.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kiln_compiler::packed::PackedLayout;
use kiln_ir::elements::Elements;

use super::budget::PackedBudget;
use super::cache::{Entry, WeakCache};
use super::id::WeightsId;
use super::packing::{Packing, describe};
use super::storage::Storage;
use crate::error::RuntimeError;
use crate::scratch::MIN_ALIGN;

/// Weights in the order in which kernels read them, made by [`Kernel::pack_weights`](crate::Kernel::pack_weights) or
/// [`Runtime::packed_weights`](crate::Runtime::packed_weights).
///
/// Any kernel with an equal [layout](Self::layout) takes them, of any runtime, whatever its number of rows. A clone shares the
/// memory.
#[derive(Clone)]
pub struct PackedWeights(Arc<Packed>);

/// The data that clones share.
struct Packed {
    packing: Packing,
    storage: Storage,
    budget: Arc<PackedBudget>,
    cached: Option<Registration>,
}

type WeightsKey = (WeightsId, Packing);

/// Packed weights by their identity and the way they are packed. Their users keep them alive, and the runtime's limit on all packed weights
/// bounds what they can hold together.
#[derive(Default)]
pub(crate) struct PackedCache(WeakCache<WeightsKey, Packed>);

/// The entry of packed weights in a cache, which goes with them.
pub(crate) struct Registration(Entry<WeightsKey, Packed>);

impl PackedCache {
    /// The weights that somebody has, else those that `make` makes.
    pub(crate) fn get(
        &self,
        packing: Packing,
        id: WeightsId,
        make: impl FnOnce(Registration) -> Result<PackedWeights, RuntimeError>,
    ) -> Result<PackedWeights, RuntimeError> {
        let make = |entry| make(Registration(entry)).map(|weights| weights.0);
        self.0.get((id, packing), make).map(PackedWeights)
    }
}

impl PackedWeights {
    /// Packs `weights` within a budget. Slices are as long as the packing's view says.
    pub(crate) fn pack(
        packing: &Packing,
        weights: Elements<'_>,
        budget: &Arc<PackedBudget>,
        cached: Option<Registration>,
    ) -> Result<Self, RuntimeError> {
        Self::fill(packing, budget, cached, |memory| {
            packing.layout.pack(&packing.view, packing.tap, weights, memory);
            budget.count_packing();
            Ok(())
        })
    }

    /// Weights whose packed bytes are in memory, as many as the layout has. They are not copied, if they are aligned.
    pub(crate) fn of_bytes(
        packing: &Packing,
        bytes: Bytes,
        budget: &Arc<PackedBudget>,
        cached: Option<Registration>,
    ) -> Result<Self, RuntimeError> {
        assert_eq!(bytes.len() as u64, packing.layout.bytes(), "kernels read as much");
        if !bytes.as_ptr().addr().is_multiple_of(MIN_ALIGN) {
            return Self::fill(packing, budget, cached, |memory| {
                memory.copy_from_slice(&bytes);
                Ok(())
            });
        }
        budget.reserve(bytes.len())?;
        Ok(Self::new(packing, Storage::Shared(bytes), budget, cached))
    }

    /// Weights whose packed bytes `fill` writes to memory of as many bytes as the layout has.
    pub(crate) fn fill(
        packing: &Packing,
        budget: &Arc<PackedBudget>,
        cached: Option<Registration>,
        fill: impl FnOnce(&mut [u8]) -> Result<(), RuntimeError>,
    ) -> Result<Self, RuntimeError> {
        let bytes = packing.layout.bytes() as usize;
        budget.reserve(bytes)?;
        match Storage::filled(bytes, fill) {
            Ok(storage) => Ok(Self::new(packing, storage, budget, cached)),
            Err(e) => {
                budget.release(bytes);
                Err(e)
            }
        }
    }

    fn new(packing: &Packing, storage: Storage, budget: &Arc<PackedBudget>, cached: Option<Registration>) -> Self {
        Self(Arc::new(Packed { packing: packing.clone(), storage, budget: budget.clone(), cached }))
    }

    /// Where each element is.
    pub fn layout(&self) -> &PackedLayout {
        &self.0.packing.layout
    }

    /// Bytes of memory, which clones share.
    pub fn bytes(&self) -> usize {
        self.as_bytes().len()
    }

    /// The memory, aligned to 64 bytes; [`PackedLayout`] says what is where.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.storage.bytes()
    }

    pub(crate) fn packing(&self) -> &Packing {
        &self.0.packing
    }
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedWeights({}, {} bytes)", describe(self.layout()), self.bytes())
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        self.budget.release(self.storage.bytes().len());
        if let Some(registration) = self.cached.take() {
            registration.0.dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, Runtime, WeightsId};

    #[test]
    fn no_slot_outlives_its_weights() {
        let runtime = Runtime::builder().threads(1).packed_limit(1 << 16).build().unwrap();
        let options = Options { constant_weights: true, ..Options::default() };
        let kernel = runtime.kernel_with(&"ip f32 mb16ic48oc64".parse().unwrap(), &options).unwrap();
        let (weights, slots) = (vec![1.0; 48 * 64], || runtime.inner().weights.0.len());
        let all: Vec<_> = (0..4).map(|id| runtime.packed_weights(&kernel, WeightsId::from(id), &weights)).collect();
        assert_eq!(slots(), 4);
        assert!(runtime.packed_weights(&kernel, 9.into(), &weights).and(kernel.pack_weights(&weights)).is_err());
        assert!(runtime.packed_weights(&kernel, 10.into(), &weights[1..]).is_err());
        assert_eq!(slots(), 4, "failures leave none");
        drop(all);
        assert_eq!(slots(), 0);
    }
}

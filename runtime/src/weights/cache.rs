//! Packed weights by what they are: whoever wants the same ones packed alike shares them.
//!
//! The cache keeps nothing alive. Users hold the weights, and the memory is free when the last of them lets go; the runtime's
//! limit on all packed weights bounds what they can hold together. A slot per weights and way of packing is locked while they are
//! packed, so that others wait for them instead of packing again; the table of slots is locked for look-ups alone. What the locks
//! guard is whole after a panic: weights are put into a slot when they are packed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use bytemuck::cast_slice;
use twox_hash::XxHash3_128;

use super::{PackedWeights, Packing, WeakWeights};
use crate::args::Input;
use crate::error::RuntimeError;
use crate::lock::lock;

/// Which weights some are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightsId(Id);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Id {
    /// The caller's number.
    Given(u64),
    /// The hash of their values.
    Content(u128),
}

impl WeightsId {
    /// The hash; `None` of a caller's number, which may stand for others in another process.
    pub(crate) fn hash(self) -> Option<u128> {
        match self.0 {
            Id::Given(_) => None,
            Id::Content(hash) => Some(hash),
        }
    }
}

impl From<u64> for WeightsId {
    /// A number that the caller gives to no others as long as anyone uses these.
    fn from(id: u64) -> Self {
        WeightsId(Id::Given(id))
    }
}

impl WeightsId {
    /// By their content: XXH3-128 of type and values, which takes as long as reading them. Different weights have different ids
    /// but for a chance of 2^-128; whoever chooses values on purpose can make two that do not.
    pub fn of<'a>(weights: impl Into<Input<'a>>) -> Self {
        let hash = match weights.into() {
            Input::F32(v) => XxHash3_128::oneshot(cast_slice(v)),
            Input::Bf16(v) => XxHash3_128::oneshot_with_seed(16, cast_slice(v)),
            Input::F16(v) => XxHash3_128::oneshot_with_seed(17, cast_slice(v)),
            Input::Packed(packed) => XxHash3_128::oneshot_with_seed(1, packed.as_bytes()),
        };
        Self::of_hash(hash)
    }

    /// By a hash of something that determines their values, as what they are computed of.
    pub fn of_hash(hash: u128) -> Self {
        WeightsId(Id::Content(hash))
    }
}

type Slot = Arc<Mutex<WeakWeights>>;
type Key = (WeightsId, Packing);
type Table = Mutex<HashMap<Key, Slot>>;

/// See the [module](self).
#[derive(Default)]
pub(crate) struct PackedCache(Arc<Table>);

/// How weights find their slot again.
pub(crate) struct Registration {
    table: Weak<Table>,
    key: Key,
}

impl PackedCache {
    /// The weights of before, else those that `make` makes.
    pub(crate) fn get(
        &self,
        packing: Packing,
        id: WeightsId,
        make: impl FnOnce(Registration) -> Result<PackedWeights, RuntimeError>,
    ) -> Result<PackedWeights, RuntimeError> {
        let key = (id, packing);
        let slot = lock(&self.0).entry(key.clone()).or_default().clone();
        let result = {
            let mut slot = lock(&slot);
            match slot.upgrade() {
                Some(packed) => Ok(packed),
                None => {
                    let registration = Registration { table: Arc::downgrade(&self.0), key: key.clone() };
                    let packed = make(registration);
                    if let Ok(packed) = &packed {
                        *slot = packed.downgrade();
                    }
                    packed
                }
            }
        };
        drop(slot);
        if result.is_err() {
            forget(&self.0, &key);
        }
        result
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl Registration {
    /// The weights are gone.
    pub(super) fn dropped(self) {
        if let Some(table) = self.table.upgrade() {
            forget(&table, &self.key);
        }
    }
}

/// Removes a slot that nobody uses. Slots are given out under the table's lock, so one that only the table has stays unused.
///
/// Others may have packed the weights again. They are only counted: a handle to them could be the last one when it is dropped, and
/// would come here again with the table locked.
fn forget(table: &Table, key: &Key) {
    let mut table = lock(table);
    if table.get(key).is_some_and(|slot| Arc::strong_count(slot) == 1 && lock(slot).are_gone()) {
        table.remove(key);
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
        let (weights, slots) = (vec![1.0; 48 * 64], || runtime.inner().weights.len());
        let all: Vec<_> = (0..4).map(|id| runtime.packed_weights(&kernel, WeightsId::from(id), &weights)).collect();
        assert_eq!(slots(), 4);
        assert!(runtime.packed_weights(&kernel, 9.into(), &weights).and(kernel.pack_weights(&weights)).is_err());
        assert!(runtime.packed_weights(&kernel, 10.into(), &weights[1..]).is_err());
        assert_eq!(slots(), 4, "failures leave none");
        drop(all);
        assert_eq!(slots(), 0);
    }
}

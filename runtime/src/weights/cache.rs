//! A table of things that somebody else owns: whoever wants the same one shares it.
//!
//! The table keeps nothing alive. When the last owner of a thing drops it, its entry goes too. A slot is locked while its thing is made, so
//! that others wait for it instead of making it again; the table is locked for look-ups alone. The locked data is whole after a panic: a
//! thing is put into its slot when it is complete.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, Weak};

use crate::lock::lock;

type Slot<T> = Arc<Mutex<Weak<T>>>;
type Table<K, T> = Mutex<HashMap<K, Slot<T>>>;

/// A table of things by their keys. See the [module](self).
pub(super) struct WeakCache<K, T>(Arc<Table<K, T>>);

/// The entry of a thing, which is told when the thing is dropped.
pub(super) struct Entry<K, T> {
    table: Weak<Table<K, T>>,
    key: K,
}

impl<K, T> Default for WeakCache<K, T> {
    fn default() -> Self {
        WeakCache(Arc::default())
    }
}

impl<K: Clone + Eq + Hash, T> WeakCache<K, T> {
    /// The thing that somebody has, else the one that `make` makes.
    pub(super) fn get<E>(&self, key: K, make: impl FnOnce(Entry<K, T>) -> Result<Arc<T>, E>) -> Result<Arc<T>, E> {
        let slot = lock(&self.0).entry(key.clone()).or_default().clone();
        let result = {
            let mut slot = lock(&slot);
            match slot.upgrade() {
                Some(thing) => Ok(thing),
                None => {
                    let thing = make(Entry { table: Arc::downgrade(&self.0), key: key.clone() });
                    if let Ok(thing) = &thing {
                        *slot = Arc::downgrade(thing);
                    }
                    thing
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
    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl<K: Eq + Hash, T> Entry<K, T> {
    /// Removes the entry of a thing that was dropped.
    pub(super) fn dropped(self) {
        if let Some(table) = self.table.upgrade() {
            forget(&table, &self.key);
        }
    }
}

/// Removes a slot that nobody uses. Slots are given out under the table's lock, so one that only the table has stays unused.
///
/// Others may have made the thing again. They are only counted: a handle to it could be the last one when it is dropped, and
/// would come here again with the table locked.
fn forget<K: Eq + Hash, T>(table: &Table<K, T>, key: &K) {
    let mut table = lock(table);
    if table.get(key).is_some_and(|slot| Arc::strong_count(slot) == 1 && lock(slot).strong_count() == 0) {
        table.remove(key);
    }
}

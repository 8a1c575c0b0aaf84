//! A hash table whose entries are also in a list, most recently added first. Every operation is O(1).
//!
//! The list runs through the slots by index, so no entry is allocated or moved alone. The caller hashes: a key that is
//! looked up need not be of the type that is stored.

use hashbrown::HashTable;

/// The end of a list.
const NONE: u32 = u32::MAX;

struct Slot<T> {
    hash: u64,
    /// `None` while the slot is free.
    entry: Option<T>,
    newer: u32,
    /// The next older entry; in a free slot, the next free one.
    older: u32,
}

/// Entries by hash and by age.
pub(super) struct Ages<T> {
    slots: Vec<Slot<T>>,
    index: HashTable<u32>,
    newest: u32,
    oldest: u32,
    free: u32,
}

impl<T> Ages<T> {
    pub(super) fn new() -> Ages<T> {
        Ages { slots: Vec::new(), index: HashTable::new(), newest: NONE, oldest: NONE, free: NONE }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The entry with this hash that `is_it` accepts. Its place in the list does not change.
    pub(super) fn peek(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let at = *self.index.find(hash, |at| is_slot(&self.slots, *at, hash, &is_it))?;
        self.slots[at as usize].entry.as_ref()
    }

    /// Adds an entry as the newest. None like it may be there.
    pub(super) fn insert(&mut self, hash: u64, entry: T) {
        let slot = Slot { hash, entry: Some(entry), newer: NONE, older: NONE };
        let at = if self.free == NONE {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 entries")
        } else {
            let at = self.free;
            self.free = self.slots[at as usize].older;
            self.slots[at as usize] = slot;
            at
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, at, |at| slots[*at as usize].hash);
        self.link_newest(at);
    }

    /// Removes the entry with this hash that `is_it` accepts.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let slots = &self.slots;
        let found = self.index.find_entry(hash, |at| is_slot(slots, *at, hash, &is_it)).ok()?;
        let (at, _) = found.remove();
        self.unlink(at);
        self.vacate(at)
    }

    /// Removes the entry that was added first.
    pub(super) fn pop_oldest(&mut self) -> Option<T> {
        let at = self.oldest;
        let hash = self.slots.get(at as usize)?.hash;
        if let Ok(found) = self.index.find_entry(hash, |other| *other == at) {
            found.remove();
        }
        self.unlink(at);
        self.vacate(at)
    }

    fn vacate(&mut self, at: u32) -> Option<T> {
        let slot = &mut self.slots[at as usize];
        slot.older = std::mem::replace(&mut self.free, at);
        slot.entry.take()
    }

    fn unlink(&mut self, at: u32) {
        let Slot { newer, older, .. } = self.slots[at as usize];
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let older = std::mem::replace(&mut self.newest, at);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
        let slot = &mut self.slots[at as usize];
        (slot.newer, slot.older) = (NONE, older);
    }
}

#[inline]
fn is_slot<T>(slots: &[Slot<T>], at: u32, hash: u64, is_it: &impl Fn(&T) -> bool) -> bool {
    let slot = &slots[at as usize];
    slot.hash == hash && slot.entry.as_ref().is_some_and(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random use against a vector ordered by age, with a hash that collides often.
    #[test]
    fn agrees_with_a_list() {
        let hash = |key: u32| u64::from(key % 3);
        let (mut ages, mut model) = (Ages::new(), Vec::<(u32, u32)>::new());
        let mut state = 7_u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % n) as u32
        };
        for step in 0..20_000 {
            let key = random(24);
            let at = model.iter().position(|(k, _)| *k == key);
            match (random(4), at) {
                (0, _) => assert_eq!(ages.pop_oldest(), (!model.is_empty()).then(|| model.remove(0))),
                (1, _) => assert_eq!(ages.remove(hash(key), |e| e.0 == key), at.map(|at| model.remove(at))),
                (_, Some(at)) => assert_eq!(ages.peek(hash(key), |e| e.0 == key), Some(&model[at])),
                (_, None) => {
                    assert_eq!(ages.peek(hash(key), |e| e.0 == key), None);
                    ages.insert(hash(key), (key, step));
                    model.push((key, step));
                }
            }
            assert_eq!(ages.len(), model.len());
        }
        assert!(ages.slots.len() <= 24, "free slots are used again");
        let rest: Vec<_> = std::iter::from_fn(|| ages.pop_oldest()).collect();
        assert_eq!(rest, model);
    }
}

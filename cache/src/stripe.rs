//! Tables for hits, one a stripe of threads.

use hashbrown::HashTable;

use crate::replicate::Replicate;
use crate::sync::{Arc, AtomicBool, AtomicU64, HitLock, Ordering, thread_number};

/// A value in the store.
pub(crate) struct Entry<K, V> {
    pub hash: u64,
    pub key: K,
    pub value: V,
    pub bytes: usize,
    /// Asked for since it was stored, or passed over by an eviction.
    used: AtomicBool,
    /// A bit for each stripe that has a copy. Changed under the store's lock.
    stripes: AtomicU64,
}

impl<K, V> Entry<K, V> {
    pub(crate) fn new(hash: u64, key: K, value: V, bytes: usize) -> Self {
        Entry { hash, key, value, bytes, used: AtomicBool::new(false), stripes: AtomicU64::new(0) }
    }

    /// Writes only if nobody did before, so that threads share the line for reading.
    #[inline]
    pub(crate) fn mark_used(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Removes the mark; true if there was one.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

/// A stripe's own handle to a value.
pub(crate) struct Copy<K, V> {
    entry: Arc<Entry<K, V>>,
    value: V,
}

/// On cache lines of its own: two, as processors fetch them in pairs.
#[repr(align(128))]
struct Stripe<K, V> {
    table: HitLock<HashTable<Copy<K, V>>>,
    /// Changed under the lock, read without.
    hits: AtomicU64,
}

pub(crate) struct Stripes<K, V>(Box<[Stripe<K, V>]>);

impl<K, V: Replicate> Stripes<K, V> {
    /// `count` stripes, between 1 and the bits of a word.
    pub(crate) fn new(count: usize) -> Self {
        let stripe = |_| Stripe { table: HitLock::new(HashTable::new()), hits: AtomicU64::new(0) };
        Stripes((0..count.clamp(1, u64::BITS as usize)).map(stripe).collect())
    }

    #[inline]
    fn own(&self) -> usize {
        let (number, count) = (thread_number(), self.0.len());
        // Threads are usually fewer than stripes; a division takes as long as the rest.
        if number < count { number } else { number % count }
    }

    /// The value from the calling thread's stripe, counted as a hit.
    #[inline]
    pub(crate) fn get(&self, hash: u64, is_key: impl Fn(&K) -> bool) -> Option<V> {
        let stripe = &self.0[self.own()];
        let table = stripe.table.lock();
        let copy = table.find(hash, |copy| copy.entry.hash == hash && is_key(&copy.entry.key))?;
        copy.entry.mark_used();
        // Not an atomic addition: the lock keeps others from writing.
        stripe.hits.store(stripe.hits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(copy.value.clone())
    }

    /// Puts a copy into the calling thread's stripe, if there is none. The store is locked, and has the entry.
    pub(crate) fn fill(&self, entry: &Arc<Entry<K, V>>) -> V {
        let own = self.own();
        let value = entry.value.replicate();
        let all = entry.stripes.load(Ordering::Relaxed);
        if all & 1 << own == 0 {
            entry.stripes.store(all | 1 << own, Ordering::Relaxed);
            let copy = Copy { entry: Arc::clone(entry), value: value.clone() };
            self.0[own].table.lock().insert_unique(entry.hash, copy, |copy| copy.entry.hash);
        }
        value
    }

    /// Takes out all copies of an entry. The store is locked, and no longer has the entry.
    pub(crate) fn remove(&self, entry: &Arc<Entry<K, V>>) -> Vec<Copy<K, V>> {
        let mut removed = Vec::new();
        let mut all = entry.stripes.swap(0, Ordering::Relaxed);
        while all != 0 {
            let stripe = &self.0[all.trailing_zeros() as usize];
            all &= all - 1;
            let mut table = stripe.table.lock();
            if let Ok(found) = table.find_entry(entry.hash, |copy| Arc::ptr_eq(&copy.entry, entry)) {
                removed.push(found.remove().0);
            }
        }
        removed
    }

    pub(crate) fn hits(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.hits.load(Ordering::Relaxed)).sum()
    }
}

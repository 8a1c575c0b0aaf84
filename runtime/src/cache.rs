//! A cache that makes each value once: least recently used entries leave, and threads that want the same missing value
//! wait for one of them to make it.
//!
//! The lock is held for look-ups and bookkeeping only. Values are made and dropped outside it, so making one value may ask
//! for another, and an evicted value that is still in use lives on in the `Arc`s that callers hold.

mod flight;
mod lru;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use hashbrown::Equivalent;
use rustc_hash::FxBuildHasher;

use flight::{Flight, Landing};
use lru::Lru;

/// What a [`Cache`] may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Entries. With 0 nothing is stored or shared: every call makes its value.
    pub entries: usize,
    /// The sum of the sizes of all values, as their makers state them.
    pub bytes: usize,
}

impl Capacity {
    /// `entries` values of any size.
    pub fn entries(entries: usize) -> Capacity {
        Capacity { entries, bytes: usize::MAX }
    }
}

/// Counters since the cache was created, and its present content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Look-ups that found the value.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Misses that waited for another thread's compilation instead of starting one.
    pub waits: u64,
    /// Values made, or tried to be made.
    pub compilations: u64,
    /// The time that took, summed over threads.
    pub compile_time: Duration,
    /// Values that left for want of capacity.
    pub evictions: u64,
    /// Values in the cache.
    pub entries: usize,
    /// The sum of their sizes.
    pub bytes: usize,
}

/// A single-flight cache with least-recently-used eviction. See the [module](self).
pub struct Cache<K, V, E> {
    capacity: Capacity,
    hasher: FxBuildHasher,
    state: Mutex<State<K, V, E>>,
}

struct Stored<V> {
    value: Arc<V>,
    bytes: usize,
}

struct State<K, V, E> {
    stored: Lru<K, Stored<V>>,
    flights: HashMap<K, Arc<Flight<V, E>>, FxBuildHasher>,
    /// What each blocked thread waits for.
    waiting: HashMap<ThreadId, Arc<Flight<V, E>>, FxBuildHasher>,
    stats: CacheStats,
}

impl<K, V, E> State<K, V, E> {
    /// Whether waiting for `maker` would be waiting, perhaps through other makers, for the calling thread itself.
    fn waits_for_caller(&self, mut maker: ThreadId) -> bool {
        let caller = std::thread::current().id();
        loop {
            if maker == caller {
                return true;
            }
            match self.waiting.get(&maker) {
                Some(flight) => maker = flight.maker,
                None => return false,
            }
        }
    }
}

/// How a missing value is to be had.
enum Plan<V, E> {
    Make(Arc<Flight<V, E>>),
    MakeUnshared,
    Wait(Arc<Flight<V, E>>),
}

impl<K: Eq + Hash + Clone, V, E: Clone> Cache<K, V, E> {
    /// An empty cache.
    pub fn new(capacity: Capacity) -> Self {
        let state = State {
            stored: Lru::new(),
            flights: HashMap::default(),
            waiting: HashMap::default(),
            stats: CacheStats::default(),
        };
        Cache { capacity, hasher: FxBuildHasher, state: Mutex::new(state) }
    }

    /// The stored value of `key`, now the most recently used. A miss is not counted: it is expected to be followed by
    /// [`get_or_try_insert_with`](Self::get_or_try_insert_with).
    ///
    /// `Q` is any form of the key that hashes and compares as `K` does, e.g. a struct of references to the same fields.
    #[inline]
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Arc<V>> {
        let hash = self.hasher.hash_one(key);
        let mut state = self.lock();
        let value = Arc::clone(&state.stored.get(hash, |stored| key.equivalent(stored))?.value);
        state.stats.hits += 1;
        Some(value)
    }

    /// The value of `key`: stored, being made by another thread, or made now with `make` and stored with the size that
    /// `bytes` tells.
    ///
    /// Threads that ask for the same key at once share one call of `make` and its result. An error goes to all of them and
    /// is not stored. If `make` panics, the others try again with their own.
    ///
    /// `make` may use the cache. A thread that would wait for itself, directly or through the makers of other keys, makes
    /// the value instead, unshared.
    #[inline]
    pub fn get_or_try_insert_with(
        &self,
        key: &K,
        bytes: impl Fn(&V) -> usize,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        match self.get(key) {
            Some(value) => Ok(value),
            None => self.make_or_wait(key, bytes, make),
        }
    }

    #[cold]
    fn make_or_wait(
        &self,
        key: &K,
        bytes: impl Fn(&V) -> usize,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        let mut state = self.lock();
        state.stats.misses += 1;
        let flight = loop {
            match self.plan(&mut state, key) {
                Ok(value) => return Ok(value),
                Err(Plan::Make(flight)) => break Some(flight),
                Err(Plan::MakeUnshared) => break None,
                Err(Plan::Wait(flight)) => {
                    state.waiting.insert(std::thread::current().id(), Arc::clone(&flight));
                    state.stats.waits += 1;
                    drop(state);
                    match flight.wait() {
                        Landing::Result(result) => return result,
                        Landing::Abandoned => state = self.lock(),
                    }
                    state.stats.waits -= 1;
                }
            }
        };
        drop(state);
        let mut guard = MakerGuard { cache: self, key, flight, started: Some(Instant::now()) };
        let result = make().map(Arc::new);
        let size = result.as_ref().map_or(0, |value| bytes(value));
        guard.finish(Some((&result, size)));
        result
    }

    fn plan(&self, state: &mut State<K, V, E>, key: &K) -> Result<Arc<V>, Plan<V, E>> {
        if self.capacity.entries == 0 {
            return Err(Plan::MakeUnshared);
        }
        // Another thread may have stored the value since the look-up that missed.
        if let Some(stored) = state.stored.get(self.hasher.hash_one(key), |k| k == key) {
            return Ok(Arc::clone(&stored.value));
        }
        let Some(flight) = state.flights.get(key) else {
            let flight = Flight::start();
            state.flights.insert(key.clone(), Arc::clone(&flight));
            return Err(Plan::Make(flight));
        };
        if state.waits_for_caller(flight.maker) {
            return Err(Plan::MakeUnshared);
        }
        Err(Plan::Wait(Arc::clone(flight)))
    }

    /// Stores a value and returns what has to be dropped outside the lock.
    fn store(&self, state: &mut State<K, V, E>, key: &K, value: &Arc<V>, bytes: usize) -> Vec<(K, Stored<V>)> {
        let hash = self.hasher.hash_one(key);
        let mut removed = Vec::from_iter(state.stored.remove(hash, |k| k == key));
        state.stats.bytes -= removed.iter().map(|(_, stored)| stored.bytes).sum::<usize>();
        if bytes > self.capacity.bytes {
            // Would evict everything and still not fit.
            return removed;
        }
        while state.stored.len() >= self.capacity.entries || state.stats.bytes > self.capacity.bytes - bytes {
            let Some(oldest) = state.stored.pop_oldest() else { break };
            state.stats.bytes -= oldest.1.bytes;
            state.stats.evictions += 1;
            removed.push(oldest);
        }
        state.stored.insert(hash, key.clone(), Stored { value: Arc::clone(value), bytes });
        state.stats.bytes += bytes;
        removed
    }

    /// Forgets all values. Those being made now are stored when they are done.
    pub fn clear(&self) {
        let mut state = self.lock();
        let removed = std::mem::replace(&mut state.stored, Lru::new());
        state.stats.bytes = 0;
        drop(state);
        drop(removed);
    }

    /// The counters, all read at one moment.
    pub fn stats(&self) -> CacheStats {
        let state = self.lock();
        CacheStats { entries: state.stored.len(), ..state.stats }
    }
}

impl<K, V, E> Cache<K, V, E> {
    /// No panic leaves the state half changed: user code that runs under the lock (`Eq`, `Clone` of keys) does so before
    /// a change, so a poisoned lock is good to use.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, State<K, V, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a flight, also when its maker panics.
struct MakerGuard<'a, K: Eq + Hash + Clone, V, E: Clone> {
    cache: &'a Cache<K, V, E>,
    key: &'a K,
    /// `None` when the value is not shared.
    flight: Option<Arc<Flight<V, E>>>,
    /// `None` after the end.
    started: Option<Instant>,
}

impl<K: Eq + Hash + Clone, V, E: Clone> MakerGuard<'_, K, V, E> {
    /// Stores and announces the result and its size; `None` for a panic.
    fn finish(&mut self, result: Option<(&Result<Arc<V>, E>, usize)>) {
        let Some(started) = self.started.take() else { return };
        let mut state = self.cache.lock();
        state.stats.compilations += 1;
        state.stats.compile_time += started.elapsed();
        let Some(flight) = self.flight.take() else { return };
        state.flights.remove(self.key);
        state.waiting.retain(|_, other| !Arc::ptr_eq(other, &flight));
        let removed = match result {
            Some((Ok(value), size)) => self.cache.store(&mut state, self.key, value, size),
            _ => Vec::new(),
        };
        drop(state);
        flight.land(result.map_or(Landing::Abandoned, |(result, _)| Landing::Result(result.clone())));
        drop(removed);
    }
}

impl<K: Eq + Hash + Clone, V, E: Clone> Drop for MakerGuard<'_, K, V, E> {
    fn drop(&mut self) {
        self.finish(None);
    }
}

#[cfg(test)]
mod tests;

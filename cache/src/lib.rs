//! A cache that makes each value once. It evicts unused values when there are too many. Threads that want the same missing
//! value wait for one of them to make it, and hits of different threads do not slow each other down.
//!
//! Two levels, so that a hit writes to no memory that another thread writes to:
//! - Each *stripe* has a table of values that its threads asked for, under a lock of its own. A thread always uses the same
//!   stripe, and there are as many stripes as threads that can run, so the lock is free and its line in the thread's cache. Each
//!   stripe has its own [copy](Replicate) of a value, since a reference count is a shared word as well.
//! - The *store* knows all values and the order they came in. It is locked for misses, and never while a value is made.
//!
//! Locks are taken in the order store, then stripe, and a stripe is only filled under the store's lock. So when the lock is
//! released, a value that has left the store has left all stripes.
//!
//! A hit marks its value as used, if it is not marked. Eviction takes the value that was stored first, but gives a marked one
//! a second chance: it is unmarked and counts as stored now (Corbató's CLOCK). So values used often stay without their
//! order being changed at each hit. After [`SECOND_CHANCES`] of them the next goes, marked or not: every operation is O(1).

#![forbid(unsafe_code)]

mod ages;
mod flight;
mod replicate;
mod stripe;
mod sync;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use hashbrown::Equivalent;
use rustc_hash::FxBuildHasher;

use ages::Ages;
use flight::{Flight, Landing};
pub use replicate::Replicate;
use stripe::{Entry, Stripes};
use sync::{Arc, Mutex, MutexGuard, ThreadId, lock, thread};

/// The most values that one eviction passes over.
pub const SECOND_CHANCES: usize = 32;
/// The most failures that are remembered.
const FAILURES: usize = 256;

/// The limits of a [`Cache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The number of values. With 0, nothing is stored or shared, and every call makes its value.
    pub entries: usize,
    /// The sum of the sizes of all values, as their makers state them.
    pub bytes: usize,
    /// The time for which an error is remembered for its key. After it, the next call tries again to make the value.
    pub retry_after: Duration,
    /// Tables for hits; each thread has one of them.
    pub stripes: usize,
}

impl Config {
    /// `entries` values of any size, errors forgotten at once, and a stripe per thread that can run.
    pub fn entries(entries: usize) -> Config {
        let stripes = std::thread::available_parallelism().map_or(1, usize::from);
        Config { entries, bytes: usize::MAX, retry_after: Duration::ZERO, stripes }
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
    /// Misses that were answered with a remembered error.
    pub refusals: u64,
    /// Values made, or tried to be made.
    pub compilations: u64,
    /// The time that took, summed over threads.
    pub compile_time: Duration,
    /// Values that were evicted.
    pub evictions: u64,
    /// Values in the cache.
    pub entries: usize,
    /// Pinned values in the cache.
    pub pinned: usize,
    /// The sum of the sizes of all values.
    pub bytes: usize,
}

/// A single-flight cache with second-chance eviction. See the [module](self).
pub struct Cache<K, V, E> {
    config: Config,
    hasher: FxBuildHasher,
    stripes: Stripes<K, V>,
    state: Mutex<State<K, V, E>>,
}

struct State<K, V, E> {
    /// Entries that may be evicted, in the order in which they were stored.
    stored: Ages<Arc<Entry<K, V>>>,
    pinned: Ages<Arc<Entry<K, V>>>,
    failures: Ages<(K, E, Instant)>,
    flights: HashMap<K, Arc<Flight<V, E>>, FxBuildHasher>,
    /// The flight that each blocked thread waits for.
    waiting: HashMap<ThreadId, Arc<Flight<V, E>>, FxBuildHasher>,
    stats: CacheStats,
}

impl<K, V, E> State<K, V, E> {
    /// True if waiting for `maker` would mean that the calling thread waits for itself, directly or through other makers.
    fn waits_for_caller(&self, mut maker: ThreadId) -> bool {
        let caller = thread::current().id();
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

    fn find(&self, hash: u64, is_key: impl Fn(&K) -> bool) -> Option<&Arc<Entry<K, V>>> {
        let is_entry = |entry: &Arc<Entry<K, V>>| is_key(&entry.key);
        self.stored.peek(hash, is_entry).or_else(|| self.pinned.peek(hash, is_entry))
    }

    /// Adds an entry as the newest.
    fn add(&mut self, entry: Arc<Entry<K, V>>, pinned: bool) {
        self.stats.bytes += entry.bytes;
        let list = if pinned { &mut self.pinned } else { &mut self.stored };
        list.insert(entry.hash, entry);
    }

    /// Removes an entry and tells whether it was pinned.
    fn remove(&mut self, hash: u64, is_key: impl Fn(&K) -> bool) -> Option<(Arc<Entry<K, V>>, bool)> {
        let is_entry = |entry: &Arc<Entry<K, V>>| is_key(&entry.key);
        let removed = match self.stored.remove(hash, is_entry) {
            Some(entry) => Some((entry, false)),
            None => self.pinned.remove(hash, is_entry).map(|entry| (entry, true)),
        };
        self.stats.bytes -= removed.as_ref().map_or(0, |(entry, _)| entry.bytes);
        removed
    }

    /// Removes the next entry to be evicted.
    fn evict(&mut self) -> Option<Arc<Entry<K, V>>> {
        for _ in 0..SECOND_CHANCES {
            let oldest = self.stored.pop_oldest()?;
            if !oldest.take_used() {
                return Some(oldest);
            }
            self.stored.insert(oldest.hash, oldest);
        }
        self.stored.pop_oldest()
    }
}

/// The decision how to get a value, made under the lock.
enum Decision<V, E> {
    Have(V),
    Refuse(E),
    Make(Arc<Flight<V, E>>),
    MakeUnshared,
    Wait(Arc<Flight<V, E>>),
}

impl<K: Eq + Hash + Clone, V: Replicate, E: Clone> Cache<K, V, E> {
    /// An empty cache.
    pub fn new(config: Config) -> Self {
        let state = State {
            stored: Ages::new(),
            pinned: Ages::new(),
            failures: Ages::new(),
            flights: HashMap::default(),
            waiting: HashMap::default(),
            stats: CacheStats::default(),
        };
        let stripes = Stripes::new(config.stripes);
        Cache { config, hasher: FxBuildHasher, stripes, state: Mutex::new(state) }
    }

    /// The stored value of `key`, which counts as used. A miss is not counted: it is expected to be followed by
    /// [`get_or_try_insert_with`](Self::get_or_try_insert_with).
    ///
    /// `Q` is any form of the key that hashes and compares as `K` does, e.g. a struct of references to the same fields.
    #[inline]
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let is_key = |stored: &K| key.equivalent(stored);
        self.stripes.get(hash, is_key).or_else(|| self.get_from_store(hash, is_key))
    }

    /// Looks in the store, and puts a copy of the value into the stripe of the calling thread.
    #[cold]
    fn get_from_store(&self, hash: u64, is_key: impl Fn(&K) -> bool) -> Option<V> {
        let mut state = self.lock();
        let entry = state.find(hash, is_key)?;
        let value = self.stripes.fill(entry);
        entry.mark_used();
        state.stats.hits += 1;
        Some(value)
    }

    /// The value of `key`: stored, being made by another thread, or made now with `make` and stored with the size that
    /// `bytes` tells.
    ///
    /// Threads that ask for the same key at once share one call of `make` and its result. An error goes to all of them, and to
    /// those that ask soon after ([`Config::retry_after`]). If `make` panics, the others try again with their own.
    ///
    /// `make` may use the cache. A thread that would wait for itself, directly or through the makers of other keys, makes
    /// the value instead, unshared.
    #[inline]
    pub fn get_or_try_insert_with(
        &self,
        key: &K,
        bytes: impl Fn(&V) -> usize,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        match self.get(key) {
            Some(value) => Ok(value),
            None => self.make_or_wait(key, bytes, make),
        }
    }

    #[cold]
    fn make_or_wait(&self, key: &K, bytes: impl Fn(&V) -> usize, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let mut state = self.lock();
        state.stats.misses += 1;
        let flight = loop {
            match self.decide(&mut state, key) {
                Decision::Have(value) => return Ok(value),
                Decision::Refuse(error) => return Err(error),
                Decision::Make(flight) => break Some(flight),
                Decision::MakeUnshared => break None,
                Decision::Wait(flight) => {
                    state.waiting.insert(thread::current().id(), Arc::clone(&flight));
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
        let result = make();
        let size = result.as_ref().map_or(0, bytes);
        guard.finish(Some((&result, size)));
        result
    }

    fn decide(&self, state: &mut State<K, V, E>, key: &K) -> Decision<V, E> {
        if self.is_off() {
            return Decision::MakeUnshared;
        }
        let hash = self.hasher.hash_one(key);
        // Another thread may have stored the value since the look-up that missed.
        if let Some(entry) = state.find(hash, |k| k == key) {
            return Decision::Have(self.stripes.fill(entry));
        }
        if let Some((_, error, at)) = state.failures.peek(hash, |(k, ..)| k == key) {
            if at.elapsed() < self.config.retry_after {
                state.stats.refusals += 1;
                return Decision::Refuse(error.clone());
            }
            state.failures.remove(hash, |(k, ..)| k == key);
        }
        let Some(flight) = state.flights.get(key) else {
            let flight = Flight::start();
            state.flights.insert(key.clone(), Arc::clone(&flight));
            return Decision::Make(flight);
        };
        if state.waits_for_caller(flight.maker) {
            return Decision::MakeUnshared;
        }
        Decision::Wait(Arc::clone(flight))
    }

    /// Stores a value and returns what has to be dropped outside the lock.
    fn store(&self, state: &mut State<K, V, E>, key: &K, value: &V, bytes: usize) -> Vec<Removed<K, V>> {
        let hash = self.hasher.hash_one(key);
        let mut removed = Vec::new();
        // An unshared maker may have been faster.
        let was_pinned = match state.remove(hash, |k| k == key) {
            Some((entry, pinned)) => {
                removed.push(self.take_out(entry));
                pinned
            }
            None => false,
        };
        if bytes > self.config.bytes {
            // Would evict everything and still not fit.
            return removed;
        }
        // No sum: it could overflow. What is pinned may leave no room at all.
        let full = |stats: &CacheStats, entries: usize| {
            entries >= self.config.entries || stats.bytes > self.config.bytes - bytes
        };
        while full(&state.stats, state.stored.len() + state.pinned.len()) {
            let Some(entry) = state.evict() else { return removed };
            state.stats.bytes -= entry.bytes;
            state.stats.evictions += 1;
            removed.push(self.take_out(entry));
        }
        state.add(Arc::new(Entry::new(hash, key.clone(), value.replicate(), bytes)), was_pinned);
        removed
    }

    /// Takes an entry that has left the store out of the stripes. The store is locked.
    fn take_out(&self, entry: Arc<Entry<K, V>>) -> Removed<K, V> {
        let copies = self.stripes.remove(&entry);
        Removed { _entry: entry, _copies: copies }
    }

    /// Keeps the value of `key` until it is [unpinned](Self::unpin); `false` if there is none. It counts towards the capacity.
    pub fn pin<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.move_entry(key, true)
    }

    /// Allows the value of `key` to be evicted again; `false` if there is none.
    pub fn unpin<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.move_entry(key, false)
    }

    fn move_entry<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q, pinned: bool) -> bool {
        let mut state = self.lock();
        let found = state.remove(self.hasher.hash_one(key), |k| key.equivalent(k));
        let is_there = found.is_some();
        if let Some((entry, _)) = found {
            state.add(entry, pinned);
        }
        is_there
    }

    /// Forgets all values, pinned or not, and all errors. Values being made now are stored when they are done.
    ///
    /// Values are dropped a few at a time, so that values that other threads store meanwhile can use their memory.
    pub fn clear(&self) {
        const AT_ONCE: usize = 4;
        let mut state = self.lock();
        let failures = std::mem::replace(&mut state.failures, Ages::new());
        let mut left = state.stored.len() + state.pinned.len();
        loop {
            let mut removed = Vec::with_capacity(AT_ONCE);
            while left > 0 && removed.len() < AT_ONCE {
                let Some(entry) = state.stored.pop_oldest().or_else(|| state.pinned.pop_oldest()) else { break };
                state.stats.bytes -= entry.bytes;
                left -= 1;
                removed.push(self.take_out(entry));
            }
            drop(state);
            if removed.is_empty() {
                break;
            }
            drop(removed);
            state = self.lock();
        }
        drop(failures);
    }

    /// True if nothing is ever stored.
    pub fn is_off(&self) -> bool {
        self.config.entries == 0
    }

    /// The counters, all but the hits of other threads read at one moment.
    pub fn stats(&self) -> CacheStats {
        let state = self.lock();
        CacheStats {
            hits: state.stats.hits + self.stripes.hits(),
            entries: state.stored.len() + state.pinned.len(),
            pinned: state.pinned.len(),
            ..state.stats
        }
    }

    fn remember_failure(&self, state: &mut State<K, V, E>, key: &K, error: &E) {
        if self.config.retry_after.is_zero() {
            return;
        }
        let hash = self.hasher.hash_one(key);
        state.failures.remove(hash, |(k, ..)| k == key);
        if state.failures.len() >= FAILURES {
            state.failures.pop_oldest();
        }
        state.failures.insert(hash, (key.clone(), error.clone(), Instant::now()));
    }
}

/// Values that left the cache, to be dropped without a lock.
struct Removed<K, V> {
    _entry: Arc<Entry<K, V>>,
    _copies: Vec<stripe::Copy<K, V>>,
}

impl<K, V, E> Cache<K, V, E> {
    /// No panic leaves the state half changed: user code that runs under the lock (`Eq`, `Clone` of keys) does so before
    /// a change, so a poisoned lock is good to use.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, State<K, V, E>> {
        lock(&self.state)
    }
}

/// Ends a flight, also when its maker panics.
struct MakerGuard<'a, K: Eq + Hash + Clone, V: Replicate, E: Clone> {
    cache: &'a Cache<K, V, E>,
    key: &'a K,
    /// `None` when the value is not shared.
    flight: Option<Arc<Flight<V, E>>>,
    /// `None` after the end.
    started: Option<Instant>,
}

impl<K: Eq + Hash + Clone, V: Replicate, E: Clone> MakerGuard<'_, K, V, E> {
    /// Stores and announces the result and its size; `None` for a panic.
    fn finish(&mut self, result: Option<(&Result<V, E>, usize)>) {
        let Some(started) = self.started.take() else { return };
        let mut state = self.cache.lock();
        state.stats.compilations += 1;
        state.stats.compile_time += started.elapsed();
        let Some(flight) = self.flight.take() else { return };
        state.flights.remove(self.key);
        state.waiting.retain(|_, other| !Arc::ptr_eq(other, &flight));
        let removed = match result {
            Some((Ok(value), size)) => self.cache.store(&mut state, self.key, value, size),
            Some((Err(error), _)) => {
                self.cache.remember_failure(&mut state, self.key, error);
                Vec::new()
            }
            None => Vec::new(),
        };
        drop(state);
        flight.land(result.map_or(Landing::Abandoned, |(result, _)| Landing::Result(result.clone())));
        drop(removed);
    }
}

impl<K: Eq + Hash + Clone, V: Replicate, E: Clone> Drop for MakerGuard<'_, K, V, E> {
    fn drop(&mut self) {
        self.finish(None);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

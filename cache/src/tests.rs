use std::convert::Infallible;
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;

use super::*;
use crate::sync::Ordering;

impl Replicate for u32 {
    fn replicate(&self) -> Self {
        *self
    }
}

impl<T> Replicate for Arc<T> {
    fn replicate(&self) -> Self {
        self.clone()
    }
}

type Numbers = Cache<u32, u32, String>;

fn numbers(entries: usize) -> Numbers {
    Cache::new(Config::entries(entries))
}

/// The value of `key`, ten times the key, and whether it was made for this call.
fn ask(cache: &Numbers, key: u32) -> (u32, bool) {
    let mut made = false;
    let value = cache.get_or_try_insert_with(
        &key,
        |_| 100,
        || {
            made = true;
            Ok(key * 10)
        },
    );
    (value.unwrap(), made)
}

#[test]
fn the_oldest_leaves_unless_it_was_used() {
    let cache = numbers(2);
    assert_eq!([1, 2, 1, 3].map(|key| ask(&cache, key)), [(10, true), (20, true), (10, false), (30, true)]);
    assert_eq!([1, 2].map(|key| ask(&cache, key)), [(10, false), (20, true)]);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.compilations, stats.evictions), (2, 4, 4, 2));
    assert_eq!((stats.entries, stats.bytes), (2, 200));
}

/// However many were used, an eviction looks at a bounded number.
#[test]
fn second_chances_are_bounded() {
    const ENTRIES: u32 = 1_000;
    let cache = numbers(ENTRIES as usize);
    (0..ENTRIES).for_each(|key| assert!(ask(&cache, key).1));
    (0..ENTRIES).for_each(|key| assert!(!ask(&cache, key).1));
    ask(&cache, ENTRIES);
    let gone: Vec<u32> = (0..ENTRIES).filter(|key| cache.get(key).is_none()).collect();
    assert_eq!(gone, [SECOND_CHANCES as u32]);
}

/// A hit by each thread fills its stripe; an eviction empties all of them.
#[test]
fn what_leaves_the_store_leaves_every_stripe() {
    let cache: Cache<u32, Arc<u32>, Infallible> = Cache::new(Config { stripes: 4, ..Config::entries(1) });
    let ask = |key| cache.get_or_try_insert_with(&key, |_| 1, || Ok(Arc::new(key))).unwrap();
    let first = ask(1);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(*cache.get(&1).unwrap(), 1));
        }
    });
    assert_eq!(cache.stats().hits, 16);
    assert!(Arc::strong_count(&first) > 4, "the store, the stripes and this test have one each");
    ask(2);
    assert_eq!(Arc::strong_count(&first), 1);
    assert!(cache.get(&1).is_none());
}

#[test]
fn what_is_pinned_stays() {
    let cache = numbers(2);
    assert!(!cache.pin(&1));
    ask(&cache, 1);
    assert!(cache.pin(&1) && cache.pin(&1));
    (2..10).for_each(|key| assert!(ask(&cache, key).1));
    assert!(!ask(&cache, 1).1);
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.pinned, stats.bytes, stats.evictions), (2, 1, 200, 7));
    ask(&cache, 2);
    cache.pin(&2);
    assert!(ask(&cache, 3).1 && ask(&cache, 3).1, "there is no room beside what is pinned");
    assert!(cache.unpin(&1) && !cache.unpin(&7));
    assert!(ask(&cache, 3).1 && ask(&cache, 1).1 && !ask(&cache, 2).1);
    cache.clear();
    assert_eq!((cache.stats().entries, cache.stats().pinned, cache.stats().bytes), (0, 0, 0));
}

#[test]
fn a_failure_is_the_answer_for_a_while() {
    let pause = Duration::from_millis(40);
    let cache: Numbers = Cache::new(Config { retry_after: pause, ..Config::entries(4) });
    let tries = AtomicUsize::new(0);
    let fail = || {
        tries.fetch_add(1, Ordering::Relaxed);
        Err("no".to_owned())
    };
    let start = Instant::now();
    let answers: Vec<_> = (0..100).map(|_| cache.get_or_try_insert_with(&1, |_| 1, fail)).collect();
    assert!(answers.iter().all(|answer| *answer == Err("no".to_owned())));
    if start.elapsed() < pause {
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        assert_eq!((cache.stats().compilations, cache.stats().refusals, cache.stats().entries), (1, 99, 0));
    }
    std::thread::sleep(pause);
    assert_eq!(ask(&cache, 1), (10, true), "tried again");
    for key in 10..10 + 2 * FAILURES as u32 {
        assert!(cache.get_or_try_insert_with(&key, |_| 1, fail).is_err());
    }
    assert_eq!(cache.lock().failures.len(), FAILURES);
}

#[test]
fn bytes_are_bounded_and_values_above_the_bound_are_not_stored() {
    let cache: Cache<u32, u32, Infallible> = Cache::new(Config { bytes: 1_000, ..Config::entries(100) });
    let ask = |key, size| cache.get_or_try_insert_with(&key, |_| size as usize, || Ok(size)).unwrap();
    (0..10).for_each(|key| assert_eq!(ask(key, 100), 100));
    assert_eq!((cache.stats().entries, cache.stats().bytes), (10, 1_000));
    ask(10, 250);
    assert_eq!((cache.stats().entries, cache.stats().bytes, cache.stats().evictions), (8, 950, 3));
    assert_eq!(ask(11, 1_001), 1_001);
    assert_eq!((cache.stats().entries, cache.stats().evictions), (8, 3));
    assert_eq!(ask(12, 1_000), 1_000);
    assert_eq!((cache.stats().entries, cache.stats().bytes), (1, 1_000));
}

#[test]
fn threads_racing_for_a_key_make_it_once() {
    const THREADS: usize = 8;
    let cache: Cache<u32, Arc<u32>, String> = Cache::new(Config::entries(10));
    let (made, start) = (AtomicUsize::new(0), Barrier::new(THREADS));
    let make = || {
        made.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(30));
        Ok(Arc::new(5))
    };
    let values: Vec<_> = std::thread::scope(|scope| {
        let ask = || {
            start.wait();
            cache.get_or_try_insert_with(&1, |_| 1, make).unwrap()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.into_inner(), 1);
    assert!(values.iter().all(|value| Arc::ptr_eq(value, &values[0])));
    let stats = cache.stats();
    assert_eq!((stats.compilations, stats.hits + stats.misses), (1, THREADS as u64));
    assert!(stats.compile_time >= Duration::from_millis(30));
}

#[test]
fn many_threads_and_keys_agree_with_the_counters() {
    let cache = numbers(16);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for i in 0..20_000_u32 {
                    let key = (i * (thread + 1)) % 24;
                    assert_eq!(ask(cache, key).0, key * 10);
                }
            });
        }
    });
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, 80_000);
    assert!(stats.compilations <= stats.misses && stats.compilations >= 24);
    assert_eq!((stats.entries, stats.bytes), (16, 1_600));
    assert_eq!(stats.evictions + 16, stats.compilations);
    assert!(cache.lock().flights.is_empty() && cache.lock().waiting.is_empty());
}

#[test]
fn values_in_use_survive_eviction_and_clear() {
    struct Counted<'a>(&'a AtomicUsize);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = AtomicUsize::new(0);
    let cache: Cache<u32, Arc<Counted>, Infallible> = Cache::new(Config::entries(1));
    let ask = |key| cache.get_or_try_insert_with(&key, |_| 1, || Ok(Arc::new(Counted(&drops)))).unwrap();
    let held = ask(1);
    ask(2);
    assert_eq!(drops.load(Ordering::Relaxed), 0, "evicted, and still held");
    drop(held);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    cache.clear();
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
}

/// Dropping a value may use the cache: values are dropped outside the lock.
#[test]
fn values_may_use_the_cache_while_they_are_dropped() {
    struct Asks(std::sync::Weak<Cache<u32, Arc<Asks>, Infallible>>);
    impl Drop for Asks {
        fn drop(&mut self) {
            if let Some(cache) = self.0.upgrade() {
                cache.stats();
            }
        }
    }
    let cache = Arc::new(Cache::new(Config::entries(1)));
    for key in 0..3 {
        cache.get_or_try_insert_with(&key, |_| 1, || Ok(Arc::new(Asks(Arc::downgrade(&cache))))).unwrap();
    }
    cache.clear();
    assert_eq!(cache.stats().evictions, 2);
}

#[test]
fn capacity_zero_stores_nothing() {
    let cache = numbers(0);
    assert_eq!([1, 1, 1].map(|key| ask(&cache, key)), [(10, true); 3]);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.compilations, stats.entries, stats.evictions), (0, 3, 3, 0, 0));
}

/// A maker that has been joined by one waiter, and then ends as `end` says. What the waiter's own maker would return is 7.
fn maker_and_waiter(end: impl FnOnce() -> Result<u32, String> + Send) -> (bool, Result<u32, String>, Numbers) {
    let cache = numbers(4);
    let (started, wait_for_start) = channel();
    let cache_ref = &cache;
    let (maker_panicked, waited) = std::thread::scope(|scope| {
        let maker = scope.spawn(move || {
            cache_ref.get_or_try_insert_with(
                &1,
                |_| 1,
                || {
                    started.send(()).unwrap();
                    while cache_ref.stats().waits == 0 {
                        std::thread::yield_now();
                    }
                    end()
                },
            )
        });
        wait_for_start.recv().unwrap();
        let waited = cache_ref.get_or_try_insert_with(&1, |_| 1, || Ok(7));
        (maker.join().is_err(), waited)
    });
    (maker_panicked, waited, cache)
}

#[test]
fn errors_reach_all_that_wait_and_are_not_stored() {
    let (_, waited, cache) = maker_and_waiter(|| Err("no".to_owned()));
    assert_eq!(waited, Err("no".to_owned()));
    assert_eq!((cache.stats().entries, cache.stats().waits, cache.stats().compilations), (0, 1, 1));
    assert_eq!(ask(&cache, 1), (10, true));
}

#[test]
fn after_a_panic_a_waiter_makes_the_value() {
    let (panicked, waited, cache) = maker_and_waiter(|| panic!("expected by the test"));
    assert!(panicked);
    assert_eq!(waited, Ok(7));
    assert_eq!((cache.stats().waits, cache.stats().compilations), (0, 2));
    assert_eq!(ask(&cache, 1), (7, false));
}

#[test]
fn makers_may_ask_for_other_keys_and_for_their_own() {
    let cache = numbers(4);
    let value = cache.get_or_try_insert_with(
        &1,
        |_| 1,
        || {
            let (inner, own) = (ask(&cache, 2), ask(&cache, 1));
            assert_eq!((inner, own), ((20, true), (10, true)));
            Ok(inner.0 + own.0)
        },
    );
    assert_eq!(value.unwrap(), 30);
    assert_eq!(ask(&cache, 1), (30, false));
}

/// Two makers that each ask for the other's key.
#[test]
fn makers_that_would_wait_for_each_other_do_not() {
    let cache = numbers(4);
    let both_make = Barrier::new(2);
    let make = |own: u32, other: u32| {
        cache.get_or_try_insert_with(
            &own,
            |_| 1,
            || {
                both_make.wait();
                Ok(own + cache.get_or_try_insert_with(&other, |_| 1, || Ok(1_000))?)
            },
        )
    };
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| make(1, 2).unwrap());
        let two = scope.spawn(|| make(2, 1).unwrap());
        (one.join().unwrap(), two.join().unwrap())
    });
    // The second to ask makes the other's value itself; the first gets what the second made of it.
    assert!([(1_003, 1_002), (1_001, 1_003)].contains(&(one, two)), "{one} {two}");
    assert!(cache.lock().flights.is_empty() && cache.lock().waiting.is_empty());
}

/// A key of the kind kernels have.
#[derive(Clone, PartialEq, Eq, Hash)]
struct KernelKey {
    shape: [u64; 4],
    epilogue: Vec<u8>,
    target: String,
    options: u64,
}

/// The same, without owning its parts.
#[derive(Hash)]
struct KernelKeyRef<'a> {
    shape: [u64; 4],
    epilogue: &'a [u8],
    target: &'a str,
    options: u64,
}

impl Equivalent<KernelKey> for KernelKeyRef<'_> {
    fn equivalent(&self, key: &KernelKey) -> bool {
        self.shape == key.shape
            && self.epilogue == key.epilogue
            && self.target == key.target
            && self.options == key.options
    }
}

fn kernel_key(i: u64) -> KernelKey {
    KernelKey { shape: [i, 768, 3072, 1], epilogue: vec![1, 2], target: "neoverse-v1".into(), options: 3 }
}

#[test]
fn keys_can_be_borrowed() {
    let cache: Cache<KernelKey, u32, Infallible> = Cache::new(Config::entries(8));
    cache.get_or_try_insert_with(&kernel_key(1), |_| 1, || Ok(11)).unwrap();
    let mut key = KernelKeyRef { shape: [1, 768, 3072, 1], epilogue: &[1, 2], target: "neoverse-v1", options: 3 };
    assert_eq!(cache.get(&key), Some(11));
    key.target = "neoverse-v2";
    assert_eq!(cache.get(&key), None);
    assert_eq!((cache.stats().hits, cache.stats().misses), (1, 1));
}

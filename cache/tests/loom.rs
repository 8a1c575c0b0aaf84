//! The cache's own logic under all interleavings of two threads: `RUSTFLAGS="--cfg loom" cargo test -p kiln-memo --test loom`.
#![cfg(loom)]

use kiln_memo::{Cache, Config, Replicate};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

#[derive(Clone)]
struct Value(Arc<usize>);

impl Replicate for Value {
    fn replicate(&self) -> Self {
        self.clone()
    }
}

type Values = Cache<usize, Value, &'static str>;

fn cache(entries: usize) -> Arc<Values> {
    Arc::new(Cache::new(Config { stripes: 3, ..Config::entries(entries) }))
}

/// The value of `key`; `made` counts how often it is made.
fn ask(cache: &Values, key: usize, made: &AtomicUsize) -> Value {
    let make = || {
        made.fetch_add(1, Ordering::Relaxed);
        Ok(Value(Arc::new(key)))
    };
    let value = cache.get_or_try_insert_with(&key, |_| 1, make).unwrap();
    assert_eq!(*value.0, key);
    value
}

/// Runs `both` on two threads at once, with their numbers.
fn race<T: 'static>(cache: &Arc<Values>, both: fn(&Values, usize, &AtomicUsize) -> T) -> ([T; 2], usize) {
    let made = Arc::new(AtomicUsize::new(0));
    let other = {
        let (cache, made) = (cache.clone(), made.clone());
        thread::spawn(move || both(&cache, 1, &made))
    };
    let own = both(cache, 0, &made);
    let results = [own, other.join().unwrap()];
    (results, made.load(Ordering::Relaxed))
}

#[test]
fn a_value_is_made_once() {
    loom::model(|| {
        let cache = cache(4);
        let ([a, b], made) = race(&cache, |cache, _, made| ask(cache, 7, made));
        assert_eq!(made, 1);
        assert!(Arc::ptr_eq(&a.0, &b.0));
        let stats = cache.stats();
        assert_eq!((stats.hits + stats.misses, stats.compilations, stats.entries, stats.bytes), (2, 1, 1, 1));
    });
}

/// One thread finds a value while the other's replaces it: it is whole for its finder, and in no stripe afterwards.
#[test]
fn what_is_evicted_is_gone() {
    loom::model(|| {
        let cache = cache(1);
        let first = ask(&cache, 0, &AtomicUsize::new(0));
        race(&cache, |cache, thread, made| drop(ask(cache, thread, made)));
        let left = usize::from(cache.get(&0).is_some()) + usize::from(cache.get(&1).is_some());
        assert_eq!((left, cache.stats().entries, cache.stats().bytes), (1, 1, 1));
        cache.clear();
        assert_eq!(Arc::strong_count(&first.0), 1, "nothing is left in a stripe");
    });
}

#[test]
fn clearing_while_a_value_is_made() {
    loom::model(|| {
        let cache = cache(2);
        race(&cache, |cache, thread, made| match thread {
            0 => drop(ask(cache, 5, made)),
            _ => cache.clear(),
        });
        let stats = cache.stats();
        assert_eq!(stats.entries, stats.bytes);
        assert_eq!(cache.get(&5).is_some(), stats.entries == 1);
    });
}

/// Each thread's maker asks for the other's key: nobody waits for ever.
#[test]
fn makers_that_need_each_other() {
    loom::model(|| {
        let cache = cache(4);
        let ([a, b], _) = race(&cache, |cache, thread, _| {
            let inner = || cache.get_or_try_insert_with(&(1 - thread), |_| 1, || Ok(Value(Arc::new(10))));
            cache.get_or_try_insert_with(&thread, |_| 1, || Ok(Value(Arc::new(1 + *inner()?.0)))).unwrap()
        });
        assert!([1, 2, 3, 10, 11, 12].contains(&*a.0) && [1, 2, 3, 10, 11, 12].contains(&*b.0), "{:?} {:?}", a.0, b.0);
    });
}

#[test]
fn an_error_reaches_both() {
    loom::model(|| {
        let cache = cache(4);
        let (results, _) = race(&cache, |cache, _, _| cache.get_or_try_insert_with(&3, |_| 1, || Err("no")).map(drop));
        assert_eq!(results, [Err("no"), Err("no")]);
        assert_eq!(cache.stats().entries, 0);
    });
}

//! Which weights a call is made with: tensors of torch by object, address and version.
//!
//! The object is known by a weak reference, so nothing here keeps a module alive. An address of an object is its identity for as long
//! as the weak reference has not said that it died, so that looking a weight up compares two addresses.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyTuple};

use crate::error::Result;
use crate::runtimes::lock;

/// A tensor that weights come from.
pub struct Source {
    /// The address of the object.
    object: usize,
    is_dead: AtomicBool,
    /// Tells when it dies.
    _weak: Py<PyAny>,
    current: Mutex<(Key, u64)>,
    users: Mutex<Vec<Weak<dyn User>>>,
}

/// The data that is made of weights.
pub trait User: Send + Sync {
    /// One of the weights is gone.
    fn weights_died(&self);
}

/// The state that changes if a tensor's elements do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where they are.
    pub data: usize,
    /// The number of times that they were changed in place.
    pub version: i64,
}

static SOURCES: Mutex<Option<HashMap<usize, Arc<Source>>>> = Mutex::new(None);

/// Numbers of weights that were given out.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Source {
    /// That of an object. Threads that ask for one object at the same time get the same source.
    pub fn of(object: &Bound<'_, PyAny>, key: Key) -> Result<Arc<Source>> {
        let address = object.as_ptr().addr();
        let living = |all: &HashMap<usize, Arc<Source>>| all.get(&address).filter(|s| !s.is_dead()).cloned();
        if let Some(source) = living(lock(&SOURCES).get_or_insert_default()) {
            return Ok(source);
        }
        // Python is called without the lock: what it runs may ask for sources, or tell that one died.
        let py = object.py();
        let told = Arc::new(OnceLock::<Weak<Source>>::new());
        let of = told.clone();
        let died = PyCFunction::new_closure(py, Some(c"weights_died"), None, move |_: &Bound<'_, PyTuple>, _| {
            if let Some(source) = of.get().and_then(Weak::upgrade) {
                source.died();
            }
        })?;
        let weak = py.import("weakref")?.getattr("ref")?.call1((object, died))?;
        let source = Arc::new(Source {
            object: address,
            is_dead: AtomicBool::new(false),
            _weak: weak.unbind(),
            current: Mutex::new((key, next_number())),
            users: Mutex::default(),
        });
        let _ = told.set(Arc::downgrade(&source));
        let mut guard = lock(&SOURCES);
        let all = guard.get_or_insert_default();
        // Another thread may have been faster. Whichever source is not kept is dropped without the lock, as it has an object of Python's.
        let (kept, dropped) = match living(all) {
            Some(faster) => (faster, Some(source)),
            None => (source.clone(), all.insert(address, source)),
        };
        drop(guard);
        drop(dropped);
        Ok(kept)
    }

    /// The object is gone.
    fn died(self: &Arc<Self>) {
        self.is_dead.store(true, Ordering::Release);
        let gone = lock(&SOURCES).as_mut().and_then(|all| {
            let is_this = all.get(&self.object).is_some_and(|known| Arc::ptr_eq(known, self));
            if is_this { all.remove(&self.object) } else { None }
        });
        drop(gone);
        let users = std::mem::take(&mut *lock(&self.users));
        users.iter().filter_map(Weak::upgrade).for_each(|user| user.weights_died());
    }

    /// True if the object is gone, and another one may be where it was.
    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    /// The address of the object.
    pub fn object(&self) -> usize {
        self.object
    }

    /// The number of its elements as they are now: another one after each change.
    pub fn number(&self, key: Key) -> u64 {
        let mut current = lock(&self.current);
        if current.0 != key {
            *current = (key, next_number());
        }
        current.1
    }

    /// Tells somebody when it dies.
    pub fn tell(&self, user: Weak<dyn User>) {
        let mut users = lock(&self.users);
        users.retain(|user| user.strong_count() > 0);
        users.push(user);
    }
}

/// A number that nothing had before.
fn next_number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// Tensors that are alive and were looked up.
pub fn sources() -> usize {
    lock(&SOURCES).as_ref().map_or(0, HashMap::len)
}

/// A reference to an object of Python as the owner of borrowed bytes.
#[expect(dead_code, reason = "some fields are held, and never looked at")]
pub struct Lent {
    /// Their owner.
    pub owner: Py<PyAny>,
    /// The first byte.
    pub data: *const u8,
    /// Their number.
    pub bytes: usize,
    /// Whoever has the other end sees when nobody needs them any more.
    pub needed: Arc<()>,
}

// SAFETY: the address is read through `AsRef` alone, which any thread may do as long as the owner is there.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        match self.bytes {
            0 => &[],
            // SAFETY: so many bytes are there as long as the owner, a tensor of its own over the same storage. Who changes weights in
            // place while a call reads them gets a mixture, as with torch's own operators.
            bytes => unsafe { std::slice::from_raw_parts(self.data, bytes) },
        }
    }
}

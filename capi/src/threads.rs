//! Threads that have ended when their last user is gone.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, kiln_status};

/// The threads of a pool, which does not wait for them itself.
///
/// Held beside whatever keeps the pool alive and dropped after it: fields are dropped in order. The last one waits.
pub(crate) struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    /// A pool of `count` threads, at least 1.
    pub(crate) fn pool(count: usize) -> Result<(Arc<ThreadPool>, Arc<Threads>), Error> {
        let threads = Threads(Mutex::default());
        let pool = ThreadPoolBuilder::new().num_threads(count).spawn_handler(|thread| {
            let named = Builder::new().name(format!("kiln-{}", thread.index()));
            threads.push(named.spawn(|| thread.run())?);
            io::Result::Ok(())
        });
        match pool.build() {
            Ok(pool) => Ok((Arc::new(pool), Arc::new(threads))),
            Err(e) => Err(Error::new(kiln_status::KILN_THREADS, format!("cannot use {count} thread(s): {e}"))),
        }
    }

    fn push(&self, thread: JoinHandle<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let threads = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        // A panic of one has been told of where it was caught.
        threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_have_ended_when_the_last_user_is_gone() {
        static ALIVE: AtomicUsize = AtomicUsize::new(0);
        struct Count;
        impl Drop for Count {
            fn drop(&mut self) {
                ALIVE.fetch_sub(1, Ordering::SeqCst);
            }
        }
        thread_local!(static COUNT: Count = {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            Count
        });
        let (pool, threads) = Threads::pool(3).unwrap();
        pool.broadcast(|_| COUNT.with(|_| ()));
        assert_eq!(ALIVE.load(Ordering::SeqCst), 3);
        let user = (pool.clone(), threads.clone());
        drop((pool, threads));
        assert_eq!(ALIVE.load(Ordering::SeqCst), 3);
        drop(user);
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    }
}

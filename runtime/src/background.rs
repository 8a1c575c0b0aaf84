//! A thread that compiles what nobody waits for.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};

use crate::lock::lock;

/// Work for the thread. It gets the runtime, if there still is one.
type Job<R> = Box<dyn FnOnce(&Arc<R>) + Send>;

/// The thread of a runtime `R`. It is started when it is first needed, and ends with the runtime.
pub(crate) struct Background<R>(Mutex<Option<Sender<Job<R>>>>);

impl<R> Default for Background<R> {
    fn default() -> Self {
        Background(Mutex::default())
    }
}

impl<R: Send + Sync + 'static> Background<R> {
    /// Does `job` some time. Jobs are done one after the other; after the runtime is dropped they are forgotten. Where no thread
    /// can be started nothing is done.
    pub(crate) fn submit(&self, runtime: Weak<R>, job: Job<R>) {
        let mut sender = lock(&self.0);
        if sender.is_none() {
            let (send, receive) = channel::<Job<R>>();
            // Nothing but the channel is held while it waits, so that the runtime can go, and the channel with it.
            let work = move || {
                for job in receive {
                    let Some(runtime) = runtime.upgrade() else { return };
                    // A panic is of this job alone.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&runtime)));
                }
            };
            match std::thread::Builder::new().name("kiln-background".into()).spawn(work) {
                Ok(_) => *sender = Some(send),
                Err(error) => return tracing::warn!(%error, "no thread to compile in the background"),
            }
        }
        if let Some(send) = &*sender {
            // The other end lives as long as the runtime.
            let _ = send.send(job);
        }
    }
}

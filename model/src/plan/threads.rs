//! The runtime's threads for operations that are not kernels.

use std::ops::Range;
use std::sync::Mutex;

use kiln_runtime::{Runtime, RuntimeError};

use crate::ops::Parallel;

/// Threads of a runtime. A failure of theirs, such as a panic in an executor, is kept until it is asked for.
pub(crate) struct RuntimeThreads<'a> {
    runtime: &'a Runtime,
    failure: Mutex<Option<RuntimeError>>,
}

impl<'a> RuntimeThreads<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        Self { runtime, failure: Mutex::new(None) }
    }

    /// The failure, if there was one.
    pub(crate) fn check(&self) -> Result<(), RuntimeError> {
        let failure = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}

impl Parallel for RuntimeThreads<'_> {
    fn threads(&self) -> usize {
        self.runtime.threads()
    }

    fn each(&self, tasks: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        let outcome = self.runtime.each(tasks as u64, &|begin, end| work(begin as usize..end as usize));
        if let Err(error) = outcome {
            *self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
        }
    }
}

//! The runtime's threads for operations that are not kernels.

use std::ops::Range;
use std::sync::Mutex;

use kiln_jit::{Runtime, RuntimeError};

use crate::lock::lock;
use crate::ops::Parallel;

/// Threads of a runtime, or the calling one. A failure of theirs, such as a panic in an executor, is kept until it is asked for.
pub(crate) struct RuntimeThreads<'a> {
    runtime: Option<&'a Runtime>,
    failure: Mutex<Option<RuntimeError>>,
}

impl<'a> RuntimeThreads<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        Self { runtime: Some(runtime), failure: Mutex::new(None) }
    }

    /// The calling thread alone.
    pub(crate) fn none() -> Self {
        Self { runtime: None, failure: Mutex::new(None) }
    }

    /// The failure, if there was one.
    pub(crate) fn check(&self) -> Result<(), RuntimeError> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }
}

impl Parallel for RuntimeThreads<'_> {
    fn threads(&self) -> usize {
        self.runtime.map_or(1, Runtime::threads)
    }

    fn each(&self, tasks: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        let Some(runtime) = self.runtime else { return work(0..tasks) };
        let outcome = runtime.parallel_for(tasks as u64, &|begin, end| work(begin as usize..end as usize));
        if let Err(error) = outcome {
            *lock(&self.failure) = Some(error);
        }
    }
}

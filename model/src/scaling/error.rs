//! The errors of predictions.

use kiln_jit::{CompileError, MAX_THREADS};

/// A prediction that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScalingError {
    /// No number of threads is given.
    #[error("expected one number of threads or more")]
    NoThreads,
    /// Too few threads, or too many.
    #[error("{threads} threads: expected a number from 1 to {MAX_THREADS}")]
    Threads {
        /// The number.
        threads: usize,
    },
    /// The kernel's loops cannot be followed.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

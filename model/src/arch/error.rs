//! The errors of networks that cannot be built.

use kiln_ir::func::{FuncError, TypeError};

/// The largest batch.
pub const MAX_BATCH: u64 = 4096;

/// A network that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchError {
    /// Nothing at once, or too much.
    #[error("a batch of {found}: expected 1 to {MAX_BATCH}")]
    Batch {
        /// The value that was asked for.
        found: u64,
    },
    /// Sequences that the network does not take.
    #[error("{network} takes sequences of 1 to {most} tokens, not of {found}")]
    Sequence {
        /// The network.
        network: String,
        /// The value that was asked for.
        found: u64,
        /// The longest that it takes.
        most: u64,
    },
    /// A length of sequences for a network of images.
    #[error("{network} takes images, not sequences: give it no length of sequences")]
    NoSequence {
        /// The network.
        network: String,
    },
    /// The system gives no memory for a tensor.
    #[error("no memory for the {bytes} bytes of {name}")]
    Memory {
        /// The tensor.
        name: String,
        /// Its length.
        bytes: u64,
        /// The system's error.
        source: std::io::Error,
    },
    /// A weight that the network's files do not have, or have otherwise.
    #[error("weight `{name}`: {why}")]
    Weight {
        /// Its name.
        name: String,
        /// The fault.
        why: String,
    },
    /// A tensor of this batch is too large.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A result for this batch is too large.
    #[error(transparent)]
    Func(Box<FuncError>),
}

impl From<FuncError> for ArchError {
    fn from(error: FuncError) -> Self {
        ArchError::Func(Box::new(error))
    }
}

//! The errors between a file and its results.

use kiln_ir::func::{FuncError, OpError, TensorType};
use kiln_jit::RuntimeError;
use kiln_onnx::{ImportError, OnnxError};

use crate::arch::ArchError;
use crate::flexible::error::FlexibleError;
use crate::plan::error::PlanError;
use crate::pretrained::PretrainedError;
use crate::scaling::error::ScalingError;

/// Any failure of loading, compiling or running a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is no network.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The network does something that is not supported, or its inputs are not known well enough.
    #[error(transparent)]
    Import(Box<ImportError>),
    /// A built-in architecture cannot be built with these options.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// A folder with weights is no network that can be built.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The network is not one for any sizes.
    #[error(transparent)]
    Flexible(#[from] FlexibleError),
    /// No prediction for several threads can be made.
    #[error(transparent)]
    Scaling(#[from] ScalingError),
    /// A pass made an ill-typed function: a fault of Kiln.
    #[error("a pass made an ill-typed function, a fault of Kiln's: {0}")]
    Pass(#[from] FuncError),
    /// A kernel cannot be made, or failed.
    #[error("`{layer}`: {source}")]
    Kernel {
        /// The value it computes.
        layer: String,
        /// The cause.
        source: RuntimeError,
    },
    /// The runtime's threads failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Operands that an operation does not take: a fault of Kiln.
    #[error("`{layer}`: {source}")]
    Operation {
        /// The value it computes.
        layer: String,
        /// The cause.
        source: Box<OpError>,
    },
    /// An input is missing, or is another tensor.
    #[error("input `{name}`: expected {expected}, found {found}")]
    Input {
        /// Its name.
        name: String,
        /// The type that the network takes.
        expected: String,
        /// The value that was given.
        found: String,
    },
    /// Memory for an output is missing, or is not as large as the output.
    #[error("output `{name}`: expected {expected}, found {found}")]
    Output {
        /// Its name.
        name: String,
        /// The type that the network gives.
        expected: String,
        /// The value that was given.
        found: String,
    },
    /// An index is outside of what it selects from.
    #[error("`{layer}`: index {index} is outside of {extent} entries")]
    Index {
        /// The value that is gathered.
        layer: String,
        /// The index.
        index: i64,
        /// Entries there are.
        extent: u64,
    },
    /// A plan that would read or write what it must not: a fault of Kiln.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A loop does not end.
    #[error("`{layer}`: the loop did not end after {trips} trips")]
    Endless {
        /// The value that the loop computes.
        layer: String,
        /// The number of times that it ran.
        trips: u64,
    },
    /// There is not as much memory.
    #[error("out of memory: {bytes} bytes for {what}")]
    OutOfMemory {
        /// The bytes that were needed.
        bytes: usize,
        /// The purpose.
        what: &'static str,
    },
}

impl From<ImportError> for ModelError {
    fn from(error: ImportError) -> Self {
        ModelError::Import(Box::new(error))
    }
}

impl ModelError {
    /// An input that is another tensor than the network takes.
    pub(crate) fn input(name: &str, expected: &TensorType, found: impl ToString) -> Self {
        ModelError::Input { name: name.into(), expected: expected.to_string(), found: found.to_string() }
    }
}

//! The errors of runtimes, kernels and calls.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_compiler::CompileError;
use kiln_ir::Problem;

use crate::code_memory::CodeMemoryError;
use crate::cpu::{CannotRun, CpuError, LimitError};
use crate::notice::Notice;
use crate::pack::PackError;
use crate::scratch::ScratchError;
use crate::threads::source::MAX_THREADS;

/// Any failure of this crate. Cheap to clone: threads that wait for one compilation share its error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The problem could not be compiled; the source says whose fault it is.
    #[error(transparent)]
    Compile(Arc<CompileError>),
    /// There is no executable memory.
    #[error(transparent)]
    CodeMemory(Arc<CodeMemoryError>),
    /// The processor lacks what every kernel needs, or cannot be identified.
    #[error(transparent)]
    Cpu(Arc<CpuError>),
    /// The target asked for is not this machine's.
    #[error(transparent)]
    CannotRun(Arc<CannotRun>),
    /// `KILN_MAX_CPU_ISA` cannot be followed.
    #[error("KILN_MAX_CPU_ISA: {0}")]
    Limit(Arc<LimitError>),
    /// An environment variable has a value that is not one.
    #[error("{name}=`{value}`: expected {expected}")]
    Environment {
        /// Which variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values that it may have.
        expected: &'static str,
    },
    /// An argument of a call does not fit the kernel.
    #[error("argument `{name}`: expected {expected}, got {got}")]
    Argument {
        /// Which argument, by the name of its operand.
        name: String,
        /// The value that the problem says.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// Weights are not as the kernel reads them.
    #[error(
        "argument `rhs`: expected {expected}, got {got}; `Kernel::pack_weights` of a kernel of the same layout makes them"
    )]
    Weights {
        /// The kernel's layout.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// The result was to be written to memory that may not be initialised, and has to be.
    #[error("argument `dst`: expected initialised memory, got `MaybeUninit` elements: `{problem}` {why}")]
    Uninitialised {
        /// The kernel's problem.
        problem: Box<Problem>,
        /// The use that the kernel makes of the memory.
        why: &'static str,
    },
    /// The kernel reads its weights in place, and was asked to pack some.
    #[error(
        "`{problem}` reads its weights in place: pass them as they are, or compile with `Options::constant_weights`"
    )]
    NotPacked {
        /// The kernel's problem.
        problem: Box<Problem>,
    },
    /// There is no memory for packed panels or weights.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Packed weights would take more memory than they may.
    #[error(
        "{requested} bytes of packed weights exceed the limit of {limit} bytes, of which {live} are in use: drop some, raise \
         `RuntimeBuilder::packed_limit`, or compile without `Options::constant_weights`"
    )]
    PackedLimit {
        /// Bytes asked for.
        requested: usize,
        /// Bytes in use.
        live: usize,
        /// The limit.
        limit: usize,
    },
    /// Weights of a [pack](crate::WeightsPack) cannot be read, or are not those that were written.
    #[error("{}: {error}", path.display())]
    WeightsPack {
        /// The file.
        path: PathBuf,
        /// The fault.
        error: Box<PackError>,
    },
    /// The kernel is predicted to be slower than [`strict`](crate::RuntimeBuilder::strict) allows.
    #[error(
        "`{problem}` is predicted to reach {:.0} % of what this target allows, below the {:.0} % asked for; it is bound by {limit}",
        100.0 * predicted,
        100.0 * least
    )]
    BelowBound {
        /// The problem.
        problem: Box<Problem>,
        /// The predicted fraction of the bound.
        predicted: f64,
        /// The least fraction asked for.
        least: f64,
        /// The bound of the kernel, in words.
        limit: String,
    },
    /// A family cannot be.
    #[error("`{pattern}`: {why}")]
    Family {
        /// The problem with a free dimension.
        pattern: String,
        /// The fault.
        why: String,
    },
    /// A setting of the builder is no such setting.
    #[error("{what}: got `{got}`, expected {expected}")]
    Setting {
        /// The builder's method.
        what: &'static str,
        /// The argument that it was called with.
        got: String,
        /// The values that it may have.
        expected: &'static str,
    },
    /// A setting cannot be followed, and [strict settings](crate::RuntimeBuilder::strict_settings) make an error of that.
    #[error("{}: {notice}", notice.path().display())]
    Strict {
        /// Says which, and why.
        notice: Box<Notice>,
    },
    /// Calls cannot be divided among so many threads.
    #[error("{threads} threads: expected from 1 to {MAX_THREADS}")]
    ThreadCount {
        /// The number that was asked for, or that an executor has.
        threads: usize,
    },
    /// A runtime cannot have so many threads in its [streams](crate::RuntimeBuilder::streams).
    #[error("{}", stream_count(*streams, *threads, variables))]
    StreamCount {
        /// The threads of each stream.
        threads: usize,
        /// The streams that were asked for.
        streams: usize,
        /// The environment variables that say either.
        variables: Vec<&'static str>,
    },
    /// The threads could not be made or did not do their work.
    #[error("cannot use {threads} thread(s): {why}")]
    Threads {
        /// The number that was asked for.
        threads: usize,
        /// The fault.
        why: String,
    },
}

/// The number of threads that would be needed, and the setting to lower.
fn stream_count(streams: usize, threads: usize, variables: &[&str]) -> String {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let what = format!("{streams} stream{} of {threads} thread{}", plural(streams), plural(threads));
    let lower = match variables {
        _ if streams == 0 => String::new(),
        [] => "; lower the number of streams or that of threads".into(),
        _ => format!("; lower {}", variables.join(" or ")),
    };
    format!("{what}: expected from 1 to {MAX_THREADS} threads in all{lower}")
}

macro_rules! from {
    ($($source:ty => $variant:ident),*) => { $(
        impl From<$source> for RuntimeError {
            fn from(e: $source) -> Self {
                RuntimeError::$variant(Arc::new(e))
            }
        }
    )* };
}
from! {
    CompileError => Compile,
    CodeMemoryError => CodeMemory,
    CpuError => Cpu,
    CannotRun => CannotRun,
    LimitError => Limit
}

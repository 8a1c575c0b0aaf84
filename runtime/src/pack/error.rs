//! The reasons why a pack is refused.

use std::io;
use std::sync::Arc;

use kiln_compiler::Target;
use kiln_compiler::package::PackageError;

/// The reason why a pack is not used. Its kernels are compiled instead.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
    Read(#[source] Arc<io::Error>),
    /// It is another kind of file.
    #[error("it is not a kernel pack")]
    NoPack,
    /// It has no weights: it is another kind of file, or has kernels alone.
    #[error("it is not a pack of weights, and has none")]
    NoWeights,
    /// Its format is another.
    #[error("it has format {found}, and this version of Kiln reads format {expected}: build it again, or remove it")]
    Format {
        /// Of the file.
        found: u64,
        /// The values that can be read.
        expected: u32,
    },
    /// It was cut off, or something was appended.
    #[error("it has {found} bytes of {expected}: build or copy it again")]
    Length {
        /// The number that it should have.
        expected: u64,
        /// The number that it has.
        found: u64,
    },
    /// Bytes have changed.
    #[error("its checksum is wrong: it was damaged; build or copy it again")]
    Checksum,
    /// It was not written by a runtime with the key of the directory that it is in.
    #[error("it is not sealed with the key of its directory: it was damaged, or comes from elsewhere; remove it")]
    Seal,
    /// The manifest lies outside the file.
    #[error("its manifest is not inside it: build it again")]
    NoManifest,
    /// The manifest cannot be understood.
    #[error("its manifest is malformed: {0}")]
    Manifest(String),
    /// Another version of the compiler made it.
    #[error("it was built by Kiln {found}, and this is {expected}: build it again, or remove it")]
    Compiler {
        /// Of the pack.
        found: String,
        /// Of this program.
        expected: &'static str,
    },
    /// It is for another target.
    #[error("it is for {found}, and this runtime's target is {expected}: build one with `--target {expected}`")]
    Target {
        /// Of the pack.
        found: Box<Target>,
        /// Of the runtime.
        expected: Box<Target>,
    },
    /// It has kernels for other targets.
    #[error(
        "it has kernels for {}, and this runtime's target is {expected}: build one with `--target {expected}`",
        list(found)
    )]
    Targets {
        /// Of the pack.
        found: Vec<String>,
        /// Of the runtime.
        expected: Box<Target>,
    },
    /// The code of a kernel is not that of its record.
    #[error("the code of `{problem}` is damaged or not inside the file: build it again")]
    Code {
        /// The kernel's problem.
        problem: String,
    },
    /// The bytes of weights are not those of their record.
    #[error("its weights are damaged: remove it, or copy it again")]
    Weights,
    /// A record contradicts its problem.
    #[error("the record of `{problem}` cannot be right: {cause}")]
    Package {
        /// The kernel's problem.
        problem: String,
        /// The reason.
        cause: PackageError,
    },
}

fn list(targets: &[String]) -> String {
    if targets.is_empty() { "no target".into() } else { targets.join(", ") }
}

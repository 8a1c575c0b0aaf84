//! The errors of detection.

use kiln_compiler::target::TargetError;

/// The reason why the machine has no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The processor (or the operating system for it) lacks an instruction set that every kernel needs.
    #[error("this processor has no {feature}, which every kernel for {arch} uses")]
    Missing {
        /// The instruction set, as its manual names it.
        feature: &'static str,
        /// The architecture it belongs to.
        arch: &'static str,
    },
    /// No code can be generated for this architecture.
    #[error("no kernels can be generated for the architecture `{arch}`: expected aarch64 or x86_64")]
    Architecture {
        /// Rust's name of the architecture.
        arch: &'static str,
    },
    /// The name composed for the machine is not a target.
    #[error("the detected processor has no target: {0}")]
    Target(#[from] TargetError),
}

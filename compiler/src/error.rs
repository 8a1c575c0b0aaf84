//! The error of a compilation.

use kiln_ir::{Problem, ProblemError};

use crate::schedule::ScheduleError;
use crate::target::Target;

/// Why there is no artifact. The variant says who can mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The caller's problem is malformed.
    #[error("invalid problem: {0}")]
    Problem(#[from] ProblemError),
    /// The caller's schedule does not fit the problem or the target.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Valid, but not for this target.
    #[error("{what} is not supported on {target}")]
    Unsupported {
        /// The request.
        what: String,
        /// The target.
        target: Box<Target>,
    },
    /// A defect of the compiler: a stage broke a rule.
    #[error("internal error in stage `{stage}` of `{problem}`: {cause}")]
    Internal {
        /// The stage.
        stage: &'static str,
        /// The problem.
        problem: Box<Problem>,
        /// The rule broken.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

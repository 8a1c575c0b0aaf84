//! The outcome of a subcommand.

/// The outcome of what a subcommand checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All checks passed, or there were none.
    Passed,
    /// A check failed.
    Failed,
}

//! The target of a subcommand.

use kiln_compiler::Target;
use kiln_runtime::{MAX_THREADS, Runtime, RuntimeBuilder, RuntimeError};

/// The target of a subcommand.
#[derive(Debug, clap::Args)]
pub struct TargetArgs {
    /// Compile for this target, for example neoverse-v1 or x86-64-v3-avx2 [default: this machine]
    #[arg(long)]
    target: Option<Target>,
}

impl TargetArgs {
    /// A runtime for the target, which this machine must be able to run.
    pub fn runtime(&self, threads: usize) -> Result<Runtime, RuntimeError> {
        self.builder().threads(threads).build()
    }

    /// Settings of a runtime for the target.
    pub fn builder(&self) -> RuntimeBuilder {
        match &self.target {
            Some(target) => Runtime::builder().target(target.clone()),
            None => Runtime::builder(),
        }
    }

    /// The target that was asked for, or else this machine's.
    pub fn resolve(&self) -> Result<Target, RuntimeError> {
        match &self.target {
            Some(target) => Ok(target.clone()),
            None => Ok(self.runtime(1)?.target().clone()),
        }
    }
}

/// Parses the value of `--threads`.
pub fn threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
    threads.ok_or(format!("expected a number of threads from 1 to {MAX_THREADS}"))
}

//! Planning and packing of a network for a target that need not be this machine.

use kiln_ir::problem::MathMode;
use kiln_model::PlanOptions;

use super::compiled::with_progress;
use crate::error::Error;
use crate::threads::threads;

/// Options for planning a network.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Threads that compile, and pack weights if any are packed [default: KILN_NUM_THREADS, OMP_NUM_THREADS or RAYON_NUM_THREADS, else
    /// as many as there are processors that the process may use]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
    /// The arithmetic of f32 kernels whose problems name none: strict, bf16 or any [default: KILN_FPMATH_MODE, else strict]
    #[arg(long, value_name = "MODE")]
    fpmath: Option<MathMode>,
    /// Do not print each kernel to standard error as it is compiled
    #[arg(long)]
    quiet: bool,
}

impl PlanArgs {
    /// Calls `work` with the options, which print the progress unless that should be quiet.
    pub fn with<T>(&self, work: impl FnOnce(&PlanOptions<'_>) -> T) -> Result<T, Error> {
        let fpmath = self.fpmath.map_or_else(kiln_jit::default_fpmath, Ok)?;
        let threads = self.threads.map_or_else(kiln_jit::default_threads, Ok)?;
        Ok(with_progress(self.quiet, |progress| work(&PlanOptions { fpmath, threads, progress: Some(progress) })))
    }
}

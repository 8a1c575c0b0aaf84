//! Networks planned for any target, on any machine.

use kiln_ir::Problem;
use kiln_ir::problem::MathMode;
use kiln_runtime::Target;

use crate::error::ModelError;
use crate::network::{self, Bound, Memory, StepInfo};
use crate::plan::{Compiled, Plan, Progress};

/// A network as it would be on a target: its kernels, its steps and its memory, the same as those of a compiled
/// [`Network`](crate::Network) there. Nothing of it can be run: its code is not loaded, and its weights are not packed.
pub struct PlannedNetwork {
    plan: Plan,
    compiled: Compiled,
}

/// How a network is planned.
#[derive(Clone, Copy)]
pub struct PlanOptions<'a> {
    /// The arithmetic of f32 kernels whose problems name none.
    pub fpmath: MathMode,
    /// Threads that compile.
    pub threads: usize,
    /// Is told of each kernel as it is compiled.
    pub progress: Option<&'a (dyn Fn(Progress<'_>) + Sync)>,
}

impl Default for PlanOptions<'_> {
    fn default() -> Self {
        PlanOptions { fpmath: MathMode::Strict, threads: 1, progress: None }
    }
}

impl Bound {
    /// Plans the network for a target, which need not be this machine.
    pub fn plan_for(self, target: &Target, options: &PlanOptions<'_>) -> Result<PlannedNetwork, ModelError> {
        let func = self.optimize(|_, _| {})?;
        let progress = options.progress.unwrap_or(&|_| {});
        let compiled = Compiled::make(&func, target, options.fpmath, options.threads, progress)?;
        let plan = Plan::planned(func, &compiled)?;
        Ok(PlannedNetwork { plan, compiled })
    }
}

impl PlannedNetwork {
    /// The steps of a call, in order. None has a kernel that can be called.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepInfo<'_>> {
        network::steps(&self.plan)
    }

    /// The problems of its kernels, each once.
    pub fn problems(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.compiled.kernels().iter().map(|kernel| &kernel.problem)
    }

    /// What it takes.
    pub fn memory(&self) -> Memory {
        network::memory(&self.plan, self.compiled.kernels().iter().map(|kernel| kernel.code).sum())
    }
}

impl std::fmt::Debug for PlannedNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlannedNetwork({} steps, {} kernels)", self.plan.steps.len(), self.compiled.kernels().len())
    }
}

//! Networks planned for any target, on any machine.

use std::path::Path;
use std::sync::Arc;

use kiln_ir::problem::MathMode;
use kiln_ir::{Func, Problem};
use kiln_jit::{Package, PackedWeights, Target, WeightsId, pack};

use crate::error::ModelError;
use crate::network::{self, Bound, Memory, StepInfo};
use crate::plan::{Compiled, Plan, Progress};
use crate::scaling::{Predictor, Scaling};

/// A network as it would be on a target: its kernels, its steps and its memory, the same as those of a compiled
/// [`Network`](crate::Network) there. Nothing of it can be run: its code is not loaded, and its weights are not packed.
pub struct PlannedNetwork {
    plan: Plan,
    compiled: Compiled,
    target: Target,
}

/// The options with which a network is planned.
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
        let (func, compiled) = self.compiled_for(target, options)?;
        let plan = Plan::planned(func, &compiled)?;
        Ok(PlannedNetwork { plan, compiled, target: target.clone() })
    }

    /// The function after all passes, and its kernels for a target.
    fn compiled_for(self, target: &Target, options: &PlanOptions<'_>) -> Result<(Func, Compiled), ModelError> {
        let func = self.optimize(|_, _| {})?;
        let progress = options.progress.unwrap_or(&|_| {});
        let compiled = Compiled::make(&func, target, options.fpmath, options.threads, progress)?;
        Ok((func, compiled))
    }
}

/// The kernels of a network for a target, and its weights as these kernels read them, made on any machine without executing code for
/// the target. They are byte for byte those that a machine of the target makes.
pub struct PackedNetwork {
    packages: Vec<Arc<Package>>,
    weights: Vec<(WeightsId, PackedWeights)>,
}

impl Bound {
    /// Compiles the kernels of the network for a target, which need not be this machine, and packs its weights.
    pub fn pack_for(self, target: &Target, options: &PlanOptions<'_>) -> Result<PackedNetwork, ModelError> {
        let (func, compiled) = self.compiled_for(target, options)?;
        let weights = compiled.pack(func, options.threads)?;
        Ok(PackedNetwork { packages: compiled.packages().cloned().collect(), weights })
    }
}

impl PackedNetwork {
    /// The code of its kernels, each once.
    pub fn packages(&self) -> impl ExactSizeIterator<Item = &Package> {
        self.packages.iter().map(|package| &**package)
    }

    /// Its packed weights, with what a [`WeightsPack`](kiln_jit::WeightsPack) knows them by.
    pub fn weights(&self) -> impl ExactSizeIterator<Item = (WeightsId, &PackedWeights)> {
        self.weights.iter().map(|(id, packed)| (*id, packed))
    }
}

impl std::fmt::Debug for PackedNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedNetwork({} kernels, {} weights)", self.packages.len(), self.weights.len())
    }
}

/// Writes networks to one [bundle](kiln_jit::pack::write_bundle): of several shapes, for several targets.
pub fn write_networks<'a>(
    path: impl AsRef<Path>,
    networks: impl IntoIterator<Item = &'a PackedNetwork, IntoIter: Clone>,
) -> std::io::Result<()> {
    let networks = networks.into_iter();
    let packages = networks.clone().flat_map(PackedNetwork::packages);
    pack::write_bundle(path, packages, networks.flat_map(PackedNetwork::weights))
}

impl PlannedNetwork {
    /// The steps of a call, in order. None has a kernel that can be called.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepInfo<'_>> {
        network::steps(&self.plan)
    }

    /// The problems of its kernels, each once.
    pub fn problems(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.compiled.kernels().iter().map(|kernel| kernel.problem())
    }

    /// The speed-up that is predicted for so many threads: a model, see [`scaling`](crate::scaling).
    pub fn scaling(&self, threads: &[usize]) -> Result<Scaling, ModelError> {
        Ok(self.predictor()?.scaling(threads)?)
    }

    /// The predictor of its speed on any number of threads: a model, see [`scaling`](crate::scaling).
    pub fn predictor(&self) -> Result<Predictor, ModelError> {
        Ok(Predictor::of_plan(&self.plan, &self.target)?)
    }

    /// The memory that it takes.
    pub fn memory(&self) -> Memory {
        network::memory(&self.plan, self.compiled.kernels().iter().map(|kernel| kernel.code()).sum())
    }
}

impl std::fmt::Debug for PlannedNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlannedNetwork({} steps, {} kernels)", self.plan.steps.len(), self.compiled.kernels().len())
    }
}

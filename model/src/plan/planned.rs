//! Plans for a target that this machine need not be: kernels are compiled and not loaded, and nothing can be run. Weights are packed
//! only to be written to a file.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_ir::func::{Def, Structured, TensorOp, Value};
use kiln_ir::problem::MathMode;
use kiln_ir::{Func, Problem};
use kiln_jit::compiler::compile;
use kiln_jit::{CompileError, Package, PackedWeights, RuntimeError, Target, WeightsId};

use super::constants::Constant;
use super::elements::with_elements;
use super::kernels::{Request, options, requests, take_weights};
use super::{Action, Asked, Input, Plan, Progress, RuntimeThreads, constants, control, texts};
use crate::error::ModelError;
use crate::lock::lock;

/// The kernels of a network, compiled for a target: each once, in the order of the layers that ask first.
pub(crate) struct Compiled {
    made: Vec<PlannedKernel>,
    places: HashMap<Request, usize>,
}

/// The code of a kernel. Its problem has the arithmetic of the runtime that would run it.
#[derive(Clone)]
pub(crate) struct PlannedKernel(Arc<Package>);

/// The results of jobs, in their order, which so many threads take one after another.
fn all_of<J: Send, T: Send>(jobs: Vec<J>, threads: usize, work: impl Fn(J) -> T + Sync) -> Vec<T> {
    let jobs: Vec<Mutex<Option<J>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let results: Vec<Mutex<Option<T>>> = jobs.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let take = || {
        while let Some((job, result)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(at).zip(results.get(at))
        } {
            let job = lock(job).take().expect("each is taken once");
            let made = work(job);
            *lock(result) = Some(made);
        }
    };
    std::thread::scope(|scope| {
        (1..threads.min(jobs.len())).for_each(|_| drop(scope.spawn(take)));
        take();
    });
    let made = |result: Mutex<Option<T>>| result.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|result| made(result).expect("each is made")).collect()
}

impl Compiled {
    /// Compiles all kernels of a function for `target`, on so many threads. Problems that name no arithmetic have `fpmath`.
    pub(crate) fn make(
        func: &Func,
        target: &Target,
        fpmath: MathMode,
        threads: usize,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Self, ModelError> {
        let requests = requests(func);
        let done = Mutex::new(0);
        let made = all_of((0..requests.len()).collect(), threads, |at: usize| {
            let ((problem, options), _) = &requests[at];
            let effective = problem.with_fpmath(problem.fpmath_or(fpmath));
            let made = compile(&effective, target, options).map(|artifact| Package::of(&artifact, options));
            let mut done = lock(&done);
            *done += 1;
            progress(Progress { done: *done, total: requests.len(), problem });
            made.map(|package| PlannedKernel(Arc::new(package)))
        });
        let mut compiled = Compiled { made: vec![], places: HashMap::new() };
        for ((request, layer), kernel) in requests.iter().zip(made) {
            let failed = |e: CompileError| ModelError::Kernel { layer: layer.clone(), source: RuntimeError::from(e) };
            compiled.places.insert(request.clone(), compiled.made.len());
            compiled.made.push(kernel.map_err(failed)?);
        }
        Ok(compiled)
    }

    pub(crate) fn kernels(&self) -> &[PlannedKernel] {
        &self.made
    }

    fn get(&self, problem: &Problem, constant_weights: bool) -> &PlannedKernel {
        &self.made[self.places[&(problem.clone(), options(constant_weights))]]
    }

    /// Packs the weights of all kernels of a function, and of those that it runs, on so many threads.
    pub(crate) fn pack(&self, func: Func, threads: usize) -> Result<Vec<(WeightsId, PackedWeights)>, ModelError> {
        let results = func.results().to_vec();
        let mut values = func.into_values();
        let mut packed = vec![];
        for value in &values {
            if let Def::Result { op, .. } = &value.def {
                for body in op.bodies() {
                    packed.append(&mut self.pack((**body).clone(), threads)?);
                }
            }
        }
        let is_packed = |problem: &Problem| self.get(problem, true).is_packed();
        let taken = take_weights(&mut values, &results, is_packed)?;
        let made = all_of(taken, threads, |(at, problem, weights): (usize, Problem, Constant)| {
            let (layer, id) = (&values[at].label(), weights.id(None));
            let tensor = weights.compute(layer)?;
            let package = &self.get(&problem, true).0;
            let packed = with_elements(&tensor, |elements| PackedWeights::for_package(package, elements));
            let packed = packed.map_err(|source| ModelError::Kernel { layer: layer.clone(), source })?;
            Ok::<_, ModelError>((id, packed))
        });
        for made in made {
            packed.push(made?);
        }
        Ok(packed)
    }

    /// The code of all kernels.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Arc<Package>> {
        self.made.iter().map(|kernel| &kernel.0)
    }
}

impl PlannedKernel {
    /// The problem that it computes.
    pub(crate) fn problem(&self) -> &Problem {
        &self.0.facts().problem
    }

    /// Tells whether it reads packed weights.
    fn is_packed(&self) -> bool {
        self.0.packed_layout().is_some()
    }

    /// Bytes of machine code.
    pub(crate) fn code(&self) -> usize {
        self.0.image().len()
    }
}

impl Plan {
    /// Plans a function as [`new`](Self::new) does, to be looked at.
    pub(crate) fn planned(func: Func, compiled: &Compiled) -> Result<Self, ModelError> {
        let results = func.results().to_vec();
        let texts = texts(&func);
        let mut values = func.into_values();
        let constant = constants::are_constant(values.iter());
        let is_packed: Vec<bool> =
            (0..values.len()).map(|at| !constant[at] && reads_packed(&values[at], &constant, compiled)).collect();
        constants::settle(&mut values, &results, &|at| is_packed[at])?;
        Self::of(&values, texts, &results, &mut |_, asked| match asked {
            Asked::Kernel { problem, constant } => Ok(Box::new(compiled.get(problem, constant).clone())),
            Asked::Control { control, operands } => {
                let bodies = control.bodies().map(|body| Plan::planned((**body).clone(), compiled));
                Ok(control::action("", control, operands, bodies.collect::<Result<_, _>>()?))
            }
        })
    }
}

/// Tells whether a value is the result of a kernel with packed weights.
fn reads_packed(value: &Value, constant: &[bool], compiled: &Compiled) -> bool {
    match &value.def {
        Def::Result { op: TensorOp::Structured(Structured::Kernel { problem }), operands } => {
            constant[operands[1].index()] && compiled.get(problem, true).is_packed()
        }
        _ => false,
    }
}

impl Action for PlannedKernel {
    fn reads(&self, operand: usize) -> bool {
        operand != 1 || !self.is_packed()
    }

    fn problem(&self) -> Option<&Problem> {
        Some(PlannedKernel::problem(self))
    }

    fn package(&self) -> Option<&Arc<Package>> {
        Some(&self.0)
    }

    fn packed_bytes(&self) -> usize {
        self.0.packed_layout().map_or(0, |layout| layout.bytes() as usize)
    }

    fn run(&self, _: &RuntimeThreads<'_>, _: &[Input<'_>], _: &mut [u8], _: &mut [u8]) -> Result<(), ModelError> {
        unreachable!("what is planned to be looked at has no call")
    }
}

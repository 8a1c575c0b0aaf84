//! Plans for a target that this machine need not be: kernels are compiled and not loaded, weights are not packed, and nothing can
//! be run.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_ir::func::{Def, Structured, TensorOp, Value};
use kiln_ir::problem::MathMode;
use kiln_ir::{Func, Problem};
use kiln_runtime::compiler::compile;
use kiln_runtime::{CompileError, RuntimeError, Target};

use super::kernels::{Request, options, requests};
use super::{Action, Asked, Input, Plan, Progress, RuntimeThreads, constants, control, texts};
use crate::error::ModelError;
use crate::lock::lock;

/// The kernels of a network, compiled for a target: each once, in the order of the layers that ask first.
pub(crate) struct Compiled {
    made: Vec<PlannedKernel>,
    places: HashMap<Request, usize>,
}

/// What a plan has to know of a kernel.
#[derive(Clone)]
pub(crate) struct PlannedKernel {
    /// As it is computed, with the arithmetic of the runtime that would run it.
    pub problem: Problem,
    /// Bytes of machine code.
    pub code: usize,
    /// Bytes of packed weights, if it reads such.
    packed: Option<usize>,
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
        let slots: Vec<Mutex<Option<Result<PlannedKernel, CompileError>>>> =
            requests.iter().map(|_| Mutex::default()).collect();
        let (next, done) = (AtomicUsize::new(0), Mutex::new(0));
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(((problem, options), _)) = requests.get(at) else { break };
                let effective = problem.with_fpmath(problem.fpmath_or(fpmath));
                *lock(&slots[at]) = Some(compile(&effective, target, options).map(|artifact| PlannedKernel {
                    code: artifact.image().len(),
                    packed: artifact.packed_layout().map(|layout| layout.bytes() as usize),
                    problem: effective,
                }));
                let mut done = lock(&done);
                *done += 1;
                progress(Progress { done: *done, of: requests.len(), problem });
            }
        };
        std::thread::scope(|scope| {
            (1..threads.min(requests.len())).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        let mut compiled = Compiled { made: vec![], places: HashMap::new() };
        for ((request, layer), slot) in requests.iter().zip(slots) {
            let kernel = lock(&slot).take().expect("each is made");
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
            constant[operands[1].index()] && compiled.get(problem, true).packed.is_some()
        }
        _ => false,
    }
}

impl Action for PlannedKernel {
    fn reads(&self, operand: usize) -> bool {
        operand != 1 || self.packed.is_none()
    }

    fn problem(&self) -> Option<&Problem> {
        Some(&self.problem)
    }

    fn packed_bytes(&self) -> usize {
        self.packed.unwrap_or_default()
    }

    fn run(&self, _: &RuntimeThreads<'_>, _: &[Input<'_>], _: &mut [u8], _: &mut [u8]) -> Result<(), ModelError> {
        unreachable!("what is planned to be looked at has no call")
    }
}

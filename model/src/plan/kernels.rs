//! Kernels as steps, and how a network's kernels are made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_ir::Func;
use kiln_ir::elements::Elements;
use kiln_ir::func::{Def, Structured, Tensor, TensorOp, Value, ValueId};
use kiln_ir::{DType, Problem};
use kiln_jit::{
    Args, Input as Operand, Kernel, Options, Output, PackedWeights, Runtime, RuntimeError, WeightsId, WeightsPack,
};

use super::action::{Action, Input};
use super::constants::{self, Constant};
use super::elements::{Identify, with_elements};
use super::threads::RuntimeThreads;
use crate::error::ModelError;
use crate::lock::lock;

/// The request for a kernel.
pub(super) type Request = (Problem, Options);

/// The kernels of a network, made before the steps are: each once, in the order of the layers that ask first.
pub(crate) struct Kernels {
    made: Vec<(Request, Arc<Kernel>)>,
    places: HashMap<Request, usize>,
}

/// The progress of making kernels.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Kernels made.
    pub done: usize,
    /// Of so many.
    pub total: usize,
    /// The problem of the last one.
    pub problem: &'a Problem,
}

pub(super) fn options(constant_weights: bool) -> Options {
    Options { constant_weights, ..Options::default() }
}

/// Where a thread leaves the kernel that it made.
type Slot = Mutex<Option<Result<Arc<Kernel>, RuntimeError>>>;

/// The kernels that a function asks for, each once, in order, with a layer that does.
pub(crate) fn requests(func: &Func) -> Vec<(Request, String)> {
    let mut all = vec![];
    all_requests(func, &mut all);
    let mut seen = std::collections::HashSet::new();
    all.retain(|(request, _)| seen.insert(request.clone()));
    all
}

/// Adds the kernels of a function and of those that it runs.
fn all_requests(func: &Func, all: &mut Vec<(Request, String)>) {
    let constant = constants::are_constant(func.values().map(|(_, value)| value));
    for (_, value) in func.values().filter(|(id, _)| !constant[id.index()]) {
        let Def::Result { op, operands } = &value.def else { continue };
        op.bodies().for_each(|body| all_requests(body, all));
        if let TensorOp::Structured(Structured::Kernel { problem }) = op {
            let constant = constant[operands[1].index()];
            all.push((((**problem).clone(), options(constant)), value.label()));
        }
    }
}

/// Takes the constants out of values that kernels read packed, as `is_packed` says of their problems, with the positions of those
/// kernels. What nothing else reads can be given back when it is packed: networks are larger than what is left of memory.
pub(super) fn take_weights(
    values: &mut [Value],
    results: &[ValueId],
    is_packed: impl Fn(&Problem) -> bool,
) -> Result<Vec<(usize, Problem, Constant)>, ModelError> {
    let mut uses = vec![0; values.len()];
    values.iter().flat_map(Value::operands).for_each(|o| uses[o.index()] += 1);
    results.iter().for_each(|id| uses[id.index()] += 1);
    let constant = constants::are_constant(values.iter());
    constants::settle_shared(values, &constant, &uses)?;
    let mut taken = vec![];
    for at in (0..values.len()).filter(|at| !constant[*at]) {
        let Def::Result { op: TensorOp::Structured(Structured::Kernel { problem }), operands } = &values[at].def else {
            continue;
        };
        let weights = operands[1].index();
        if constant[weights] && is_packed(problem) {
            let problem = (**problem).clone();
            taken.push((at, problem, Constant::take(values, weights, &uses)));
        }
    }
    Ok(taken)
}

impl Kernels {
    /// Makes all kernels of a function, on all threads of the runtime.
    pub(crate) fn make(
        func: &Func,
        runtime: &Runtime,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Self, ModelError> {
        let requests = requests(func);
        let slots: Vec<Slot> = requests.iter().map(|_| Slot::default()).collect();
        let done = Mutex::new(0);
        runtime.parallel_for(requests.len() as u64, &|begin, end| {
            for at in begin as usize..end as usize {
                let (problem, options) = &requests[at].0;
                *lock(&slots[at]) = Some(runtime.kernel_with(problem, options));
                let mut done = lock(&done);
                *done += 1;
                progress(Progress { done: *done, total: requests.len(), problem });
            }
        })?;
        let mut kernels = Kernels { made: vec![], places: HashMap::new() };
        for ((request, layer), slot) in requests.into_iter().zip(slots) {
            let kernel = lock(&slot).take().expect("each is made");
            let kernel = kernel.map_err(|source| ModelError::Kernel { layer, source })?;
            kernels.places.insert(request.clone(), kernels.made.len());
            kernels.made.push((request, kernel));
        }
        Ok(kernels)
    }

    /// The kernel of a problem.
    fn get(&self, problem: &Problem, constant_weights: bool) -> &Arc<Kernel> {
        &self.made[self.places[&(problem.clone(), options(constant_weights))]].1
    }

    /// Packs the weights of all kernels that read such, on all threads, but for those that are known. One entry per
    /// value.
    pub(crate) fn pack(
        &self,
        values: &mut [Value],
        results: &[ValueId],
        runtime: &Runtime,
        known: Known<'_>,
    ) -> Result<Vec<Option<NetworkWeights>>, ModelError> {
        let jobs = take_weights(values, results, |problem| self.get(problem, true).weights_layout().is_some())?;
        let jobs: Vec<_> = jobs
            .into_iter()
            .map(|(at, problem, weights)| Mutex::new(Some((at, self.get(&problem, true).clone(), weights))))
            .collect();
        let packed: Vec<Mutex<Option<NetworkWeights>>> = values.iter().map(|_| Mutex::default()).collect();
        let failure = Mutex::new(None);
        let values = &*values;
        runtime.parallel_for(jobs.len() as u64, &|begin, end| {
            for job in &jobs[begin as usize..end as usize] {
                let Some((at, kernel, weights)) = lock(job).take() else { continue };
                let layer = &values[at].label();
                match NetworkWeights::new(runtime, &kernel, weights, layer, known) {
                    Ok(weights) => *lock(&packed[at]) = Some(weights),
                    Err(error) => *lock(&failure) = Some(error),
                }
            }
        })?;
        if let Some(error) = lock(&failure).take() {
            return Err(error);
        }
        Ok(packed.into_iter().map(|p| p.into_inner().unwrap_or_else(PoisonError::into_inner)).collect())
    }

    /// The step of a kernel.
    pub(crate) fn action(
        &self,
        layer: &str,
        problem: &Problem,
        constant_weights: bool,
        packed: Option<PackedWeights>,
    ) -> KernelAction {
        KernelAction::new(layer, self.get(problem, constant_weights).clone(), packed)
    }

    /// One kernel by itself.
    pub(crate) fn one(
        runtime: &Runtime,
        problem: &Problem,
        constant_weights: bool,
    ) -> Result<Arc<Kernel>, RuntimeError> {
        runtime.kernel_with(problem, &options(constant_weights))
    }

    /// The requests for kernels, and the kernels, in the same order.
    pub(crate) fn into_parts(self) -> (Vec<Request>, Vec<Arc<Kernel>>) {
        self.made.into_iter().unzip()
    }
}

/// Facts about weights that are known before they are packed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Known<'a> {
    /// Those that were packed before.
    pub before: Option<&'a WeightsPack>,
    /// Numbers of constants, instead of their content.
    pub identify: Identify<'a>,
}

/// The packed weights of a kernel in a network.
pub(crate) struct NetworkWeights {
    pub id: WeightsId,
    pub packed: PackedWeights,
    /// True if they come from a pack.
    pub is_of_pack: bool,
}

impl NetworkWeights {
    fn new(
        runtime: &Runtime,
        kernel: &Kernel,
        weights: Constant,
        layer: &str,
        known: Known<'_>,
    ) -> Result<Self, ModelError> {
        let fail = |source| ModelError::Kernel { layer: layer.into(), source };
        let id = weights.id(known.identify);
        if let Some(before) = known.before
            && let Some(packed) = runtime.packed_weights_of(before, kernel, id).map_err(fail)?
        {
            return Ok(NetworkWeights { id, packed, is_of_pack: true });
        }
        let tensor = weights.compute(layer)?;
        let packed = with_elements(&tensor, |elements| runtime.packed_weights(kernel, id, elements)).map_err(fail)?;
        Ok(NetworkWeights { id, packed, is_of_pack: false })
    }
}

/// Packs weights, or finds those that another network has packed.
pub(crate) fn pack(runtime: &Runtime, kernel: &Kernel, weights: &Tensor) -> Result<PackedWeights, RuntimeError> {
    with_elements(weights, |elements| runtime.packed_weights(kernel, Constant::Is(weights.clone()).id(None), elements))
}

/// A kernel with its weights.
pub(crate) struct KernelAction {
    layer: String,
    pub kernel: Arc<Kernel>,
    pub packed: Option<PackedWeights>,
    /// Types of operands and result, in the problem's order.
    elements: Vec<DType>,
}

impl KernelAction {
    pub(crate) fn new(layer: &str, kernel: Arc<Kernel>, packed: Option<PackedWeights>) -> Self {
        let elements = kernel.problem().operands().iter().map(|o| o.dtype).collect();
        KernelAction { layer: layer.into(), kernel, packed, elements }
    }
}

/// The arguments of a call: operands in the problem's order, weights packed or not, and the result.
pub(super) fn arguments<'a>(
    elements: &[DType],
    packed: Option<&'a PackedWeights>,
    inputs: &[Input<'a>],
    dst: &'a mut [u8],
) -> Args<'a> {
    let operand = |at: usize| {
        let bytes = inputs[at].expect("kernels do not write over operands");
        Operand::Plain(Elements::from_bytes(elements[at], bytes).expect("buffers are aligned for all types"))
    };
    let dst = Output::from_bytes(elements[elements.len() - 1], dst).expect("buffers are aligned for all types");
    let args = Args::new(operand(0), packed.map_or_else(|| operand(1), Operand::Packed), dst);
    (2..inputs.len()).fold(args, |args, at| args.post_op(operand(at)))
}

impl Action for KernelAction {
    fn reads(&self, operand: usize) -> bool {
        operand != 1 || self.packed.is_none()
    }

    fn kernel(&self) -> Option<&Arc<Kernel>> {
        Some(&self.kernel)
    }

    fn packed_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, PackedWeights::bytes)
    }

    fn run(
        &self,
        _: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        _: &mut [u8],
    ) -> Result<(), ModelError> {
        let args = arguments(&self.elements, self.packed.as_ref(), inputs, dst);
        self.kernel.run(args).map_err(|source| ModelError::Kernel { layer: self.layer.clone(), source })
    }
}

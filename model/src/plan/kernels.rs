//! Kernels as steps, and how a network's kernels are made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_ir::Func;
use kiln_ir::func::{Def, Structured, Tensor, TensorOp, Value};
use kiln_ir::{DType, Problem};
use kiln_runtime::{
    Args, Input as Operand, Kernel, Options, Output, PackedWeights, Runtime, RuntimeError, WeightsId, bf16,
};

use super::{Action, Input, RuntimeThreads};
use crate::error::ModelError;

/// What a kernel is asked for with.
type Request = (Problem, Options);

/// The kernels of a network, made before the steps are.
pub(crate) struct Kernels {
    made: HashMap<Request, Arc<Kernel>>,
}

/// How far the making of kernels has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Kernels made.
    pub done: usize,
    /// Of so many.
    pub of: usize,
    /// The problem of the last one.
    pub problem: &'a Problem,
}

fn options(constant_weights: bool) -> Options {
    Options { constant_weights, ..Options::default() }
}

/// The kernels that a function asks for, each once, in order, with a layer that does.
pub(crate) fn requests(func: &Func) -> Vec<(Request, String)> {
    let mut seen = std::collections::HashSet::new();
    let kernels = func.values().filter_map(|(_, value)| match &value.def {
        Def::Result { op: TensorOp::Structured(Structured::Kernel { problem }), operands } => {
            let constant = matches!(func.value(operands[1]).def, Def::Constant(_));
            Some((((**problem).clone(), options(constant)), value.name.clone()))
        }
        _ => None,
    });
    kernels.filter(|(request, _)| seen.insert(request.clone())).collect()
}

impl Kernels {
    /// Makes all kernels of a function, on all threads of the runtime.
    pub(crate) fn make(
        func: &Func,
        runtime: &Runtime,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Self, ModelError> {
        let requests = requests(func);
        let problems: Vec<Request> = requests.iter().map(|(request, _)| request.clone()).collect();
        let errors = runtime.warm(&problems, |p| progress(Progress { done: p.done, of: p.of, problem: p.problem }));
        if let Some((at, source)) = errors.into_iter().next() {
            return Err(ModelError::Kernel { layer: requests[at].1.clone(), source });
        }
        let mut made = HashMap::new();
        for (request, layer) in requests {
            let kernel = runtime.kernel_with(&request.0, &request.1);
            let kernel = kernel.map_err(|source| ModelError::Kernel { layer, source })?;
            made.insert(request, kernel);
        }
        Ok(Kernels { made })
    }

    /// The kernel of a problem.
    fn get(&self, problem: &Problem, constant_weights: bool) -> &Arc<Kernel> {
        &self.made[&(problem.clone(), options(constant_weights))]
    }

    /// Packs the weights of all kernels that read such, on all threads, and gives back constants that nothing else reads as soon
    /// as they are packed: networks are larger than what is left of memory. One entry per value.
    pub(crate) fn pack(
        &self,
        values: &mut [Value],
        is_result: &dyn Fn(usize) -> bool,
        runtime: &Runtime,
    ) -> Result<Vec<Option<PackedWeights>>, ModelError> {
        let mut uses = vec![0; values.len()];
        values.iter().flat_map(Value::operands).for_each(|o| uses[o.index()] += 1);
        let mut jobs = vec![];
        for at in 0..values.len() {
            let Def::Result { op: TensorOp::Structured(Structured::Kernel { problem }), operands } = &values[at].def
            else {
                continue;
            };
            let weights = operands[1].index();
            let Some(tensor) = values[weights].constant() else { continue };
            let kernel = self.get(problem, true).clone();
            if kernel.weights_layout().is_none() {
                continue;
            }
            if uses[weights] == 1 && !is_result(weights) {
                values[weights].def = Def::Constant(bytes::Bytes::new());
            }
            jobs.push(Mutex::new(Some((at, kernel, tensor))));
        }
        let packed: Vec<Mutex<Option<PackedWeights>>> = values.iter().map(|_| Mutex::default()).collect();
        let failure = Mutex::new(None);
        runtime.each(jobs.len() as u64, &|begin, end| {
            for job in &jobs[begin as usize..end as usize] {
                let Some((at, kernel, tensor)) = locked(job).take() else { continue };
                match pack(runtime, &kernel, &tensor) {
                    Ok(weights) => *locked(&packed[at]) = Some(weights),
                    Err(source) => *locked(&failure) = Some((at, source)),
                }
            }
        })?;
        if let Some((at, source)) = locked(&failure).take() {
            return Err(ModelError::Kernel { layer: values[at].name.clone(), source });
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
        let elements = problem.operands().iter().map(|o| o.dtype).collect();
        KernelAction { layer: layer.into(), kernel: self.get(problem, constant_weights).clone(), packed, elements }
    }

    /// What kernels were asked for with, and the kernels, in one order.
    pub(crate) fn into_parts(self) -> (Vec<Request>, Vec<Arc<Kernel>>) {
        self.made.into_iter().unzip()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packs weights, or finds those that another network has packed.
fn pack(runtime: &Runtime, kernel: &Kernel, weights: &Tensor) -> Result<PackedWeights, RuntimeError> {
    if let Some(elements) = weights.elements::<f32>() {
        let id = WeightsId::of(&elements[..]);
        return runtime.packed_weights(kernel, id, &elements[..]);
    }
    let elements = weights.elements::<bf16>().expect("kernels have f32 and bf16");
    runtime.packed_weights(kernel, WeightsId::of(&elements[..]), &elements[..])
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
    fn operand<'a>(&'a self, at: usize, inputs: &[Input<'a>]) -> Operand<'a> {
        let bytes = inputs[at].expect("kernels do not write over operands");
        match self.elements[at] {
            DType::F32 => Operand::F32(bytemuck::cast_slice(bytes)),
            DType::Bf16 => Operand::Bf16(bytemuck::cast_slice(bytes)),
        }
    }
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

    fn run(&self, _: &RuntimeThreads<'_>, inputs: &[Input<'_>], dst: &mut [u8]) -> Result<(), ModelError> {
        let dst = match self.elements[self.elements.len() - 1] {
            DType::F32 => Output::F32(bytemuck::cast_slice_mut(dst)),
            DType::Bf16 => Output::Bf16(bytemuck::cast_slice_mut(dst)),
        };
        let rhs = match &self.packed {
            Some(packed) => Operand::Packed(packed),
            None => self.operand(1, inputs),
        };
        let args = Args::new(self.operand(0, inputs), rhs, dst);
        let args = (2..inputs.len()).fold(args, |args, at| args.operand(self.operand(at, inputs)));
        self.kernel.run(args).map_err(|source| ModelError::Kernel { layer: self.layer.clone(), source })
    }
}

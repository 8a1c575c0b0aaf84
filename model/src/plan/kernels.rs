//! Kernels as steps, and how a network's kernels are made.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_ir::Func;
use kiln_ir::func::{Def, Structured, Tensor, TensorOp};
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

    /// The step of a kernel, its weights packed if they are constant.
    pub(crate) fn action(
        &self,
        layer: &str,
        problem: &Problem,
        weights: Option<&Tensor>,
        runtime: &Runtime,
    ) -> Result<KernelAction, ModelError> {
        let kernel = &self.made[&(problem.clone(), options(weights.is_some()))];
        let fail = |source| ModelError::Kernel { layer: layer.into(), source };
        let packed = match weights.filter(|_| kernel.weights_layout().is_some()) {
            Some(weights) => Some(pack(runtime, kernel, weights).map_err(fail)?),
            None => None,
        };
        let elements = problem.operands().iter().map(|o| o.dtype).collect();
        Ok(KernelAction { layer: layer.into(), kernel: kernel.clone(), packed, elements })
    }

    /// What kernels were asked for with, and the kernels, in one order.
    pub(crate) fn into_parts(self) -> (Vec<Request>, Vec<Arc<Kernel>>) {
        self.made.into_iter().unzip()
    }
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

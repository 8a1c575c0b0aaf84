//! Networks from files to results.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kiln_ir::func::{Tensor, TensorOp, TensorType};
use kiln_ir::{Func, Problem, pass};
use kiln_jit::{Kernel, Options, PackedWeights, Runtime, WeightsId, WeightsPack};
use kiln_onnx::Bindings;

use crate::arch::{ArchOptions, Architecture};
use crate::error::ModelError;
use crate::plan::arena::Arenas;
use crate::plan::{Code, Kernels, Known, Plan, Progress};
use crate::pretrained::Pretrained;

/// A network with its weights, whose shapes may be open. A clone shares them.
#[derive(Clone, Debug)]
pub struct Model(Arc<kiln_onnx::Model>);

/// A network of concrete shapes.
#[derive(Clone, Debug)]
pub struct Bound {
    func: Func,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

/// A compiled network. Shared by threads, each call has memory of its own.
///
/// ```
/// use kiln_model::arch::{ArchOptions, Architecture};
/// use kiln_model::{Bound, Runtime};
///
/// let options = ArchOptions { batch: 1, seq: Some(16) };
/// let runtime = Runtime::builder().build()?;
/// let network = Bound::from_architecture(Architecture::BertTiny, &options)?.compile(&runtime)?;
///
/// let inputs = Architecture::BertTiny.sample_inputs(&options)?;
/// let results = network.run(&inputs)?;
/// assert_eq!(network.outputs().map(|(_, ty)| ty).collect::<Vec<_>>(), results.iter().map(|r| r.ty()).collect::<Vec<_>>());
///
/// // The same into memory of the caller's.
/// let inputs: Vec<&[u8]> = inputs.iter().map(|tensor| &tensor.data()[..]).collect();
/// let mut outputs: Vec<Vec<u8>> = network.outputs().map(|(_, ty)| vec![0; ty.bytes() as usize]).collect();
/// network.run_into(&inputs, &mut outputs.iter_mut().map(|bytes| &mut bytes[..]).collect::<Vec<_>>())?;
/// assert_eq!(outputs[0], results[0].data()[..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Network {
    runtime: Runtime,
    plan: Plan,
    inputs: Vec<String>,
    outputs: Vec<String>,
    kernels: Vec<Arc<Kernel>>,
    requests: Vec<(Problem, Options)>,
    arenas: Arenas,
}

/// The memory that a network takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of the arena that holds all values of a call; each of several calls at once has one.
    pub arena: usize,
    /// Bytes of values that are alive at once at most: no arena can be smaller.
    pub peak: usize,
    /// Bytes of weights as kernels read them.
    pub packed: usize,
    /// Bytes of constants that are read as they are.
    pub constants: usize,
    /// Bytes of machine code.
    pub code: usize,
}

/// The options with which a network is compiled.
#[derive(Clone, Copy, Default)]
pub struct CompileOptions<'a> {
    /// Is told of each kernel as it is made.
    pub progress: Option<&'a (dyn Fn(Progress<'_>) + Sync)>,
    /// Weights that were packed before, which are not packed again; those that it does not have are.
    pub weights: Option<&'a WeightsPack>,
    /// Numbers constants that the caller knows by something else than their content, and gives no other such number as long as
    /// anyone uses what was made of them. What is packed of such a constant is found by its number, without being read.
    pub identify: Option<&'a Identify<'a>>,
}

/// Numbers some constants, as [`CompileOptions::identify`] says.
pub type Identify<'a> = dyn Fn(&Tensor) -> Option<u64> + Sync + 'a;

/// One step of a network.
#[derive(Clone, Debug)]
pub struct StepInfo<'a> {
    /// The name of the node that it computes, and how many others it does the work of, such as `conv1 (+2)`; of a function
    /// without nodes the name of the value.
    pub layer: &'a str,
    /// The names of the nodes, or layers, whose work it does, the most important one first.
    pub nodes: &'a [Arc<str>],
    /// The operation as text.
    pub text: &'a str,
    /// The operation.
    pub op: &'a TensorOp,
    /// The type of the result.
    pub ty: &'a TensorType,
    /// The kind of code that computes it.
    pub code: Code,
    /// Its kernel, if it is one.
    pub kernel: Option<&'a Arc<Kernel>>,
    /// The problem of its kernel, if it is one.
    pub problem: Option<&'a Problem>,
    /// Where its result lies in the arena.
    pub memory: Range<usize>,
    /// True if the result is written where an operand lay.
    pub is_in_place: bool,
}

impl Model {
    /// Reads an ONNX file, and those with weights beside it, into memory. They must be regular files.
    ///
    /// # Errors
    /// [`ModelError::Onnx`], which names the file and what is wrong with it.
    pub fn from_onnx(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Ok(Model(Arc::new(kiln_onnx::Model::open(path)?)))
    }

    /// Maps an ONNX file, and those with weights beside it: nothing of them is copied, and what is never used is never read.
    ///
    /// # Safety
    /// As long as the model is there, or networks for shapes or compiled ones that were made of it, nobody writes to one of the files
    /// or cuts it off, as [`kiln_onnx::Model::map`] says.
    pub unsafe fn map_onnx(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        // SAFETY: the caller answers for the files.
        Ok(Model(Arc::new(unsafe { kiln_onnx::Model::map(path)? })))
    }

    /// Reads an ONNX file that has its weights in itself.
    pub fn from_bytes(bytes: impl Into<bytes::Bytes>) -> Result<Self, ModelError> {
        Ok(Model(Arc::new(kiln_onnx::Model::from_bytes(bytes)?)))
    }

    /// The graph as it was read.
    pub fn graph(&self) -> &kiln_onnx::Graph {
        &self.0.graph
    }

    /// The network for concrete shapes. Everything that shapes decide is computed now.
    ///
    /// # Errors
    /// [`ModelError::Import`] if a dimension has no size, a name in `bindings` is not one of the model's, or the model has an operator that
    /// is not supported.
    pub fn bind(self, bindings: &Bindings) -> Result<Bound, ModelError> {
        Ok(self.0.import(bindings)?.into())
    }
}

impl From<kiln_onnx::Imported> for Bound {
    fn from(imported: kiln_onnx::Imported) -> Self {
        Bound { func: imported.func, inputs: imported.inputs, outputs: imported.outputs }
    }
}

impl Bound {
    /// A network that is a function already.
    pub fn from_func(func: Func) -> Self {
        let inputs = func.arguments().map(|(_, v)| v.name.clone()).collect();
        let outputs = func.results().iter().map(|id| func.value(*id).name.clone()).collect();
        Bound { func, inputs, outputs }
    }

    /// A built-in architecture.
    ///
    /// # Errors
    /// [`ModelError::Arch`] if it cannot be built with these options.
    pub fn from_architecture(architecture: Architecture, options: &ArchOptions) -> Result<Self, ModelError> {
        Ok(Self::from_func(architecture.build(options)?))
    }

    /// A network with its weights from a [folder](Pretrained).
    ///
    /// # Errors
    /// [`ModelError::Pretrained`] if the folder's files are not those of a network that can be built, or do not allow these options.
    pub fn from_pretrained(pretrained: &Pretrained, options: &ArchOptions) -> Result<Self, ModelError> {
        Ok(Self::from_func(pretrained.build(options)?))
    }

    /// The function.
    pub fn func(&self) -> &Func {
        &self.func
    }

    /// The same after all passes, as it is compiled. `after` is told each pass's name and what it made.
    pub fn optimize(self, after: impl FnMut(&str, &Func)) -> Result<Func, ModelError> {
        self.optimize_with(|_| true, after)
    }

    /// The same after those passes that are `wanted`.
    pub(crate) fn optimize_with(
        self,
        wanted: impl Fn(&pass::Pass) -> bool,
        mut after: impl FnMut(&str, &Func),
    ) -> Result<Func, ModelError> {
        Ok(pass::optimize_with(self.func, wanted, |pass, func| after(pass.name, func))?)
    }

    /// Compiles on the threads of a runtime.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if a kernel of the network cannot be compiled or its weights cannot be packed, and
    /// [`ModelError::OutOfMemory`] if there is no memory for its constants. [`ModelError::Pass`], [`ModelError::Operation`] and
    /// [`ModelError::Plan`] are faults of Kiln's.
    pub fn compile(self, runtime: &Runtime) -> Result<Network, ModelError> {
        self.compile_with(runtime, &CompileOptions::default())
    }

    /// [`compile`](Self::compile) with options.
    ///
    /// # Errors
    /// Those of [`compile`](Self::compile).
    pub fn compile_with(self, runtime: &Runtime, options: &CompileOptions<'_>) -> Result<Network, ModelError> {
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        let start = Instant::now();
        let func = self.optimize(|_, _| {})?;
        let passes = start.elapsed();
        let kernels = Kernels::make(&func, runtime, options.progress.unwrap_or(&|_| {}))?;
        let made = start.elapsed();
        let plan = Plan::new(func, runtime, &kernels, Known { before: options.weights, identify: options.identify })?;
        tracing::debug!(?passes, kernels = ?(made - passes), plan = ?(start.elapsed() - made), "network compiled");
        let (requests, kernels) = kernels.into_parts();
        Ok(Network { runtime: runtime.clone(), plan, inputs, outputs, kernels, requests, arenas: Arenas::default() })
    }
}

impl Network {
    /// Names and types of inputs, in calling order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = (&str, &TensorType)> {
        self.inputs.iter().zip(&self.plan.arguments).map(|(name, ty)| (name.as_str(), ty))
    }

    /// Names and types of outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = (&str, &TensorType)> {
        self.outputs.iter().zip(&self.plan.results).map(|(name, (ty, _))| (name.as_str(), ty))
    }

    /// The steps of a call, in order.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepInfo<'_>> {
        steps(&self.plan)
    }

    /// The kernels it runs, each once.
    pub fn kernels(&self) -> &[Arc<Kernel>] {
        &self.kernels
    }

    /// The requests for its kernels, each once: for a pack of them.
    pub fn requests(&self) -> &[(Problem, Options)] {
        &self.requests
    }

    /// Its packed weights, and how many of them come from a [pack](CompileOptions::weights).
    pub fn packed_weights(&self) -> (usize, usize) {
        let weights = &self.plan.weights;
        (weights.len(), weights.iter().filter(|w| w.is_of_pack).count())
    }

    /// Its packed weights, with what a [`WeightsPack`] knows them by.
    pub fn weights(&self) -> impl ExactSizeIterator<Item = (WeightsId, &PackedWeights)> {
        self.plan.weights.iter().map(|w| (w.id, &w.packed))
    }

    /// Writes a [`WeightsPack`] of its packed weights.
    pub fn write_weights(&self, path: impl AsRef<Path>) -> std::io::Result<()> {
        kiln_jit::pack::write_weights(path, self.weights())
    }

    /// The memory that it takes.
    pub fn memory(&self) -> Memory {
        memory(&self.plan, self.kernels.iter().map(|k| k.code_bytes()).sum())
    }

    /// Computes the outputs.
    ///
    /// # Errors
    /// [`ModelError::Input`] if the inputs are not those that [`inputs`](Self::inputs) lists; [`ModelError::Index`] and
    /// [`ModelError::Endless`] if their elements select what is not there, or make a loop run on; [`ModelError::OutOfMemory`] if there is no
    /// memory for the call; and [`ModelError::Kernel`] or [`ModelError::Runtime`] if the runtime cannot do its part.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.run_traced(inputs, |_, _| {})
    }

    /// Computes the outputs where the caller wants them, from inputs where they lie: each is the bytes of its type, dense and
    /// row-major. Neither is copied, if its address is a multiple of the size of its elements, but for results that are an input, a
    /// constant, or a part of something else.
    ///
    /// # Errors
    /// [`ModelError::Input`] and [`ModelError::Output`], before anything is written, if a number or a length is another than
    /// [`inputs`](Self::inputs) and [`outputs`](Self::outputs) say; else those of [`run`](Self::run), after which outputs may be written in
    /// part.
    pub fn run_into(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), ModelError> {
        check_bytes(self.inputs(), inputs.iter().map(|bytes| bytes.len()), |name, expected, found| {
            ModelError::Input { name, expected, found }
        })?;
        check_bytes(self.outputs(), outputs.iter().map(|bytes| bytes.len()), |name, expected, found| {
            ModelError::Output { name, expected, found }
        })?;
        self.plan.call_into(&self.runtime, inputs, outputs, &self.arenas, |_, _| {})
    }

    /// [`run`](Self::run), calling `trace` with the number of each [step](Self::steps) before it (`false`) and after it (`true`).
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_traced(&self, inputs: &[Tensor], trace: impl FnMut(usize, bool)) -> Result<Vec<Tensor>, ModelError> {
        check(self.inputs(), inputs)?;
        self.plan.call(&self.runtime, inputs, &self.arenas, trace)
    }
}

/// The steps of a plan, in order.
pub(crate) fn steps(plan: &Plan) -> impl ExactSizeIterator<Item = StepInfo<'_>> {
    plan.steps.iter().map(|s| StepInfo {
        layer: &s.layer,
        nodes: s.origins.names(),
        text: &s.text,
        op: &s.op,
        ty: &s.ty,
        code: s.code,
        kernel: s.action.kernel(),
        problem: s.action.problem(),
        memory: plan.written(s),
        is_in_place: s.in_place.is_some(),
    })
}

/// The memory that a plan takes, with so many bytes of machine code.
pub(crate) fn memory(plan: &Plan, code: usize) -> Memory {
    Memory {
        arena: plan.placement.bytes,
        peak: plan.placement.peak,
        packed: plan.packed_bytes(),
        constants: plan.constant_bytes(),
        code,
    }
}

/// Fails unless the tensors are those that a network, or a function, takes.
pub(crate) fn check<'a>(
    expected: impl ExactSizeIterator<Item = (&'a str, &'a TensorType)>,
    inputs: &[Tensor],
) -> Result<(), ModelError> {
    let count = expected.len();
    for (at, (name, ty)) in expected.enumerate() {
        match inputs.get(at) {
            Some(given) if given.ty() == ty => {}
            Some(given) => return Err(ModelError::input(name, ty, given.ty())),
            None => return Err(ModelError::input(name, ty, "none")),
        }
    }
    match inputs.get(count) {
        None => Ok(()),
        Some(more) => Err(ModelError::Input {
            name: format!("number {}", count + 1),
            expected: format!("{count} inputs"),
            found: more.ty().to_string(),
        }),
    }
}

/// Fails unless there are as many tensors as expected, with as many bytes each.
fn check_bytes<'a>(
    expected: impl ExactSizeIterator<Item = (&'a str, &'a TensorType)>,
    mut lengths: impl ExactSizeIterator<Item = usize>,
    fail: impl Fn(String, String, String) -> ModelError,
) -> Result<(), ModelError> {
    let (count, found) = (expected.len(), lengths.len());
    if count != found {
        return Err(fail("all".into(), format!("{count} tensors"), found.to_string()));
    }
    for (name, ty) in expected {
        let found = lengths.next().unwrap_or_default();
        if found as u64 != ty.bytes() {
            return Err(fail(name.into(), format!("{ty}, which takes {} bytes", ty.bytes()), format!("{found} bytes")));
        }
    }
    Ok(())
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({} steps, {} kernels, {:?})", self.plan.steps.len(), self.kernels.len(), self.memory())
    }
}

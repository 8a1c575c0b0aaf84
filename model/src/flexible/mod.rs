//! Networks whose sizes are decided by each call: batches, lengths of sequences, sides of images.
//!
//! A [`Flexible`] network compiles its general code once. Sizes that come for the first time cost a plan, which is shapes and
//! places and no machine code; kernels for sizes that come often are compiled in the background
//! ([`Family`](kiln_jit::Family)). Kernels in which several numbers depend on the sizes, such as those of images with two open
//! sides, may be compiled when their sizes come for the first time.
//!
//! Every number of the network, such as an extent of a value, must be linear in each open dimension, or a product of several of
//! them: 8 for each token of each sequence is, the square of a length is not. That is found out by making the network for two
//! sizes of each dimension, in all combinations, and checked at further sizes; a network of which it does not hold is refused.

mod counted;
pub(crate) mod error;
mod number;
mod open_dim;
mod repeated;
mod template;
mod text;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kiln_ir::func::{Tensor, TensorType};
use kiln_ir::{Func, pass};
use kiln_jit::{self as rt, Runtime, RuntimeError};
use kiln_onnx::Bindings;

use crate::error::ModelError;
use crate::lock::lock;
use crate::network::{Bound, Model};
use crate::plan::arena::Arenas;
use crate::plan::{self, Families, Family, Kernels, Plan};
pub use error::FlexibleError;
use number::Number;
pub use open_dim::OpenDim;
use open_dim::OpenDims;
use template::{Draft, Kernel, Template};

/// Plans that are kept; the one that was used least lately goes first.
const PLANS: usize = 32;

/// The pass that is left out. It makes products with a batch of weights, which families read where they are: three calls with packed
/// weights are faster than one such call.
const UNUSED: &str = "merge_products";

/// A compiled network for any sizes of its open dimensions. Shared by threads.
pub struct Flexible {
    runtime: Runtime,
    template: Template,
    kernels: HashMap<usize, Compiled>,
    families: Vec<Arc<rt::Family>>,
    plans: Mutex<Plans>,
    arenas: Arenas,
}

/// The source of a kernel of the network for given sizes.
enum Compiled {
    /// One of a family.
    Member(Member),
    /// The same kernel for all sizes, with its weights.
    Fixed(Arc<rt::Kernel>, Option<rt::PackedWeights>),
    /// A kernel that is compiled for each size by itself, and reads weights where they are.
    Each,
}

/// A kernel of a family for a number that depends on sizes.
struct Member {
    family: Family,
    free: Number,
    /// The number of calls for parts of operands, if there are several, and the operands that are the same for all of them.
    times: Option<(Number, Vec<bool>)>,
}

/// The request that a kernel makes to a family.
struct Wanted {
    pattern: String,
    free: Number,
    times: Option<(Number, Vec<bool>)>,
}

#[derive(Default)]
struct Plans {
    /// Sizes with their plans, those that were used last at the end.
    all: Vec<(Vec<u64>, Arc<Plan>)>,
    made: u64,
}

/// Counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlexibleStats {
    /// Families that kernels are members of.
    pub families: usize,
    /// Bytes of their general code.
    pub general_bytes: usize,
    /// Exact kernels compiled in the background so far.
    pub exact_kernels: u64,
    /// Plans that are kept.
    pub plans: usize,
    /// Plans made so far.
    pub plans_made: u64,
    /// Bytes of memory kept for calls.
    pub arena_bytes: usize,
}

impl Flexible {
    /// Compiles an ONNX file for any sizes of some dimensions. `bindings` have the sizes of the others that the file leaves open.
    ///
    /// ```
    /// use kiln_model::{Bindings, Flexible, Model, OpenDim, Runtime, Tensor};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokens/model.onnx");
    /// let runtime = Runtime::builder().build()?;
    /// let model = Model::from_onnx(path)?;
    /// let dims = [OpenDim::batch(1..=8), OpenDim::sequence(1..=24)];
    /// let network = Flexible::from_model(&runtime, &model, &dims, &Bindings::new())?;
    ///
    /// for (batch, length) in [(1, 7), (3, 20)] {
    ///     let tokens = Tensor::from_elements([batch, length], vec![1i64; (batch * length) as usize])?;
    ///     let mask = tokens.clone();
    ///     let results = network.run(&[tokens, mask])?;
    ///     assert_eq!(results[0].ty().shape()[..2], [batch, length]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_model(
        runtime: &Runtime,
        model: &Model,
        dims: &[OpenDim],
        bindings: &Bindings,
    ) -> Result<Self, ModelError> {
        Self::compile(runtime, dims, |sizes| {
            let bindings = dims.iter().zip(sizes).fold(bindings.clone(), |all, (dim, size)| dim.bind(all, *size));
            model.clone().bind(&bindings)
        })
    }

    /// Compiles a network for any sizes of its open dimensions. `bound` gives it for sizes, in the order of `dims`: it is asked for
    /// two of each, in all combinations, and some more.
    pub fn compile(
        runtime: &Runtime,
        dims: &[OpenDim],
        mut bound: impl FnMut(&[u64]) -> Result<Bound, ModelError>,
    ) -> Result<Self, ModelError> {
        let dims = OpenDims::new(dims)?;
        let mut at = |sizes: &[u64]| -> Result<Func, ModelError> {
            let func = bound(sizes)?.optimize_with(|pass| pass.name != UNUSED, |_, _| {})?;
            Ok(pass::fold_weights(&func)?)
        };
        let mut draft = Draft::new(dims.clone(), at(&dims.corner(0))?)?;
        for corner in 1..1 << dims.len() {
            let sizes = dims.corner(corner);
            draft.add(&sizes, &at(&sizes)?)?;
        }
        let mut template = draft.finish()?;
        for set in template.parts() {
            if let Some(longest) = dims.longest_of(set) {
                template.extend(set, &longest, &at(&longest)?)?;
            }
        }
        for sizes in dims.checks() {
            template.check(&sizes, &at(&sizes)?)?;
        }
        let bases = vec![0; dims.len()];
        let mut wanted: HashMap<usize, Wanted> = HashMap::new();
        // Of each pattern, the calls of it that are one of the network, and the largest number of any.
        let mut patterns: HashMap<String, (u32, u64)> = HashMap::new();
        for (position, _, _, kernel) in template.kernels() {
            let Kernel::Open(text) = kernel else { continue };
            let Some(asked) = Wanted::of(text, &bases) else { continue };
            let most = |number: &Number| dims.extremes().filter_map(|offsets| number.at(&offsets)).max().unwrap_or(1);
            let times = asked.times.as_ref().map_or(1, |(times, _)| most(times));
            let (calls, max) = patterns.entry(asked.pattern.clone()).or_default();
            *calls = calls.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
            *max = most(&asked.free).max(*max);
            wanted.insert(position, asked);
        }
        let mut families = Families::new(runtime);
        let mut kernels = HashMap::new();
        let mut own_weights = HashMap::new();
        for (position, layer, weights, kernel) in template.kernels() {
            let fail = |source| ModelError::Kernel { layer: layer.clone(), source };
            let tensor = template.constant(weights);
            let compiled = match (kernel, wanted.remove(&position)) {
                (Kernel::Open(_), Some(Wanted { pattern, free, times })) => {
                    let (calls, max) = patterns[&pattern];
                    match families.get(&pattern, max, tensor, calls) {
                        Ok(family) => Compiled::Member(Member { family, free, times }),
                        // What is no family, because of its strides say, is compiled for each size by itself.
                        Err(error @ (RuntimeError::Family { .. } | RuntimeError::Compile(_))) => {
                            tracing::info!(layer, pattern, %error, "compiled for each size by itself");
                            Compiled::Each
                        }
                        Err(source) => return Err(fail(source)),
                    }
                }
                (Kernel::Open(_), None) => Compiled::Each,
                (Kernel::Fixed(problem), _) => {
                    let kernel = Kernels::one(runtime, problem, tensor.is_some()).map_err(fail)?;
                    let tensor = tensor.filter(|_| kernel.weights_layout().is_some());
                    let packed = tensor.map(|tensor| plan::pack(runtime, &kernel, tensor));
                    Compiled::Fixed(kernel, packed.transpose().map_err(fail)?)
                }
            };
            let has_own = match &compiled {
                Compiled::Member(member) => member.family.packed.is_some(),
                Compiled::Fixed(_, packed) => packed.is_some(),
                Compiled::Each => false,
            };
            own_weights.extend(has_own.then_some((position, weights)));
            kernels.insert(position, compiled);
        }
        template.release(&own_weights);
        Ok(Flexible {
            runtime: runtime.clone(),
            template,
            kernels,
            families: families.into_all(),
            plans: Mutex::default(),
            arenas: Arenas::default(),
        })
    }

    /// The open dimensions, in the order in which they were given.
    pub fn dims(&self) -> &[OpenDim] {
        self.template.dims().all()
    }

    /// Computes the outputs for inputs of any one size of each open dimension.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        let types: Vec<&TensorType> = inputs.iter().map(Tensor::ty).collect();
        let sizes = self.template.sizes(&types).ok_or_else(|| ModelError::Input {
            name: "all".into(),
            expected: format!("shapes of one size of each open dimension: {}", self.template.dims()),
            found: types.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", "),
        })?;
        self.plan(sizes)?.call(&self.runtime, inputs, &self.arenas, |_, _| {})
    }

    /// Waits until no kernel is waiting to be compiled in the background.
    pub fn wait_for_compilation(&self) {
        self.families.iter().for_each(|family| family.wait_for_compilation());
    }

    /// Counters.
    pub fn stats(&self) -> FlexibleStats {
        let stats: Vec<_> = self.families.iter().map(|f| f.stats()).collect();
        let plans = lock(&self.plans);
        FlexibleStats {
            families: stats.len(),
            general_bytes: stats.iter().map(|s| s.general_bytes).sum(),
            exact_kernels: stats.iter().map(|s| s.exact_kernels).sum(),
            plans: plans.all.len(),
            plans_made: plans.made,
            arena_bytes: self.arenas.bytes(),
        }
    }

    fn plan(&self, sizes: Vec<u64>) -> Result<Arc<Plan>, ModelError> {
        {
            let mut plans = lock(&self.plans);
            if let Some(at) = plans.all.iter().position(|(of, _)| *of == sizes) {
                let found = plans.all.remove(at);
                let plan = Arc::clone(&found.1);
                plans.all.push(found);
                return Ok(plan);
            }
        }
        // Not under the lock: calls of other sizes go on. A plan that two threads make at once is made twice.
        let plan = Arc::new(self.make(&sizes)?);
        let mut plans = lock(&self.plans);
        plans.made += 1;
        plans.all.retain(|(of, _)| *of != sizes);
        plans.all.push((sizes, Arc::clone(&plan)));
        let over = plans.all.len().saturating_sub(PLANS);
        plans.all.drain(..over);
        Ok(plan)
    }

    fn make(&self, sizes: &[u64]) -> Result<Plan, ModelError> {
        let values = self.template.at(sizes)?;
        let offsets = self.template.dims().offsets(sizes);
        // Nobody lists the steps of these plans.
        let texts = vec![String::new(); values.len()];
        Plan::of(&values, texts, self.template.results(), &mut |at, asked| {
            let layer = &values[at].label();
            let plan::Asked::Kernel { problem, .. } = asked else {
                unreachable!("a template has no operations that run functions")
            };
            let number = |number: &Number| number.at(&offsets).expect("the plan has it in its problem");
            Ok(match &self.kernels[&at] {
                Compiled::Member(Member { family, free, times: None }) => {
                    Box::new(family.action(layer, number(free), problem))
                }
                Compiled::Member(Member { family, free, times: Some((times, is_shared)) }) => {
                    Box::new(family.action(layer, number(free), problem).repeated(number(times), is_shared.clone()))
                }
                Compiled::Fixed(kernel, packed) => {
                    Box::new(plan::KernelAction::new(layer, kernel.clone(), packed.clone()))
                }
                Compiled::Each => {
                    let kernel = Kernels::one(&self.runtime, problem, false);
                    let kernel = kernel.map_err(|source| ModelError::Kernel { layer: layer.clone(), source })?;
                    Box::new(plan::KernelAction::new(layer, kernel, None))
                }
            })
        })
    }
}

impl Wanted {
    /// The family of a problem with numbers that depend on sizes; `None` if it is none.
    fn of(text: &text::Text, bases: &[i128]) -> Option<Self> {
        if let [free] = text.numbers()[..] {
            let pattern = text.with(|_| Some("?".into()))?;
            return Some(Wanted { pattern: pattern.trim_matches('"').into(), free: free.clone(), times: None });
        }
        let repeated::Repeated { pattern, free, times, is_shared } = repeated::repeated(text, bases)?;
        Some(Wanted { pattern, free: free.clone(), times: Some((times.clone(), is_shared)) })
    }
}

impl std::fmt::Debug for Flexible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flexible({}, {:?})", self.template.dims(), self.stats())
    }
}

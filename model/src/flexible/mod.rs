//! Networks for any length: of sequences, of batches.
//!
//! A [`Flexible`] network compiles its general code once. A length that comes for the first time costs a plan, which is shapes
//! and places and no machine code; kernels for lengths that come often are compiled in the background
//! ([`Family`](kiln_runtime::Family)).

mod template;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kiln_ir::func::{Tensor, TensorType};
use kiln_ir::{Func, pass};
use kiln_runtime::{self as rt, Runtime, RuntimeError};

use crate::error::ModelError;
use crate::lock::lock;
use crate::network::Bound;
use crate::plan::arena::Arenas;
use crate::plan::{self, Families, Family, Kernels, Plan};
use template::{Kernel, Linear, Template};

/// Plans that are kept; the one that was used least lately goes first.
const PLANS: usize = 32;

/// A network that is not the same for all lengths but for its shapes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlexibleError {
    /// A value is another for other lengths than a linear function of them says.
    #[error("`{layer}`: {why}, so the network is compiled for each length by itself")]
    Shape {
        /// Its name.
        layer: String,
        /// What is wrong.
        why: String,
    },
    /// There is no such length.
    #[error("length {length}: `{layer}` would have no shape")]
    Length {
        /// The length.
        length: u64,
        /// The first value that cannot be.
        layer: String,
    },
    /// The longest length is too short to find out what depends on it.
    #[error("a longest length of {0}: expected at least {LEAST}")]
    Longest(u64),
}

/// The least longest length: half of it and the one below it are two others.
const LEAST: u64 = 6;

/// Families of products with a batch of weights read these where they are, and packed weights are faster than one call in place of
/// three.
const UNUSED: &str = "merge_products";

/// A compiled network for any length up to one. Shared by threads.
pub struct Flexible {
    runtime: Runtime,
    template: Template,
    longest: u64,
    kernels: HashMap<usize, Compiled>,
    families: Vec<Arc<rt::Family>>,
    plans: Mutex<Plans>,
    arenas: Arenas,
}

/// How a kernel of the network is made for a length.
enum Compiled {
    /// One of a family, for a number that depends on the length.
    Member(Family, Linear),
    /// The same kernel for all lengths, with its weights.
    Fixed(Arc<rt::Kernel>, Option<rt::PackedWeights>),
    /// One for each length, which reads weights where they are.
    Each,
}

#[derive(Default)]
struct Plans {
    /// Lengths with their plans, the one that was used last at the end.
    all: Vec<(u64, Arc<Plan>)>,
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
    /// Compiles a network for lengths up to `longest`. `bound` gives it for a length: it is asked for a few.
    pub fn compile(
        runtime: &Runtime,
        longest: u64,
        mut bound: impl FnMut(u64) -> Result<Bound, ModelError>,
    ) -> Result<Self, ModelError> {
        if longest < LEAST {
            return Err(FlexibleError::Longest(longest).into());
        }
        let mut at = |length: u64| -> Result<Func, ModelError> {
            let func = bound(length)?.optimize_with(|pass| pass.name != UNUSED, |_, _| {})?;
            Ok(pass::fold_weights(&func)?)
        };
        let mut template = Template::of((longest, &at(longest)?), (longest - 1, &at(longest - 1)?))?;
        let middle = longest / 2;
        template.check(middle, &at(middle)?)?;
        let mut families = Families::new(runtime);
        let mut kernels = HashMap::new();
        let mut own_weights = HashMap::new();
        let mut layers: HashMap<String, u32> = HashMap::new();
        for (.., kernel) in template.kernels() {
            if let Kernel::Pattern(pattern, _) = kernel {
                *layers.entry(pattern).or_default() += 1;
            }
        }
        for (position, layer, weights, kernel) in template.kernels() {
            let fail = |source| ModelError::Kernel { layer: layer.clone(), source };
            let tensor = template.constant(weights);
            let compiled = match kernel {
                Kernel::Pattern(pattern, number) => {
                    let max = number.at(longest).unwrap_or(longest);
                    match families.get(&pattern, max, tensor, layers[&pattern]) {
                        Ok(family) => Compiled::Member(family, number),
                        // What is no family, because of its batch say, is compiled for each length.
                        Err(error @ (RuntimeError::Family { .. } | RuntimeError::Compile(_))) => {
                            tracing::info!(layer, pattern, %error, "compiled for each length by itself");
                            Compiled::Each
                        }
                        Err(source) => return Err(fail(source)),
                    }
                }
                Kernel::Fixed(problem) => {
                    let kernel = Kernels::one(runtime, problem, tensor.is_some()).map_err(fail)?;
                    let tensor = tensor.filter(|_| kernel.weights_layout().is_some());
                    let packed = tensor.map(|tensor| plan::pack(runtime, &kernel, tensor));
                    Compiled::Fixed(kernel, packed.transpose().map_err(fail)?)
                }
                Kernel::Other => Compiled::Each,
            };
            let has_own = match &compiled {
                Compiled::Member(family, _) => family.packed.is_some(),
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
            longest,
            kernels,
            families: families.into_all(),
            plans: Mutex::default(),
            arenas: Arenas::default(),
        })
    }

    /// The longest length.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// Computes the outputs for inputs of any one length.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        let types: Vec<&TensorType> = inputs.iter().map(Tensor::ty).collect();
        let length = self.template.length(&types).ok_or_else(|| ModelError::Input {
            name: "all".into(),
            expected: format!("shapes of one length up to {}", self.longest),
            found: types.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", "),
        })?;
        self.plan(length)?.call(&self.runtime, inputs, &self.arenas, |_, _| {})
    }

    /// Waits until no kernel is waiting to be compiled in the background.
    pub fn settle(&self) {
        self.families.iter().for_each(|family| family.settle());
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

    fn plan(&self, length: u64) -> Result<Arc<Plan>, ModelError> {
        {
            let mut plans = lock(&self.plans);
            if let Some(at) = plans.all.iter().position(|(l, _)| *l == length) {
                let found = plans.all.remove(at);
                let plan = Arc::clone(&found.1);
                plans.all.push(found);
                return Ok(plan);
            }
        }
        // Not under the lock: calls of other lengths go on. A plan that two threads make at once is made twice.
        let plan = Arc::new(self.make(length)?);
        let mut plans = lock(&self.plans);
        plans.made += 1;
        plans.all.retain(|(l, _)| *l != length);
        plans.all.push((length, Arc::clone(&plan)));
        let over = plans.all.len().saturating_sub(PLANS);
        plans.all.drain(..over);
        Ok(plan)
    }

    fn make(&self, length: u64) -> Result<Plan, ModelError> {
        let values = self.template.at(length)?;
        // Nobody lists the steps of these plans.
        let texts = vec![String::new(); values.len()];
        Plan::of(&values, texts, self.template.results(), &mut |at, asked| {
            let layer = &values[at].label();
            let plan::Asked::Kernel { problem, .. } = asked else {
                unreachable!("a template has no operations that run functions")
            };
            Ok(match &self.kernels[&at] {
                Compiled::Member(family, number) => {
                    let n = number.at(length).expect("the plan has it in its problem");
                    Box::new(family.action(layer, n, problem))
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

impl std::fmt::Debug for Flexible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flexible(up to {}, {:?})", self.longest, self.stats())
    }
}

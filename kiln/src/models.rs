//! Whole networks: compiled to kernels for their contractions, vectorised code for the rest, and one plan of memory.
//!
//! ```
//! use kiln::Runtime;
//! use kiln::models::{ArchOptions, Architecture, Bound};
//!
//! let options = ArchOptions { batch: 1, seq: Some(16) };
//! let bert: Architecture = "bert-tiny".parse()?; // the weights are pseudo-random, and nothing is downloaded
//! let runtime = Runtime::builder().build()?;
//! let network = Bound::from_architecture(bert, &options)?.compile(&runtime)?;
//!
//! let results = network.run(&bert.sample_inputs(&options)?)?;
//! let (name, ty) = network.outputs().next().expect("a network has outputs");
//! assert_eq!((name, ty), ("last_hidden_state", results[0].ty()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Networks with their weights.
pub use kiln_model::arch::{ArchError, ArchOptions, Architecture, UnknownArchitecture};
pub use kiln_model::pretrained::{Pretrained, PretrainedError};
pub use kiln_model::{Bound, ElementType, Func, FuncError, FuncErrorKind, OpError, Tensor, TensorType};

// Compiled networks.
pub use kiln_model::{
    Code, CompileOptions, Flexible, FlexibleError, FlexibleStats, Identify, Memory, ModelError, Network, OpenDim,
    PlanError, PlanFault, Progress, StepInfo,
};

// Networks for other machines.
pub use kiln_model::scaling::{Limit, Lost, Predictor, Row, Scaling, ScalingError, Worst};
pub use kiln_model::{PackedNetwork, PlanOptions, PlannedNetwork, write_networks};

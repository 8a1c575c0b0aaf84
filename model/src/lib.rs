//! Whole networks on Kiln's kernels.
//!
//! ```no_run
//! use kiln_model::{Bindings, Model, Runtime, Tensor};
//!
//! let runtime = Runtime::builder().build()?;
//! let network = Model::from_onnx("net.onnx")?.bind(&Bindings::new().dim("batch", 1))?.compile(&runtime)?;
//! let image = Tensor::from_elements([1, 3, 224, 224], vec![0.5f32; 3 * 224 * 224])?;
//! let results = network.run(&[image])?;
//! println!("{}", results[0].ty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Model`] is a network with its weights, a [`Bound`] one has concrete shapes and is a [`Func`], and a
//! [`Network`] is compiled: kernels for its contractions, vectorised code for the rest, and one plan of memory for all. A
//! [`PlannedNetwork`] is what it would be on another target, and a [`PackedNetwork`] its kernels and weights for another target, to be
//! written to a file.

pub mod arch;
mod error;
mod flexible;
mod lock;
mod network;
pub mod ops;
mod plan;
mod planned;
pub mod pretrained;
pub mod report;
pub mod scaling;

pub use arch::ArchError;
pub use error::ModelError;
pub use flexible::{Flexible, FlexibleError, FlexibleStats, OpenDim};
pub use kiln_ir as ir;
pub use kiln_ir::func::{ElementType, Func, FuncError, FuncErrorKind, OpError, Tensor, TensorType};
pub use kiln_jit as runtime;
pub use kiln_jit::{CompileError, Runtime, RuntimeError};
pub use kiln_onnx as onnx;
pub use kiln_onnx::{Bindings, ImportError, OnnxError};
pub use network::{Bound, CompileOptions, Identify, Memory, Model, Network, StepInfo};
pub use plan::{Code, PlanError, PlanFault, Progress};
pub use planned::{PackedNetwork, PlanOptions, PlannedNetwork, write_networks};

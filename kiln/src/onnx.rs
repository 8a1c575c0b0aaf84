//! Networks in ONNX files.
//!
//! A [`Model`] is what a file says. [`Model::bind`] gives its open dimensions their sizes, and what comes of that is compiled as any
//! other network is; [`Flexible`](crate::models::Flexible) is for dimensions that stay open.

pub use kiln_model::{Bindings, ImportError, Model, OnnxError};
pub use kiln_onnx::{Attribute, Dim, DimRole, Dimension, ElementType, Function, FunctionName, Graph, Node, NodeId};
pub use kiln_onnx::{Refusal, SizeOrigin, Tensor, Value};

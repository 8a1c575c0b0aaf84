//! ONNX models, read and checked: files become [graphs](Graph) of [nodes](Node) and [tensors](Tensor), and these become
//! [functions of tensors](kiln_ir::func::Func), whose shapes are all known.
//!
//! Messages are decoded by their numbers in `onnx.proto` ([ONNX IR specification](https://onnx.ai/onnx/repo-docs/IR.html)).
//! Files are read into memory, or [mapped](Model::map). A file from a stranger is refused with an [`OnnxError`] that names
//! what is wrong: nothing is allocated on the word of a file, no file outside the model's folder is opened, and the depth of
//! graphs in graphs is bounded by the decoder.
//!
//! ```no_run
//! use kiln_onnx::{Bindings, Model};
//!
//! let model = Model::open("resnet50/model.onnx")?;
//! for node in &model.graph.nodes {
//!     println!("{} {:?} -> {:?}", node.op, node.inputs, node.outputs);
//! }
//! let imported = model.import(&Bindings::new().dim("batch", 1))?;
//! println!("{}", imported.func);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod convert;
mod error;
mod graph;
mod import;
mod proto;
mod tensor;
mod testcase;

pub use convert::{ConvertError, NotComputable};
pub use error::OnnxError;
pub use graph::{Attribute, Dim, Function, FunctionName, Graph, Model, Node, OPSETS, Value};
pub use import::{
    Bindings, DimRole, Dimension, ImportError, Imported, NodeId, Operator, Refusal, SizeOrigin, operators, refusals,
    unsupported,
};
pub use tensor::{ElementType, Tensor};
pub use testcase::TestSet;

#[cfg(test)]
mod tests;

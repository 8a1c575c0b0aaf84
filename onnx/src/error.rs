//! The reasons why a model cannot be read.

use std::io;
use std::path::PathBuf;

use kiln_ir::text::clipped;

/// Any failure of reading a model. Names are those in the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The bytes are no ONNX message, or end too early.
    #[error("this is no ONNX file, or only a part of one: {0}")]
    Decode(#[from] prost::DecodeError),
    /// There is no graph.
    #[error("the model has no graph")]
    NoGraph,
    /// The version of the operators is not one that can be read.
    #[error("operator set {version} of domain `{}`: expected {expected}", clipped(domain))]
    Opset {
        /// Empty for ONNX's own.
        domain: String,
        /// The version.
        version: i64,
        /// The values that can be read.
        expected: &'static str,
    },
    /// A tensor is not one.
    #[error("tensor `{}`: {}", clipped(name), clipped(why))]
    Tensor {
        /// Its name; of an attribute's tensor, the attribute's.
        name: String,
        /// The fault.
        why: String,
    },
    /// A value of the graph is not a tensor of a known type.
    #[error("value `{}`: {}", clipped(name), clipped(why))]
    Value {
        /// Its name.
        name: String,
        /// The fault.
        why: String,
    },
    /// A function that the model defines is malformed.
    #[error("function `{function}`: {why}")]
    Function {
        /// Its name.
        function: String,
        /// The fault.
        why: String,
    },
    /// A node is malformed.
    #[error("node `{}` ({}): {}", clipped(node), clipped(op), clipped(why))]
    Node {
        /// Its name, or that of its first output.
        node: String,
        /// Its operation.
        op: String,
        /// The fault.
        why: String,
    },
}

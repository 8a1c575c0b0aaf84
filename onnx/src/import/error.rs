//! Why a model does not become a function.

use kiln_ir::func::{FuncError, Mismatch, OpError, TypeError};

/// A model that cannot be imported. The message says what its author or the caller can do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// A dimension of an input is not known.
    #[error("dimension {axis} of input `{input}` is {}: bind it, with {}", named(name), binding(name, input))]
    Dim {
        /// The input.
        input: String,
        /// Which dimension, from 0.
        axis: usize,
        /// Its name in the model; empty if it has none.
        name: String,
    },
    /// An input whose rank is not known.
    #[error("the model does not say the shape of input `{input}`: bind it, with `Bindings::shape(\"{input}\", ..)`")]
    NoShape {
        /// The input.
        input: String,
    },
    /// What is bound contradicts the model.
    #[error("input `{input}` is bound as {bound}, but {why}")]
    Contradiction {
        /// The input.
        input: String,
        /// Its type or shape as bound.
        bound: String,
        /// What the model has.
        why: String,
    },
    /// Something is bound that the model has not.
    #[error("the model has no {what} `{name}`: it has {}", listed(known))]
    Unbound {
        /// An input or a dimension.
        what: &'static str,
        /// Its name.
        name: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// An input or an initializer that cannot be a tensor.
    #[error("value `{name}`: {why}")]
    Value {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// An operator that is not known.
    #[error(
        "node `{node}`: operator `{op}` of {} in version {opset} is not supported: supported are {supported}",
        domain_text(domain)
    )]
    Op {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The operator's domain; empty for ONNX's own.
        domain: String,
        /// The version of the domain's operators; 0 if the model does not say it.
        opset: i64,
        /// All that are.
        supported: String,
    },
    /// A node that is malformed, or asks for what is not supported.
    #[error("node `{node}` ({op}): {why}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value that decides about shapes is not known at load.
    #[error(
        "node `{node}` ({op}): its {input}, `{value}`, must be known at load, and depends on input `{source_input}`: \
         give one with `Bindings::value(\"{source_input}\", ..)`"
    )]
    NeedsValue {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What the value is to the node.
        input: String,
        /// The value's name in the model.
        value: String,
        /// The model's input that it depends on.
        source_input: String,
    },
    /// The function is not one.
    #[error("the graph: {0}")]
    Func(#[from] FuncError),
}

fn named(name: &str) -> String {
    if name.is_empty() { "not known".into() } else { format!("`{name}`, which is not known") }
}

fn binding(name: &str, input: &str) -> String {
    let shape = format!("`Bindings::shape(\"{input}\", ..)`");
    if name.is_empty() { shape } else { format!("`Bindings::dim(\"{name}\", ..)` or {shape}") }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn domain_text(domain: &str) -> String {
    if domain.is_empty() { "ONNX".into() } else { format!("domain `{domain}`") }
}

/// What is wrong with a node; the node is added by who knows it.
#[derive(Debug)]
pub(super) enum Fault {
    /// In words.
    Why(String),
    /// What the value is to the node, its name, and the input that it depends on.
    Needs { input: String, value: String, source: String },
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Fault::Why(why)
    }
}

impl From<&str> for Fault {
    fn from(why: &str) -> Self {
        Fault::Why(why.into())
    }
}

macro_rules! in_words {
    ($($ty:ty),*) => { $(
        impl From<$ty> for Fault {
            fn from(e: $ty) -> Self {
                Fault::Why(e.to_string())
            }
        }
    )* };
}
in_words!(OpError, Mismatch, TypeError, FuncError);

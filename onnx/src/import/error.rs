//! The reasons why a model does not become a function.

use std::fmt;

use kiln_ir::func::{FuncError, Mismatch, OpError, TypeError};
use kiln_ir::text::{Listed, clipped};

use super::dims::{DimRole, Dimension};
use crate::graph::Node;

/// A model that cannot be imported. The message says what its author or the caller can do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A dimension of an input is not known.
    #[error("{}; the open dimensions are {}", asked(dimension), clipped(&dimensions(all)))]
    Dim {
        /// The dimension.
        dimension: Box<Dimension>,
        /// All that the model leaves open, with the sizes of those that are known.
        all: Vec<Dimension>,
    },
    /// An input whose rank is not known.
    #[error("the model does not say the shape of input `{input}`: bind it, with `Bindings::shape(\"{input}\", ..)`")]
    NoShape {
        /// The input.
        input: String,
    },
    /// A binding contradicts the model.
    #[error("input `{}` is bound as {bound}, but {why}", clipped(input))]
    Contradiction {
        /// The input.
        input: String,
        /// Its type or shape as bound.
        bound: String,
        /// The model's own shape.
        why: String,
    },
    /// Something is bound that the model has not.
    #[error("the model has no {what} `{}`: it has {}", clipped(name), clipped(&listed(known)))]
    Unbound {
        /// An input or a dimension.
        what: &'static str,
        /// Its name.
        name: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// An input or an initializer that cannot be a tensor.
    #[error("value `{}`: {}", clipped(name), clipped(why))]
    Value {
        /// Its name.
        name: String,
        /// The reason.
        why: String,
    },
    /// An operator that is not supported, or that the model's operator set does not have.
    #[error("{at}: this operator is not supported: {why}")]
    Op {
        /// The node.
        at: Box<NodeId>,
        /// A way to mend it.
        why: String,
    },
    /// A node that is malformed, or asks for what is not supported.
    #[error("{at}: {why}")]
    Node {
        /// The node.
        at: Box<NodeId>,
        /// The fault.
        why: String,
    },
    /// A node has an attribute that its operator does not have in this version, or whose meaning is not supported.
    #[error("{at}: attribute `{}` is not supported: {why}", clipped(attribute))]
    Attribute {
        /// The node.
        at: Box<NodeId>,
        /// The attribute.
        attribute: String,
        /// The reason.
        why: String,
    },
    /// A value that decides about shapes is not known at load.
    #[error(
        "{at}: its {input}, `{}`, must be known at load, and depends on input `{1}`: give one with `Bindings::value(\"{1}\", ..)`",
        clipped(value),
        clipped(source_input)
    )]
    NeedsValue {
        /// The node.
        at: Box<NodeId>,
        /// The role of the value in the node.
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

/// Which node of a model an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeId {
    /// Its name, or that of its first output.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The operator's domain; empty for ONNX's own.
    pub domain: String,
    /// The version of the domain's operators; 0 if the model does not say it.
    pub opset: i64,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeId { name, op, domain, opset } = self;
        let [name, op, domain] = [name, op, domain].map(|text| clipped(text));
        match &*domain {
            "" => write!(f, "node `{name}` ({op}, operator set {opset})"),
            domain => write!(f, "node `{name}` ({op} of `{domain}`, version {opset})"),
        }
    }
}

/// A dimension in words, with the means to bind it.
fn asked(dimension: &Dimension) -> String {
    let Dimension { input, axis, name, role, .. } = dimension;
    let [input, name] = [input, name].map(|text| clipped(text));
    let is = if name.is_empty() { "not known".into() } else { format!("`{name}`, which is not known") };
    let by_role = match role {
        Some(DimRole::Batch) => "`Bindings::batch(..)`, ",
        Some(DimRole::Sequence) => "`Bindings::sequence(..)`, ",
        None => "",
    };
    let by_name = if name.is_empty() { String::new() } else { format!("`Bindings::dim(\"{name}\", ..)` or ") };
    let by_shape = format!("`Bindings::shape(\"{input}\", ..)`");
    format!("dimension {axis} of input `{input}` is {is}: bind it, with {by_role}{by_name}{by_shape}")
}

fn dimensions(all: &[Dimension]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { Listed(names).to_string() }
}

/// The fault of a node; the node is added where it is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its operator is not supported: what can be done.
    Op(String),
    /// In words.
    Why(String),
    /// The role of the value in the node, its name, and the input that it depends on.
    Needs { input: String, value: String, source: String },
    /// An attribute that is not supported.
    Attribute { name: String, why: String },
    /// Of another node, which is a part of what this one runs.
    Inner(Box<ImportError>),
}

impl Fault {
    /// The error of a node; `opset` is the version of its operator's domain.
    pub(super) fn of(self, node: &Node, opset: i64) -> ImportError {
        let at = NodeId { name: node.name.clone(), op: node.op.clone(), domain: node.domain.clone(), opset }.into();
        match self {
            Fault::Op(why) => ImportError::Op { at, why: clipped(&why).into() },
            Fault::Why(why) => ImportError::Node { at, why: clipped(&why).into() },
            Fault::Needs { input, value, source: source_input } => {
                ImportError::NeedsValue { at, input, value, source_input }
            }
            Fault::Attribute { name: attribute, why } => {
                ImportError::Attribute { at, attribute, why: clipped(&why).into() }
            }
            Fault::Inner(error) => *error,
        }
    }
}

impl From<ImportError> for Fault {
    fn from(error: ImportError) -> Self {
        Fault::Inner(Box::new(error))
    }
}

impl ImportError {
    /// The same error, of a node in what a node calls.
    pub(super) fn inside(mut self, call: &str) -> Self {
        if let ImportError::Op { at, .. }
        | ImportError::Node { at, .. }
        | ImportError::NeedsValue { at, .. }
        | ImportError::Attribute { at, .. } = &mut self
        {
            at.name = format!("{call}/{}", at.name);
        }
        self
    }
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

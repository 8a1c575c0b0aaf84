//! Models as graphs of nodes, checked: every value is made once, before it is used.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use crate::error::OnnxError;
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::tensor::{ElementType, Files, Tensor, map};

/// Versions of ONNX's own operators that can be read.
pub const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;
/// The same for messages.
const OPSETS_TEXT: &str = "1 to 28";

/// A model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The program that wrote it.
    pub producer: String,
    /// The version of each domain's operators; ONNX's own domain is empty.
    pub opsets: BTreeMap<String, i64>,
    /// What it computes.
    pub graph: Graph,
}

/// Nodes in an order in which they can be executed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Its name.
    pub name: String,
    /// Values that a caller gives, without those that have a value in the model.
    pub inputs: Vec<Value>,
    /// Values that a caller gets.
    pub outputs: Vec<Value>,
    /// Constant values by name.
    pub initializers: HashMap<String, Tensor>,
    /// The operations.
    pub nodes: Vec<Node>,
}

/// A value that goes in or out.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// The type of its elements; of outputs, if the model says it.
    pub dtype: Option<ElementType>,
    /// Its dimensions, if the model says how many.
    pub shape: Option<Vec<Dim>>,
}

/// A dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// So many.
    Known(usize),
    /// To be decided, the same for all with this name. Without a name, of its own.
    Named(String),
}

/// An operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, or that of its first output.
    pub name: String,
    /// Which operation.
    pub op: String,
    /// Of which domain; empty for ONNX's own.
    pub domain: String,
    /// The values it reads; empty where an optional one is left out.
    pub inputs: Vec<String>,
    /// The values it makes; empty where one is not wanted.
    pub outputs: Vec<String>,
    /// Settings by name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// A setting of a node.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the types say it")]
pub enum Attribute {
    Float(f32),
    Int(i64),
    String(Bytes),
    Tensor(Tensor),
    Graph(Box<Graph>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<Bytes>),
}

impl Model {
    /// Reads a file, and those with weights beside it. All are mapped, not copied: they must not be cut off while the model is there.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, OnnxError> {
        let path = path.as_ref();
        let bytes = map(path).map_err(|source| OnnxError::File { path: path.into(), source })?;
        Self::read(bytes, Files::beside(path))
    }

    /// Reads the bytes of a file that has its weights in itself.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Model, OnnxError> {
        Self::read(bytes.into(), Files::default())
    }

    fn read(bytes: Bytes, mut files: Files) -> Result<Model, OnnxError> {
        let proto = ModelProto::decode(bytes)?;
        let mut opsets = BTreeMap::new();
        for import in proto.opset_import {
            let domain = if import.domain == "ai.onnx" { String::new() } else { import.domain };
            if domain.is_empty() && !OPSETS.contains(&import.version) {
                return Err(OnnxError::Opset { domain, version: import.version, expected: OPSETS_TEXT });
            }
            opsets.insert(domain, import.version);
        }
        let graph = proto.graph.ok_or(OnnxError::NoGraph)?;
        let graph = Graph::read(graph, &mut files, &mut HashSet::new())?;
        Ok(Model { producer: proto.producer_name, opsets, graph })
    }
}

impl Graph {
    /// Reads a graph in which some names are `defined` already, and takes its own out again: those of a body are not its node's.
    fn read(proto: GraphProto, files: &mut Files, defined: &mut HashSet<String>) -> Result<Graph, OnnxError> {
        let mut own = vec![];
        let graph = Self::read_within(proto, files, defined, &mut own);
        for name in &own {
            defined.remove(name);
        }
        graph
    }

    /// Adds the names of the graph's own values to `defined` and to `own`.
    fn read_within(
        proto: GraphProto,
        files: &mut Files,
        defined: &mut HashSet<String>,
        own: &mut Vec<String>,
    ) -> Result<Graph, OnnxError> {
        let mut define = |defined: &mut HashSet<String>, name: &str| {
            let is_new = defined.insert(name.to_owned());
            own.extend(is_new.then(|| name.to_owned()));
            is_new
        };
        let mut initializers = HashMap::new();
        for tensor in proto.initializer {
            let name = tensor.name.clone();
            if initializers.insert(name.clone(), files.tensor(tensor)?).is_some() {
                return Err(OnnxError::Tensor { name, why: "there are two of this name".into() });
            }
        }
        // Before the fourth version of the format, initializers were inputs too.
        let inputs = proto.input.into_iter().filter(|value| !initializers.contains_key(&value.name));
        let inputs = inputs.map(Value::read).collect::<Result<Vec<_>, _>>()?;
        let outputs = proto.output.into_iter().map(Value::read).collect::<Result<Vec<_>, _>>()?;
        for name in initializers.keys() {
            define(defined, name);
        }
        for value in &inputs {
            if !define(defined, &value.name) {
                return Err(OnnxError::Value { name: value.name.clone(), why: "it is there already".into() });
            }
        }
        let mut nodes = vec![];
        for node in proto.node {
            let node = Node::read(node, files, defined)?;
            let fail = |why: String| Err(OnnxError::Node { node: node.name.clone(), op: node.op.clone(), why });
            for input in node.inputs.iter().filter(|name| !name.is_empty()) {
                if !defined.contains(input) {
                    return fail(format!("its input `{input}` is not there: nodes must follow what they use"));
                }
            }
            for output in node.outputs.iter().filter(|name| !name.is_empty()) {
                if !define(defined, output) {
                    return fail(format!("its output `{output}` is there already"));
                }
            }
            nodes.push(node);
        }
        for output in &outputs {
            if !defined.contains(&output.name) {
                return Err(OnnxError::Value { name: output.name.clone(), why: "an output that no node makes".into() });
            }
        }
        Ok(Graph { name: proto.name, inputs, outputs, initializers, nodes })
    }
}

impl Value {
    fn read(proto: ValueInfoProto) -> Result<Value, OnnxError> {
        let name = proto.name;
        let Some(tensor) = proto.r#type.and_then(|t| t.tensor_type) else {
            return Ok(Value { name, dtype: None, shape: None });
        };
        let fail = |why: String| OnnxError::Value { name: name.clone(), why };
        let dtype = match tensor.elem_type {
            0 => None,
            number => Some(ElementType::from_number(number).map_err(fail)?),
        };
        // Some exporters write -1 for what is not known.
        let dim = |d: crate::proto::DimensionProto| match d.dim_value.and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Dim::Known(n),
            None => Dim::Named(d.dim_param.unwrap_or_default()),
        };
        let shape = tensor.shape.map(|s| s.dim.into_iter().map(dim).collect());
        Ok(Value { name, dtype, shape })
    }
}

impl Node {
    fn read(proto: NodeProto, files: &mut Files, defined: &mut HashSet<String>) -> Result<Node, OnnxError> {
        let first = || proto.output.first().cloned().unwrap_or_default();
        let name = if proto.name.is_empty() { first() } else { proto.name };
        let domain = if proto.domain == "ai.onnx" { String::new() } else { proto.domain };
        let mut attributes = BTreeMap::new();
        for attribute in proto.attribute {
            let key = attribute.name.clone();
            let fail = |why: String| OnnxError::Node { node: name.clone(), op: proto.op_type.clone(), why };
            let value = Attribute::read(attribute, files, defined)?;
            let value = value.ok_or_else(|| fail(format!("attribute `{key}` has a type that is not supported")))?;
            if attributes.insert(key.clone(), value).is_some() {
                return Err(fail(format!("attribute `{key}` is there twice")));
            }
        }
        let NodeProto { op_type: op, input: inputs, output: outputs, .. } = proto;
        Ok(Node { name, op, domain, inputs, outputs, attributes })
    }
}

impl Attribute {
    /// `None` of an unknown type.
    fn read(
        proto: AttributeProto,
        files: &mut Files,
        defined: &mut HashSet<String>,
    ) -> Result<Option<Attribute>, OnnxError> {
        let type_number = if proto.r#type == 0 { guess(&proto) } else { proto.r#type };
        Ok(Some(match type_number {
            1 => Attribute::Float(proto.f),
            2 => Attribute::Int(proto.i),
            3 => Attribute::String(proto.s),
            4 => match proto.t {
                Some(mut tensor) => {
                    if tensor.name.is_empty() {
                        tensor.name = proto.name;
                    }
                    Attribute::Tensor(files.tensor(tensor)?)
                }
                None => return Ok(None),
            },
            5 => match proto.g {
                Some(graph) => Attribute::Graph(Box::new(Graph::read(graph, files, defined)?)),
                None => return Ok(None),
            },
            6 => Attribute::Floats(proto.floats),
            7 => Attribute::Ints(proto.ints),
            8 => Attribute::Strings(proto.strings),
            _ => return Ok(None),
        }))
    }
}

/// The type of an attribute that does not say it, as files of the first versions do not.
fn guess(proto: &AttributeProto) -> i32 {
    match () {
        () if proto.t.is_some() => 4,
        () if proto.g.is_some() => 5,
        () if !proto.floats.is_empty() => 6,
        () if !proto.ints.is_empty() => 7,
        () if !proto.strings.is_empty() => 8,
        () if !proto.s.is_empty() => 3,
        () if proto.f != 0.0 => 1,
        () => 2,
    }
}

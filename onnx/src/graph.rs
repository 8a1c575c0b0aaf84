//! Models as graphs of nodes, checked: every value is made once, before it is used.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use crate::error::OnnxError;
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};
use crate::tensor::{ElementType, Files, Load, Tensor};

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
    /// The operation that it computes.
    pub graph: Graph,
    /// Operators that the model defines itself.
    pub functions: BTreeMap<FunctionName, Function>,
}

/// The name by which nodes call a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionName {
    /// Its domain; empty for ONNX's own.
    pub domain: String,
    /// Its name, which is the operator of the nodes that call it.
    pub name: String,
    /// Which of several functions of one name; mostly empty.
    pub overload: String,
}

/// An operator that a model defines by nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// Names of the values that it is called with, of which the last may be left out.
    pub inputs: Vec<String>,
    /// Names of the values that it gives.
    pub outputs: Vec<String>,
    /// Names of attributes that it takes, with their values where a caller does not say them.
    pub attributes: BTreeMap<String, Option<Attribute>>,
    /// The version of each domain's operators in it; where it does not say one, the model's.
    pub opsets: BTreeMap<String, i64>,
    /// The operations, each after what it uses.
    pub nodes: Vec<Node>,
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
    /// Which of several functions of the name; mostly empty.
    pub overload: String,
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
    /// The type of a value: that of a tensor's elements, if it is one and says it.
    Type(Option<ElementType>),
    /// The attribute of this name of the function that the node is in; as if it were not there if that has none.
    Reference(String),
}

impl Model {
    /// Reads a file, and those with weights beside it, into memory. They must be regular files.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, OnnxError> {
        Self::load(path.as_ref(), |path| Ok(kiln_files::read(path)?.into()))
    }

    /// Maps a file, and those with weights beside it: weights are not copied, and what is never used is never read. Files must be
    /// regular ones.
    ///
    /// # Safety
    /// As long as the model is there, or anything that has weights of it (tensors, functions that it was imported as, networks that
    /// were compiled from these), nobody writes to one of the files or cuts it off, in this process or another. Replacing a file by
    /// another of its name, or removing it, is fine. Otherwise memory that the program takes for constant changes, and a page that is
    /// gone ends the process with SIGBUS.
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Model, OnnxError> {
        // SAFETY: the caller answers for all files that are loaded for this model, as long as there are bytes of them.
        Self::load(path.as_ref(), |path| unsafe { kiln_files::map(path) })
    }

    fn load(path: &Path, load: Load) -> Result<Model, OnnxError> {
        let bytes = load(path).map_err(|source| OnnxError::File { path: path.into(), source })?;
        Self::read(bytes, Files::beside(path, load))
    }

    /// Reads the bytes of a file that has its weights in itself.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Model, OnnxError> {
        Self::read(bytes.into(), Files::default())
    }

    fn read(bytes: Bytes, mut files: Files) -> Result<Model, OnnxError> {
        let proto = ModelProto::decode(bytes)?;
        let opsets = opsets(proto.opset_import)?;
        let graph = proto.graph.ok_or(OnnxError::NoGraph)?;
        let mut reader = Reader { files: &mut files, defined: HashSet::new(), function: None };
        for value in graph.input.iter().chain(&graph.output) {
            check_is_tensor(value)?;
        }
        let graph = reader.graph(graph)?;
        let mut functions = BTreeMap::new();
        for function in proto.functions {
            let name = FunctionName {
                domain: domain(function.domain.clone()),
                name: function.name.clone(),
                overload: function.overload.clone(),
            };
            let function = reader.function(function)?;
            if functions.insert(name.clone(), function).is_some() {
                let why = "there are two of this name, domain and overload".into();
                return Err(OnnxError::Function { function: name.name, why });
            }
        }
        Ok(Model { producer: proto.producer_name, opsets, graph, functions })
    }
}

/// ONNX's own domain has two names.
fn domain(name: String) -> String {
    if name == "ai.onnx" { String::new() } else { name }
}

fn opsets(imports: Vec<OperatorSetIdProto>) -> Result<BTreeMap<String, i64>, OnnxError> {
    let mut opsets = BTreeMap::new();
    for import in imports {
        let domain = domain(import.domain);
        if domain.is_empty() && !OPSETS.contains(&import.version) {
            return Err(OnnxError::Opset { domain, version: import.version, expected: OPSETS_TEXT });
        }
        opsets.insert(domain, import.version);
    }
    Ok(opsets)
}

/// Reads graphs, and functions, whose names are their own.
struct Reader<'a> {
    files: &'a mut Files,
    /// Names that are taken where it is.
    defined: HashSet<String>,
    /// The attributes of the function that is being read.
    function: Option<HashSet<String>>,
}

impl Reader<'_> {
    /// Reads a graph in which some names are defined already, and takes its own out again: those of a body are not its node's.
    fn graph(&mut self, proto: GraphProto) -> Result<Graph, OnnxError> {
        let mut own = vec![];
        let graph = self.graph_within(proto, &mut own);
        for name in &own {
            self.defined.remove(name);
        }
        graph
    }

    /// True if a name was not taken yet. It is now, and one of `own`.
    fn define(&mut self, name: &str, own: &mut Vec<String>) -> bool {
        let is_new = self.defined.insert(name.to_owned());
        own.extend(is_new.then(|| name.to_owned()));
        is_new
    }

    /// Adds the names of the graph's own values to those that are taken and to `own`.
    fn graph_within(&mut self, proto: GraphProto, own: &mut Vec<String>) -> Result<Graph, OnnxError> {
        let mut initializers = HashMap::new();
        for tensor in proto.initializer {
            let name = tensor.name.clone();
            if initializers.insert(name.clone(), self.files.tensor(tensor)?).is_some() {
                return Err(OnnxError::Tensor { name, why: "there are two of this name".into() });
            }
        }
        // Before the fourth version of the format, initializers were inputs too.
        let inputs = proto.input.into_iter().filter(|value| !initializers.contains_key(&value.name));
        let inputs = inputs.map(Value::read).collect::<Result<Vec<_>, _>>()?;
        let outputs = proto.output.into_iter().map(Value::read).collect::<Result<Vec<_>, _>>()?;
        for name in initializers.keys() {
            self.define(name, own);
        }
        for value in &inputs {
            if !self.define(&value.name, own) {
                return Err(OnnxError::Value { name: value.name.clone(), why: "it is there already".into() });
            }
        }
        let nodes = self.nodes(proto.node, own)?;
        for output in &outputs {
            if !self.defined.contains(&output.name) {
                return Err(OnnxError::Value { name: output.name.clone(), why: "an output that no node makes".into() });
            }
        }
        Ok(Graph { name: proto.name, inputs, outputs, initializers, nodes })
    }

    fn nodes(&mut self, protos: Vec<NodeProto>, own: &mut Vec<String>) -> Result<Vec<Node>, OnnxError> {
        let mut nodes = vec![];
        for node in protos {
            let node = self.node(node)?;
            let fail = |why: String| Err(OnnxError::Node { node: node.name.clone(), op: node.op.clone(), why });
            for input in node.inputs.iter().filter(|name| !name.is_empty()) {
                if !self.defined.contains(input) {
                    return fail(format!("its input `{input}` is not there: nodes must follow what they use"));
                }
            }
            for output in node.outputs.iter().filter(|name| !name.is_empty()) {
                if !self.define(output, own) {
                    return fail(format!("its output `{output}` is there already"));
                }
            }
            nodes.push(node);
        }
        Ok(nodes)
    }

    /// Reads a function, in which no names of the graph are.
    fn function(&mut self, proto: FunctionProto) -> Result<Function, OnnxError> {
        let fail = |why: String| OnnxError::Function { function: proto.name.clone(), why };
        let outside = std::mem::take(&mut self.defined);
        let mut attributes: BTreeMap<String, Option<Attribute>> =
            proto.attribute.iter().map(|name| (name.clone(), None)).collect();
        for attribute in proto.attribute_proto {
            let name = attribute.name.clone();
            let value = self.attribute(attribute)?;
            let value = value.ok_or_else(|| fail(format!("attribute `{name}` has a type that is not supported")))?;
            if attributes.insert(name.clone(), Some(value)).is_some() {
                return Err(fail(format!("attribute `{name}` is there twice")));
            }
        }
        for input in &proto.input {
            if !self.defined.insert(input.clone()) {
                return Err(fail(format!("its input `{input}` is there twice")));
            }
        }
        self.function = Some(attributes.keys().cloned().collect());
        let nodes = self.nodes(proto.node, &mut vec![])?;
        self.function = None;
        let defined = std::mem::replace(&mut self.defined, outside);
        if let Some(output) = proto.output.iter().find(|output| !defined.contains(*output)) {
            return Err(fail(format!("its output `{output}` is not there")));
        }
        let opsets = opsets(proto.opset_import)?;
        Ok(Function { inputs: proto.input, outputs: proto.output, attributes, opsets, nodes })
    }

    fn node(&mut self, proto: NodeProto) -> Result<Node, OnnxError> {
        let first = || proto.output.first().cloned().unwrap_or_default();
        let name = if proto.name.is_empty() { first() } else { proto.name };
        let mut attributes = BTreeMap::new();
        for attribute in proto.attribute {
            let key = attribute.name.clone();
            let fail = |why: String| OnnxError::Node { node: name.clone(), op: proto.op_type.clone(), why };
            let value = if attribute.ref_attr_name.is_empty() {
                self.attribute(attribute)?
                    .ok_or_else(|| fail(format!("attribute `{key}` has a type that is not supported")))?
            } else {
                let of = attribute.ref_attr_name;
                if !self.function.as_ref().is_some_and(|known| known.contains(&of)) {
                    let where_it_is = "which the function that the node is in does not have";
                    return Err(fail(format!("attribute `{key}` is that of the name `{of}`, {where_it_is}")));
                }
                Attribute::Reference(of)
            };
            if attributes.insert(key.clone(), value).is_some() {
                return Err(fail(format!("attribute `{key}` is there twice")));
            }
        }
        let NodeProto { op_type: op, input: inputs, output: outputs, overload, .. } = proto;
        Ok(Node { name, op, domain: domain(proto.domain), overload, inputs, outputs, attributes })
    }

    /// `None` of an unknown type.
    fn attribute(&mut self, proto: AttributeProto) -> Result<Option<Attribute>, OnnxError> {
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
                    Attribute::Tensor(self.files.tensor(tensor)?)
                }
                None => return Ok(None),
            },
            5 => match proto.g {
                Some(graph) => Attribute::Graph(Box::new(self.graph(graph)?)),
                None => return Ok(None),
            },
            6 => Attribute::Floats(proto.floats),
            7 => Attribute::Ints(proto.ints),
            8 => Attribute::Strings(proto.strings),
            13 => {
                let number = proto.tp.and_then(|t| t.tensor_type).map_or(0, |t| t.elem_type);
                Attribute::Type(ElementType::from_number(number).ok())
            }
            _ => return Ok(None),
        }))
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

/// Fails for inputs and outputs of networks that are no tensors. Inside a network, and for functions that operations run, there may be
/// others.
fn check_is_tensor(value: &ValueInfoProto) -> Result<(), OnnxError> {
    let Some(ty) = &value.r#type else { return Ok(()) };
    let found = match () {
        () if ty.sequence_type.is_some() => "a sequence",
        () if ty.optional_type.is_some() => "optional",
        () if ty.map_type.is_some() => "a map",
        () if ty.sparse_tensor_type.is_some() => "a sparse tensor",
        () => return Ok(()),
    };
    let why = format!("it is {found}: inputs and outputs of networks are tensors");
    Err(OnnxError::Value { name: value.name.clone(), why })
}

/// The type of an attribute that does not say it, as files of the first versions do not.
fn guess(proto: &AttributeProto) -> i32 {
    match () {
        () if proto.t.is_some() => 4,
        () if proto.g.is_some() => 5,
        () if proto.tp.is_some() => 13,
        () if !proto.floats.is_empty() => 6,
        () if !proto.ints.is_empty() => 7,
        () if !proto.strings.is_empty() => 8,
        () if !proto.s.is_empty() => 3,
        () if proto.f != 0.0 => 1,
        () => 2,
    }
}

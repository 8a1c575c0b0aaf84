//! Values by name, where a node is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use kiln_ir::func;

use super::error::{Fault, ImportError};
use super::program::{MOST_AXES, Val};
use crate::graph::{Attribute, Graph};
use crate::tensor::Tensor;

/// The thing that a name stands for. Functions of tensors have tensors alone: what sequences and optionals hold is known at load.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Tensor(Val),
    Sequence(Rc<Vec<Item>>),
    Optional(Option<Box<Item>>),
}

impl Item {
    /// Its kind, as messages call it.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Item::Tensor(_) => "a tensor",
            Item::Sequence(_) => "a sequence",
            Item::Optional(_) => "an optional value",
        }
    }

    /// The tensor that it is, as the input of a node.
    pub(super) fn tensor(self, input: usize) -> Result<Val, Fault> {
        match self {
            Item::Tensor(value) => Ok(value),
            other => Err(format!("its input {input} is {}: expected a tensor", other.what()).into()),
        }
    }

    /// All tensors in it, in order.
    pub(super) fn tensors<'a>(&'a self, all: &mut Vec<&'a Val>) {
        match self {
            Item::Tensor(value) => all.push(value),
            Item::Sequence(items) => items.iter().for_each(|item| item.tensors(all)),
            Item::Optional(item) => item.iter().for_each(|item| item.tensors(all)),
        }
    }

    /// The same with other tensors.
    pub(super) fn map(&self, map: &mut impl FnMut(&Val) -> Result<Val, Fault>) -> Result<Item, Fault> {
        Ok(match self {
            Item::Tensor(value) => Item::Tensor(map(value)?),
            Item::Sequence(items) => {
                Item::Sequence(Rc::new(items.iter().map(|item| item.map(map)).collect::<Result<_, _>>()?))
            }
            Item::Optional(None) => Item::Optional(None),
            Item::Optional(Some(item)) => Item::Optional(Some(Box::new(item.map(map)?))),
        })
    }
}

/// The names that nodes may use: the values of a graph or of a function so far.
pub(super) struct Scope<'a> {
    /// Constants of the graph itself, which become values when they are used first.
    initializers: &'a HashMap<String, Tensor>,
    constants: HashMap<String, Val>,
    /// `None` of an input that a call leaves out.
    values: HashMap<String, Option<Item>>,
    /// The version of each domain's operators.
    pub(super) opsets: &'a BTreeMap<String, i64>,
    /// Those of the function that it is in, if it is in one.
    pub(super) attributes: Option<&'a BTreeMap<String, Attribute>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        initializers: &'a HashMap<String, Tensor>,
        values: HashMap<String, Option<Item>>,
        opsets: &'a BTreeMap<String, i64>,
    ) -> Self {
        Scope { initializers, constants: HashMap::new(), values, opsets, attributes: None }
    }

    /// That of a node's graph, which sees `captured` and nothing else from outside.
    pub(super) fn inner<'b>(&self, graph: &'b Graph, captured: &HashMap<String, Option<Item>>) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope {
            initializers: &graph.initializers,
            constants: HashMap::new(),
            values: captured.clone(),
            opsets: self.opsets,
            attributes: self.attributes,
        }
    }

    /// The version of a domain's operators; 0 if the model does not say it.
    pub(super) fn opset(&self, domain: &str) -> i64 {
        let least = if domain.is_empty() { 1 } else { 0 };
        self.opsets.get(domain).copied().unwrap_or(least)
    }

    pub(super) fn set(&mut self, name: &str, item: Item) {
        self.values.insert(name.into(), Some(item));
    }

    /// A value by name; `None` of an input of a function that its caller leaves out.
    pub(super) fn get(&mut self, name: &str) -> Result<Option<Item>, ImportError> {
        // The innermost is meant: an initializer of a graph hides a value around it.
        if let Some(value) = self.constants.get(name) {
            return Ok(Some(Item::Tensor(value.clone())));
        }
        if let Some(tensor) = self.initializers.get(name) {
            let fail = |why: String| ImportError::Value { name: name.into(), why };
            let tensor = func::Tensor::try_from(tensor).map_err(|e| fail(e.to_string()))?;
            if tensor.ty().rank() > MOST_AXES {
                return Err(fail(format!("it has more than {MOST_AXES} dimensions")));
            }
            self.constants.insert(name.into(), Val::Known(tensor.clone()));
            return Ok(Some(Item::Tensor(Val::Known(tensor))));
        }
        match self.values.get(name) {
            Some(item) => Ok(item.clone()),
            None => Err(ImportError::Value { name: name.into(), why: "nothing makes it".into() }),
        }
    }

    /// A tensor by name.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Val, ImportError> {
        let fail = |why: String| ImportError::Value { name: name.into(), why };
        match self.get(name)? {
            Some(Item::Tensor(value)) => Ok(value),
            Some(other) => Err(fail(format!("it is {}: results are tensors", other.what()))),
            None => Err(fail("nothing makes it".into())),
        }
    }

    /// The values of this scope that a graph sees.
    pub(super) fn captured(&mut self, graph: &Graph) -> Result<HashMap<String, Option<Item>>, ImportError> {
        let mut names = BTreeSet::new();
        free(graph, &mut names);
        names.into_iter().map(|name| Ok((name.to_owned(), self.get(name)?))).collect()
    }
}

/// Names that a graph, or one in it, uses and that it has not itself.
fn free<'g>(graph: &'g Graph, found: &mut BTreeSet<&'g str>) {
    let mut own: BTreeSet<&str> = graph.inputs.iter().map(|v| v.name.as_str()).collect();
    own.extend(graph.initializers.keys().map(String::as_str));
    for node in &graph.nodes {
        let mut used: BTreeSet<&str> = node.inputs.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        for value in node.attributes.values() {
            if let Attribute::Graph(inner) = value {
                free(inner, &mut used);
            }
        }
        found.extend(used.into_iter().filter(|name| !own.contains(name)));
        own.extend(node.outputs.iter().map(String::as_str));
    }
    found.extend(graph.outputs.iter().map(|v| v.name.as_str()).filter(|name| !own.contains(name)));
}

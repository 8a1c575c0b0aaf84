//! The import of nodes, and of the functions that they call.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::error::{Fault, ImportError};
use super::node::Ctx;
use super::ops;
use super::program::MOST_AXES;
use super::scope::{Item, Scope};
use super::state::Import;
use crate::graph::{Attribute, Function, FunctionName, Node};

impl<'a> Import<'a> {
    /// Imports nodes in order.
    pub(super) fn nodes(&mut self, scope: &mut Scope<'_>, nodes: &[Node]) -> Result<(), ImportError> {
        nodes.iter().try_for_each(|node| self.node(scope, node))
    }

    fn node(&mut self, scope: &mut Scope<'_>, node: &Node) -> Result<(), ImportError> {
        let node = &*with_attributes(node, scope);
        let opset = scope.opset(&node.domain);
        self.program.set_origin(&node.name);
        let outputs = self.outputs(scope, node, opset).map_err(|fault| fault.of(node, opset))?;
        let has_graph = node.attributes.values().any(|value| matches!(value, Attribute::Graph(_)));
        let is_inlined = has_graph || self.called(node).is_ok_and(|called| called.is_some());
        let mut outputs = outputs.into_iter();
        for (index, output) in node.outputs.iter().enumerate() {
            let item = outputs.next();
            if output.is_empty() {
                continue;
            }
            let fail = |why: String| Fault::Why(why).of(node, opset);
            let item = item.ok_or_else(|| fail(format!("its output {index}, `{output}`, is not supported")))?;
            if let Item::Tensor(value) = &item {
                if self.program.ty(value).rank() > MOST_AXES {
                    return Err(fail(format!("its output {index} has more than {MOST_AXES} dimensions")));
                }
                match is_inlined {
                    true => self.program.rename(value, output),
                    false => self.program.name(value, output),
                }
            }
            scope.set(output, item);
        }
        Ok(())
    }

    /// The items that a node makes.
    fn outputs(&mut self, scope: &mut Scope<'_>, node: &Node, opset: i64) -> Result<Vec<Item>, Fault> {
        if self.depth > 0 {
            self.spend(1)?;
        }
        let mut inputs = vec![];
        for name in &node.inputs {
            inputs.push(if name.is_empty() { None } else { scope.get(name)? });
        }
        if let Some((name, function)) = self.called(node)? {
            return self.call(scope, node, name, function, inputs);
        }
        let (version, import) = ops::find(&node.domain, &node.op, opset).map_err(Fault::Op)?;
        let given = vec![None; inputs.len()];
        let tensors = match import {
            ops::Import::Control(import) => {
                Ctx::new(node, opset, given, &mut self.program).check(version)?;
                return import(self, scope, node, opset, inputs);
            }
            ops::Import::Items(import) => {
                Ctx::new(node, opset, given, &mut self.program).check(version)?;
                return import(self, node, opset, inputs);
            }
            // Whatever it is, it stays that.
            ops::Import::Tensors(_)
                if node.op == "Identity" && !matches!(inputs[..], [None | Some(Item::Tensor(_))]) =>
            {
                Ctx::new(node, opset, given, &mut self.program).check(version)?;
                return inputs.into_iter().map(|item| item.ok_or_else(|| "lacks its input 0".into())).collect();
            }
            ops::Import::Tensors(import) => import,
        };
        let inputs = inputs.into_iter().enumerate().map(|(at, item)| item.map(|item| item.tensor(at)).transpose());
        // Those of other domains that are as ONNX's own are as the last of these.
        let like = if node.domain.is_empty() { opset } else { *crate::OPSETS.end() };
        let mut ctx = Ctx::new(node, like, inputs.collect::<Result<_, _>>()?, &mut self.program);
        ctx.check(version)?;
        let values = tensors(&mut ctx)?;
        ctx.check_all_asked()?;
        Ok(values.into_iter().map(Item::Tensor).collect())
    }

    /// The function that a node calls, if it calls one.
    fn called(&self, node: &Node) -> Result<Option<(&'a FunctionName, &'a Function)>, Fault> {
        if self.model.functions.is_empty() {
            return Ok(None);
        }
        let name = FunctionName { domain: node.domain.clone(), name: node.op.clone(), overload: node.overload.clone() };
        let found = self.model.functions.get_key_value(&name);
        // ONNX leaves open which is meant.
        if found.is_some() && node.domain.is_empty() && ops::is_known(&node.op) {
            let why = "the model defines a function of this name in ONNX's own domain, which has an operator of it";
            return Err(format!("{why}: rename the function, or give it a domain of its own").into());
        }
        Ok(found)
    }

    /// Imports the nodes of a function.
    fn call(
        &mut self,
        scope: &Scope<'_>,
        node: &Node,
        name: &'a FunctionName,
        function: &'a Function,
        inputs: Vec<Option<Item>>,
    ) -> Result<Vec<Item>, Fault> {
        if self.calls.contains(&name) {
            let all: Vec<_> = self.calls.iter().chain([&name]).map(|name| format!("`{}`", name.name)).collect();
            return Err(format!("functions call each other in a circle: {}", all.join(", ")).into());
        }
        if inputs.len() > function.inputs.len() {
            return Err(format!("has {} inputs, its function takes {}", inputs.len(), function.inputs.len()).into());
        }
        if node.outputs.len() > function.outputs.len() {
            let (found, most) = (node.outputs.len(), function.outputs.len());
            return Err(format!("has {found} outputs, its function gives {most}").into());
        }
        if let Some(name) = node.attributes.keys().find(|name| !function.attributes.contains_key(*name)) {
            return Err(format!("has an attribute `{name}`, which its function does not take").into());
        }
        let default = function.attributes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        let mut attributes: BTreeMap<String, Attribute> = default.collect();
        attributes.extend(node.attributes.clone());
        let opsets = scope.opsets.iter().chain(&function.opsets).map(|(domain, of)| (domain.clone(), *of)).collect();
        let given = inputs.into_iter().chain(std::iter::repeat(None));
        let values = function.inputs.iter().cloned().zip(given).collect();
        let initializers = HashMap::new();
        let mut inner = Scope::new(&initializers, values, &opsets);
        inner.attributes = Some(&attributes);
        self.calls.push(name);
        let result = self.within(|import| {
            import.nodes(&mut inner, &function.nodes).map_err(|error| error.inside(&node.name))?;
            let outputs = function.outputs.iter().map(|output| {
                let item = inner.get(output)?;
                item.ok_or_else(|| Fault::Why(format!("its output `{output}` is an input that is left out")))
            });
            outputs.collect()
        });
        self.calls.pop();
        result
    }
}

/// The node with the attributes of the function that it is in, where it refers to those.
fn with_attributes<'n>(node: &'n Node, scope: &Scope<'_>) -> Cow<'n, Node> {
    if !node.attributes.values().any(|value| matches!(value, Attribute::Reference(_))) {
        return Cow::Borrowed(node);
    }
    let resolved = |(name, value): (&String, &Attribute)| match value {
        Attribute::Reference(of) => {
            let value = scope.attributes.and_then(|attributes| attributes.get(of));
            value.map(|value| (name.clone(), value.clone()))
        }
        _ => Some((name.clone(), value.clone())),
    };
    let attributes = node.attributes.iter().filter_map(resolved).collect();
    Cow::Owned(Node {
        name: node.name.clone(),
        op: node.op.clone(),
        domain: node.domain.clone(),
        overload: node.overload.clone(),
        inputs: node.inputs.clone(),
        outputs: node.outputs.clone(),
        attributes,
    })
}

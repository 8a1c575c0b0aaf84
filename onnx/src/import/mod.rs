//! Checked graphs as functions of tensors.
//!
//! Every node becomes a few operations of [`Func`]. Shapes are numbers: what a model leaves open is [bound](Bindings) first.
//! Nodes whose inputs are known are computed at once, so that what computes shapes is not in the function; so are those that
//! depend on a value that the caller promises, where another node must know it.
//!
//! To add an operator: a function in the file of its kind, and a row in that file's table.

mod bind;
mod build;
mod error;
mod name;
mod node;
mod ops;
mod program;
mod schema;

use std::collections::HashMap;

use kiln_ir::func::{Def, Func, Tensor, ValueId};

pub use bind::Bindings;
pub use error::{ImportError, NodeId};
pub use ops::{Operator, Refusal, operators, refusals, unsupported};

use crate::graph::{Graph, Model, Node};
use error::Fault;
use name::Names;
use node::Ctx;
use program::{MOST_AXES, Program, Val};

/// A model as a function. Its arguments and results are the model's inputs and outputs, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The function. Values have the model's names, as far as these are words.
    pub func: Func,
    /// The model's names of the arguments.
    pub inputs: Vec<String>,
    /// The model's names of the results.
    pub outputs: Vec<String>,
}

impl Model {
    /// The function that the model's graph is, with what is bound.
    pub fn import(&self, bindings: &Bindings) -> Result<Imported, ImportError> {
        let graph = &self.graph;
        let inputs = bindings.resolve(&graph.inputs)?;
        let mut names = Names::default();
        let mut builder = Func::builder("draft");
        let (mut values, mut bound) = (HashMap::new(), HashMap::new());
        for input in inputs {
            let id = builder.arg(&names.unique(&input.name), input.ty)?;
            values.insert(input.name, Val::Dynamic(id));
            bound.extend(input.value.map(|tensor| (id, tensor)));
        }
        let inputs: Vec<_> = graph.inputs.iter().map(|v| v.name.clone()).collect();
        let mut import = Import {
            program: Program::new(builder, inputs.clone(), bound),
            graph,
            opset: self.opsets.get("").copied().unwrap_or(1),
            domains: &self.opsets,
            values,
            named: HashMap::new(),
        };
        for node in &graph.nodes {
            import.node(node)?;
        }
        let mut results = vec![];
        for output in &graph.outputs {
            let value = import.value(&output.name)?;
            results.push(import.program.id(&value));
        }
        let outputs = graph.outputs.iter().map(|v| v.name.clone()).collect();
        let draft = import.program.into_builder().finish_all(&results)?;
        Ok(Imported { func: tidy(&draft, &graph.name, &import.named, names)?, inputs, outputs })
    }
}

struct Import<'a> {
    program: Program,
    graph: &'a Graph,
    opset: i64,
    domains: &'a std::collections::BTreeMap<String, i64>,
    values: HashMap<String, Val>,
    /// The model's name of a value of the function.
    named: HashMap<ValueId, String>,
}

impl Import<'_> {
    /// A value by name; an initializer becomes one when it is used first.
    fn value(&mut self, name: &str) -> Result<Val, ImportError> {
        if let Some(value) = self.values.get(name) {
            return Ok(value.clone());
        }
        let fail = |why: String| ImportError::Value { name: name.into(), why };
        let tensor = self.graph.initializers.get(name).ok_or_else(|| fail("nothing makes it".into()))?;
        let tensor = Tensor::try_from(tensor).map_err(|e| fail(e.to_string()))?;
        if tensor.ty().rank() > MOST_AXES {
            return Err(fail(format!("it has more than {MOST_AXES} dimensions")));
        }
        self.values.insert(name.into(), Val::Known(tensor.clone()));
        Ok(Val::Known(tensor))
    }

    fn node(&mut self, node: &Node) -> Result<(), ImportError> {
        let opset =
            self.domains.get(&node.domain).copied().unwrap_or(if node.domain.is_empty() { self.opset } else { 0 });
        let found = ops::find(&node.domain, &node.op, opset);
        let (version, import) = found.map_err(|why| Fault::Op(why).of(node, opset))?;
        let mut inputs = vec![];
        for name in &node.inputs {
            inputs.push(if name.is_empty() { None } else { Some(self.value(name)?) });
        }
        // Those of other domains that are as ONNX's own are as the last of these.
        let like = if node.domain.is_empty() { opset } else { *crate::OPSETS.end() };
        let mut ctx = Ctx::new(node, like, inputs, &mut self.program);
        ctx.program.set_origin(&node.name);
        let mut outputs = || {
            ctx.check(version)?;
            let outputs = import(&mut ctx)?;
            ctx.check_all_asked()?;
            Ok::<_, Fault>(outputs)
        };
        let mut outputs = outputs().map_err(|fault| fault.of(node, opset))?.into_iter();
        for (index, output) in node.outputs.iter().enumerate() {
            let value = outputs.next();
            if output.is_empty() {
                continue;
            }
            let fail = |why: String| Fault::Why(why).of(node, opset);
            let value = value.ok_or_else(|| fail(format!("its output {index}, `{output}`, is not supported")))?;
            if self.program.ty(&value).rank() > MOST_AXES {
                return Err(fail(format!("its output {index} has more than {MOST_AXES} dimensions")));
            }
            if let Val::Dynamic(id) = value {
                self.named.entry(id).or_insert_with(|| output.clone());
            }
            self.values.insert(output.clone(), value);
        }
        Ok(())
    }
}

/// The function without what its results do not depend on, with the model's names.
fn tidy(draft: &Func, name: &str, named: &HashMap<ValueId, String>, mut names: Names) -> Result<Func, ImportError> {
    let mut is_used = vec![false; draft.values().len()];
    for id in draft.results() {
        is_used[id.index()] = true;
    }
    for (id, value) in draft.values().rev() {
        if is_used[id.index()] {
            value.operands().iter().for_each(|o| is_used[o.index()] = true);
        }
    }
    let mut builder = Func::builder(&name::word(name));
    let mut moved: HashMap<ValueId, ValueId> = HashMap::new();
    for (id, value) in draft.values() {
        let new = match &value.def {
            Def::Argument => builder.arg(&value.name, value.ty.clone())?,
            _ if !is_used[id.index()] => continue,
            Def::Constant(_) => builder.constant(&draft.constant(id).expect("it is one")),
            Def::Result { op, operands } => {
                let operands: Vec<_> = operands.iter().map(|o| moved[o]).collect();
                builder.set_origins(value.origins.clone());
                match named.get(&id) {
                    Some(name) => builder.push_named(&names.unique(name), op.clone(), &operands)?,
                    None => builder.push(op.clone(), &operands)?,
                }
            }
        };
        moved.insert(id, new);
    }
    let results: Vec<_> = draft.results().iter().map(|id| moved[id]).collect();
    Ok(builder.finish_all(&results)?)
}

#[cfg(test)]
mod tests;

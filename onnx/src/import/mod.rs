//! Checked graphs as functions of tensors.
//!
//! Every node becomes a few operations of [`Func`]. Shapes are numbers: what a model leaves open is [bound](Bindings) first.
//! Nodes whose inputs are known are computed at once, so that what computes shapes is not in the function; so are those that
//! depend on a value that the caller promises, where another node must know it.
//!
//! To add an operator: a function in the file of its kind, and a row in that file's table.

mod bind;
mod build;
mod control;
mod dims;
mod error;
mod name;
mod node;
mod nodes;
mod ops;
mod program;
mod resolve;
mod schema;
mod scope;
mod sequence;
mod state;
mod tidy;

use std::collections::HashMap;

use kiln_ir::func::Func;

pub use bind::Bindings;
pub use dims::{DimRole, Dimension, SizeOrigin};
pub use error::{ImportError, NodeId};
pub use ops::{Operator, Refusal, operators, refusals, unsupported};

use crate::graph::Model;
use name::Names;
use program::{Program, Val};
use scope::{Item, Scope};
use state::{Import, MOST_NODES};
use tidy::tidy;

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
            values.insert(input.name, Some(Item::Tensor(Val::Dynamic(id))));
            bound.extend(input.value.map(|tensor| (id, tensor)));
        }
        let inputs: Vec<_> = graph.inputs.iter().map(|v| v.name.clone()).collect();
        let program = Program::new(builder, inputs.clone(), bound);
        let mut import = Import { model: self, program, calls: vec![], depth: 0, left: MOST_NODES };
        let mut scope = Scope::new(&graph.initializers, values, &self.opsets);
        import.nodes(&mut scope, &graph.nodes)?;
        let mut results = vec![];
        for output in &graph.outputs {
            let value = scope.tensor(&output.name)?;
            results.push(import.program.id(&value));
        }
        let outputs = graph.outputs.iter().map(|v| v.name.clone()).collect();
        let (draft, named) = import.program.finish(&results)?;
        Ok(Imported { func: tidy(&draft, &graph.name, &named, names)?, inputs, outputs })
    }
}

#[cfg(test)]
mod tests;

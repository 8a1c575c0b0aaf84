//! The state of an import.

use super::error::Fault;
use super::program::Program;
use crate::graph::{FunctionName, Model};

/// Nodes that functions and the trips of loops may become beside those of the graph itself: a small file may ask for any number.
pub(super) const MOST_NODES: usize = 1 << 18;
/// Graphs and functions within each other: the import calls itself for each.
const DEEPEST: usize = 64;

/// An import under way.
pub(super) struct Import<'a> {
    pub(super) model: &'a Model,
    pub(super) program: Program,
    /// The functions that are being imported, each called by the one before.
    pub(super) calls: Vec<&'a FunctionName>,
    /// Graphs and functions that the nodes which are being imported are in, beside the model's graph.
    pub(super) depth: usize,
    /// Nodes that may still be imported inside of functions and graphs of nodes.
    pub(super) left: usize,
}

impl Import<'_> {
    /// Takes nodes from those that may still be imported.
    pub(super) fn spend(&mut self, nodes: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(nodes).ok_or_else(|| {
            let all = "what functions, loops and sequences become";
            format!("{all} has more than {MOST_NODES} nodes, which is more than Kiln imports")
        })?;
        Ok(())
    }

    /// Goes into a graph or a function of a node, and out again.
    pub(super) fn within<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == DEEPEST {
            return Err(format!("graphs and functions are within each other, more than {DEEPEST} of them").into());
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }
}

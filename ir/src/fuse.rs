//! Fusion: a tensor function as one kernel.
//!
//! What [passes](crate::pass) make of the function is a kernel if it can be one: a contraction with what is applied to its result
//! while that is in registers. Reshapes move nothing and are no hindrance.

use crate::func::{Def, Func, FuncError, Structured, TensorOp, ValueId};
use crate::pass::optimize;
use crate::problem::Problem;

/// The kernel that a function is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// What it computes.
    pub problem: Problem,
    /// Arguments of the function, in the order of the problem's operands; without the result.
    pub operands: Vec<ValueId>,
}

/// A function that is not one kernel. Values are named as the optimized function prints them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FuseError {
    /// No kernel applies an operation.
    #[error("no kernel applies `{statement}`; {SUPPORTED}")]
    Unfusable {
        /// The operation as text.
        statement: String,
    },
    /// The kernel reads something else than arguments.
    #[error(
        "{value} is not an argument of the function, and `{statement}` reads it: a kernel's operands are arguments"
    )]
    Operand {
        /// The value.
        value: String,
        /// The kernel as text.
        statement: String,
    },
    /// The function returns several values.
    #[error("@{func} returns {results} values: a kernel has one result")]
    Results {
        /// The function's name.
        func: String,
        /// Values returned.
        results: usize,
    },
    /// The function is not a single kernel.
    #[error("@{func} is {} kernels, expected one{}", kernels.len(), list(kernels))]
    NotOne {
        /// The function's name.
        func: String,
        /// The result and the problem of each kernel.
        kernels: Vec<(String, Problem)>,
    },
    /// A pass failed.
    #[error(transparent)]
    Pass(Box<FuncError>),
}

const SUPPORTED: &str = "a kernel is a `matmul` or a `conv` of f32, bf16 or f16 without dimensions of 0, and what is applied to each element \
                         of its result that nothing else reads: activations, numbers, and sums and products with tensors";

fn list(kernels: &[(String, Problem)]) -> String {
    kernels
        .iter()
        .enumerate()
        .map(|(i, (value, problem))| format!("{} {value} = {problem}", if i == 0 { ":" } else { "," }))
        .collect()
}

/// The kernel that the whole function is.
pub fn fuse_single(func: &Func) -> Result<Fused, FuseError> {
    if func.results().len() > 1 {
        return Err(FuseError::Results { func: func.name().into(), results: func.results().len() });
    }
    let func = optimize(func.clone(), |_, _| {}).map_err(|e| FuseError::Pass(Box::new(e)))?;
    let mut kernels = vec![];
    for (id, value) in func.values() {
        match &value.def {
            Def::Result { op: TensorOp::Structured(Structured::Kernel { problem }), operands } => {
                kernels.push((id, &**problem, operands));
            }
            Def::Argument
            | Def::Constant(_)
            | Def::Result { op: TensorOp::Structured(Structured::Reshape { .. }), .. } => {}
            Def::Result { .. } => return Err(FuseError::Unfusable { statement: func.statement(id) }),
        }
    }
    let &[(id, problem, operands)] = &kernels[..] else {
        let named = |(id, problem, _): &(ValueId, &Problem, _)| (func.value(*id).to_string(), (*problem).clone());
        return Err(FuseError::NotOne { func: func.name().into(), kernels: kernels.iter().map(named).collect() });
    };
    let argument = |operand: &ValueId| {
        let mut at = *operand;
        while let Def::Result { operands, .. } = &func.value(at).def {
            at = operands[0];
        }
        match func.value(at).def {
            // Passes keep arguments, which come first.
            Def::Argument => Ok(at),
            _ => Err(FuseError::Operand { value: func.value(at).to_string(), statement: func.statement(id) }),
        }
    };
    Ok(Fused { problem: problem.clone(), operands: operands.iter().map(argument).collect::<Result<_, _>>()? })
}

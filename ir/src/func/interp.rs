//! The meaning of a function.

use std::collections::HashMap;

use super::op::{Control, TensorOp, View};
use super::types::TensorType;
use super::{Def, Func};

/// Arguments that a function does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpretError {
    /// Wrong number of arguments.
    #[error("@{func} takes {expected} argument(s), found {found}")]
    Count {
        /// The function's name.
        func: String,
        /// Arguments it takes.
        expected: usize,
        /// Arguments given.
        found: usize,
    },
    /// An argument has more or fewer elements than its type.
    #[error("argument %{name} is {}, {} element(s): found {found}", ty.brief(), ty.elements())]
    Length {
        /// The argument's name.
        name: String,
        /// Its type.
        ty: TensorType,
        /// Elements given.
        found: usize,
    },
    /// A loop does not end.
    #[error("the loop of @{func} did not end after {trips} trips")]
    Endless {
        /// The name of the function that it runs.
        func: String,
        /// How often it did.
        trips: u64,
    },
}

impl Func {
    /// The elements of the results, row-major: the reference that compiled code is compared with.
    ///
    /// Arguments are in order, row-major and exactly as long as their types. Every operation is evaluated in double
    /// precision on unrounded operands, sums in ascending order of their index, without fusing or vectors; floating-point
    /// numbers are rounded to a type only where they are cast to it, and integers wrap around as their types do. All values
    /// are held at once: it is for tests, not for speed.
    pub fn interpret_f64(&self, arguments: &[&[f64]]) -> Result<Vec<Vec<f64>>, InterpretError> {
        let expected = self.arguments().count();
        if arguments.len() != expected {
            return Err(InterpretError::Count { func: self.name.clone(), expected, found: arguments.len() });
        }
        for ((_, value), data) in self.arguments().zip(arguments) {
            if data.len() as u64 != value.ty.elements() {
                let (name, ty) = (value.name.clone(), value.ty.clone());
                return Err(InterpretError::Length { name, ty, found: data.len() });
            }
        }
        let mut tensors: Vec<Vec<f64>> = Vec::with_capacity(self.values.len());
        // What operations with several results gave, after the first.
        let mut others: HashMap<usize, Vec<Vec<f64>>> = HashMap::new();
        for (id, value) in self.values() {
            tensors.push(match &value.def {
                Def::Argument => arguments[id.0].to_vec(),
                Def::Constant(_) => self.constant(id).expect("it is one").to_f64(),
                Def::Result { op, operands } => {
                    let views: Vec<_> =
                        operands.iter().map(|&o| View { ty: &self.value(o).ty, data: &tensors[o.0] }).collect();
                    match op {
                        TensorOp::Control(Control::Output { index, .. }) => {
                            others[&operands[0].0][*index as usize - 1].clone()
                        }
                        TensorOp::Control(op) => {
                            let mut results = op.evaluate(&views)?;
                            let first = results.remove(0);
                            others.insert(id.0, results);
                            first
                        }
                        _ => op.evaluate(&views, &value.ty),
                    }
                }
            });
        }
        Ok(self.results.iter().map(|id| tensors[id.0].clone()).collect())
    }
}

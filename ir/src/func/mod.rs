//! Tensor functions: the first stage, a straight-line program of tensor operations in static single assignment form.
//!
//! ```text
//! func @linear(%x: f32[128x768], %w: f32[768x3072], %b: f32[3072]) -> f32[128x3072] {
//!   %0 = matmul %x, %w
//!   %1 = add %0, %b
//!   %2 = relu %1
//!   return %2
//! }
//! ```
//!
//! A [`Func`] is made by a [`Builder`] or from text, and in both ways the type of every value is inferred and checked
//! as the value is added: a `Func` that exists is well-typed. Tensors are dense and row-major. Its meaning is
//! [`interpret_f64`](Func::interpret_f64).
//!
//! ```
//! use kiln_ir::func::{Func, TensorOp, TensorType};
//! use kiln_ir::{DType, fuse};
//!
//! let mut b = Func::builder("linear");
//! let x = b.arg("x", TensorType::new(DType::F32, [1, 2])?)?;
//! let w = b.arg("w", TensorType::new(DType::F32, [2, 2])?)?;
//! let product = b.push(TensorOp::Matmul, &[x, w])?;
//! let result = b.push(TensorOp::Relu, &[product])?;
//! let func = b.finish(result)?;
//!
//! assert_eq!(func.to_string().parse::<Func>()?, func);
//! assert_eq!(func.interpret_f64(&[&[1.0, 2.0], &[3.0, -1.0, 1.0, 0.0]])?, [5.0, 0.0]);
//! assert_eq!(fuse::fuse_single(&func)?.problem.to_string(), "matmul f32 1x2:2x2 +relu");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Text: blanks and newlines are free, except that an operation ends its line; `#` and `//` begin comments. Values are
//! named (`%x`) or numbered (`%7`). Names are kept; numbers are not: a `Func` prints with its unnamed values numbered
//! from 0 in order. Arguments are always named.

mod builder;
mod error;
mod interp;
mod op;
mod parse;
mod types;

use std::fmt;

pub use builder::Builder;
pub use error::{FuncError, FuncErrorKind};
pub use interp::InterpretError;
pub use op::{Mismatch, OpError, TensorOp};
pub use types::{TensorType, TypeError};

/// A value of one function: an argument or the result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(usize);

impl ValueId {
    /// Position among the values of its function: arguments first, then results, in order.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    /// The name without its `%`: a word, or the number of an unnamed result.
    pub name: String,
    /// The type.
    pub ty: TensorType,
    /// Where it comes from.
    pub def: Def,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Def {
    /// The caller.
    Argument,
    /// An operation.
    Result {
        /// The operation.
        op: TensorOp,
        /// Its operands, all defined earlier.
        operands: Vec<ValueId>,
    },
}

impl Value {
    /// The values it is computed from; none for an argument.
    pub fn operands(&self) -> &[ValueId] {
        match &self.def {
            Def::Argument => &[],
            Def::Result { operands, .. } => operands,
        }
    }
}

impl fmt::Display for Value {
    /// The name with its `%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.name)
    }
}

/// A well-typed tensor function with one result. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Func {
    name: String,
    values: Vec<Value>,
    result: ValueId,
}

impl Func {
    /// A function of this name, to be filled.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// The name without its `@`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All values, in order of definition.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (ValueId, &Value)> + DoubleEndedIterator {
        self.values.iter().enumerate().map(|(i, v)| (ValueId(i), v))
    }

    /// The arguments, in calling order.
    pub fn arguments(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values().take_while(|(_, v)| v.def == Def::Argument)
    }

    /// One value.
    ///
    /// # Panics
    /// If `id` is of another function with more values.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The value returned.
    pub fn result(&self) -> ValueId {
        self.result
    }

    /// A result's line of text, for example `%1 = add %0, %b`; an argument's declaration, for example `%x: f32[2x3]`.
    pub fn statement(&self, id: ValueId) -> String {
        let value = self.value(id);
        match &value.def {
            Def::Argument => format!("{value}: {}", value.ty),
            Def::Result { op, operands } => {
                let operands: Vec<_> = operands.iter().map(|&o| self.value(o).to_string()).collect();
                format!("{value} = {op} {}", operands.join(", "))
            }
        }
    }
}

impl fmt::Display for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<_> = self.arguments().map(|(id, _)| self.statement(id)).collect();
        let result = self.value(self.result);
        writeln!(f, "func @{}({}) -> {} {{", self.name, arguments.join(", "), result.ty)?;
        for (id, _) in self.values().skip(arguments.len()) {
            writeln!(f, "  {}", self.statement(id))?;
        }
        writeln!(f, "  return {result}\n}}")
    }
}

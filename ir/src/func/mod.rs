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
//! [`interpret_f64`](Func::interpret_f64). Constants have their elements with them; operations their settings, in braces after
//! the operands (`%1 = softmax %0 {axis=1}`).
//!
//! ```
//! use kiln_ir::func::{Func, Structured, TensorType, Unary};
//! use kiln_ir::{DType, fuse};
//!
//! let mut b = Func::builder("linear");
//! let x = b.arg("x", TensorType::new(DType::F32, [1, 2])?)?;
//! let w = b.arg("w", TensorType::new(DType::F32, [2, 2])?)?;
//! let product = b.push(Structured::Matmul {}, &[x, w])?;
//! let result = b.push(Unary::Relu {}, &[product])?;
//! let func = b.finish(result)?;
//!
//! assert_eq!(func.to_string().parse::<Func>()?, func);
//! assert_eq!(func.interpret_f64(&[&[1.0, 2.0], &[3.0, -1.0, 1.0, 0.0]])?, [[5.0, 0.0]]);
//! assert_eq!(fuse::fuse_single(&func)?.problem.to_string(), "matmul f32 1x2:2x2 +relu");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Branches and loops are [operations](Control) that run functions, which see nothing but their arguments and stand in the
//! settings:
//!
//! ```text
//!   %y = scan %x {trips=3 states=1 backward=[] body=func @body(%i: i64[], %h: f32[2]) -> f32[2] {
//!     %0 = add %h, %h
//!     return %0
//!   }}
//! ```
//!
//! Text: blanks and newlines are free, except that an operation ends its line; `#` and `//` begin comments. Values are
//! named (`%x`) or numbered (`%7`). Names are kept; numbers are not: a `Func` prints with its unnamed values numbered
//! from 0 in order. Arguments are always named.

mod budget;
mod builder;
mod element;
mod error;
mod interp;
mod op;
mod ordered;
mod origins;
mod parse;
pub mod sampling;
mod tensor;
mod types;

use std::fmt;

pub use budget::Budget;
pub use builder::Builder;
pub use element::{ElementType, Real, UnknownElementType};
pub use error::{FuncError, FuncErrorKind};
pub use interp::InterpretError;
pub use op::{
    Binary, Control, Merge, Mismatch, OpError, Outside, PadMode, PoolKind, ReduceKind, Sampling, SettingError, Strided,
    Structured, TensorOp, Unary,
};
pub use ordered::Order;
pub use origins::Origins;
pub use tensor::{Element, Tensor, WrongLength};
pub use types::{TensorType, TypeError};

pub(crate) use op::broadcast;

use bytes::Bytes;

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
    /// The nodes of a model that it was made of.
    pub origins: Origins,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Def {
    /// The caller.
    Argument,
    /// The function itself: its elements, row-major, as [`Tensor::data`] has them.
    Constant(Bytes),
    /// An operation.
    Result {
        /// The operation.
        op: TensorOp,
        /// Its operands, all defined earlier.
        operands: Vec<ValueId>,
    },
}

impl Value {
    /// What people know it by: the nodes that it was made of, or its name where there are none.
    pub fn label(&self) -> String {
        if self.origins.is_empty() { self.name.clone() } else { self.origins.to_string() }
    }

    /// The elements of a constant; `None` of other values.
    pub fn constant(&self) -> Option<Tensor> {
        let Def::Constant(data) = &self.def else { return None };
        Tensor::new(self.ty.clone(), data.clone()).ok()
    }

    /// The values it is computed from; none for an argument.
    pub fn operands(&self) -> &[ValueId] {
        match &self.def {
            Def::Argument | Def::Constant(_) => &[],
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

/// A well-typed tensor function. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Func {
    name: String,
    values: Vec<Value>,
    results: Vec<ValueId>,
    /// Functions within functions: 1 of one that runs no other.
    depth: usize,
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

    /// The values returned, at least one; the same may be returned twice.
    pub fn results(&self) -> &[ValueId] {
        &self.results
    }

    /// Functions within functions: 1 of one that runs no other.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The same with each function that an operation runs as another, of the same arguments and types of results; `None` if no
    /// operation runs one.
    pub fn map_bodies<E: From<FuncError>>(
        &self,
        mut map: impl FnMut(&Func) -> Result<Func, E>,
    ) -> Result<Option<Func>, E> {
        if self.depth == 1 {
            return Ok(None);
        }
        let mut mapped = self.clone();
        for at in 0..mapped.values.len() {
            let Def::Result { op: TensorOp::Control(control), operands } = &mapped.values[at].def else { continue };
            let control = control.map_bodies(&mut map)?;
            let types: Vec<_> = operands.iter().map(|o| &mapped.values[o.0].ty).collect();
            let ty = TensorOp::from(control.clone()).infer(&types).map_err(|cause| {
                FuncError::from(FuncErrorKind::Op { value: mapped.values[at].to_string(), cause: Box::new(cause) })
            })?;
            debug_assert_eq!(ty, mapped.values[at].ty);
            let operands = operands.clone();
            mapped.values[at].def = Def::Result { op: control.into(), operands };
        }
        Ok(Some(mapped))
    }

    /// The function with some arguments as constants: those that `value` gives one for.
    pub fn with_constants(&self, mut value: impl FnMut(&Value) -> Option<Tensor>) -> Result<Func, FuncError> {
        let mut b = Func::builder(&self.name);
        let mut map = vec![None; self.values.len()];
        let mut constants = vec![];
        for (id, argument) in self.arguments() {
            match value(argument) {
                Some(tensor) if *tensor.ty() == argument.ty => constants.push((id, tensor)),
                Some(tensor) => {
                    let (declared, found) = (argument.ty.clone(), tensor.ty().clone());
                    return Err(FuncErrorKind::Bound { argument: argument.to_string(), declared, found }.into());
                }
                None => map[id.0] = Some(b.arg(&argument.name, argument.ty.clone())?),
            }
        }
        for (id, tensor) in constants {
            map[id.0] = Some(b.constant_named(&self.value(id).name, &tensor)?);
        }
        self.copy_computed(&mut b, &mut map);
        let results: Vec<_> = self.results.iter().map(|id| map[id.0].expect("all values are there")).collect();
        b.finish_all(&results)
    }

    /// Adds all values but the arguments to a builder. `map` has the arguments' values there, and then those of all.
    fn copy_computed(&self, b: &mut Builder, map: &mut [Option<ValueId>]) {
        for (id, value) in self.values().filter(|(_, v)| v.def != Def::Argument) {
            let name = Some(value.name.as_str()).filter(|name| crate::text::is_word(name));
            let def = match &value.def {
                Def::Result { op, operands } => {
                    let operands = operands.iter().map(|o| map[o.0].expect("operands come first")).collect();
                    Def::Result { op: op.clone(), operands }
                }
                other => other.clone(),
            };
            b.set_origins(value.origins.clone());
            map[id.0] = Some(b.insert(name, value.ty.clone(), def));
        }
    }

    /// The value at a position.
    pub(crate) fn id(&self, index: usize) -> ValueId {
        ValueId(index)
    }

    /// Says which nodes of a model a value was made of.
    pub(crate) fn set_origins(&mut self, id: ValueId, origins: Origins) {
        self.values[id.0].origins = origins;
    }

    /// The values alone, whose constants can be given back one by one.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// The elements of a constant; `None` of other values.
    pub fn constant(&self, id: ValueId) -> Option<Tensor> {
        self.value(id).constant()
    }

    /// Whether the values are those of another function, one by one, whatever their names are. Constants are compared by where their
    /// elements are, and functions within functions are not compared: `true` is certain, `false` is not.
    pub(crate) fn has_values_of(&self, other: &Func) -> bool {
        let is_same = |a: &Value, b: &Value| match (&a.def, &b.def) {
            (Def::Constant(a), Def::Constant(b)) => a.as_ptr() == b.as_ptr() && a.len() == b.len(),
            (a, b) => a == b,
        };
        let both = || self.values.iter().zip(&other.values);
        self.depth == 1
            && other.depth == 1
            && self.values.len() == other.values.len()
            && self.results == other.results
            && both().all(|(a, b)| a.ty == b.ty && is_same(a, b))
    }

    /// Which values are arguments, or something that a result depends on.
    pub(crate) fn live(&self) -> Vec<bool> {
        let mut live: Vec<bool> = self.values.iter().map(|v| v.def == Def::Argument).collect();
        self.results.iter().for_each(|id| live[id.0] = true);
        for (id, value) in self.values.iter().enumerate().rev().filter(|(_, v)| !v.operands().is_empty()) {
            if live[id] {
                value.operands().iter().for_each(|o| live[o.0] = true);
            }
        }
        live
    }

    /// The same without constants and operations that no result depends on.
    pub(crate) fn without_dead(self) -> Self {
        let live = self.live();
        let mut map = vec![0; live.len()];
        for (next, (slot, _)) in map.iter_mut().zip(&live).filter(|(_, live)| **live).enumerate() {
            *slot = next;
        }
        let moved = |id: &ValueId| ValueId(map[id.0]);
        let mut unnamed = 0;
        let values = self.values.into_iter().zip(live).filter(|(_, live)| *live).map(|(mut value, _)| {
            if let Def::Result { operands, .. } = &mut value.def {
                operands.iter_mut().for_each(|o| *o = moved(o));
            }
            if !crate::text::is_word(&value.name) {
                value.name = unnamed.to_string();
                unnamed += 1;
            }
            value
        });
        Func {
            name: self.name,
            values: values.collect(),
            results: self.results.iter().map(moved).collect(),
            depth: self.depth,
        }
    }

    /// A result's line of text, for example `%1 = add %0, %b`; an argument's declaration, for example `%x: f32[2x3]`.
    pub fn statement(&self, id: ValueId) -> String {
        self.line(id, true)
    }

    /// A result's line of text with the names alone of functions that it runs, for example
    /// `%y = if %c, %x {then=@then otherwise=@otherwise}`.
    pub fn headline(&self, id: ValueId) -> String {
        self.line(id, false)
    }

    fn line(&self, id: ValueId, has_bodies: bool) -> String {
        let value = self.value(id);
        match &value.def {
            Def::Argument => format!("{value}: {}", value.ty),
            Def::Constant(_) => format!("{value} = constant {} {}", value.ty, self.elements_as_text(id)),
            Def::Result { op, operands } => {
                let operands: Vec<_> = operands.iter().map(|&o| self.value(o).to_string()).collect();
                let names: Vec<_> = op.bodies().map(|body| format!("@{}", body.name())).collect();
                let mut settings = op.settings();
                if !has_bodies {
                    // Functions are the last settings of an operation that has such.
                    settings.iter_mut().rev().zip(names.into_iter().rev()).for_each(|((_, text), name)| *text = name);
                }
                let settings: Vec<_> = settings.into_iter().map(|(name, text)| format!("{name}={text}")).collect();
                let settings = if settings.is_empty() { String::new() } else { format!(" {{{}}}", settings.join(" ")) };
                format!("{value} = {op} {}{settings}", operands.join(", "))
            }
        }
    }

    /// The elements of a constant in braces; of a large one, its number among such and their hash, which cannot be read again.
    fn elements_as_text(&self, id: ValueId) -> String {
        let tensor = self.constant(id).expect("asked of constants alone");
        if tensor.ty().elements() <= parse::MOST_ELEMENTS {
            let elements: Vec<_> = match (tensor.elements::<u64>(), tensor.to_i64()) {
                (Some(integers), _) => integers.iter().map(u64::to_string).collect(),
                (None, Some(integers)) => integers.iter().map(i64::to_string).collect(),
                (None, None) => tensor.to_f64().iter().map(f64::to_string).collect(),
            };
            return format!("{{{}}}", elements.join(", "));
        }
        format!("hash:{:016x}", twox_hash::XxHash3_64::oneshot(tensor.data()))
    }
}

impl fmt::Display for Func {
    /// The text that can be read again; in the alternate form (`{:#}`) with the nodes of a model as comments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<_> = self.arguments().map(|(id, _)| self.statement(id)).collect();
        let join = |text: fn(&Value) -> String| {
            self.results.iter().map(|id| text(self.value(*id))).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "func @{}({}) -> {} {{", self.name, arguments.join(", "), join(|v| v.ty.to_string()))?;
        for (id, _) in self.values().skip(arguments.len()) {
            write!(f, "  {}", self.statement(id))?;
            match &self.value(id).origins {
                origins if f.alternate() && !origins.is_empty() => writeln!(f, "  # {origins}")?,
                _ => writeln!(f)?,
            }
        }
        writeln!(f, "  return {}\n}}", join(Value::to_string))
    }
}

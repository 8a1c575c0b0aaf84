//! The operations of a [`Func`](super::Func): words, settings, type rules and meanings.
//!
//! To add one: a row in `table.rs`, and an arm of `infer` and one of `evaluate` in the file of its kind. Operations that run
//! functions are in `control.rs`.

pub(super) mod attribute;
mod columns;
mod contraction;
mod control;
mod elementwise;
mod indexed;
mod integer;
mod kernel;
mod matrix;
mod movement;
mod normalization;
mod recurrent;
mod reduction;
mod sample;
mod strided;
mod table;
mod walk;
mod window;

use std::fmt;
use std::sync::Arc;

use super::Func;
use super::element::ElementType;
use super::tensor::Tensor;
use super::types::{TensorType, TypeError};
use crate::text::{Listed, clipped};

pub use attribute::{Merge, Outside, PadMode, PoolKind, ReduceKind, Sampling};
pub use strided::Strided;
pub use table::{Binary, Control, SettingError, Structured, Unary};

pub(super) use table::Settings;

/// An operation on whole tensors, with one result; some [control](Control) operations have more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TensorOp {
    /// On each element.
    Unary(Unary),
    /// On pairs of elements.
    Binary(Binary),
    /// On the tensor as a whole.
    Structured(Structured),
    /// Running functions.
    Control(Control),
}

/// Dispatch to the tables.
macro_rules! per_table {
    ($op:expr, $inner:ident => $body:expr) => {
        match $op {
            TensorOp::Unary($inner) => $body,
            TensorOp::Binary($inner) => $body,
            TensorOp::Structured($inner) => $body,
            TensorOp::Control($inner) => $body,
        }
    };
}

macro_rules! from_tables {
    ($($table:ident),*) => { $(
        impl From<$table> for TensorOp {
            fn from(op: $table) -> Self {
                TensorOp::$table(op)
            }
        }
    )* };
}
from_tables!(Unary, Binary, Structured, Control);

/// An operand in the interpreter: as many elements as its type says, row-major.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a, T = f64> {
    pub ty: &'a TensorType,
    pub data: &'a [T],
}

impl TensorOp {
    /// The words of all operations, in the order they are named to users.
    pub fn names() -> impl Iterator<Item = &'static str> {
        [Unary::NAMES, Binary::NAMES, Structured::NAMES, Control::NAMES].into_iter().flatten().copied()
    }

    /// The word in text.
    pub fn name(&self) -> &'static str {
        per_table!(self, op => op.name())
    }

    /// Each setting with its text.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        per_table!(self, op => op.settings())
    }

    /// The operation of a word with [settings](Self::settings) as text; `None` if there is no such word.
    pub fn from_settings(name: &str, settings: Vec<(&str, &str)>) -> Option<Result<Self, SettingError>> {
        Self::read(name, settings)
    }

    /// The operation of a word with its settings; `None` if there is no such word.
    pub(super) fn read(name: &str, settings: Settings<'_>) -> Option<Result<Self, SettingError>> {
        fn of<T: Into<TensorOp>>(op: Result<T, SettingError>) -> Result<TensorOp, SettingError> {
            op.map(Into::into)
        }
        let unary = Unary::read(name, settings.clone()).map(of);
        let binary = || Binary::read(name, settings.clone()).map(of);
        let structured = || Structured::read(name, settings.clone()).map(of);
        unary.or_else(binary).or_else(structured).or_else(|| Control::read(name, settings.clone()).map(of))
    }

    /// The least and greatest number of operands.
    pub fn arity(&self) -> (usize, usize) {
        match self {
            TensorOp::Unary(_) => (1, 1),
            TensorOp::Binary(_) => (2, 2),
            TensorOp::Control(op) => op.arity(),
            TensorOp::Structured(op) => match op {
                Structured::Where {}
                | Structured::ScatterElements { .. }
                | Structured::ScatterNd { .. }
                | Structured::RoiAlign { .. } => (3, 3),
                Structured::Matmul {}
                | Structured::Conv { .. }
                | Structured::ConvTranspose { .. }
                | Structured::Gather { .. }
                | Structured::GatherElements { .. }
                | Structured::GatherNd { .. }
                | Structured::GridSample { .. } => (2, 2),
                Structured::LayerNorm { .. } => (1, 3),
                Structured::RmsNorm { .. } => (1, 2),
                Structured::LstmCell {} => (2, 3),
                Structured::GruCell {} => (3, 3),
                Structured::BatchNorm { .. } => (5, 5),
                Structured::Concat { .. } => (1, usize::MAX),
                Structured::Kernel { problem } => {
                    let n = problem.operands().len() - 1;
                    (n, n)
                }
                _ => (1, 1),
            },
        }
    }

    /// The type of the result for operands of these types.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, OpError> {
        let (least, most) = self.arity();
        let result = if (least..=most).contains(&operands.len()) {
            match self {
                TensorOp::Unary(op) => elementwise::infer_unary(op, operands[0]),
                TensorOp::Binary(op) => elementwise::infer_binary(op, operands[0], operands[1]),
                TensorOp::Structured(op) => self::infer(op, operands),
                TensorOp::Control(op) => op.infer(operands),
            }
        } else {
            Err(Mismatch::Arity { least, most, found: operands.len() })
        };
        result.map_err(|cause| self.error(operands, cause))
    }

    pub(super) fn error(&self, operands: &[&TensorType], cause: Mismatch) -> OpError {
        OpError { op: Box::new(self.clone()), operands: operands.iter().map(|&t| t.clone()).collect(), cause }
    }

    /// The elements of the result, of type `ty`, which [`infer`](Self::infer) gave for these operands. Floating-point numbers
    /// are not rounded to their types, except by casts; integers wrap around as theirs do.
    pub(super) fn evaluate(&self, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
        if ty.elements() == 0 {
            return vec![];
        }
        match self {
            TensorOp::Unary(op) => elementwise::evaluate_unary(op, operands[0]),
            TensorOp::Binary(op) => elementwise::evaluate_binary(op, operands[0], operands[1], ty),
            TensorOp::Structured(op) => self::evaluate(op, operands, ty),
            TensorOp::Control(_) => unreachable!("whoever evaluates operations runs functions by itself"),
        }
    }

    /// The operand whose elements say where in the first one to read or write, if there is such.
    pub fn index_operand(&self) -> Option<usize> {
        let TensorOp::Structured(op) = self else { return None };
        match op {
            Structured::Gather { .. }
            | Structured::GatherElements { .. }
            | Structured::GatherNd { .. }
            | Structured::ScatterElements { .. }
            | Structured::ScatterNd { .. } => Some(1),
            Structured::RoiAlign { .. } => Some(2),
            _ => None,
        }
    }

    /// Fails if an element of the [`index_operand`](Self::index_operand) is outside of what it selects from. The types are those
    /// of all operands, which [`infer`](Self::infer) took.
    pub fn check_indices(&self, operands: &[&TensorType], indices: &Tensor) -> Result<(), OpError> {
        match self {
            TensorOp::Structured(op) => {
                indexed::check(op, operands[0], indices).map_err(|cause| self.error(operands, cause))
            }
            _ => Ok(()),
        }
    }

    /// The functions that it runs.
    pub fn bodies(&self) -> impl Iterator<Item = &Arc<Func>> + use<'_> {
        let control = if let TensorOp::Control(op) = self { Some(op) } else { None };
        control.into_iter().flat_map(Control::bodies)
    }

    /// The result for these operands: computed in double precision and rounded to its type, without haste. Elements that only
    /// move are copied as they are, whatever they are, and integers of 64 bits are computed with exactly.
    pub fn apply(&self, operands: &[&Tensor]) -> Result<Tensor, OpError> {
        let types: Vec<_> = operands.iter().map(|o| o.ty()).collect();
        let ty = self.infer(&types)?;
        if let Some(at) = self.index_operand() {
            self.check_indices(&types, operands[at])?;
        }
        if let TensorOp::Control(op) = self {
            return op.apply(operands, ty).map_err(|cause| self.error(&types, cause));
        }
        if let TensorOp::Structured(op) = self
            && let Some(moved) = movement::copy(op, operands, &ty)
        {
            return Ok(moved);
        }
        if let Some(exact) = integer::apply(self, operands, &ty) {
            return Ok(exact);
        }
        let data: Vec<Vec<f64>> = operands.iter().map(|o| o.to_f64()).collect();
        let views: Vec<_> = types.iter().zip(&data).map(|(&ty, data)| View { ty, data }).collect();
        let result = self.evaluate(&views, &ty);
        Ok(Tensor::from_f64(ty, &result))
    }
}

fn infer(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    use Structured::*;
    match op {
        Cast { .. } | BitCast { .. } | Where {} => elementwise::infer_other(op, operands),
        Matmul {} | Conv { .. } | ConvTranspose { .. } => contraction::infer(op, operands),
        ColumnsToImage { .. } => columns::infer(op, operands[0]),
        Pool { .. } | MaxPoolIndices { .. } => window::infer(op, operands[0]),
        Reduce { .. } | ArgReduce { .. } | CumSum { .. } | CumProd { .. } | TopK { .. } => {
            reduction::infer(op, operands[0])
        }
        Det {} => matrix::infer(operands[0]),
        GatherElements { .. } | GatherNd { .. } | ScatterElements { .. } | ScatterNd { .. } => {
            indexed::infer(op, operands)
        }
        GridSample { .. } | RoiAlign { .. } => sample::infer(op, operands),
        Softmax { .. }
        | MaskedSoftmax { .. }
        | LogSoftmax { .. }
        | LayerNorm { .. }
        | RmsNorm { .. }
        | BatchNorm { .. }
        | Lrn { .. } => normalization::infer(op, operands),
        LstmCell {} | GruCell {} => recurrent::infer(op, operands),
        Reshape { .. }
        | Transpose { .. }
        | Broadcast { .. }
        | Slice { .. }
        | Concat { .. }
        | Pad { .. }
        | Gather { .. } => movement::infer(op, operands),
        Kernel { problem } => kernel::infer(problem, operands),
    }
}

fn evaluate(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    use Structured::*;
    match op {
        Cast { .. } | BitCast { .. } | Where {} => elementwise::evaluate_other(op, operands, ty),
        Matmul {} | Conv { .. } | ConvTranspose { .. } => contraction::evaluate(op, operands, ty),
        ColumnsToImage { .. } => columns::evaluate(op, operands[0], ty),
        Pool { .. } | MaxPoolIndices { .. } => window::evaluate(op, operands[0], ty),
        Reduce { .. } | ArgReduce { .. } | CumSum { .. } | CumProd { .. } | TopK { .. } => {
            reduction::evaluate(op, operands[0], ty)
        }
        Det {} => matrix::determinants(operands[0], ty),
        GatherElements { .. } | GatherNd { .. } | ScatterElements { .. } | ScatterNd { .. } => {
            indexed::evaluate(op, operands, ty)
        }
        GridSample { .. } | RoiAlign { .. } => sample::evaluate(op, operands, ty),
        Softmax { .. }
        | MaskedSoftmax { .. }
        | LogSoftmax { .. }
        | LayerNorm { .. }
        | RmsNorm { .. }
        | BatchNorm { .. }
        | Lrn { .. } => normalization::evaluate(op, operands, ty),
        LstmCell {} | GruCell {} => recurrent::evaluate(op, operands, ty),
        Reshape { .. }
        | Transpose { .. }
        | Broadcast { .. }
        | Slice { .. }
        | Concat { .. }
        | Pad { .. }
        | Gather { .. } => movement::evaluate(op, operands, ty),
        Kernel { problem } => kernel::evaluate(problem, operands),
    }
}

impl fmt::Display for TensorOp {
    /// The word; settings follow the operands in a function's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Operands that an operation does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// The operation.
    pub op: Box<TensorOp>,
    /// The types it was given.
    pub operands: Vec<TensorType>,
    /// What is wrong with them.
    pub cause: Mismatch,
}

impl std::error::Error for OpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.op)?;
        const MOST: usize = 8;
        for (i, ty) in self.operands.iter().take(MOST).enumerate() {
            write!(f, " {} {}", if i == 0 { "of" } else { "and" }, ty.brief())?;
        }
        if let Some(rest @ 1..) = self.operands.len().checked_sub(MOST) {
            write!(f, " and {rest} more")?;
        }
        write!(f, ": {}", self.cause)
    }
}

/// Why an operation does not take its operands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Wrong number of operands.
    #[error("takes {}, found {found}", counted(*least, *most))]
    Arity {
        /// Operands the operation takes at least.
        least: usize,
        /// Operands it takes at most.
        most: usize,
        /// Operands it was given.
        found: usize,
    },
    /// An operand has too few dimensions, or too many.
    #[error("operand {operand} has rank {rank}: expected {expected}")]
    Rank {
        /// Which operand, from 0.
        operand: usize,
        /// Its rank.
        rank: usize,
        /// What would do.
        expected: &'static str,
    },
    /// Columns of the left matrix differ from rows of the right one.
    #[error("inner dimensions differ: lhs has K={lhs}, rhs has K={rhs}")]
    Inner {
        /// K of the left operand.
        lhs: u64,
        /// K of the right operand.
        rhs: u64,
    },
    /// Operands have different element types.
    #[error("operands must have one dtype")]
    MixedDTypes,
    /// An operand has elements of a type that the operation does not take.
    #[error("operand {operand} has elements of {found}: expected {expected}")]
    Element {
        /// Which operand, from 0.
        operand: usize,
        /// Its elements.
        found: ElementType,
        /// What would do.
        expected: &'static str,
    },
    /// Shapes do not broadcast to each other.
    #[error(
        "dimensions {lhs} and {rhs}, {from_last} from the end, do not broadcast: they must be equal or one of them 1"
    )]
    Broadcast {
        /// Dimension of the left operand.
        lhs: u64,
        /// Dimension of the right operand.
        rhs: u64,
        /// Which, counted from 1 at the innermost: broadcasting aligns shapes at that end.
        from_last: usize,
    },
    /// A setting does not go with the operands.
    #[error("{name}={}: expected {expected}", clipped(value))]
    Setting {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        expected: String,
    },
    /// An index is outside of what it selects from.
    #[error("index {index} is outside of the {extent} that there are")]
    Index {
        /// The index.
        index: i64,
        /// How many there are.
        extent: u64,
    },
    /// A shape is not the one that another operand or a setting asks for.
    #[error("operand {operand} has shape {}: expected {}", Listed(found), Listed(expected))]
    Shape {
        /// Which operand, from 0.
        operand: usize,
        /// Its shape.
        found: Vec<u64>,
        /// What would do.
        expected: Vec<u64>,
    },
    /// A function that an operation runs is not one for its operands.
    #[error("{body} {why}")]
    Body {
        /// Which function.
        body: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A loop does not end.
    #[error("the loop did not end after {0} trips")]
    Endless(u64),
    /// The result may not exist.
    #[error("the result {0}")]
    Result(#[from] TypeError),
}

fn counted(least: usize, most: usize) -> String {
    match most {
        _ if most == least => format!("{least} operand(s)"),
        usize::MAX => format!("{least} or more operands"),
        _ => format!("{least} to {most} operands"),
    }
}

impl Mismatch {
    /// A setting whose value is not one.
    fn setting(name: &'static str, value: impl fmt::Debug, expected: impl Into<String>) -> Self {
        Mismatch::Setting { name, value: format!("{value:?}"), expected: expected.into() }
    }
}

/// The most elements that all windows of an operation may see together. A window may be far larger than what it is given
/// as operands, so that nothing else bounds the time an operation takes.
const MAX_SEEN: u64 = 1 << 36;

/// Checks that a number of elements seen is at most [`MAX_SEEN`]; the factors are of one setting.
fn check_seen<T: fmt::Debug>(
    name: &'static str,
    value: &T,
    factors: impl IntoIterator<Item = u64>,
) -> Result<(), Mismatch> {
    match factors.into_iter().try_fold(1u64, u64::checked_mul) {
        Some(seen) if seen <= MAX_SEEN => Ok(()),
        _ => Err(Mismatch::setting(name, value, format!("windows that see at most {MAX_SEEN} elements together"))),
    }
}

/// Operands of numbers, not of booleans.
fn numbers(operand: usize, element: ElementType) -> Result<(), Mismatch> {
    match element {
        ElementType::Bool => Err(Mismatch::Element { operand, found: element, expected: "numbers" }),
        _ => Ok(()),
    }
}

/// Wraps integers around; floating-point numbers stay as they are.
fn wrap(element: ElementType, values: &mut [f64]) {
    if !element.is_float() {
        values.iter_mut().for_each(|v| *v = element.round(*v));
    }
}

/// The greater of two; NaN if one is.
fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The lesser of two; NaN if one is.
fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// The element type that all operands have.
fn same_element(operands: &[&TensorType]) -> Result<ElementType, Mismatch> {
    let element = operands[0].element();
    if operands.iter().all(|t| t.element() == element) { Ok(element) } else { Err(Mismatch::MixedDTypes) }
}

/// An axis of an operand.
fn axis_of(operand: &TensorType, name: &'static str, axis: u64) -> Result<usize, Mismatch> {
    let rank = operand.rank();
    usize::try_from(axis)
        .ok()
        .filter(|a| *a < rank)
        .ok_or_else(|| Mismatch::setting(name, axis, format!("an axis of the operand, below {rank}")))
}

/// A list with one value per axis.
fn one_per_axis<T: fmt::Debug>(name: &'static str, list: &[T], axes: usize) -> Result<(), Mismatch> {
    if list.len() == axes { Ok(()) } else { Err(Mismatch::setting(name, list, format!("{axes} numbers"))) }
}

/// NumPy's rule: shapes are aligned at the innermost dimension; a missing dimension counts as 1, and a 1 stretches.
pub(crate) fn broadcast(lhs: &[u64], rhs: &[u64]) -> Result<Vec<u64>, Mismatch> {
    let rank = lhs.len().max(rhs.len());
    let dim = |shape: &[u64], from_last: usize| shape.len().checked_sub(from_last).map_or(1, |i| shape[i]);
    (1..=rank)
        .rev()
        .map(|from_last| match (dim(lhs, from_last), dim(rhs, from_last)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            (lhs, rhs) => Err(Mismatch::Broadcast { lhs, rhs, from_last }),
        })
        .collect()
}

/// Elements between neighbours along each dimension of a result of `rank` that a tensor of `shape` stretches to.
pub(crate) fn broadcast_strides(shape: &[u64], rank: usize) -> Vec<u64> {
    let mut strides = vec![0; rank];
    let mut stride = 1;
    for (&dim, slot) in shape.iter().zip(&mut strides[rank - shape.len()..]).rev() {
        *slot = if dim == 1 { 0 } else { stride };
        stride *= dim;
    }
    strides
}

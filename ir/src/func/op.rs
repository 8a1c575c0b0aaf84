//! The operations of a [`Func`](super::Func): name, arity, type rule and meaning of each, all in this file.
//!
//! To add one: a variant, its place in [`TensorOp::ALL`], and an arm of `TensorOp::rule`.

use std::fmt;

use super::types::{TensorType, TypeError};
use crate::epilogue::PostOp;

/// An operation on whole tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorOp {
    /// `[m, k]` by `[k, n]` gives `[m, n]`: the sum over k of products.
    Matmul,
    /// Elementwise sum of two tensors of one dtype; shapes broadcast as in NumPy.
    Add,
    /// Elementwise `max(x, 0)`; NaN stays NaN.
    Relu,
}

/// What there is to know about one operation.
struct Rule {
    name: &'static str,
    arity: usize,
    /// The type of the result; called with `arity` types.
    infer: fn(&[&TensorType]) -> Result<TensorType, Mismatch>,
    /// The elements of the result in double precision; called with operands that `infer` accepts, and what it gave.
    evaluate: fn(&[Tensor<'_>], &TensorType) -> Vec<f64>,
}

/// A tensor in the interpreter: as many elements as its type says, row-major.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor<'a> {
    pub ty: &'a TensorType,
    pub data: &'a [f64],
}

impl TensorOp {
    /// Every operation, in the order they are named to users.
    pub const ALL: &'static [TensorOp] = &[TensorOp::Matmul, TensorOp::Add, TensorOp::Relu];

    fn rule(self) -> Rule {
        match self {
            TensorOp::Matmul => Rule { name: "matmul", arity: 2, infer: infer_matmul, evaluate: evaluate_matmul },
            TensorOp::Add => Rule { name: "add", arity: 2, infer: infer_add, evaluate: evaluate_add },
            TensorOp::Relu => Rule { name: "relu", arity: 1, infer: infer_relu, evaluate: evaluate_relu },
        }
    }

    /// The word in text.
    pub fn name(self) -> &'static str {
        self.rule().name
    }

    /// Number of operands.
    pub fn arity(self) -> usize {
        self.rule().arity
    }

    /// The operation of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.name() == name)
    }

    /// The type of the result for operands of these types.
    pub fn infer(self, operands: &[&TensorType]) -> Result<TensorType, OpError> {
        let rule = self.rule();
        let result = if operands.len() == rule.arity {
            (rule.infer)(operands)
        } else {
            Err(Mismatch::Arity { expected: rule.arity, found: operands.len() })
        };
        result.map_err(|cause| OpError { op: self, operands: operands.iter().map(|&t| t.clone()).collect(), cause })
    }

    /// The elements of the result, of type `ty`, which [`infer`](Self::infer) gave for these operands.
    pub(super) fn evaluate(self, operands: &[Tensor<'_>], ty: &TensorType) -> Vec<f64> {
        (self.rule().evaluate)(operands, ty)
    }
}

impl fmt::Display for TensorOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Operands that an operation does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// The operation.
    pub op: TensorOp,
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
        for (i, ty) in self.operands.iter().enumerate() {
            write!(f, " {} {ty}", if i == 0 { "of" } else { "and" })?;
        }
        write!(f, ": {}", self.cause)
    }
}

/// Why an operation does not take its operands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Wrong number of operands.
    #[error("takes {expected} operand(s), found {found}")]
    Arity {
        /// Operands the operation takes.
        expected: usize,
        /// Operands it was given.
        found: usize,
    },
    /// An operand of a matmul is not a matrix.
    #[error("operand {operand} has rank {rank}: a matrix has rank 2")]
    NotAMatrix {
        /// Which operand, from 0.
        operand: usize,
        /// Its rank.
        rank: usize,
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
    /// The result may not exist.
    #[error("the result {0}")]
    Result(#[from] TypeError),
}

fn infer_matmul(operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    let matrix = |operand: usize| match *operands[operand].shape() {
        [rows, columns] => Ok((rows, columns)),
        ref shape => Err(Mismatch::NotAMatrix { operand, rank: shape.len() }),
    };
    let ((m, k), (k2, n)) = (matrix(0)?, matrix(1)?);
    if k != k2 {
        return Err(Mismatch::Inner { lhs: k, rhs: k2 });
    }
    Ok(TensorType::new(same_dtype(operands)?, [m, n])?)
}

fn evaluate_matmul(operands: &[Tensor<'_>], ty: &TensorType) -> Vec<f64> {
    let [lhs, rhs] = [operands[0], operands[1]];
    let (k, n) = (rhs.ty.shape()[0] as usize, rhs.ty.shape()[1] as usize);
    let mut dst = vec![0.0; ty.elements() as usize];
    // Each element sums in ascending k, as the reference of a problem does: the two are equal to the last bit.
    for (dst, lhs) in dst.chunks_exact_mut(n).zip(lhs.data.chunks_exact(k)) {
        for (&a, rhs) in lhs.iter().zip(rhs.data.chunks_exact(n)) {
            for (c, &b) in dst.iter_mut().zip(rhs) {
                *c += a * b;
            }
        }
    }
    dst
}

fn infer_add(operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    let shape = broadcast(operands[0].shape(), operands[1].shape())?;
    Ok(TensorType::new(same_dtype(operands)?, shape)?)
}

fn evaluate_add(operands: &[Tensor<'_>], ty: &TensorType) -> Vec<f64> {
    let strides: Vec<_> = operands.iter().map(|t| broadcast_strides(t.ty.shape(), ty.shape().len())).collect();
    let element = |operand: usize, index: u64| {
        let (mut index, mut offset) = (index, 0);
        for (&dim, &stride) in ty.shape().iter().zip(&strides[operand]).rev() {
            offset += index % dim * stride;
            index /= dim;
        }
        operands[operand].data[offset as usize]
    };
    (0..ty.elements()).map(|i| element(0, i) + element(1, i)).collect()
}

fn infer_relu(operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    Ok(operands[0].clone())
}

fn evaluate_relu(operands: &[Tensor<'_>], _: &TensorType) -> Vec<f64> {
    operands[0].data.iter().map(|&x| PostOp::Relu.apply_f64(x, 0.0)).collect()
}

fn same_dtype(operands: &[&TensorType]) -> Result<crate::DType, Mismatch> {
    let dtype = operands[0].dtype();
    if operands.iter().all(|t| t.dtype() == dtype) { Ok(dtype) } else { Err(Mismatch::MixedDTypes) }
}

/// NumPy's rule: shapes are aligned at the innermost dimension; a missing dimension counts as 1, and a 1 stretches.
fn broadcast(lhs: &[u64], rhs: &[u64]) -> Result<Vec<u64>, Mismatch> {
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
fn broadcast_strides(shape: &[u64], rank: usize) -> Vec<u64> {
    let mut strides = vec![0; rank];
    let mut stride = 1;
    for (&dim, slot) in shape.iter().zip(&mut strides[rank - shape.len()..]).rev() {
        *slot = if dim == 1 { 0 } else { stride };
        stride *= dim;
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn ty(shape: &[u64]) -> TensorType {
        TensorType::new(DType::F32, shape).unwrap()
    }

    fn add(lhs: &[u64], rhs: &[u64]) -> Result<Vec<u64>, Mismatch> {
        TensorOp::Add.infer(&[&ty(lhs), &ty(rhs)]).map(|t| t.shape().to_vec()).map_err(|e| e.cause)
    }

    #[test]
    fn add_broadcasts_as_numpy_does() {
        assert_eq!(add(&[4, 3], &[3]).unwrap(), [4, 3]);
        assert_eq!(add(&[3], &[4, 3]).unwrap(), [4, 3]);
        assert_eq!(add(&[4, 1], &[1, 3]).unwrap(), [4, 3]);
        assert_eq!(add(&[2, 1, 5], &[7, 1]).unwrap(), [2, 7, 5]);
        assert_eq!(add(&[], &[2]).unwrap(), [2]);
        assert_eq!(add(&[], &[]).unwrap(), [0; 0]);
        assert_eq!(add(&[4, 3], &[4]), Err(Mismatch::Broadcast { lhs: 3, rhs: 4, from_last: 1 }));
        assert_eq!(add(&[4, 3], &[2, 3]), Err(Mismatch::Broadcast { lhs: 4, rhs: 2, from_last: 2 }));
        assert!(matches!(add(&[1 << 20, 1], &[1 << 20]), Err(Mismatch::Result(TypeError::TooLarge { .. }))));
    }

    #[test]
    fn add_reads_the_stretched_elements() {
        let (a, b) = (ty(&[2, 1]), ty(&[3]));
        let sum = TensorOp::Add.evaluate(
            &[Tensor { ty: &a, data: &[10.0, 20.0] }, Tensor { ty: &b, data: &[1.0, 2.0, 3.0] }],
            &ty(&[2, 3]),
        );
        assert_eq!(sum, [11.0, 12.0, 13.0, 21.0, 22.0, 23.0]);
    }

    #[test]
    fn every_op_is_found_by_its_name_and_counts_operands() {
        for &op in TensorOp::ALL {
            assert_eq!(TensorOp::from_name(op.name()), Some(op));
            let too_many = vec![ty(&[2, 2]); op.arity() + 1];
            let err = op.infer(&too_many.iter().collect::<Vec<_>>()).unwrap_err();
            assert_eq!(err.cause, Mismatch::Arity { expected: op.arity(), found: op.arity() + 1 });
            assert!(op.infer(&too_many[1..].iter().collect::<Vec<_>>()).is_ok());
        }
    }
}

//! Short ways to add operations. Those that would change nothing are left out.

use kiln_ir::func::{Binary, ElementType, PadMode, ReduceKind, Structured, TensorOp, Unary};

use super::error::Fault;
use super::node::Ctx;
use super::program::{Val, scalar};

type Made = Result<Val, Fault>;

impl Ctx<'_> {
    pub(super) fn push(&mut self, op: impl Into<TensorOp>, operands: &[&Val]) -> Made {
        self.program.push(op, operands)
    }

    pub(super) fn unary(&mut self, op: Unary, x: &Val) -> Made {
        self.push(op, &[x])
    }

    pub(super) fn add(&mut self, a: &Val, b: &Val) -> Made {
        self.push(Binary::Add {}, &[a, b])
    }

    pub(super) fn sub(&mut self, a: &Val, b: &Val) -> Made {
        self.push(Binary::Sub {}, &[a, b])
    }

    pub(super) fn mul(&mut self, a: &Val, b: &Val) -> Made {
        self.push(Binary::Mul {}, &[a, b])
    }

    pub(super) fn div(&mut self, a: &Val, b: &Val) -> Made {
        self.push(Binary::Div {}, &[a, b])
    }

    pub(super) fn matmul(&mut self, a: &Val, b: &Val) -> Made {
        self.push(Structured::Matmul {}, &[a, b])
    }

    /// A number of the type of a value's elements.
    pub(super) fn number_like(&self, like: &Val, number: f64) -> Val {
        scalar(self.element(like), number)
    }

    /// Times a number.
    pub(super) fn scaled(&mut self, x: &Val, by: f64) -> Made {
        if by == 1.0 {
            return Ok(x.clone());
        }
        let by = self.number_like(x, by);
        self.mul(x, &by)
    }

    pub(super) fn cast(&mut self, x: &Val, to: ElementType) -> Made {
        if self.element(x) == to { Ok(x.clone()) } else { self.push(Structured::Cast { to }, &[x]) }
    }

    /// The value rounded to its type, where the last bit counts: a function's meaning leaves numbers as they are but where they are
    /// cast. What is compiled computes with numbers of their types anyway.
    pub(super) fn rounded(&mut self, x: &Val) -> Made {
        let to = self.element(x);
        self.push(Structured::Cast { to }, &[x])
    }

    pub(super) fn reshape(&mut self, x: &Val, shape: impl Into<Vec<u64>>) -> Made {
        let shape = shape.into();
        if self.shape(x) == shape { Ok(x.clone()) } else { self.push(Structured::Reshape { shape }, &[x]) }
    }

    pub(super) fn transpose(&mut self, x: &Val, perm: &[usize]) -> Made {
        let perm: Vec<u64> = perm.iter().map(|axis| *axis as u64).collect();
        let is_same = perm.len() == self.rank(x) && perm.is_sorted_by(|a, b| a < b);
        if is_same { Ok(x.clone()) } else { self.push(Structured::Transpose { perm }, &[x]) }
    }

    /// With the last two axes swapped.
    pub(super) fn matrix_transposed(&mut self, x: &Val) -> Made {
        let rank = self.rank(x);
        let mut perm: Vec<usize> = (0..rank).collect();
        if rank < 2 {
            return Err(format!("{}: expected matrices, of rank 2 or more", self.ty(x)).into());
        }
        perm.swap(rank - 2, rank - 1);
        self.transpose(x, &perm)
    }

    pub(super) fn broadcast(&mut self, x: &Val, shape: impl Into<Vec<u64>>) -> Made {
        let shape = shape.into();
        if self.shape(x) == shape { Ok(x.clone()) } else { self.push(Structured::Broadcast { shape }, &[x]) }
    }

    /// Some elements along one axis.
    pub(super) fn slice(&mut self, x: &Val, axis: usize, start: u64, step: i64, count: u64) -> Made {
        let shape = self.shape(x);
        if start == 0 && step == 1 && shape.get(axis) == Some(&count) {
            return Ok(x.clone());
        }
        let (mut starts, mut steps, mut counts) = (vec![0; shape.len()], vec![1; shape.len()], shape);
        let place = starts.get_mut(axis).zip(steps.get_mut(axis)).zip(counts.get_mut(axis));
        let Some(((at, by), n)) = place else { return Err(format!("there is no axis {axis}").into()) };
        (*at, *by, *n) = (start, step, count);
        self.push(Structured::Slice { starts, steps, counts }, &[x])
    }

    pub(super) fn concat(&mut self, parts: &[&Val], axis: usize) -> Made {
        if let [only] = parts {
            Ok((*only).clone())
        } else {
            self.push(Structured::Concat { axis: axis as u64 }, parts)
        }
    }

    /// With so many zeros before and after each axis.
    pub(super) fn padded(&mut self, x: &Val, before: Vec<u64>, after: Vec<u64>) -> Made {
        if before.iter().chain(&after).all(|n| *n == 0) {
            return Ok(x.clone());
        }
        self.push(Structured::Pad { mode: PadMode::Constant, before, after, value: 0.0.into() }, &[x])
    }

    pub(super) fn reduce(&mut self, x: &Val, kind: ReduceKind, axes: &[usize], keep: bool) -> Made {
        let mut axes: Vec<u64> = axes.iter().map(|axis| *axis as u64).collect();
        axes.sort_unstable();
        self.push(Structured::Reduce { kind, axes, keep }, &[x])
    }

    pub(super) fn select(&mut self, condition: &Val, yes: &Val, no: &Val) -> Made {
        self.push(Structured::Where {}, &[condition, yes, no])
    }

    /// A tensor of one axis as `[n, 1, ...]`, which goes along one axis of a tensor of some rank.
    pub(super) fn along(&mut self, x: &Val, axis: usize, rank: usize) -> Made {
        let mut shape = vec![1; rank.saturating_sub(axis)];
        let first = shape.first_mut().ok_or_else(|| format!("there is no axis {axis} in a tensor of rank {rank}"))?;
        *first = self.ty(x).elements();
        self.reshape(x, shape)
    }

    /// True if all elements are known to be 0.
    pub(super) fn is_zero(&self, x: &Val) -> bool {
        matches!(x, Val::Known(t) if t.splat() == Some(0.0))
    }
}

//! Operations that move elements without looking at them.

use super::super::element::ElementType;
use super::super::tensor::Tensor;
use super::super::types::TensorType;
use super::{Mismatch, PadMode, Structured, View, axis_of, broadcast, one_per_axis, same_element};

pub(super) fn infer(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    let x = operands[0];
    let (rank, element) = (x.rank(), x.element());
    let shape = match op {
        Structured::Reshape { shape } => {
            let ty = TensorType::new(element, shape.clone())?;
            if ty.elements() != x.elements() {
                return Err(Mismatch::setting("shape", shape, format!("a shape of {} elements", x.elements())));
            }
            return Ok(ty);
        }
        Structured::Transpose { perm } => {
            let each_once = perm.len() == rank && (0..rank as u64).all(|axis| perm.contains(&axis));
            if !each_once {
                return Err(Mismatch::setting("perm", perm, format!("each axis below {rank} once")));
            }
            perm.iter().map(|axis| x.shape()[*axis as usize]).collect()
        }
        Structured::Broadcast { shape } => {
            if broadcast(x.shape(), shape)? != *shape {
                return Err(Mismatch::setting("shape", shape, "a shape that the operand stretches to"));
            }
            shape.clone()
        }
        Structured::Slice { starts, steps, counts } => {
            one_per_axis("starts", starts, rank)?;
            one_per_axis("steps", steps, rank)?;
            one_per_axis("counts", counts, rank)?;
            for (axis, n) in x.shape().iter().enumerate() {
                let last = |count: u64| {
                    let step = i128::from(steps[axis]) * i128::from(count - 1);
                    i128::from(starts[axis]) + step
                };
                let inside = |at: i128| (0..i128::from(*n)).contains(&at);
                if counts[axis] > 0 && !(inside(starts[axis].into()) && inside(last(counts[axis]))) {
                    return Err(Mismatch::setting("counts", counts, format!("elements of axis {axis}, below {n}")));
                }
            }
            counts.clone()
        }
        Structured::Concat { axis } => {
            same_element(operands)?;
            let axis = axis_of(x, "axis", *axis)?;
            let mut shape = x.shape().to_vec();
            for (operand, ty) in operands.iter().enumerate().skip(1) {
                let mut expected = x.shape().to_vec();
                let own = ty.shape().get(axis).copied().unwrap_or_default();
                expected[axis] = own;
                if ty.shape() != expected {
                    return Err(Mismatch::Shape { operand, found: ty.shape().into(), expected });
                }
                shape[axis] = shape[axis].saturating_add(own);
            }
            shape
        }
        Structured::Pad { mode, before, after, .. } => {
            one_per_axis("before", before, rank)?;
            one_per_axis("after", after, rank)?;
            let most = |n: u64| match mode {
                PadMode::Constant => u64::MAX,
                PadMode::Reflect => n.saturating_sub(1),
                PadMode::Edge if n > 0 => u64::MAX,
                PadMode::Edge => 0,
                PadMode::Wrap => n,
            };
            for (name, pads) in [("before", before), ("after", after)] {
                if pads.iter().zip(x.shape()).any(|(pad, n)| *pad > most(*n)) {
                    return Err(Mismatch::setting(name, pads, "no more than there is to repeat"));
                }
            }
            let dims = x.shape().iter().zip(before).zip(after);
            dims.map(|((n, b), a)| n.saturating_add(*b).saturating_add(*a)).collect()
        }
        Structured::Gather { axis } => {
            let axis = axis_of(x, "axis", *axis)?;
            let indices = operands[1];
            if !matches!(indices.element(), ElementType::I64 | ElementType::I32) {
                return Err(Mismatch::Element { operand: 1, found: indices.element(), expected: "i64 or i32" });
            }
            [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat()
        }
        _ => unreachable!("another file's operation"),
    };
    Ok(TensorType::new(element, shape)?)
}

/// The result of what only moves elements, byte for byte; `None` of other operations.
pub(super) fn copy(_op: &Structured, _operands: &[&Tensor], _ty: &TensorType) -> Option<Tensor> {
    todo!()
}

pub(super) fn evaluate(_op: &Structured, _operands: &[View<'_>], _ty: &TensorType) -> Vec<f64> {
    todo!()
}

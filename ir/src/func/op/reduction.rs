//! Reductions and sums along axes.

use super::super::element::ElementType;
use super::super::types::TensorType;
use super::{Mismatch, Structured, View, axis_of};

/// The shape without some axes, or with 1 for them.
fn reduced(shape: &[u64], axes: &[u64], keep: bool) -> Vec<u64> {
    let dims = shape.iter().enumerate().filter_map(|(d, n)| match axes.contains(&(d as u64)) {
        true => keep.then_some(1),
        false => Some(*n),
    });
    dims.collect()
}

pub(super) fn infer(op: &Structured, x: &TensorType) -> Result<TensorType, Mismatch> {
    match op {
        Structured::Reduce { axes, keep, .. } => {
            axes.iter().try_for_each(|a| axis_of(x, "axes", *a).map(drop))?;
            if !axes.is_sorted_by(|a, b| a < b) {
                return Err(Mismatch::setting("axes", axes, "ascending axes"));
            }
            Ok(TensorType::new(x.element(), reduced(x.shape(), axes, *keep))?)
        }
        Structured::ArgReduce { axis, keep, .. } => {
            let at = axis_of(x, "axis", *axis)?;
            if x.shape()[at] == 0 {
                return Err(Mismatch::setting("axis", axis, "an axis that is not empty"));
            }
            Ok(TensorType::new(ElementType::I64, reduced(x.shape(), &[*axis], *keep))?)
        }
        Structured::CumSum { axis, .. } => axis_of(x, "axis", *axis).map(|_| x.clone()),
        _ => unreachable!("another file's operation"),
    }
}

pub(super) fn evaluate(_op: &Structured, _x: View<'_>, _ty: &TensorType) -> Vec<f64> {
    todo!()
}

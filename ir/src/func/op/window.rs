//! Functions of windows: pools.

use super::super::element::ElementType;
use super::super::types::TensorType;
use super::contraction::Image;
use super::{Mismatch, Structured, View, one_per_axis};

pub(super) fn infer(op: &Structured, x: &TensorType) -> Result<TensorType, Mismatch> {
    let rank = x.rank();
    if rank < 3 {
        return Err(Mismatch::Rank { operand: 0, rank, expected: "images, of rank 3 or more" });
    }
    let (kernel, strides, pads, dilations, out, channels_last, element) = match op {
        Structured::Pool { kernel, strides, pads, dilations, out, channels_last, .. } => {
            (kernel, strides, pads, dilations, out, *channels_last, x.element())
        }
        Structured::MaxPoolIndices { kernel, strides, pads, dilations, out, .. } => {
            (kernel, strides, pads, dilations, out, false, ElementType::I64)
        }
        _ => unreachable!("another file's operation"),
    };
    let axes = rank - 2;
    for (name, list) in [("kernel", kernel), ("strides", strides), ("dilations", dilations), ("out", out)] {
        one_per_axis(name, list, axes)?;
        if list.contains(&0) {
            return Err(Mismatch::setting(name, list, "numbers from 1"));
        }
    }
    one_per_axis("pads", pads, 2 * axes)?;
    let at = Image::of(rank, channels_last);
    for a in 0..axes {
        // The last window must begin before the end of the padded image, so that all of it can be visited in reasonable time.
        let end = x.shape()[at.pixels + a].saturating_add(pads[a]).saturating_add(pads[axes + a]);
        if (out[a] - 1).saturating_mul(strides[a]) >= end {
            return Err(Mismatch::setting("out", out, "windows that begin on the padded image"));
        }
    }
    Ok(TensorType::new(element, Image::shape(channels_last, x.shape()[0], x.shape()[at.channels], out))?)
}

pub(super) fn evaluate(_op: &Structured, _x: View<'_>, _ty: &TensorType) -> Vec<f64> {
    todo!()
}

//! Softmax, and normalisations by mean and variance.

use super::super::types::TensorType;
use super::{Mismatch, Structured, View, axis_of, same_element};

pub(super) fn infer(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    let x = operands[0];
    let element = same_element(operands)?;
    if !element.is_float() {
        return Err(Mismatch::Element { operand: 0, found: element, expected: "floating-point numbers" });
    }
    let same_shape = |expected: &[u64]| {
        let mut others = operands.iter().enumerate().skip(1);
        match others.find(|(_, ty)| ty.shape() != expected) {
            None => Ok(()),
            Some((operand, ty)) => {
                Err(Mismatch::Shape { operand, found: ty.shape().into(), expected: expected.into() })
            }
        }
    };
    match op {
        Structured::Softmax { axis } | Structured::LogSoftmax { axis } => {
            axis_of(x, "axis", *axis)?;
        }
        Structured::LayerNorm { axis, .. } | Structured::RmsNorm { axis, .. } => {
            same_shape(&x.shape()[axis_of(x, "axis", *axis)?..])?;
        }
        Structured::BatchNorm { channels_last, .. } => {
            if x.rank() < 2 {
                return Err(Mismatch::Rank { operand: 0, rank: x.rank(), expected: "channels, so rank 2 or more" });
            }
            same_shape(&[x.shape()[if *channels_last { x.rank() - 1 } else { 1 }]])?;
        }
        Structured::Lrn { size, .. } => {
            axis_of(x, "axis", 1)?;
            if *size == 0 {
                return Err(Mismatch::setting("size", size, "a number from 1"));
            }
        }
        _ => unreachable!("another file's operation"),
    }
    Ok(x.clone())
}

pub(super) fn evaluate(_op: &Structured, _operands: &[View<'_>], _ty: &TensorType) -> Vec<f64> {
    todo!()
}

//! What compiled kernels compute.

use super::super::types::TensorType;
use super::{Mismatch, View};
use crate::problem::{Operand, Problem};
use crate::reference::Sums;

pub(super) fn infer(problem: &Problem, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    if problem.accumulates() {
        return Err(Mismatch::setting("problem", problem, "a problem without beta=1"));
    }
    let expected = problem.operands();
    if !expected.iter().all(Operand::is_dense) {
        return Err(Mismatch::setting(
            "problem",
            problem,
            "a problem without strides: tensors of a function are dense",
        ));
    }
    for (operand, (ty, expected)) in operands.iter().zip(&expected).enumerate() {
        if ty.element().dtype() != Some(expected.dtype) {
            return Err(Mismatch::Element { operand, found: ty.element(), expected: expected.dtype.name() });
        }
        if ty.elements() != expected.len() {
            return Err(Mismatch::Shape { operand, found: ty.shape().into(), expected: expected.memory_shape() });
        }
    }
    let dst = expected.last().expect("a problem has operands");
    Ok(TensorType::new(dst.dtype, dst.memory_shape())?)
}

pub(super) fn evaluate(problem: &Problem, operands: &[View<'_>]) -> Vec<f64> {
    let operands: Vec<Vec<f32>> = operands.iter().map(|o| o.data.iter().map(|v| *v as f32).collect()).collect();
    // The last is what `dst` holds before, which is not read.
    let values: Vec<&[f32]> = operands.iter().map(Vec::as_slice).chain([&[][..]]).collect();
    problem.reference(&values, Sums::Rounded).value
}

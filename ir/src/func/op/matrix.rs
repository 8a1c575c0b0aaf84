//! Functions of square matrices.

use super::super::types::TensorType;
use super::{Mismatch, View, check_seen};

pub(super) fn infer(x: &TensorType) -> Result<TensorType, Mismatch> {
    let [outer @ .., rows, columns] = x.shape() else {
        return Err(Mismatch::Rank { operand: 0, rank: x.rank(), expected: "matrices, so rank 2 or more" });
    };
    if !x.element().is_float() {
        return Err(Mismatch::Element { operand: 0, found: x.element(), expected: "floating-point numbers" });
    }
    if rows != columns {
        let mut expected = x.shape().to_vec();
        expected[outer.len()] = *columns;
        return Err(Mismatch::Shape { operand: 0, found: x.shape().into(), expected });
    }
    check_seen("shape", &x.shape(), [x.elements(), *rows])?;
    Ok(TensorType::new(x.element(), outer)?)
}

/// Determinants by elimination with the greatest pivot of each column.
pub(super) fn determinants(x: View<'_>, ty: &TensorType) -> Vec<f64> {
    let n = x.ty.shape()[x.ty.rank() - 1] as usize;
    let determinant = |matrix: &[f64]| {
        let mut matrix = matrix.to_vec();
        let mut product = 1.0;
        for column in 0..n {
            let pivot = (column..n).fold(column, |best, row| {
                let at = |row: usize| matrix[row * n + column].abs();
                if at(row) > at(best) { row } else { best }
            });
            if pivot != column {
                (0..n).for_each(|i| matrix.swap(pivot * n + i, column * n + i));
                product = -product;
            }
            let value = matrix[column * n + column];
            product *= value;
            if value == 0.0 {
                return 0.0;
            }
            for row in column + 1..n {
                let factor = matrix[row * n + column] / value;
                (column..n).for_each(|i| matrix[row * n + i] -= factor * matrix[column * n + i]);
            }
        }
        product
    };
    // The determinant of a matrix without elements is 1.
    if n == 0 { vec![1.0; ty.elements() as usize] } else { x.data.chunks_exact(n * n).map(determinant).collect() }
}

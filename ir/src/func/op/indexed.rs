//! Elements and slices at places that indices name: read from them, or merged into them.

use super::super::element::ElementType;
use super::super::tensor::Tensor;
use super::super::types::TensorType;
use super::walk::{Walk, dense_strides};
use super::{Merge, Mismatch, Structured, View, axis_of, max, min, numbers, same_element};

pub(super) fn infer(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    let (x, indices) = (operands[0], operands[1]);
    if !matches!(indices.element(), ElementType::I64 | ElementType::I32) {
        return Err(Mismatch::Element { operand: 1, found: indices.element(), expected: "i64 or i32" });
    }
    if let Structured::ScatterElements { merge, .. } | Structured::ScatterNd { merge } = op {
        same_element(&[x, operands[2]])?;
        if *merge != Merge::Replace {
            numbers(0, x.element())?;
        }
    }
    match op {
        Structured::GatherElements { axis } | Structured::ScatterElements { axis, .. } => {
            let axis = axis_of(x, "axis", *axis)?;
            let (shape, wanted) = (x.shape(), indices.shape());
            if wanted.len() != shape.len() || (0..shape.len()).any(|a| a != axis && wanted[a] > shape[a]) {
                return Err(Mismatch::Shape { operand: 1, found: wanted.into(), expected: shape.into() });
            }
            if let Structured::ScatterElements { .. } = op {
                expect_shape(2, operands[2], wanted)?;
                return Ok(x.clone());
            }
            Ok(TensorType::new(x.element(), wanted)?)
        }
        Structured::GatherNd { batch } => {
            let (batch, slice) = coordinates(x, indices, *batch)?;
            if x.shape()[..batch] != indices.shape()[..batch] {
                return Err(Mismatch::setting("batch", batch, "axes that both operands share"));
            }
            Ok(TensorType::new(x.element(), [rows(indices), &x.shape()[slice..]].concat())?)
        }
        Structured::ScatterNd { .. } => {
            let (_, slice) = coordinates(x, indices, 0)?;
            expect_shape(2, operands[2], &[rows(indices), &x.shape()[slice..]].concat())?;
            Ok(x.clone())
        }
        _ => unreachable!("another file's operation"),
    }
}

fn expect_shape(operand: usize, found: &TensorType, expected: &[u64]) -> Result<(), Mismatch> {
    match found.shape() == expected {
        true => Ok(()),
        false => Err(Mismatch::Shape { operand, found: found.shape().into(), expected: expected.into() }),
    }
}

/// The shape of indices without their last axis, which has coordinates.
fn rows(indices: &TensorType) -> &[u64] {
    &indices.shape()[..indices.rank() - 1]
}

/// The number of axes that are shared, and the first axis of a slice.
fn coordinates(x: &TensorType, indices: &TensorType, batch: u64) -> Result<(usize, usize), Mismatch> {
    let Some(&count) = indices.shape().last() else {
        return Err(Mismatch::Rank { operand: 1, rank: 0, expected: "rows of coordinates, so rank 1 or more" });
    };
    let batch = usize::try_from(batch).ok().filter(|batch| *batch < indices.rank() && *batch < x.rank());
    let batch = batch.ok_or_else(|| Mismatch::setting("batch", "too many", "axes that both operands have"))?;
    let most = (x.rank() - batch) as u64;
    if !(1..=most).contains(&count) {
        let expected = format!("1 to {most} coordinates in the last axis of the indices, not {count}");
        return Err(Mismatch::setting("batch", batch, expected));
    }
    Ok((batch, batch + count as usize))
}

/// The element that an index means, from the end if negative; `None` if there is none.
fn place(index: i64, extent: u64) -> Option<usize> {
    let extent = i64::try_from(extent).ok()?;
    let at = if index < 0 { index.checked_add(extent)? } else { index };
    (0..extent).contains(&at).then_some(at as usize)
}

/// The first index that is outside of what it selects from, which is of a type.
pub(super) fn check(op: &Structured, x: &TensorType, indices: &Tensor) -> Result<(), Mismatch> {
    let extents = match op {
        Structured::Gather { axis }
        | Structured::GatherElements { axis }
        | Structured::ScatterElements { axis, .. } => &x.shape()[*axis as usize..][..1],
        Structured::GatherNd { batch } => &x.shape()[*batch as usize..],
        Structured::ScatterNd { .. } => x.shape(),
        Structured::RoiAlign { .. } => &x.shape()[..1],
        _ => return Ok(()),
    };
    let count = match op {
        Structured::GatherNd { .. } | Structured::ScatterNd { .. } => *indices.ty().shape().last().unwrap_or(&1),
        _ => 1,
    };
    // Regions are of images counted from the first.
    let from_end = !matches!(op, Structured::RoiAlign { .. });
    for row in indices.to_i64().unwrap_or_default().chunks_exact(count as usize) {
        for (index, extent) in row.iter().zip(extents) {
            if place(*index, *extent).is_none() || *index < 0 && !from_end {
                return Err(Mismatch::Index { index: *index, extent: *extent });
            }
        }
    }
    Ok(())
}

/// Calls `visit` for each index or row of them, in order, with its number, where in the first operand it points, and how many
/// elements are there; the place is `None` where there is nothing.
fn each_place(
    op: &Structured,
    x: &TensorType,
    indices: View<'_, i64>,
    mut visit: impl FnMut(usize, Option<usize>, usize),
) {
    let strides = dense_strides(x.shape());
    match op {
        Structured::GatherElements { axis } | Structured::ScatterElements { axis, .. } => {
            let axis = *axis as usize;
            let (extent, stride) = (x.shape()[axis], strides[axis] as usize);
            let mut others = strides.clone();
            others[axis] = 0;
            let shape = indices.ty.shape();
            Walk::new(shape, [&dense_strides(shape), &others]).elements([0, 0], |[number, base]| {
                let at = place(indices.data[number], extent);
                visit(number, at.map(|at| base + at * stride), 1);
            });
        }
        _ => {
            let batch = if let Structured::GatherNd { batch } = op { *batch as usize } else { 0 };
            let count = *indices.ty.shape().last().expect("indices have coordinates") as usize;
            let slice = batch + count;
            let size = x.shape()[slice..].iter().product::<u64>() as usize;
            let shared = x.shape()[..batch].iter().product::<u64>() as usize;
            let all = indices.data.len() / count;
            let (each, whole) = (all / shared.max(1), x.shape()[batch..].iter().product::<u64>() as usize);
            for (number, row) in indices.data.chunks_exact(count).enumerate() {
                let start = Some(number / each.max(1) * whole);
                let at = row.iter().enumerate().fold(start, |at, (i, index)| {
                    Some(at? + place(*index, x.shape()[batch + i])? * strides[batch + i] as usize)
                });
                visit(number, at, size);
            }
        }
    }
}

/// What indices name, in their order; `zero` where that is nothing.
pub(super) fn gathered<T: Copy>(op: &Structured, x: View<'_, T>, indices: View<'_, i64>, zero: T) -> Vec<T> {
    let mut values = vec![];
    each_place(op, x.ty, indices, |_, at, size| match at {
        Some(at) => values.extend_from_slice(&x.data[at..][..size]),
        None => values.extend(std::iter::repeat_n(zero, size)),
    });
    values
}

/// The first operand with elements of the last merged in; those that have no place are left out.
pub(super) fn scattered<T: Copy>(
    op: &Structured,
    x: View<'_, T>,
    indices: View<'_, i64>,
    updates: &[T],
    merge: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut values = x.data.to_vec();
    each_place(op, x.ty, indices, |number, at, size| {
        if let Some(at) = at {
            let update = &updates[number * size..][..size];
            values[at..][..size].iter_mut().zip(update).for_each(|(v, u)| *v = merge(*v, *u));
        }
    });
    values
}

pub(super) fn evaluate(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    let indices: Vec<i64> = operands[1].data.iter().map(|v| *v as i64).collect();
    let indices = View { ty: operands[1].ty, data: &indices[..] };
    let (Structured::ScatterElements { merge, .. } | Structured::ScatterNd { merge }) = op else {
        return gathered(op, operands[0], indices, 0.0);
    };
    let scatter = |merge: fn(f64, f64) -> f64| scattered(op, operands[0], indices, operands[2].data, merge);
    let mut values = match merge {
        Merge::Replace => scatter(|_, new| new),
        Merge::Add => scatter(|old, new| old + new),
        Merge::Mul => scatter(|old, new| old * new),
        Merge::Max => scatter(max),
        Merge::Min => scatter(min),
    };
    super::wrap(ty.element(), &mut values);
    values
}

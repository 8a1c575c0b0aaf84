//! Operations that move elements without looking at them.

use std::borrow::Cow;

use bytemuck::Pod;

use super::super::element::ElementType;
use super::super::tensor::Tensor;
use super::super::types::TensorType;
use super::reduction::around;
use super::strided::Strided;
use super::walk::{Walk, dense_strides};
use super::{Merge, Mismatch, PadMode, Structured, View, axis_of, broadcast, indexed, one_per_axis, same_element};

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
            let mut seen = vec![false; rank];
            let mut is_new = |axis: &u64| {
                let seen = usize::try_from(*axis).ok().and_then(|axis| seen.get_mut(axis));
                seen.is_some_and(|seen| !std::mem::replace(seen, true))
            };
            if perm.len() != rank || !perm.iter().all(&mut is_new) {
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
                let own = ty.shape().get(axis).copied().unwrap_or_default();
                let same = |range: std::ops::Range<usize>| ty.shape()[range.clone()] == x.shape()[range];
                if ty.rank() != rank || !same(0..axis) || !same(axis + 1..rank) {
                    let mut expected = x.shape().to_vec();
                    expected[axis] = own;
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
pub(super) fn copy(op: &Structured, operands: &[&Tensor], ty: &TensorType) -> Option<Tensor> {
    match op {
        Structured::Reshape { .. } | Structured::BitCast { .. } => {
            Some(Tensor::new(ty.clone(), operands[0].data().clone()).expect("as many elements"))
        }
        Structured::Transpose { .. }
        | Structured::Broadcast { .. }
        | Structured::Slice { .. }
        | Structured::Concat { .. }
        | Structured::Pad { .. }
        | Structured::Gather { .. }
        | Structured::GatherElements { .. }
        | Structured::GatherNd { .. }
        | Structured::ScatterElements { merge: Merge::Replace, .. }
        | Structured::ScatterNd { merge: Merge::Replace } => Some(match ty.element().bytes() {
            1 => copy_bits::<u8>(op, operands, ty),
            2 => copy_bits::<u16>(op, operands, ty),
            4 => copy_bits::<u32>(op, operands, ty),
            _ => copy_bits::<u64>(op, operands, ty),
        }),
        _ => None,
    }
}

fn copy_bits<T: Pod + Send + Sync>(op: &Structured, operands: &[&Tensor], ty: &TensorType) -> Tensor {
    if ty.elements() == 0 {
        return Tensor::from_bits::<T>(ty.clone(), vec![]);
    }
    let indices = match op {
        Structured::Gather { .. }
        | Structured::GatherElements { .. }
        | Structured::GatherNd { .. }
        | Structured::ScatterElements { .. }
        | Structured::ScatterNd { .. } => operands[1].to_i64().expect("indices are integers"),
        _ => vec![],
    };
    let is_merged = matches!(op, Structured::ScatterElements { .. } | Structured::ScatterNd { .. });
    if is_merged || matches!(op, Structured::GatherElements { .. } | Structured::GatherNd { .. }) {
        let (data, indices) = (operands[0].bits::<T>(), View { ty: operands[1].ty(), data: &indices[..] });
        let x = View { ty: operands[0].ty(), data: &data[..] };
        let values = match is_merged {
            true => indexed::scattered(op, x, indices, &operands[2].bits::<T>(), |_, new| new),
            false => indexed::gathered(op, x, indices, T::zeroed()),
        };
        return Tensor::from_bits(ty.clone(), values);
    }
    let fill = match op {
        Structured::Pad { value, .. } => {
            let scalar = TensorType::new(ty.element(), []).expect("a scalar");
            Tensor::from_f64(scalar, &[value.0]).bits::<T>()[0]
        }
        _ => T::zeroed(),
    };
    // Indices are no elements of the result, and may be of another size.
    let sources = if matches!(op, Structured::Gather { .. }) { &operands[..1] } else { operands };
    let data: Vec<Cow<'_, [T]>> = sources.iter().map(|o| o.bits()).collect();
    let sources: Vec<_> = sources.iter().zip(&data).map(|(o, data)| (o.ty(), &data[..])).collect();
    Tensor::from_bits(ty.clone(), moved(op, &sources, &indices, fill, ty))
}

pub(super) fn evaluate(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    let indices = match op {
        Structured::Gather { .. } => operands[1].data.iter().map(|v| *v as i64).collect(),
        _ => vec![],
    };
    let fill = match op {
        Structured::Pad { value, .. } if ty.element().is_float() => value.0,
        Structured::Pad { value, .. } => ty.element().round(value.0),
        _ => 0.0,
    };
    let sources: Vec<_> = operands.iter().map(|o| (o.ty, o.data)).collect();
    moved(op, &sources, &indices, fill, ty)
}

/// The elements of a result that is not empty. `indices` are those of a gather, `fill` is a pad's constant.
fn moved<T: Pod>(
    op: &Structured,
    sources: &[(&TensorType, &[T])],
    indices: &[i64],
    fill: T,
    ty: &TensorType,
) -> Vec<T> {
    let (x_ty, x) = sources[0];
    let shape = x_ty.shape();
    if let Some(Strided { offset, dims }) = op.strided(x_ty) {
        let (_, strides): (Vec<u64>, Vec<i64>) = dims.into_iter().unzip();
        return strided(x, ty.shape(), &strides, offset as usize);
    }
    match op {
        Structured::Concat { axis } => {
            let [outer, ..] = around(ty.shape(), *axis as usize);
            let mut values = Vec::with_capacity(ty.elements() as usize);
            for i in 0..outer {
                for (_, source) in sources {
                    let chunk = source.len() / outer;
                    values.extend_from_slice(&source[i * chunk..][..chunk]);
                }
            }
            values
        }
        Structured::Pad { mode, before, .. } => padded(x, shape, *mode, before, fill, ty.shape()),
        Structured::Gather { axis } => {
            let [outer, n, inner] = around(shape, *axis as usize);
            let mut values = Vec::with_capacity(ty.elements() as usize);
            for i in 0..outer {
                let source = &x[i * n * inner..][..n * inner];
                for index in indices {
                    let from_start = if *index < 0 { index.saturating_add(n as i64) } else { *index };
                    match usize::try_from(from_start) {
                        Ok(at) if at < n => values.extend_from_slice(&source[at * inner..][..inner]),
                        _ => values.extend(std::iter::repeat_n(T::zeroed(), inner)),
                    }
                }
            }
            values
        }
        _ => unreachable!("another file's operation"),
    }
}

/// The elements of a tensor with its axes in another order.
pub(super) fn transposed<T: Pod>(x: &[T], shape: &[u64], perm: &[usize]) -> Vec<T> {
    let dense = dense_strides(shape);
    let strides: Vec<_> = perm.iter().map(|axis| dense[*axis]).collect();
    let dims: Vec<_> = perm.iter().map(|axis| shape[*axis]).collect();
    strided(x, &dims, &strides, 0)
}

/// A dense tensor of this shape of elements that lie by strides.
fn strided<T: Pod>(x: &[T], shape: &[u64], strides: &[i64], start: usize) -> Vec<T> {
    let count = shape.iter().product::<u64>() as usize;
    let walk = Walk::new(shape, [&dense_strides(shape), strides]);
    let last = walk.dims().len().saturating_sub(1);
    // Rows against the grain: some other dimension lies dense in the source.
    let columns = walk.dims().next_back().filter(|(_, [_, step])| !matches!(step, 0 | 1));
    let across = walk.dims().rposition(|(_, [_, stride])| stride == 1);
    if let (Some(across), Some((columns, [_, step]))) = (across, columns) {
        let (rows, [row, _]) = walk.dims().nth(across).expect("it was found");
        let mut values = vec![T::zeroed(); count];
        walk.without(last).without(across).elements([0, start], |[to, from]| {
            transpose_blocks(&mut values[to..], x, from, [rows, columns], row as usize, step);
        });
        return values;
    }
    let mut values = Vec::with_capacity(count);
    walk.rows([0, start], |[_, from], n, [_, step]| match step {
        1 => values.extend_from_slice(&x[from..][..n]),
        0 => values.extend(std::iter::repeat_n(x[from], n)),
        _ => values.extend((0..n).map(|i| x[from.wrapping_add_signed(i as isize * step)])),
    });
    values
}

/// Rows of `dst`, `row` apart, of columns of `x` from `from` on, `step` apart; the columns themselves are dense.
fn transpose_blocks<T: Pod>(dst: &mut [T], x: &[T], from: usize, [rows, columns]: [usize; 2], row: usize, step: isize) {
    /// So many cache lines of both stay near.
    const BLOCK: usize = 32;
    for first_row in (0..rows).step_by(BLOCK) {
        let block = BLOCK.min(rows - first_row);
        for first in (0..columns).step_by(BLOCK) {
            let end = columns.min(first + BLOCK);
            for column in first..end {
                let from = from.wrapping_add_signed(column as isize * step) + first_row;
                for (i, v) in x[from..][..block].iter().enumerate() {
                    dst[(first_row + i) * row + column] = *v;
                }
            }
        }
    }
}

fn padded<T: Pod>(x: &[T], shape: &[u64], mode: PadMode, before: &[u64], fill: T, to: &[u64]) -> Vec<T> {
    let mut values = vec![fill; to.iter().product::<u64>() as usize];
    let strides = dense_strides(to);
    let start = before.iter().zip(&strides).map(|(b, stride)| *b as usize * *stride as usize).sum();
    Walk::new(shape, [&strides, &dense_strides(shape)]).rows([start, 0], |[to, from], n, _| {
        values[to..][..n].copy_from_slice(&x[from..][..n]);
    });
    if mode == PadMode::Constant {
        return values;
    }
    // From the last axis to the first: what is inside along the axes before has all of the axes after.
    for axis in (0..shape.len()).rev() {
        let (n, before_here, inner) = (shape[axis] as i64, before[axis] as i64, strides[axis] as usize);
        if to[axis] == shape[axis] {
            continue;
        }
        let outer = before[..axis].iter().zip(&strides).map(|(b, stride)| *b as usize * *stride as usize).sum();
        Walk::new(&shape[..axis], [&strides[..axis]]).elements([outer], |[at]| {
            for i in (0..before_here).chain(before_here + n..to[axis] as i64) {
                let place = i - before_here;
                let source = match mode {
                    PadMode::Edge | PadMode::Constant => place.clamp(0, n - 1),
                    PadMode::Reflect if place < 0 => -place,
                    PadMode::Reflect => 2 * (n - 1) - place,
                    PadMode::Wrap => place.rem_euclid(n),
                };
                let from = at + (source + before_here) as usize * inner;
                values.copy_within(from..from + inner, at + i as usize * inner);
            }
        });
    }
    values
}

//! Reductions and sums along axes.

use super::super::element::ElementType;
use super::super::types::TensorType;
use super::walk::{Walk, dense_strides};
use super::{Mismatch, ReduceKind, Structured, View, axis_of, max, min, numbers, wrap};

/// The shape without some axes, which are ascending, or with 1 for them.
fn reduced(shape: &[u64], axes: &[u64], keep: bool) -> Vec<u64> {
    let dims = shape.iter().enumerate().filter_map(|(d, n)| match axes.binary_search(&(d as u64)).is_ok() {
        true => keep.then_some(1),
        false => Some(*n),
    });
    dims.collect()
}

pub(super) fn infer(op: &Structured, x: &TensorType) -> Result<TensorType, Mismatch> {
    match op {
        Structured::Reduce { kind, axes, keep } => {
            if !matches!(kind, ReduceKind::Max | ReduceKind::Min) {
                numbers(0, x.element())?;
            }
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
        Structured::CumSum { axis, .. } | Structured::CumProd { axis, .. } => {
            numbers(0, x.element())?;
            axis_of(x, "axis", *axis).map(|_| x.clone())
        }
        Structured::TopK { k, axis, .. } => {
            numbers(0, x.element())?;
            let axis = axis_of(x, "axis", *axis)?;
            let mut shape = x.shape().to_vec();
            if *k > shape[axis] {
                return Err(Mismatch::setting("k", k, format!("at most the {} elements that there are", shape[axis])));
            }
            shape[axis] = *k;
            Ok(TensorType::new(ElementType::I64, shape)?)
        }
        _ => unreachable!("another file's operation"),
    }
}

pub(super) fn evaluate(op: &Structured, x: View<'_>, ty: &TensorType) -> Vec<f64> {
    let mut values = match op {
        Structured::Reduce { kind, axes, .. } => reduce(*kind, axes, x, ty),
        Structured::ArgReduce { max, axis, last, .. } => {
            arg_reduce(*max, *axis as usize, *last, x, ty).into_iter().map(|at| at as f64).collect()
        }
        Structured::CumSum { axis, exclusive, reverse } => {
            running(*axis as usize, *exclusive, *reverse, x, 0.0, |a, b| a + b)
        }
        Structured::CumProd { axis, exclusive, reverse } => {
            running(*axis as usize, *exclusive, *reverse, x, 1.0, |a, b| a * b)
        }
        Structured::TopK { axis, largest, .. } => {
            sorted(*axis as usize, *largest, x, ty).into_iter().map(|at| at as f64).collect()
        }
        _ => unreachable!("another file's operation"),
    };
    wrap(ty.element(), &mut values);
    values
}

fn reduce(kind: ReduceKind, axes: &[u64], x: View<'_>, ty: &TensorType) -> Vec<f64> {
    let count = axes.iter().map(|a| x.ty.shape()[*a as usize] as f64).product::<f64>();
    let (low, high) = x.ty.element().range().unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let fold = |start, step: fn(f64, f64) -> f64| accumulate(axes, x, ty, start, step);
    let end = |mut values: Vec<f64>, f: &dyn Fn(f64) -> f64| {
        values.iter_mut().for_each(|v| *v = f(*v));
        values
    };
    match kind {
        ReduceKind::Sum => accumulate(axes, x, ty, 0.0, |a, b| a + b),
        ReduceKind::Mean => end(accumulate(axes, x, ty, 0.0, |a, b| a + b), &|v| v / count),
        ReduceKind::Max => accumulate(axes, x, ty, low, max),
        ReduceKind::Min => accumulate(axes, x, ty, high, min),
        ReduceKind::Prod => fold(1.0, |a, b| a * b),
        ReduceKind::L1 => fold(0.0, |a, b| a + b.abs()),
        ReduceKind::L2 => end(fold(0.0, |a, b| a + b * b), &f64::sqrt),
        ReduceKind::SumSquare => fold(0.0, |a, b| a + b * b),
        ReduceKind::LogSumExp => {
            // The greatest comes out of the sum, so that no exponential overflows.
            let greatest = accumulate(axes, x, ty, f64::NEG_INFINITY, max);
            let mut sums = vec![0.0; greatest.len()];
            walk(axes, x.ty).rows([0; 2], |[at, to], n, [step, step_to]| {
                for i in 0..n {
                    let to = to + i * step_to as usize;
                    sums[to] += (x.data[at + i * step as usize] - greatest[to]).exp();
                }
            });
            let log = |(m, sum): (&f64, &f64)| if m.is_infinite() { *m } else { m + sum.ln() };
            greatest.iter().zip(&sums).map(log).collect()
        }
    }
}

/// The walk through an operand, and for each of its elements the place in the result without some axes.
fn walk(axes: &[u64], x: &TensorType) -> Walk<2> {
    let kept = reduced(x.shape(), axes, true);
    let mut to = dense_strides(&kept);
    axes.iter().for_each(|a| to[*a as usize] = 0);
    Walk::new(x.shape(), [&dense_strides(x.shape()), &to])
}

/// Every element of the result: `start`, then `step` with each of the operand's in order.
pub(super) fn accumulate<T: Copy>(
    axes: &[u64],
    x: View<'_, T>,
    ty: &TensorType,
    start: T,
    step: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut values = vec![start; ty.elements() as usize];
    walk(axes, x.ty).rows([0; 2], |[at, to], n, strides| {
        // Rows of the operand are dense, and so are those of the result or they are one element.
        let row = &x.data[at..][..n];
        if strides[1] == 0 {
            values[to] = row.iter().fold(values[to], |a, b| step(a, *b));
        } else {
            values[to..][..n].iter_mut().zip(row).for_each(|(a, b)| *a = step(*a, *b));
        }
    });
    values
}

/// Elements before an axis, on it and after it.
pub(super) fn around(shape: &[u64], axis: usize) -> [usize; 3] {
    let product = |dims: &[u64]| dims.iter().product::<u64>() as usize;
    [product(&shape[..axis]), shape[axis] as usize, product(&shape[axis + 1..])]
}

/// The place of the greatest, or least, element along an axis; of equal ones the first, or last.
pub(super) fn arg_reduce<T: Copy + PartialOrd>(
    greatest: bool,
    axis: usize,
    last: bool,
    x: View<'_, T>,
    ty: &TensorType,
) -> Vec<usize> {
    let [_, n, inner] = around(x.ty.shape(), axis);
    let mut values = vec![0; ty.elements() as usize];
    let Some(first) = x.data.first() else { return values };
    let mut best = vec![*first; inner];
    let is_nan = |v: &T| v.partial_cmp(v).is_none();
    for (dst, lanes) in values.chunks_exact_mut(inner).zip(x.data.chunks_exact(n * inner)) {
        best.copy_from_slice(&lanes[..inner]);
        for (i, row) in lanes.chunks_exact(inner).enumerate().skip(1) {
            for ((dst, best), v) in dst.iter_mut().zip(&mut best).zip(row) {
                // NaN is the greatest and the least, as the reductions have it.
                let beyond = if greatest { *v > *best } else { *v < *best };
                let equal = *v == *best || is_nan(v) && is_nan(best);
                if beyond || is_nan(v) && !is_nan(best) || equal && last {
                    (*dst, *best) = (i, *v);
                }
            }
        }
    }
    values
}

/// `start`, then `step` with each element along an axis; each result is that before its element or after it.
pub(super) fn running<T: Copy>(
    axis: usize,
    exclusive: bool,
    reverse: bool,
    x: View<'_, T>,
    start: T,
    step: impl Fn(T, T) -> T,
) -> Vec<T> {
    let [_, n, inner] = around(x.ty.shape(), axis);
    let mut values = vec![start; x.data.len()];
    let mut so_far = vec![start; inner];
    for (dst, lanes) in values.chunks_exact_mut(n * inner).zip(x.data.chunks_exact(n * inner)) {
        so_far.fill(start);
        for i in 0..n {
            let row = if reverse { n - 1 - i } else { i } * inner;
            for ((dst, so_far), v) in dst[row..].iter_mut().zip(&mut so_far).zip(&lanes[row..]) {
                let before = *so_far;
                *so_far = step(before, *v);
                *dst = if exclusive { before } else { *so_far };
            }
        }
    }
    values
}

/// Where the first elements are along an axis, as many as a result of type `ty` has, when it is sorted.
pub(super) fn sorted<T: Copy + PartialOrd>(axis: usize, largest: bool, x: View<'_, T>, ty: &TensorType) -> Vec<usize> {
    let [_, n, inner] = around(x.ty.shape(), axis);
    let k = ty.shape()[axis] as usize;
    let mut values = vec![0; ty.elements() as usize];
    // What is not itself is NaN.
    let is_nan = |v: T| v.partial_cmp(&v).is_none();
    let ascending = |a: T, b: T| a.partial_cmp(&b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)));
    let mut order: Vec<usize> = Vec::with_capacity(n);
    for (dst, lanes) in values.chunks_exact_mut(k * inner).zip(x.data.chunks_exact(n * inner)) {
        for lane in 0..inner {
            let at = |i: usize| lanes[i * inner + lane];
            order.clear();
            order.extend(0..n);
            // Sorting is stable: of equal elements the earlier stays before the others.
            match largest {
                true => order.sort_by(|a, b| ascending(at(*b), at(*a))),
                false => order.sort_by(|a, b| ascending(at(*a), at(*b))),
            }
            dst[lane..].iter_mut().step_by(inner).zip(&order).for_each(|(d, i)| *d = *i);
        }
    }
    values
}

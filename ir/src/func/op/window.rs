//! Functions of windows: pools.

use super::super::element::ElementType;
use super::super::types::TensorType;
use super::contraction::Image;
use super::walk::{dense_strides, each};
use super::{Mismatch, PoolKind, Structured, View, check_seen, max, numbers, one_per_axis, wrap};

/// The settings of a pool, and of [`Structured::MaxPoolIndices`], which is one too.
struct Windows<'a> {
    kernel: &'a [u64],
    strides: &'a [u64],
    pads: &'a [u64],
    dilations: &'a [u64],
    out: &'a [u64],
    channels_last: bool,
}

impl<'a> Windows<'a> {
    fn of(op: &'a Structured) -> Self {
        match op {
            Structured::Pool { kernel, strides, pads, dilations, out, channels_last, .. } => {
                Windows { kernel, strides, pads, dilations, out, channels_last: *channels_last }
            }
            Structured::MaxPoolIndices { kernel, strides, pads, dilations, out, .. } => {
                Windows { kernel, strides, pads, dilations, out, channels_last: false }
            }
            _ => unreachable!("another file's operation"),
        }
    }

    /// Where window `i` of an axis lies on an image of `pixels`.
    fn span(&self, axis: usize, pixels: u64, i: u64) -> Span {
        let wide = i128::from;
        let (dilation, kernel) = (wide(self.dilations[axis]), wide(self.kernel[axis]));
        let at = wide(i) * wide(self.strides[axis]) - wide(self.pads[axis]);
        // The first element of the window at or after a place.
        let upwards = |place: i128| ((place - at).max(0) + dilation - 1) / dilation;
        let first = upwards(0);
        let end = upwards(wide(pixels)).min(kernel);
        let padded_end = upwards(wide(pixels) + wide(self.pads[self.kernel.len() + axis])).min(kernel);
        // Windows begin on the padded image, so that nothing of them is before it.
        let (count, first) = if first < end { (end - first, at + first * dilation) } else { (0, 0) };
        Span { first: first as usize, count: count as usize, padded: padded_end as f64 }
    }
}

/// Where a window lies on an axis.
#[derive(Clone, Copy)]
struct Span {
    /// Its first pixel on the image.
    first: usize,
    /// Elements on the image.
    count: usize,
    /// Elements on the padded image.
    padded: f64,
}

pub(super) fn infer(op: &Structured, x: &TensorType) -> Result<TensorType, Mismatch> {
    let rank = x.rank();
    if rank < 3 {
        return Err(Mismatch::Rank { operand: 0, rank, expected: "images, of rank 3 or more" });
    }
    numbers(0, x.element())?;
    if let Structured::Pool { kind: PoolKind::Lp, p: 0, .. } = op {
        return Err(Mismatch::setting("p", 0, "a number from 1"));
    }
    let windows = Windows::of(op);
    let Windows { kernel, strides, pads, dilations, out, channels_last } = windows;
    let axes = rank - 2;
    for (name, list) in [("kernel", kernel), ("strides", strides), ("dilations", dilations), ("out", out)] {
        one_per_axis(name, list, axes)?;
        if list.contains(&0) {
            return Err(Mismatch::setting(name, list, "numbers from 1"));
        }
    }
    one_per_axis("pads", pads, 2 * axes)?;
    let at = Image::of(rank, channels_last);
    let pixels = &x.shape()[at.pixels..][..axes];
    for a in 0..axes {
        let end = pixels[a].saturating_add(pads[a]).saturating_add(pads[axes + a]);
        if (out[a] - 1).saturating_mul(strides[a]) >= end {
            return Err(Mismatch::setting("out", out, "windows that begin on the padded image"));
        }
    }
    let element = if matches!(op, Structured::Pool { .. }) { x.element() } else { ElementType::I64 };
    let ty = TensorType::new(element, Image::shape(channels_last, x.shape()[0], x.shape()[at.channels], out))?;
    let seen = kernel.iter().zip(pixels).map(|(k, n)| *k.min(n));
    check_seen("kernel", &kernel, [ty.elements()].into_iter().chain(seen))?;
    Ok(ty)
}

pub(super) fn evaluate(op: &Structured, x: View<'_>, ty: &TensorType) -> Vec<f64> {
    let mut values = match *op {
        Structured::MaxPoolIndices { column_major, .. } => max_indices(op, x, ty, column_major),
        Structured::Pool { kind: PoolKind::Max, .. } => {
            let least = x.ty.element().range().map_or(f64::NEG_INFINITY, |(low, _)| low);
            fold(op, x, ty, least, max, |v, _, _| v)
        }
        Structured::Pool { kind: PoolKind::Average, .. } => {
            let mean = |sum: f64, count: f64, _| if count == 0.0 { 0.0 } else { sum / count };
            fold(op, x, ty, 0.0, |a, b| a + b, mean)
        }
        Structured::Pool { kind: PoolKind::AveragePadded, .. } => {
            let mean = |sum: f64, count: f64, padded: f64| if count == 0.0 { 0.0 } else { sum / padded };
            fold(op, x, ty, 0.0, |a, b| a + b, mean)
        }
        Structured::Pool { kind: PoolKind::Lp, p: 1, .. } => fold(op, x, ty, 0.0, |a, b| a + b.abs(), |v, _, _| v),
        Structured::Pool { kind: PoolKind::Lp, p: 2, .. } => fold(op, x, ty, 0.0, |a, b| a + b * b, |v, _, _| v.sqrt()),
        Structured::Pool { kind: PoolKind::Lp, p, .. } => {
            let p = p as f64;
            fold(op, x, ty, 0.0, |a, b| a + b.abs().powf(p), |v, _, _| v.powf(1.0 / p))
        }
        _ => unreachable!("another file's operation"),
    };
    wrap(ty.element(), &mut values);
    values
}

/// Calls `visit` for each window of an image: its number, and where it lies on each axis. The result is not empty.
fn each_window(windows: &Windows<'_>, pixels: &[u64], mut visit: impl FnMut(usize, &[Span])) {
    let spans: Vec<Vec<Span>> = pixels
        .iter()
        .zip(windows.out)
        .enumerate()
        .map(|(axis, (pixels, out))| (0..*out).map(|i| windows.span(axis, *pixels, i)).collect())
        .collect();
    let mut index = vec![0; spans.len()];
    let mut window: Vec<Span> = spans.iter().map(|axis| axis[0]).collect();
    for number in 0.. {
        visit(number, &window);
        let mut axis = spans.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] == spans[axis].len() {
                index[axis] = 0;
            }
            window[axis] = spans[axis][index[axis]];
            if index[axis] > 0 {
                break;
            }
        }
    }
}

/// What `step` makes of the elements of each window, from `start`; `end` gets it with the number of elements on the image and on
/// the padded image.
fn fold(
    op: &Structured,
    x: View<'_>,
    ty: &TensorType,
    start: f64,
    step: impl Fn(f64, f64) -> f64,
    end: impl Fn(f64, f64, f64) -> f64,
) -> Vec<f64> {
    let windows = Windows::of(op);
    let shape = x.ty.shape();
    let at = Image::of(shape.len(), windows.channels_last);
    let (pixels, channels) = (&shape[at.pixels..][..windows.out.len()], shape[at.channels] as usize);
    // Elements that lie together at each pixel, and images of such.
    let lanes = if windows.channels_last { channels } else { 1 };
    let planes = ty.shape()[0] as usize * channels / lanes;
    let plane = pixels.iter().product::<u64>() as usize * lanes;
    let out = windows.out.iter().product::<u64>() as usize * lanes;
    let dense: Vec<_> = dense_strides(pixels).iter().map(|s| *s as usize * lanes).collect();
    let dilated = |(stride, dilation): (&usize, &u64)| [(*stride as isize).wrapping_mul(*dilation as isize)];
    let strides: Vec<_> = dense.iter().zip(windows.dilations).map(dilated).collect();
    let mut values = vec![start; ty.elements() as usize];
    let (mut extents, mut index) = (vec![], vec![]);
    each_window(&windows, pixels, |number, spans| {
        extents.clear();
        extents.extend(spans.iter().map(|s| s.count));
        let first = spans.iter().zip(&dense).map(|(s, stride)| s.first * stride).sum::<usize>();
        let count = spans.iter().map(|s| s.count as f64).product();
        let padded = spans.iter().map(|s| s.padded).product();
        for p in 0..planes {
            let dst = &mut values[p * out + number * lanes..][..lanes];
            let (inner, outer) = extents.split_last().expect("an image has an axis");
            let (inner_stride, outer_strides) = strides.split_last().expect("an image has an axis");
            if *inner > 0 {
                each(outer, outer_strides, [p * plane + first], &mut index, |[at]| {
                    for i in 0..*inner {
                        let at = at.wrapping_add_signed(inner_stride[0].wrapping_mul(i as isize));
                        dst.iter_mut().zip(&x.data[at..][..lanes]).for_each(|(d, s)| *d = step(*d, *s));
                    }
                });
            }
            dst.iter_mut().for_each(|d| *d = end(*d, count, padded));
        }
    });
    values
}

/// The index of the greatest element of each window; -1 of a window without elements.
fn max_indices(op: &Structured, x: View<'_>, ty: &TensorType, column_major: bool) -> Vec<f64> {
    let windows = Windows::of(op);
    let pixels = &x.ty.shape()[2..];
    let plane = pixels.iter().product::<u64>() as usize;
    let out = windows.out.iter().product::<u64>() as usize;
    let planes = ty.elements() as usize / out;
    let row_major: Vec<_> = dense_strides(pixels).iter().map(|s| *s as isize).collect();
    let counted: Vec<_> = if column_major {
        let reversed: Vec<_> = pixels.iter().rev().copied().collect();
        dense_strides(&reversed).iter().rev().map(|s| *s as isize).collect()
    } else {
        row_major.clone()
    };
    let strides: Vec<_> = row_major
        .iter()
        .zip(&counted)
        .zip(windows.dilations)
        .map(|((r, c), d)| [r.wrapping_mul(*d as isize), c.wrapping_mul(*d as isize)])
        .collect();
    let mut values = vec![-1.0; ty.elements() as usize];
    let (mut extents, mut index) = (vec![], vec![]);
    each_window(&windows, pixels, |number, spans| {
        extents.clear();
        extents.extend(spans.iter().map(|s| s.count));
        let first = |strides: &[isize]| spans.iter().zip(strides).map(|(s, n)| s.first * *n as usize).sum::<usize>();
        let (at, counted) = (first(&row_major), first(&counted));
        for p in 0..planes {
            let mut best: Option<(f64, usize)> = None;
            each(&extents, &strides, [p * plane + at, p * plane + counted], &mut index, |[at, counted]| {
                let v = x.data[at];
                if best.is_none_or(|(b, _)| v > b || v.is_nan() && !b.is_nan()) {
                    best = Some((v, counted));
                }
            });
            if let Some((_, counted)) = best {
                values[p * out + number] = counted as f64;
            }
        }
    });
    values
}

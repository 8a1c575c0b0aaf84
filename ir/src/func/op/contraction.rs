//! Sums of products: matrix products, convolutions and their transposes.

use super::super::types::TensorType;
use super::walk::{Walk, dense_strides, each, stretched_strides};
use super::{Mismatch, Structured, View, broadcast, movement, numbers, one_per_axis, same_element, wrap};

/// Where an image's channels and pixels are.
pub(super) struct Image {
    pub channels: usize,
    /// The first axis of pixels.
    pub pixels: usize,
}

impl Image {
    pub(super) fn of(rank: usize, channels_last: bool) -> Self {
        if channels_last { Image { channels: rank - 1, pixels: 1 } } else { Image { channels: 1, pixels: 2 } }
    }

    /// The shape of images of these channels and pixels.
    pub(super) fn shape(channels_last: bool, images: u64, channels: u64, pixels: &[u64]) -> Vec<u64> {
        let mut shape = vec![images];
        if channels_last {
            shape.extend(pixels);
            shape.push(channels);
        } else {
            shape.push(channels);
            shape.extend(pixels);
        }
        shape
    }
}

/// Windows along an axis: `None` if not even one fits.
pub(super) fn windows(pixels: u64, taps: u64, stride: u64, pads: (u64, u64), dilation: u64) -> Option<u64> {
    let reach = taps.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    let padded = pixels.checked_add(pads.0)?.checked_add(pads.1)?;
    Some(padded.checked_sub(reach)?.checked_div(stride)? + 1)
}

pub(super) fn infer(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    let [x, w] = [operands[0], operands[1]];
    let element = same_element(operands)?;
    numbers(0, element)?;
    if *op == (Structured::Matmul {}) {
        for (operand, ty) in operands.iter().enumerate() {
            if ty.rank() < 2 {
                return Err(Mismatch::Rank {
                    operand,
                    rank: ty.rank(),
                    expected: "a matrix, of rank 2, or more of them",
                });
            }
        }
        let (outer_x, [m, k]) = x.shape().split_last_chunk::<2>().expect("at least two");
        let (outer_w, [k2, n]) = w.shape().split_last_chunk::<2>().expect("at least two");
        if k != k2 {
            return Err(Mismatch::Inner { lhs: *k, rhs: *k2 });
        }
        let shape = broadcast(outer_x, outer_w)?.into_iter().chain([*m, *n]);
        return Ok(TensorType::new(element, shape.collect::<Vec<_>>())?);
    }
    let rank = x.rank();
    if rank < 3 {
        return Err(Mismatch::Rank { operand: 0, rank, expected: "images, of rank 3 or more" });
    }
    if w.rank() != rank {
        return Err(Mismatch::Rank { operand: 1, rank: w.rank(), expected: "the rank of operand 0" });
    }
    let axes = rank - 2;
    let taps = &w.shape()[2..];
    let check = |strides: &[u64], pads: &[u64], dilations: &[u64], groups: u64, divided: u64| {
        one_per_axis("strides", strides, axes)?;
        one_per_axis("dilations", dilations, axes)?;
        one_per_axis("pads", pads, 2 * axes)?;
        if strides.contains(&0) {
            return Err(Mismatch::setting("strides", strides, "numbers from 1"));
        }
        if dilations.contains(&0) {
            return Err(Mismatch::setting("dilations", dilations, "numbers from 1"));
        }
        if groups == 0 || groups > divided.max(1) || !divided.is_multiple_of(groups) {
            return Err(Mismatch::setting("groups", groups, format!("a divisor of {divided} channels")));
        }
        Ok(())
    };
    match op {
        Structured::Conv { strides, pads, dilations, groups, channels_last } => {
            let at = Image::of(rank, *channels_last);
            check(strides, pads, dilations, *groups, w.shape()[0])?;
            let channels = x.shape()[at.channels];
            if w.shape()[1].checked_mul(*groups) != Some(channels) {
                let mut expected = w.shape().to_vec();
                expected[1] = channels / groups;
                return Err(Mismatch::Shape { operand: 1, found: w.shape().into(), expected });
            }
            let out = (0..axes).map(|a| {
                let pixels = x.shape()[at.pixels + a];
                windows(pixels, taps[a], strides[a], (pads[a], pads[axes + a]), dilations[a])
                    .ok_or_else(|| Mismatch::setting("pads", pads, "an image that is not smaller than a window"))
            });
            let out = out.collect::<Result<Vec<_>, _>>()?;
            Ok(TensorType::new(element, Image::shape(*channels_last, x.shape()[0], w.shape()[0], &out))?)
        }
        Structured::ConvTranspose { strides, pads, dilations, output_pads, groups } => {
            one_per_axis("output_pads", output_pads, axes)?;
            check(strides, pads, dilations, *groups, x.shape()[1])?;
            if w.shape()[0] != x.shape()[1] {
                let mut expected = w.shape().to_vec();
                expected[0] = x.shape()[1];
                return Err(Mismatch::Shape { operand: 1, found: w.shape().into(), expected });
            }
            let out = (0..axes).map(|a| {
                let whole = || {
                    let reach = taps[a].checked_sub(1)?.checked_mul(dilations[a])?.checked_add(1)?;
                    let first = x.shape()[2 + a].checked_sub(1)?.checked_mul(strides[a])?;
                    let all = first.checked_add(reach)?.checked_add(output_pads[a])?;
                    all.checked_sub(pads[a].checked_add(pads[axes + a])?)
                };
                whole().ok_or_else(|| Mismatch::setting("pads", pads, "less than what there is to cut off"))
            });
            let out = out.collect::<Result<Vec<_>, _>>()?;
            let channels = w.shape()[1].saturating_mul(*groups);
            Ok(TensorType::new(element, Image::shape(false, x.shape()[0], channels, &out))?)
        }
        _ => unreachable!("another file's operation"),
    }
}

pub(super) fn evaluate(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    let [x, w] = [operands[0], operands[1]];
    if x.data.is_empty() || w.data.is_empty() {
        return vec![0.0; ty.elements() as usize];
    }
    let mut dst = match op {
        Structured::Matmul {} => matmul(x, w, ty, |sum, a, b| sum + a * b),
        Structured::Conv { strides, pads, dilations, groups, channels_last: false } => {
            conv(x, w, ty, *groups, &Taps::new(w.ty, ty, x.ty, (strides, pads, dilations), false))
        }
        Structured::Conv { strides, pads, dilations, groups, channels_last: true } => {
            // The order of sums is that of images with channels first.
            let rank = x.ty.rank();
            let first = |shape: &[u64]| [&shape[..1], &shape[rank - 1..], &shape[1..rank - 1]].concat();
            let to_first: Vec<_> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
            let to_last: Vec<_> = [0].into_iter().chain(2..rank).chain([1]).collect();
            let retyped = |ty: &TensorType| TensorType::new(ty.element(), first(ty.shape())).expect("as many elements");
            let (x_ty, dst_ty) = (retyped(x.ty), retyped(ty));
            let data = movement::transposed(x.data, x.ty.shape(), &to_first);
            let x = View { ty: &x_ty, data: &data };
            let taps = Taps::new(w.ty, &dst_ty, &x_ty, (strides, pads, dilations), false);
            movement::transposed(&conv(x, w, &dst_ty, *groups, &taps), dst_ty.shape(), &to_last)
        }
        Structured::ConvTranspose { strides, pads, dilations, groups, .. } => {
            conv_transpose(x, w, ty, *groups, &Taps::new(w.ty, x.ty, ty, (strides, pads, dilations), true))
        }
        _ => unreachable!("another file's operation"),
    };
    wrap(ty.element(), &mut dst);
    dst
}

/// Products of matrices, of numbers for which `step` adds a product to a sum.
pub(super) fn matmul<T: Copy + Default>(
    lhs: View<'_, T>,
    rhs: View<'_, T>,
    ty: &TensorType,
    step: impl Fn(T, T, T) -> T,
) -> Vec<T> {
    /// Rows of the result that share a pass over the right matrix.
    const ROWS: usize = 4;
    let outer = &ty.shape()[..ty.rank() - 2];
    let [m, n] = [ty.shape()[ty.rank() - 2], ty.shape()[ty.rank() - 1]].map(|d| d as usize);
    let k = lhs.ty.shape()[lhs.ty.rank() - 1] as usize;
    let mut dst = vec![T::default(); ty.elements() as usize];
    if dst.is_empty() || k == 0 {
        return dst;
    }
    let stretched = |shape: &[u64], matrix: usize| -> Vec<i64> {
        let strides = stretched_strides(&shape[..shape.len() - 2], outer.len());
        strides.into_iter().map(|s| s * matrix as i64).collect()
    };
    let (a, b) = (stretched(lhs.ty.shape(), m * k), stretched(rhs.ty.shape(), k * n));
    let mut matrices = dst.chunks_exact_mut(m * n);
    Walk::new(outer, [&a, &b]).elements([0; 2], |[a, b]| {
        let (a, b) = (&lhs.data[a..][..m * k], &rhs.data[b..][..k * n]);
        let dst = matrices.next().expect("one for each index");
        // Each element sums in ascending k, as the reference of a problem does: the two are equal to the last bit.
        for (dst, a) in dst.chunks_mut(ROWS * n).zip(a.chunks(ROWS * k)) {
            for (i, b) in b.chunks_exact(n).enumerate() {
                for (dst, a) in dst.chunks_exact_mut(n).zip(a[i..].iter().step_by(k)) {
                    dst.iter_mut().zip(b).for_each(|(c, b)| *c = step(*c, *a, *b));
                }
            }
        }
    });
    dst
}

/// For each tap, the pairs of a pixel and a window that it sees it with. A pixel `p` of the one image is seen by tap `t` of the
/// window `i` if `p = i * stride + t * dilation - pad`, on each axis.
struct Taps {
    /// Windows that each tap along an axis has, for each axis. Not for each tap of the box, which may have many axes.
    extents: Vec<Vec<usize>>,
    /// The first window and the first pixel, for each tap.
    starts: Vec<[usize; 2]>,
    /// From a window to the next and from its pixel to the next one's, for each axis.
    strides: Vec<[isize; 2]>,
}

impl Taps {
    /// Taps of `weights`; `windows` and `pixels` are types of images. If `swapped`, the pixel is the first of each pair.
    fn new(
        weights: &TensorType,
        windows: &TensorType,
        pixels: &TensorType,
        (strides, pads, dilations): (&[u64], &[u64], &[u64]),
        swapped: bool,
    ) -> Self {
        let order = |[window, pixel]: [usize; 2]| if swapped { [pixel, window] } else { [window, pixel] };
        let [windows, pixels, taps] = [windows, pixels, weights].map(|ty| &ty.shape()[2..]);
        let (window_strides, pixel_strides) = (dense_strides(windows), dense_strides(pixels));
        let axes = taps.len();
        // For each axis and tap: the first window that sees a pixel, the number of windows that do, and the first pixel.
        let seen: Vec<Vec<[usize; 3]>> = (0..axes)
            .map(|a| {
                let [stride, pad, dilation] = [strides[a], pads[a], dilations[a]].map(i128::from);
                (0..taps[a]).map(|t| seen(windows[a], pixels[a], stride, i128::from(t) * dilation - pad)).collect()
            })
            .collect();
        let count = taps.iter().product::<u64>() as usize;
        let mut starts = Vec::with_capacity(count);
        let mut tap = vec![0; axes];
        for _ in 0..count {
            let mut start = [0; 2];
            for a in 0..axes {
                let [window, _, pixel] = seen[a][tap[a]];
                start[0] += window * window_strides[a] as usize;
                start[1] += pixel * pixel_strides[a] as usize;
            }
            starts.push(order(start));
            for a in (0..axes).rev() {
                tap[a] += 1;
                if tap[a] < seen[a].len() {
                    break;
                }
                tap[a] = 0;
            }
        }
        let strides = (0..axes).map(|a| {
            // A stride that leaves the image is one that no two windows are apart.
            let pixel = pixel_strides[a].saturating_mul(i64::try_from(strides[a]).unwrap_or(i64::MAX));
            order([window_strides[a] as usize, pixel as usize]).map(|s| s as isize)
        });
        let extents = seen.iter().map(|axis| axis.iter().map(|[_, n, _]| *n).collect()).collect();
        Taps { extents, starts, strides: strides.collect() }
    }

    /// Adds to each element of an image the one of another that each tap pairs it with, times the tap's weight.
    fn add(&self, dst: &mut [f64], src: &[f64], weights: &[f64], index: &mut [Vec<usize>; 2]) {
        let [extents, index] = index;
        let (inner, outer) = self.strides.split_last().expect("an image has an axis");
        for (tap, (start, w)) in self.starts.iter().zip(weights).enumerate() {
            extents.clear();
            let mut left = tap;
            for axis in self.extents.iter().rev() {
                extents.push(axis[left % axis.len()]);
                left /= axis.len();
            }
            extents.reverse();
            let (&n, extents) = extents.split_last().expect("an image has an axis");
            if n == 0 {
                continue;
            }
            each(extents, outer, *start, index, |[d, s]| match *inner {
                [1, 1] => dst[d..][..n].iter_mut().zip(&src[s..][..n]).for_each(|(d, s)| *d += w * s),
                [step_d, step_s] => {
                    let dst = dst[d..].iter_mut().step_by(step_d as usize);
                    dst.zip(src[s..].iter().step_by(step_s as usize)).take(n).for_each(|(d, s)| *d += w * s);
                }
            });
        }
    }
}

/// The first of `windows` that sees one of `pixels` at `at` from its own first one, how many do, and the first pixel seen.
fn seen(windows: u64, pixels: u64, stride: i128, at: i128) -> [usize; 3] {
    let upwards = |distance: i128| (distance.max(0) + stride - 1) / stride;
    let first = upwards(-at);
    let end = upwards(i128::from(pixels) - at).min(windows.into());
    if first >= end {
        return [0; 3];
    }
    // All three are below the sizes of images.
    [first as usize, (end - first) as usize, (first * stride + at) as usize]
}

fn conv(x: View<'_>, w: View<'_>, ty: &TensorType, groups: u64, taps: &Taps) -> Vec<f64> {
    let plane = |ty: &TensorType| ty.shape()[2..].iter().product::<u64>() as usize;
    let (pixels, windows, count) = (plane(x.ty), plane(ty), plane(w.ty));
    let (outputs, channels) = (ty.shape()[1] as usize, w.ty.shape()[1] as usize);
    let mut dst = vec![0.0; ty.elements() as usize];
    let mut index = Default::default();
    let per_group = outputs / groups as usize;
    let images = x.data.chunks_exact(pixels * channels * groups as usize);
    for (dst, image) in dst.chunks_exact_mut(windows * outputs).zip(images) {
        for (o, (dst, weights)) in dst.chunks_exact_mut(windows).zip(w.data.chunks_exact(count * channels)).enumerate()
        {
            let group = &image[o / per_group * channels * pixels..][..channels * pixels];
            for (src, weights) in group.chunks_exact(pixels).zip(weights.chunks_exact(count)) {
                taps.add(dst, src, weights, &mut index);
            }
        }
    }
    dst
}

fn conv_transpose(x: View<'_>, w: View<'_>, ty: &TensorType, groups: u64, taps: &Taps) -> Vec<f64> {
    let plane = |ty: &TensorType| ty.shape()[2..].iter().product::<u64>() as usize;
    let (windows, pixels, count) = (plane(x.ty), plane(ty), plane(w.ty));
    let (channels, per_group) = (x.ty.shape()[1] as usize, w.ty.shape()[1] as usize);
    let mut dst = vec![0.0; ty.elements() as usize];
    let mut index = Default::default();
    let inputs = channels / groups as usize;
    let images = x.data.chunks_exact(windows * channels);
    for (dst, image) in dst.chunks_exact_mut(pixels * per_group * groups as usize).zip(images) {
        for (o, dst) in dst.chunks_exact_mut(pixels).enumerate() {
            let (group, o) = (o / per_group, o % per_group);
            for c in group * inputs..(group + 1) * inputs {
                let weights = &w.data[(c * per_group + o) * count..][..count];
                taps.add(dst, &image[c * windows..][..windows], weights, &mut index);
            }
        }
    }
    dst
}

//! Sums of products: matrix products, convolutions and their transposes.

use super::super::types::TensorType;
use super::{Mismatch, Structured, View, broadcast, one_per_axis, same_element};

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
    if *op == (Structured::Matmul {}) {
        for (operand, ty) in operands.iter().enumerate() {
            if ty.rank() < 2 {
                return Err(Mismatch::Rank { operand, rank: ty.rank(), expected: "a matrix, of rank 2, or more of them" });
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
        if groups == 0 || divided % groups != 0 {
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

pub(super) fn evaluate(_op: &Structured, _operands: &[View<'_>], _ty: &TensorType) -> Vec<f64> {
    todo!()
}

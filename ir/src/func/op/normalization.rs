//! Softmax, and normalisations by mean and variance.

use super::super::types::TensorType;
use super::reduction::around;
use super::{Mismatch, Structured, View, axis_of, check_seen, same_element};

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
        Structured::Softmax { axis } | Structured::MaskedSoftmax { axis } | Structured::LogSoftmax { axis } => {
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
            check_seen("size", size, [x.elements(), (*size).min(x.shape()[1])])?;
        }
        _ => unreachable!("another file's operation"),
    }
    Ok(x.clone())
}

pub(super) fn evaluate(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    let x = operands[0].data;
    let shape = ty.shape();
    match op {
        Structured::Softmax { axis } => softmax(x, around(shape, *axis as usize), |x, max, sum| (x - max).exp() / sum),
        Structured::MaskedSoftmax { axis } => softmax(x, around(shape, *axis as usize), |x, max, sum| {
            if max == f64::NEG_INFINITY { 0.0 } else { (x - max).exp() / sum }
        }),
        Structured::LogSoftmax { axis } => {
            softmax(x, around(shape, *axis as usize), |x, max, sum| x - max - f64::ln(sum))
        }
        Structured::LayerNorm { axis, epsilon } => {
            let [_, n, inner] = around(shape, *axis as usize);
            normalized(x, n * inner, &operands[1..], |row| {
                let mean = row.iter().sum::<f64>() / row.len() as f64;
                let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / row.len() as f64;
                (mean, (variance + epsilon.0).sqrt())
            })
        }
        Structured::RmsNorm { axis, epsilon } => {
            let [_, n, inner] = around(shape, *axis as usize);
            normalized(x, n * inner, &operands[1..], |row| {
                let mean_square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
                (0.0, (mean_square + epsilon.0).sqrt())
            })
        }
        Structured::BatchNorm { epsilon, channels_last } => {
            let [_, channels, pixels] = around(shape, if *channels_last { shape.len() - 1 } else { 1 });
            let mut values = Vec::with_capacity(x.len());
            for (i, row) in x.chunks_exact(pixels).enumerate() {
                let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|o| operands[o].data[i % channels]);
                let deviation = (variance + epsilon.0).sqrt();
                values.extend(row.iter().map(|v| (v - mean) / deviation * scale + bias));
            }
            values
        }
        Structured::Lrn { size, alpha, beta, bias } => {
            let [images, channels, pixels] = around(shape, 1);
            let (before, after) = ((size - 1) / 2, size / 2);
            let scale = alpha.0 / *size as f64;
            let mut values = Vec::with_capacity(x.len());
            let mut sums = vec![0.0; pixels];
            for image in (0..images).map(|i| &x[i * channels * pixels..][..channels * pixels]) {
                for c in 0..channels as u64 {
                    let first = c.saturating_sub(before) as usize * pixels;
                    let end = (c.saturating_add(after).min(channels as u64 - 1) as usize + 1) * pixels;
                    sums.fill(0.0);
                    for row in image[first..end].chunks_exact(pixels) {
                        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * v);
                    }
                    let row = &image[c as usize * pixels..][..pixels];
                    values.extend(row.iter().zip(&sums).map(|(v, sum)| v / (bias.0 + scale * sum).powf(beta.0)));
                }
            }
            values
        }
        _ => unreachable!("another file's operation"),
    }
}

/// What `end` makes of each element, the greatest along its axis, and the sum of exponentials without that.
fn softmax(x: &[f64], [_, n, inner]: [usize; 3], end: impl Fn(f64, f64, f64) -> f64) -> Vec<f64> {
    let mut values = vec![0.0; x.len()];
    for (dst, lanes) in values.chunks_exact_mut(n * inner).zip(x.chunks_exact(n * inner)) {
        for i in 0..inner {
            let lane = || lanes[i..].iter().step_by(inner);
            let greatest = lane().copied().fold(f64::NEG_INFINITY, super::max);
            let sum = lane().map(|v| (v - greatest).exp()).sum();
            dst[i..].iter_mut().step_by(inner).zip(lane()).for_each(|(d, v)| *d = end(*v, greatest, sum));
        }
    }
    values
}

/// Each row less and by what `moments` says of it, then times the first other operand and plus the second, if there are such.
fn normalized(x: &[f64], n: usize, others: &[View<'_>], moments: impl Fn(&[f64]) -> (f64, f64)) -> Vec<f64> {
    let mut values = Vec::with_capacity(x.len());
    for row in x.chunks_exact(n) {
        let (mean, deviation) = moments(row);
        let at = values.len();
        values.extend(row.iter().map(|v| (v - mean) / deviation));
        let row = &mut values[at..];
        if let Some(scale) = others.first() {
            row.iter_mut().zip(scale.data).for_each(|(v, scale)| *v *= scale);
        }
        if let Some(bias) = others.get(1) {
            row.iter_mut().zip(bias.data).for_each(|(v, bias)| *v += bias);
        }
    }
    values
}

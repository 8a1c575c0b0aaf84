//! Sums of what windows give to the pixels of images.

use super::super::types::TensorType;
use super::{Mismatch, Structured, View, one_per_axis};

pub(super) fn infer(op: &Structured, x: &TensorType) -> Result<TensorType, Mismatch> {
    let Structured::ColumnsToImage { pixels, taps, strides, pads, dilations, out } = op else {
        unreachable!("another file's operation")
    };
    let &[images, columns, windows] = x.shape() else {
        return Err(Mismatch::Rank { operand: 0, rank: x.rank(), expected: "columns of windows of images, of rank 3" });
    };
    let axes = pixels.len();
    let lists = [("taps", taps), ("strides", strides), ("pads", pads), ("dilations", dilations), ("out", out)];
    for (name, list) in lists {
        one_per_axis(name, list, axes)?;
    }
    for (name, list) in [("taps", taps), ("strides", strides), ("dilations", dilations)] {
        if list.contains(&0) {
            return Err(Mismatch::setting(name, list, "numbers from 1"));
        }
    }
    let product = |list: &[u64]| list.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    if product(pixels) != Some(windows) {
        return Err(Mismatch::setting("pixels", pixels, format!("{windows} in all")));
    }
    let Some(all) = product(taps).filter(|all| columns.is_multiple_of(*all)) else {
        return Err(Mismatch::setting("taps", taps, format!("a divisor of {columns} columns in all")));
    };
    let shape: Vec<u64> = [images, columns / all].into_iter().chain(out.iter().copied()).collect();
    Ok(TensorType::new(x.element(), shape)?)
}

pub(super) fn evaluate(op: &Structured, x: View<'_>, ty: &TensorType) -> Vec<f64> {
    let Structured::ColumnsToImage { pixels, taps, strides, pads, dilations, out } = op else {
        unreachable!("another file's operation")
    };
    let mut result = vec![0.0; ty.elements() as usize];
    let (all, windows) = (taps.iter().product::<u64>(), pixels.iter().product::<u64>());
    let image = out.iter().product::<u64>() as usize;
    for (at, value) in x.data.iter().enumerate() {
        let (column, mut window) = (at as u64 / windows, at as u64 % windows);
        let (channel, mut tap) = (column / all, column % all);
        // Where it goes, from the innermost axis on.
        let (mut place, mut stride, mut is_inside) = (0, 1, true);
        for axis in (0..pixels.len()).rev() {
            let there = (window % pixels[axis]).saturating_mul(strides[axis]);
            let there = there.saturating_add((tap % taps[axis]).saturating_mul(dilations[axis]));
            window /= pixels[axis];
            tap /= taps[axis];
            match there.checked_sub(pads[axis]).filter(|p| *p < out[axis]) {
                Some(p) => place += p * stride,
                None => is_inside = false,
            }
            stride *= out[axis];
        }
        if is_inside {
            result[channel as usize * image + place as usize] += value;
        }
    }
    if ty.element().is_float() {
        return result;
    }
    result.iter().map(|v| ty.element().round(*v)).collect()
}

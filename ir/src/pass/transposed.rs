//! Transposed convolutions as matrix products, whose columns are then summed where they overlap.

use super::rewriter::Rewriter;
use crate::func::{ElementType, Func, FuncError, Structured, TensorOp};
use crate::problem::MAX_ELEMENTS;

/// Products take memory, at most so many times what the operands and the result take.
const MOST_PRODUCTS: u64 = 64;

pub(super) fn lower_transposed(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        let Some((TensorOp::Structured(Structured::ConvTranspose { strides, pads, dilations, groups, .. }), operands)) =
            r.def(id)
        else {
            r.keep(id)?;
            continue;
        };
        let [x, w] = [operands[0], operands[1]].map(|o| func.value(o).ty.clone());
        // What has no elements has no kernel either, and other types are the interpreter's.
        if x.element() != ElementType::F32 || x.elements() == 0 || w.elements() == 0 {
            r.keep(id)?;
            continue;
        }
        let (images, channels, pixels) = (x.shape()[0], x.shape()[1], &x.shape()[2..]);
        let (inner, taps) = (channels / groups, &w.shape()[2..]);
        let columns = w.shape()[1] * taps.iter().product::<u64>();
        let windows: u64 = pixels.iter().product();
        let products = [images, *groups, columns].iter().try_fold(windows, |all, n| all.checked_mul(*n));
        let there = x.elements().saturating_add(w.elements()).saturating_add(func.value(id).ty.elements());
        let most = there.saturating_mul(MOST_PRODUCTS).min(MAX_ELEMENTS);
        if products.is_none_or(|products| products > most) {
            r.keep(id)?;
            continue;
        }
        // Groups are a batch; the weights are the same for all images.
        let weights = r.reshape(r.get(operands[1]), &[*groups, inner, columns])?;
        let weights = r.emit(Structured::Transpose { perm: vec![0, 2, 1] }, &[weights])?;
        let source = r.reshape(r.get(operands[0]), &[images, *groups, inner, windows])?;
        let products = r.emit(Structured::Matmul {}, &[weights, source])?;
        let products = r.reshape(products, &[images, groups * columns, windows])?;
        let sum = Structured::ColumnsToImage {
            pixels: pixels.into(),
            taps: taps.into(),
            strides: strides.clone(),
            pads: pads[..pixels.len()].into(),
            dilations: dilations.clone(),
            out: func.value(id).ty.shape()[2..].into(),
        };
        r.replace(id, sum, &[products])?;
    }
    r.finish()
}

//! Transposed convolutions as matrix products, whose columns are then summed where they overlap.

use super::rewriter::Rewriter;
use crate::func::{ElementType, Func, FuncError, Structured, TensorOp};

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
        let windows = pixels.iter().product();
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

//! Padding with zeros before a convolution as padding of the convolution.

use super::numbers::{greatest, has};
use super::rewriter::Rewriter;
use crate::func::{Func, FuncError, PadMode, Structured, TensorOp};

pub(super) fn pad_convolutions(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        let found = r.def(id).and_then(|(op, operands)| {
            let TensorOp::Structured(conv @ Structured::Conv { channels_last, .. }) = op else { return None };
            let (TensorOp::Structured(pad), padded) = r.def(operands[0])? else { return None };
            let Structured::Pad { mode: PadMode::Constant, before, after, value } = pad else {
                return None;
            };
            let element = func.value(id).ty.element();
            let first = if *channels_last { 1 } else { 2 };
            let axes = before.len() - 2;
            let outside = (0..before.len()).filter(|a| !(first..first + axes).contains(a));
            // What lies on the padding is not computed; a product of it with an infinite weight would be NaN.
            if value.0 != 0.0 || greatest(&r, operands[1]).is_none_or(|most| !has(element, most)) {
                return None;
            }
            if outside.into_iter().any(|a| before[a] + after[a] != 0) {
                return None;
            }
            let mut conv = conv.clone();
            let Structured::Conv { pads, .. } = &mut conv else { return None };
            for a in 0..axes {
                pads[a] += before[first + a];
                pads[axes + a] += after[first + a];
            }
            Some((conv, [padded[0], operands[1]]))
        });
        match found {
            Some((conv, on)) => r.replace(id, conv, &r.all(&on))?,
            None => r.keep(id)?,
        }
    }
    r.finish()
}

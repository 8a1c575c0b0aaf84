//! Batch norms with constants as scales and shifts by channel, and such scales as part of the weights before them.

use super::rewriter::Rewriter;
use crate::func::{Binary, Func, FuncError, Structured, Tensor, TensorOp, ValueId};

/// Writes every batch norm of constants as a product and a sum.
pub(super) fn lower_batch_norms(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        let Some((TensorOp::Structured(Structured::BatchNorm { epsilon, channels_last }), operands)) = r.def(id) else {
            r.keep(id)?;
            continue;
        };
        let constants: Option<Vec<Tensor>> = operands[1..].iter().map(|o| func.constant(*o)).collect();
        let ty = &func.value(operands[0]).ty;
        let Some(constants) = constants.filter(|_| ty.element().is_float()) else {
            r.keep(id)?;
            continue;
        };
        let [scale, bias, mean, variance] = [0, 1, 2, 3].map(|i| constants[i].to_f64());
        let factor: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon.0).sqrt()).collect();
        let shift: Vec<f64> = bias.iter().zip(&mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
        let shape = along(if *channels_last { ty.rank() - 1 } else { 1 }, ty.rank(), factor.len() as u64);
        let mut constant = |values: &[f64]| {
            let tensor = Tensor::from_f64(constants[0].ty().clone(), values);
            r.constant(&tensor.reshaped(shape.clone()).expect("as many elements"))
        };
        let (factor, shift) = (constant(&factor), constant(&shift));
        let scaled = r.emit(Binary::Mul {}, &[r.get(operands[0]), factor])?;
        r.replace(id, Binary::Add {}, &[scaled, shift])?;
    }
    r.finish()
}

/// The shape of what is different along one axis only, without the dimensions before it.
fn along(axis: usize, rank: usize, n: u64) -> Vec<u64> {
    let mut shape = vec![1; rank - axis];
    shape[0] = n;
    shape
}

/// Multiplies weights by the scale by channel that follows their product, or follows a bias of it, if nothing else reads what is
/// between.
pub(super) fn scale_weights(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        match Scaled::of(&r, id) {
            Some(scaled) => scaled.emit(&mut r, id)?,
            None => r.keep(id)?,
        }
    }
    r.finish()
}

/// A contraction, a bias perhaps, and a scale.
struct Scaled<'a> {
    op: &'a TensorOp,
    source: ValueId,
    weights: Tensor,
    /// The axis of weights that is the result's channels.
    axis: usize,
    bias: Option<Tensor>,
    factor: Tensor,
}

impl<'a> Scaled<'a> {
    fn of(r: &Rewriter<'a>, id: ValueId) -> Option<Self> {
        let (TensorOp::Binary(Binary::Mul {}), &[x, factor]) = r.def(id)? else { return None };
        let factor = r.old.constant(factor)?;
        let (bias, product) = match r.def(x)? {
            (TensorOp::Binary(Binary::Add {}), &[product, bias]) if r.uses(x) == 1 => {
                (Some(r.old.constant(bias)?), product)
            }
            _ => (None, x),
        };
        let (op, &[source, weights]) = r.def(product)? else { return None };
        if r.uses(product) != 1 {
            return None;
        }
        let ty = &r.old.value(product).ty;
        let weights = r.old.constant(weights)?;
        let (axis, channels) = match op {
            TensorOp::Structured(Structured::Conv { channels_last, .. }) => {
                (0, if *channels_last { ty.rank() - 1 } else { 1 })
            }
            TensorOp::Structured(Structured::Matmul {}) if weights.ty().rank() == 2 => (1, ty.rank() - 1),
            _ => return None,
        };
        let by_channel = |tensor: &Tensor| {
            let shape = along(channels, ty.rank(), ty.shape()[channels]);
            let leading = tensor.ty().rank().checked_sub(shape.len())?;
            let (ones, rest) = tensor.ty().shape().split_at(leading);
            let fits = ones.iter().all(|d| *d == 1) && *rest == *shape && tensor.ty().rank() <= ty.rank();
            fits.then_some(())
        };
        by_channel(&factor)?;
        bias.as_ref().map_or(Some(()), by_channel)?;
        // Weights of other types are few, and rounding them again would be another loss.
        weights.elements::<f32>()?;
        Some(Scaled { op, source, weights, axis, bias, factor })
    }

    fn emit(self, r: &mut Rewriter<'_>, id: ValueId) -> Result<(), FuncError> {
        // The factor as the weights have it: along their axis of channels.
        let factor = self.factor.to_f64();
        let shape = along(self.axis, self.weights.ty().rank(), factor.len() as u64);
        let by_channel = self.factor.reshaped(shape).expect("as many elements");
        let by_channel = r.constant(&by_channel);
        let weights = r.constant(&self.weights);
        let weights = r.emit(Binary::Mul {}, &[weights, by_channel])?;
        let on = [r.get(self.source), weights];
        let Some(bias) = self.bias else { return r.replace(id, self.op.clone(), &on) };
        let shifted: Vec<f64> = bias.to_f64().iter().zip(&factor).map(|(b, f)| b * f).collect();
        let bias = r.constant(&Tensor::from_f64(bias.ty().clone(), &shifted));
        let product = r.emit(self.op.clone(), &on)?;
        r.replace(id, Binary::Add {}, &[product, bias])
    }
}

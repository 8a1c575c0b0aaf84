//! Batch norms with constants as scales and shifts by channel, and such scales as part of the weights before them.

use super::numbers::is_foldable;
use super::rewriter::Rewriter;
use crate::func::{Binary, ElementType, Func, FuncError, Structured, Tensor, TensorOp, TensorType, ValueId};

/// Writes every batch norm of constants as a product and a sum, or, with numbers that are not to be folded, as the four operations
/// that it is.
pub(super) fn lower_batch_norms(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        match Norm::of(&r, id) {
            Some(norm) => norm.emit(&mut r, id)?,
            None => r.keep(id)?,
        }
    }
    r.finish()
}

/// A batch norm of constants.
struct Norm {
    x: ValueId,
    /// The type of the numbers by channel, and their shape beside the operand.
    ty: TensorType,
    shape: Vec<u64>,
    /// Scale, bias and mean.
    numbers: [Vec<f64>; 3],
    /// The square root of variance and epsilon.
    deviation: Vec<f64>,
}

impl Norm {
    fn of(r: &Rewriter<'_>, id: ValueId) -> Option<Self> {
        let (TensorOp::Structured(Structured::BatchNorm { epsilon, channels_last }), operands) = r.def(id)? else {
            return None;
        };
        let constants: Vec<Tensor> = operands[1..].iter().map(|o| r.old.constant(*o)).collect::<Option<_>>()?;
        let rank = r.old.value(operands[0]).ty.rank();
        let ty = constants[0].ty().clone();
        let [scale, bias, mean, variance] = [0, 1, 2, 3].map(|i| constants[i].to_f64());
        let deviation = variance.iter().map(|v| (v + epsilon.0).sqrt()).collect();
        let shape = along(if *channels_last { rank - 1 } else { 1 }, rank, scale.len() as u64);
        Some(Norm { x: operands[0], ty, shape, numbers: [scale, bias, mean], deviation })
    }

    fn emit(self, r: &mut Rewriter<'_>, id: ValueId) -> Result<(), FuncError> {
        let Norm { x, ty, shape, numbers: [scale, bias, mean], deviation } = self;
        let element = ty.element();
        let x = r.get(x);
        let constant = |r: &mut Rewriter<'_>, values: &[f64]| {
            let tensor = Tensor::from_f64(ty.clone(), values);
            r.constant(&tensor.reshaped(shape.clone()).expect("as many elements"))
        };
        let factor: Vec<f64> = scale.iter().zip(&deviation).map(|(s, d)| s / d).collect();
        let moved: Vec<f64> = mean.iter().zip(&factor).map(|(m, f)| m * f).collect();
        let shift: Vec<f64> = bias.iter().zip(&moved).map(|(b, m)| b - m).collect();
        let all = |lists: &[&Vec<f64>], is: fn(ElementType, f64) -> bool| {
            lists.iter().all(|list| list.iter().all(|v| is(element, *v)))
        };
        if all(&[&scale, &bias, &mean, &deviation, &factor, &moved, &shift], is_foldable) {
            let (factor, shift) = (constant(r, &factor), constant(r, &shift));
            let scaled = r.emit(Binary::Mul {}, &[x, factor])?;
            return r.replace(id, Binary::Add {}, &[scaled, shift]);
        }
        // A scale that is next to nothing, of a channel that training has given up, is no number to compute with beforehand.
        let is_middling = |element, v: f64| v.is_finite() && (v.abs() < 1.0 || is_foldable(element, v));
        let has_root = |element, v: f64| v != 0.0 && is_foldable(element, v) && is_foldable(element, 1.0 / v);
        if !(all(&[&scale, &bias, &mean], is_middling) && all(&[&deviation], has_root)) {
            return r.keep(id);
        }
        let [scale, bias, mean, deviation] = [scale, bias, mean, deviation].map(|list| constant(r, &list));
        let centred = r.emit(Binary::Sub {}, &[x, mean])?;
        let normed = r.emit(Binary::Div {}, &[centred, deviation])?;
        let scaled = r.emit(Binary::Mul {}, &[normed, scale])?;
        r.replace(id, Binary::Add {}, &[scaled, bias])
    }
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
    /// The bias times the factor.
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
        let elements = weights.elements::<f32>()?;
        let factors = factor.to_f64();
        let allowed = |v: f64| is_foldable(ElementType::F32, v);
        if !factors.iter().all(|f| allowed(*f)) || !are_scalable(&elements, weights.ty().shape(), axis, &factors) {
            return None;
        }
        let bias = match bias {
            Some(bias) => Some(scaled(&bias, &factors)?),
            None => None,
        };
        Some(Scaled { op, source, weights, axis, bias, factor })
    }

    fn emit(self, r: &mut Rewriter<'_>, id: ValueId) -> Result<(), FuncError> {
        // The factor as the weights have it: along their axis of channels.
        let shape = along(self.axis, self.weights.ty().rank(), self.factor.ty().elements());
        let by_channel = self.factor.reshaped(shape).expect("as many elements");
        let by_channel = r.constant(&by_channel);
        let weights = r.constant(&self.weights);
        let weights = r.emit(Binary::Mul {}, &[weights, by_channel])?;
        let on = [r.get(self.source), weights];
        let Some(bias) = self.bias else { return r.replace(id, self.op.clone(), &on) };
        let bias = r.constant(&bias);
        let product = r.emit(self.op.clone(), &on)?;
        r.replace(id, Binary::Add {}, &[product, bias])
    }
}

/// Numbers times their factors; `None` if they are not to be computed with.
fn scaled(numbers: &Tensor, factors: &[f64]) -> Option<Tensor> {
    let numbers_of = numbers.to_f64();
    let products: Vec<f64> = numbers_of.iter().zip(factors).map(|(n, f)| n * f).collect();
    let all_allowed = numbers_of.iter().chain(&products).all(|v| is_foldable(ElementType::F32, *v));
    all_allowed.then(|| Tensor::from_f64(numbers.ty().clone(), &products))
}

/// Whether weights, and all products of them with their factors, may be computed with. The factors, by the index along an axis, may.
fn are_scalable(weights: &[f32], shape: &[u64], axis: usize, factors: &[f64]) -> bool {
    /// The bits of the least magnitude that is not 0, less 1, and those of the greatest. Magnitudes are in the order of their bits,
    /// NaN behind all; less 1, those of 0 come behind all as well.
    fn extremes(of: &[f32], [least, greatest]: [u32; 2]) -> [u32; 2] {
        of.iter().fold([least, greatest], |[least, greatest], v| {
            let bits = v.to_bits() & (u32::MAX >> 1);
            [least.min(bits.wrapping_sub(1)), greatest.max(bits)]
        })
    }
    let inner = shape[axis + 1..].iter().product::<u64>() as usize;
    let mut found = vec![[u32::MAX, 0]; factors.len()];
    match inner {
        // Channels beside each other are taken row by row.
        1 => weights.chunks_exact(factors.len().max(1)).for_each(|row| {
            row.iter().zip(&mut found).for_each(|(v, found)| *found = extremes(std::slice::from_ref(v), *found));
        }),
        _ => weights.chunks_exact(inner.max(1)).enumerate().for_each(|(i, of)| {
            let found = &mut found[i % factors.len()];
            *found = extremes(of, *found);
        }),
    }
    found.iter().zip(factors).all(|([least, greatest], factor)| {
        // Nothing but zeros, or nothing at all.
        if *greatest == 0 {
            return true;
        }
        let [least, greatest] = [least.wrapping_add(1), *greatest].map(|bits| f64::from(f32::from_bits(bits)));
        // A weight by itself may be tiny; what it becomes may not, unless it becomes 0 because its factor is.
        let allowed = |v: f64| is_foldable(ElementType::F32, v);
        allowed(greatest.max(1.0)) && greatest.is_finite() && allowed(least * factor) && allowed(greatest * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::are_scalable;

    #[test]
    fn weights_are_scaled_where_no_product_leaves_the_middle() {
        let of = |weights: &[f32], shape: &[u64], axis, factors: &[f64]| are_scalable(weights, shape, axis, factors);
        assert!(of(&[1.0, -2.0, 0.0, -0.0], &[2, 2], 0, &[3.0, 1e10]));
        assert!(of(&[1.0, -2.0, 0.0, 5.0], &[2, 2], 1, &[0.0, -1e-20]));
        assert!(of(&[], &[0, 2], 1, &[1.0, 1.0]) && of(&[], &[2, 0], 0, &[1.0, 1.0]) && of(&[], &[0, 2], 0, &[]));
        for wrong in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 1e30] {
            for factor in [0.0, 1.0] {
                assert!(!of(&[1.0, 2.0, wrong, 4.0], &[2, 2], 0, &[1.0, factor]), "{wrong}");
                assert!(!of(&[1.0, 2.0, wrong, 4.0], &[2, 2], 1, &[factor, 1.0]), "{wrong}");
                assert!(of(&[1.0, 2.0, 0.0, 4.0], &[2, 2], 1, &[factor, 1.0]));
            }
        }
        // A product that is too small for its digits, or vanishes; and one that is not.
        assert!(!of(&[1.0, 1e-30, 1.0, 1.0], &[4, 1], 0, &[1.0, 1e-10, 1.0, 1.0]));
        assert!(!of(&[1.0, 1e-30, 1.0, 1.0], &[1, 4], 1, &[1.0, 1e-30, 1.0, 1.0]));
        assert!(of(&[1.0, 1e-40, 1.0, 1.0], &[1, 4], 1, &[1.0, 1e10, 1.0, 1.0]));
        assert!(of(&[1.0, 1e-40, 1.0, 1.0], &[1, 4], 1, &[1.0, 0.0, 1.0, 1.0]));
    }
}

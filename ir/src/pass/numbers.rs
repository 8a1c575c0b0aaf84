//! Which constants passes may compute with: the one decision of all that fold numbers into others.
//!
//! A fold changes the order of operations: `(x * w) * s` becomes `x * (w * s)`. Among numbers of middling magnitude that changes
//! roundings alone. With an infinity it makes NaN of products with 0, with huge numbers it overflows where the operations as they
//! were written do not, and with tiny ones it makes 0 of what a large operand would have brought back. So a fold asks here, of
//! every number that it takes and of every number that it makes, and leaves the operations alone where one is not allowed.

use super::rewriter::{Rewriter, def};
use crate::func::{Binary, ElementType, ReduceKind, Structured, Tensor, TensorOp, Unary, ValueId};

/// Bounds of magnitudes in a floating-point type.
struct Range {
    /// The least number of full precision.
    least: f64,
    /// The square root of a power of two that the type's greatest number reaches.
    middle: f64,
    /// The greatest finite number.
    greatest: f64,
}

/// `None` of types that are not floating-point.
fn range(element: ElementType) -> Option<Range> {
    let of =
        |least: i32, middle: i32, greatest: f64| Range { least: 2f64.powi(least), middle: 2f64.powi(middle), greatest };
    match element {
        ElementType::F32 => Some(of(-126, 64, f32::MAX.into())),
        ElementType::Bf16 => Some(of(-126, 64, half::bf16::MAX.to_f64())),
        ElementType::F16 => Some(of(-14, 8, half::f16::MAX.to_f64())),
        ElementType::F64 => Some(of(-1022, 512, f64::MAX)),
        _ => None,
    }
}

/// Whether a type has a number at its full precision: 0, or neither too large for it nor so small that digits are lost.
pub(super) fn has(element: ElementType, number: f64) -> bool {
    let magnitude = number.abs();
    range(element).is_some_and(|r| magnitude == 0.0 || (r.least..=r.greatest).contains(&magnitude))
}

/// Whether a number may be folded into others: the type [has](has) it, and a product with it overflows only where its other
/// factor is beyond half of the type's exponents.
pub(super) fn is_foldable(element: ElementType, number: f64) -> bool {
    has(element, number) && range(element).is_some_and(|r| number.abs() <= r.middle)
}

/// Whether a number that multiplies a factor of a product may multiply the product instead. The product is then computed without
/// it, so it may be neither so small nor so large that the product needs it to stay within the type.
pub(super) fn may_move(element: ElementType, number: f64) -> bool {
    let most = 2f64.powi(32);
    // Of types with few exponents even small products need their scale.
    range(element).is_some_and(|r| r.middle > most) && (1.0 / most..=most).contains(&number.abs())
}

/// The greatest magnitude of a constant, or a bound of it in what is made of constants and not computed yet; infinite or NaN if an
/// element is, or if it takes many operations. `None` of what depends on something else.
pub(super) fn greatest(r: &Rewriter<'_>, old: ValueId) -> Option<f64> {
    /// Values that are looked at: values that are used again and again are looked at as often.
    const MOST: usize = 64;
    greatest_within(r, old, &mut { MOST })
}

fn greatest_within(r: &Rewriter<'_>, old: ValueId, left: &mut usize) -> Option<f64> {
    let Some(less) = left.checked_sub(1) else { return Some(f64::NAN) };
    *left = less;
    if let Some(constant) = r.old.constant(old) {
        return Some(greatest_of(&constant));
    }
    let (op, operands) = r.def(old)?;
    let mut all = operands.iter().map(|o| greatest_within(r, *o, left));
    match op {
        TensorOp::Structured(
            Structured::Reshape { .. }
            | Structured::Transpose { .. }
            | Structured::Broadcast { .. }
            | Structured::Slice { .. }
            | Structured::Concat { .. },
        ) => {
            all.try_fold(0.0f64, |most, next| next.map(|next| if next >= most || next.is_nan() { next } else { most }))
        }
        TensorOp::Binary(Binary::Mul {}) => all.try_fold(1.0, |product, next| Some(product * next?)),
        _ => None,
    }
}

fn greatest_of(constant: &Tensor) -> f64 {
    // Magnitudes are in the order of their bits, NaN behind all.
    match constant.elements::<f32>() {
        // Weights are read as they are: they may be all of memory.
        Some(elements) => f32::from_bits(elements.iter().fold(0, |most, v| most.max(v.abs().to_bits()))).into(),
        None => f64::from_bits(constant.to_f64().iter().fold(0, |most, v| most.max(v.abs().to_bits()))),
    }
}

/// Whether no element of a new value is below zero; NaN may be among them.
pub(super) fn is_not_negative(r: &Rewriter<'_>, new: ValueId) -> bool {
    /// Operations that are looked through.
    const DEEPEST: usize = 8;
    not_negative(r, new, DEEPEST)
}

fn not_negative(r: &Rewriter<'_>, new: ValueId, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let value = r.value(new);
    let Some((op, operands)) = def(value) else {
        return r.as_splat(new).is_some_and(|v| v >= 0.0);
    };
    let all = || operands.iter().all(|o| not_negative(r, *o, depth));
    match op {
        TensorOp::Unary(Unary::Abs {} | Unary::Exp {} | Unary::Sigmoid {} | Unary::Relu {} | Unary::Sqrt {}) => true,
        TensorOp::Unary(Unary::Clamp { low, high }) => low.0 >= 0.0 && high.0 >= 0.0,
        TensorOp::Binary(Binary::Mul {}) => operands[0] == operands[1] || all(),
        TensorOp::Binary(Binary::Add {} | Binary::Max {} | Binary::Min {}) => all(),
        TensorOp::Structured(Structured::Reduce { kind, .. }) => match kind {
            ReduceKind::SumSquare | ReduceKind::L1 | ReduceKind::L2 => true,
            ReduceKind::Mean | ReduceKind::Sum => all(),
            _ => false,
        },
        TensorOp::Structured(
            Structured::Reshape { .. }
            | Structured::Transpose { .. }
            | Structured::Broadcast { .. }
            | Structured::Slice { .. }
            | Structured::Concat { .. },
        ) => all(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_foldable_in_the_middle_of_their_type() {
        use ElementType::{Bf16, F16, F32, F64, I32};
        for element in [F32, Bf16, F16, F64] {
            for number in [0.0, -0.0, 1.0, -0.125, 100.0] {
                assert!(has(element, number) && is_foldable(element, number), "{element} {number}");
            }
            for number in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
                assert!(!has(element, number) && !is_foldable(element, number) && !may_move(element, number));
            }
        }
        assert!(has(F32, 1e30) && !is_foldable(F32, 1e30) && is_foldable(F64, 1e30) && !has(F16, 1e30));
        assert!(has(F16, 60000.0) && !is_foldable(F16, 60000.0) && !has(F16, 1e-5));
        assert!(!has(F32, 1e-40) && !has(F32, 1e-60) && !has(Bf16, 1e39) && has(F64, 1e-300) && !has(F64, 1e-310));
        assert!(may_move(F32, 0.125) && may_move(Bf16, -8.0) && !may_move(F16, 0.125) && !may_move(F32, 0.0));
        assert!(!may_move(F32, 1e-30) && !may_move(F32, 1e30));
        assert!(!has(I32, 1.0) && !is_foldable(I32, 1.0) && !may_move(I32, 1.0));
    }
}

//! Operations element by element.

use super::super::element::ElementType;
use super::super::types::TensorType;
use super::walk::{Walk, stretched_strides};
use super::{Binary, Mismatch, Structured, Tensor, Unary, View, broadcast, max, min, same_element, wrap};
use crate::epilogue::PostOp;

pub(super) fn infer_unary(op: &Unary, x: &TensorType) -> Result<TensorType, Mismatch> {
    let element = x.element();
    let wrong = |expected| Err(Mismatch::Element { operand: 0, found: element, expected });
    match op {
        Unary::Not {} if element != ElementType::Bool => wrong("bool"),
        Unary::Not {} => Ok(x.clone()),
        _ if element == ElementType::Bool => wrong("numbers"),
        Unary::BitNot {} if element.is_float() => wrong("integers"),
        Unary::BitNot {} => Ok(x.clone()),
        // These are integers again; the others would not be.
        Unary::Abs {} | Unary::Neg {} | Unary::Sign {} | Unary::Relu {} | Unary::Clamp { .. } => Ok(x.clone()),
        _ if !element.is_float() => wrong("floating-point numbers"),
        _ => Ok(x.clone()),
    }
}

pub(super) fn infer_binary(op: &Binary, a: &TensorType, b: &TensorType) -> Result<TensorType, Mismatch> {
    let shape = broadcast(a.shape(), b.shape())?;
    let element = same_element(&[a, b])?;
    let is_bool = element == ElementType::Bool;
    use Binary::*;
    let result = match op {
        And {} | Or {} | Xor {} if !is_bool => {
            return Err(Mismatch::Element { operand: 0, found: element, expected: "bool" });
        }
        And {} | Or {} | Xor {} | Equal {} => ElementType::Bool,
        BitAnd {} | BitOr {} | BitXor {} | ShiftLeft {} | ShiftRight {} if is_bool || element.is_float() => {
            return Err(Mismatch::Element { operand: 0, found: element, expected: "integers" });
        }
        BitAnd {} | BitOr {} | BitXor {} | ShiftLeft {} | ShiftRight {} => element,
        _ if is_bool => return Err(Mismatch::Element { operand: 0, found: element, expected: "numbers" }),
        Less {} | LessOrEqual {} | Greater {} | GreaterOrEqual {} => ElementType::Bool,
        Add {} | Sub {} | Mul {} | Div {} | Rem {} | Pow {} | Max {} | Min {} | PRelu {} => element,
    };
    Ok(TensorType::new(result, shape)?)
}

pub(super) fn infer_other(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match op {
        Structured::Cast { to } => Ok(TensorType::new(*to, operands[0].shape())?),
        Structured::BitCast { to } => {
            let from = operands[0].element();
            // Not every byte is a boolean.
            let is_free = *to != ElementType::Bool || from == *to;
            if from.bytes() != to.bytes() || !is_free {
                return Err(Mismatch::setting("to", to, format!("a type of numbers of {} bytes", from.bytes())));
            }
            Ok(TensorType::new(*to, operands[0].shape())?)
        }
        _ => {
            let [condition, a, b] = [operands[0], operands[1], operands[2]];
            if condition.element() != ElementType::Bool {
                return Err(Mismatch::Element { operand: 0, found: condition.element(), expected: "bool" });
            }
            let shape = broadcast(condition.shape(), &broadcast(a.shape(), b.shape())?)?;
            Ok(TensorType::new(same_element(&[a, b])?, shape)?)
        }
    }
}

pub(super) fn evaluate_unary(op: &Unary, x: View<'_>) -> Vec<f64> {
    let element = x.ty.element();
    let map = |f: &dyn Fn(f64) -> f64| x.data.iter().map(|v| f(*v)).collect::<Vec<_>>();
    let post = |op: PostOp| x.data.iter().map(|v| op.apply_f64(*v, 0.0)).collect::<Vec<_>>();
    let mut values = match *op {
        Unary::Abs {} => post(PostOp::Abs),
        Unary::Neg {} => map(&|v| -v),
        Unary::Exp {} => post(PostOp::Exp),
        Unary::Log {} => map(&f64::ln),
        Unary::Sqrt {} => post(PostOp::Sqrt),
        Unary::Reciprocal {} => map(&|v| 1.0 / v),
        Unary::Erf {} => map(&libm::erf),
        Unary::Tanh {} => post(PostOp::Tanh),
        Unary::Sin {} => map(&f64::sin),
        Unary::Cos {} => map(&f64::cos),
        Unary::Tan {} => map(&f64::tan),
        Unary::Asin {} => map(&f64::asin),
        Unary::Acos {} => map(&f64::acos),
        Unary::Atan {} => map(&f64::atan),
        Unary::Sinh {} => map(&f64::sinh),
        Unary::Cosh {} => map(&f64::cosh),
        Unary::Asinh {} => map(&f64::asinh),
        Unary::Acosh {} => map(&f64::acosh),
        Unary::Atanh {} => map(&f64::atanh),
        Unary::Sigmoid {} => post(PostOp::Sigmoid),
        Unary::Relu {} => post(PostOp::Relu),
        Unary::LeakyRelu { alpha } => map(&|v| if v > 0.0 { v } else { alpha.0 * v }),
        Unary::ThresholdedRelu { alpha } => map(&|v| if v > alpha.0 { v } else { 0.0 }),
        Unary::Elu { alpha } => map(&|v| if v > 0.0 { v } else { alpha.0 * v.exp_m1() }),
        Unary::Selu { alpha, gamma } => map(&|v| if v > 0.0 { gamma.0 * v } else { gamma.0 * (alpha.0 * v.exp_m1()) }),
        Unary::Celu { alpha } => map(&|v| max(v, 0.0) + min(alpha.0 * (v / alpha.0).exp_m1(), 0.0)),
        Unary::Softplus {} => map(&softplus),
        Unary::Softsign {} => post(PostOp::Softsign),
        Unary::HardSigmoid { alpha, beta } => map(&|v| min(max(alpha.0 * v + beta.0, 0.0), 1.0)),
        Unary::HardSwish {} => post(PostOp::HardSwish),
        Unary::GeluErf {} => post(PostOp::GeluErf),
        Unary::GeluTanh {} => post(PostOp::GeluTanh),
        Unary::Silu {} => post(PostOp::Silu),
        // The limit at minus infinity is 0.
        Unary::Mish {} => map(&|v| if v == f64::NEG_INFINITY { -0.0 } else { v * softplus(v).tanh() }),
        Unary::Floor {} => map(&f64::floor),
        Unary::Ceil {} => map(&f64::ceil),
        Unary::Round {} => map(&f64::round_ties_even),
        Unary::Sign {} => map(&|v| {
            if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                v
            }
        }),
        Unary::Not {} => map(&|v| f64::from(v == 0.0)),
        Unary::BitNot {} => map(&|v| -1.0 - v),
        Unary::Clamp { low, high } => map(&|v| if v.is_nan() { v } else { v.max(low.0).min(high.0) }),
    };
    wrap(element, &mut values);
    values
}

/// `log(1 + exp(x))` without loss at either end.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub(super) fn evaluate_binary(op: &Binary, a: View<'_>, b: View<'_>, ty: &TensorType) -> Vec<f64> {
    let element = a.ty.element();
    let is_float = element.is_float();
    // Products of these have more bits than double precision, but none that 64 bits lose.
    let is_narrow = !is_float && element.bytes() < 8;
    let truth = |v: f64| v != 0.0;
    let mut values = match op {
        Binary::Add {} => zip(a, b, ty, |a, b| a + b),
        Binary::Sub {} => zip(a, b, ty, |a, b| a - b),
        Binary::Mul {} if is_narrow => zip(a, b, ty, |a, b| low_half((a as i64).wrapping_mul(b as i64))),
        Binary::Mul {} => zip(a, b, ty, |a, b| a * b),
        Binary::Div {} if is_float => zip(a, b, ty, |a, b| a / b),
        Binary::Div {} => zip(a, b, ty, |a, b| if b == 0.0 { 0.0 } else { (a / b).trunc() }),
        Binary::Rem {} if is_float => zip(a, b, ty, |a, b| a % b),
        Binary::Rem {} => zip(a, b, ty, |a, b| if b == 0.0 { 0.0 } else { a % b }),
        Binary::Pow {} if is_narrow => zip(a, b, ty, |a, b| match b >= 0.0 {
            true => low_half((a as i64).wrapping_pow(b as u32)),
            false => a.powf(b),
        }),
        Binary::Pow {} => zip(a, b, ty, f64::powf),
        Binary::Max {} => zip(a, b, ty, max),
        Binary::Min {} => zip(a, b, ty, min),
        Binary::PRelu {} => zip(a, b, ty, |a, b| if a > 0.0 { a } else { a * b }),
        Binary::Equal {} => zip(a, b, ty, |a, b| f64::from(a == b)),
        Binary::Less {} => zip(a, b, ty, |a, b| f64::from(a < b)),
        Binary::LessOrEqual {} => zip(a, b, ty, |a, b| f64::from(a <= b)),
        Binary::Greater {} => zip(a, b, ty, |a, b| f64::from(a > b)),
        Binary::GreaterOrEqual {} => zip(a, b, ty, |a, b| f64::from(a >= b)),
        Binary::And {} => zip(a, b, ty, |a, b| f64::from(truth(a) && truth(b))),
        Binary::Or {} => zip(a, b, ty, |a, b| f64::from(truth(a) || truth(b))),
        Binary::Xor {} => zip(a, b, ty, |a, b| f64::from(truth(a) != truth(b))),
        Binary::BitAnd {} | Binary::BitOr {} | Binary::BitXor {} | Binary::ShiftLeft {} | Binary::ShiftRight {} => {
            let bits = 8 * element.bytes() as u32;
            zip(a, b, ty, |a, b| low_bits(element, on_bits(op, bits, a as i128, b as i128)))
        }
    };
    wrap(ty.element(), &mut values);
    values
}

/// The low 32 bits, which double precision holds and which say what any narrower integer is.
fn low_half(value: i64) -> f64 {
    f64::from(value as u32)
}

/// The low bits of an integer as a number of a type: those of 64 bits are rounded.
fn low_bits(element: ElementType, value: i128) -> f64 {
    match element {
        ElementType::I64 => value as i64 as f64,
        ElementType::U64 => value as u64 as f64,
        _ => f64::from(value as u32),
    }
}

/// A function of the pairs of elements of two tensors that broadcast.
pub(super) fn zip<T: Copy>(a: View<'_, T>, b: View<'_, T>, ty: &TensorType, f: impl Fn(T, T) -> T) -> Vec<T> {
    let strides = [a, b].map(|o| stretched_strides(o.ty.shape(), ty.rank()));
    let mut values = Vec::with_capacity(ty.elements() as usize);
    Walk::new(ty.shape(), [&strides[0], &strides[1]]).rows([0; 2], |[at_a, at_b], n, strides| match strides {
        [1, 1] => values.extend(a.data[at_a..][..n].iter().zip(&b.data[at_b..][..n]).map(|(a, b)| f(*a, *b))),
        [1, 0] => values.extend(a.data[at_a..][..n].iter().map(|a| f(*a, b.data[at_b]))),
        [0, 1] => values.extend(b.data[at_b..][..n].iter().map(|b| f(a.data[at_a], *b))),
        // Both stretch only where the result has one element.
        _ => values.extend((0..n).map(|_| f(a.data[at_a], b.data[at_b]))),
    });
    values
}

/// An operation on the bits of integers of so many; what is beyond them in the result does not count.
pub(super) fn on_bits(op: &Binary, bits: u32, a: i128, b: i128) -> i128 {
    let by = u32::try_from(b).ok().filter(|by| *by < bits);
    match op {
        Binary::BitAnd {} => a & b,
        Binary::BitOr {} => a | b,
        Binary::BitXor {} => a ^ b,
        Binary::ShiftLeft {} => by.map_or(0, |by| a << by),
        Binary::ShiftRight {} => by.map_or(if a < 0 { -1 } else { 0 }, |by| a >> by),
        _ => unreachable!("another operation"),
    }
}

pub(super) fn evaluate_other(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    match op {
        Structured::Cast { to } => operands[0].data.iter().map(|v| to.round(*v)).collect(),
        Structured::BitCast { .. } => {
            let bits = Tensor::from_f64(operands[0].ty.clone(), operands[0].data);
            Tensor::new(ty.clone(), bits.data().clone()).expect("elements of one size").to_f64()
        }
        _ => select(operands[0], operands[1], operands[2], ty, |condition| condition != 0.0),
    }
}

/// Elements of the second where the first holds, else of the third.
pub(super) fn select<T: Copy>(
    condition: View<'_, T>,
    a: View<'_, T>,
    b: View<'_, T>,
    ty: &TensorType,
    holds: impl Fn(T) -> bool,
) -> Vec<T> {
    let strides = [condition, a, b].map(|o| stretched_strides(o.ty.shape(), ty.rank()));
    let mut values = Vec::with_capacity(ty.elements() as usize);
    Walk::new(ty.shape(), [&strides[0], &strides[1], &strides[2]]).rows([0; 3], |at, n, strides| {
        let offset = |operand: usize, i: usize| at[operand] + i * strides[operand] as usize;
        values.extend((0..n).map(|i| match holds(condition.data[offset(0, i)]) {
            true => a.data[offset(1, i)],
            false => b.data[offset(2, i)],
        }));
    });
    values
}

//! Integers of 64 bits, exactly: double precision holds 53.

use super::super::element::ElementType;
use super::super::tensor::Tensor;
use super::super::types::TensorType;
use super::elementwise::{on_bits, select, zip};
use super::reduction::{self, accumulate, running, sorted};
use super::{Binary, Merge, ReduceKind, Structured, TensorOp, Unary, View};
use super::{contraction, indexed};

/// The result of an operation on integers some of which have 64 bits, wrapped around as two's complement does; `None` of other
/// operands, and of operations that are none on integers.
pub(super) fn apply(op: &TensorOp, operands: &[&Tensor], ty: &TensorType) -> Option<Tensor> {
    let is_wide = |e: ElementType| matches!(e, ElementType::I64 | ElementType::U64);
    let mut types = operands.iter().map(|o| o.ty().element()).chain([ty.element()]);
    if !types.clone().any(is_wide) || ty.elements() == 0 {
        return None;
    }
    if let TensorOp::Structured(Structured::Cast { to }) = op
        && to.is_float()
    {
        return Some(Tensor::from_f64(
            ty.clone(),
            &widened(operands[0]).into_iter().map(|v| nearest(v, *to)).collect::<Vec<_>>(),
        ));
    }
    if types.any(|e| e.is_float()) {
        return None;
    }
    let data: Vec<Vec<i128>> = operands.iter().map(|o| widened(o)).collect();
    let views: Vec<View<'_, i128>> = operands.iter().zip(&data).map(|(o, data)| View { ty: o.ty(), data }).collect();
    let values = match op {
        TensorOp::Unary(op) => unary(op, views[0])?,
        TensorOp::Binary(op) => binary(op, views[0], views[1], ty)?,
        TensorOp::Structured(op) => structured(op, &views, operands, ty)?,
        TensorOp::Control(_) => return None,
    };
    Some(narrowed(ty, values))
}

fn widened(tensor: &Tensor) -> Vec<i128> {
    match tensor.ty().element() {
        ElementType::I64 => tensor.bits::<i64>().iter().map(|v| (*v).into()).collect(),
        ElementType::U64 => tensor.bits::<u64>().iter().map(|v| (*v).into()).collect(),
        _ => tensor.to_f64().into_iter().map(|v| v as i128).collect(),
    }
}

/// The double from which rounding to a floating-point type gives what rounding the integer once does: for narrower types the one
/// towards zero whose last bit says that something was cut off (rounding to odd, Boldo and Melquiond).
fn nearest(value: i128, to: ElementType) -> f64 {
    let double = value as f64;
    if to == ElementType::F64 || double as i128 == value {
        return double;
    }
    let towards_zero = if (double as i128).abs() > value.abs() { double.to_bits() - 1 } else { double.to_bits() };
    f64::from_bits(towards_zero | 1)
}

fn narrowed(ty: &TensorType, values: Vec<i128>) -> Tensor {
    match ty.element() {
        ElementType::I64 => Tensor::from_bits(ty.clone(), values.into_iter().map(|v| v as i64).collect()),
        ElementType::U64 => Tensor::from_bits(ty.clone(), values.into_iter().map(|v| v as u64).collect()),
        ElementType::Bool => Tensor::from_bits(ty.clone(), values.into_iter().map(|v| u8::from(v != 0)).collect()),
        // The others have 32 bits at most, which double precision holds.
        _ => Tensor::from_f64(ty.clone(), &values.into_iter().map(|v| f64::from(v as u32)).collect::<Vec<_>>()),
    }
}

fn unary(op: &Unary, x: View<'_, i128>) -> Option<Vec<i128>> {
    let map = |f: &dyn Fn(i128) -> i128| Some(x.data.iter().map(|v| f(*v)).collect());
    match op {
        Unary::Abs {} => map(&i128::abs),
        Unary::Neg {} => map(&|v| -v),
        Unary::Sign {} => map(&i128::signum),
        Unary::Relu {} => map(&|v| v.max(0)),
        Unary::BitNot {} => map(&|v| !v),
        // Limits beyond all integers become the last of them.
        Unary::Clamp { low, high } if !low.0.is_nan() && !high.0.is_nan() => {
            // A limit between two integers is rounded towards zero, as a result that is equal to it would be.
            map(&|v| v.max(low.0.trunc() as i128).min(high.0.trunc() as i128))
        }
        _ => None,
    }
}

fn binary(op: &Binary, a: View<'_, i128>, b: View<'_, i128>, ty: &TensorType) -> Option<Vec<i128>> {
    let bits = 8 * a.ty.element().bytes() as u32;
    Some(match op {
        Binary::Add {} => zip(a, b, ty, |a, b| a + b),
        Binary::Sub {} => zip(a, b, ty, |a, b| a - b),
        Binary::Mul {} => zip(a, b, ty, i128::wrapping_mul),
        Binary::Div {} => zip(a, b, ty, |a, b| if b == 0 { 0 } else { a / b }),
        Binary::Rem {} => zip(a, b, ty, |a, b| if b == 0 { 0 } else { a % b }),
        Binary::Pow {} => zip(a, b, ty, |a, b| match b >= 0 {
            true => a.wrapping_pow(b as u32),
            false => (a as f64).powf(b as f64) as i128,
        }),
        Binary::Max {} => zip(a, b, ty, i128::max),
        Binary::Min {} => zip(a, b, ty, i128::min),
        Binary::PRelu {} => zip(a, b, ty, |a, b| if a > 0 { a } else { a.wrapping_mul(b) }),
        Binary::Equal {} => zip(a, b, ty, |a, b| (a == b).into()),
        Binary::Less {} => zip(a, b, ty, |a, b| (a < b).into()),
        Binary::LessOrEqual {} => zip(a, b, ty, |a, b| (a <= b).into()),
        Binary::Greater {} => zip(a, b, ty, |a, b| (a > b).into()),
        Binary::GreaterOrEqual {} => zip(a, b, ty, |a, b| (a >= b).into()),
        Binary::BitAnd {} | Binary::BitOr {} | Binary::BitXor {} | Binary::ShiftLeft {} | Binary::ShiftRight {} => {
            zip(a, b, ty, |a, b| on_bits(op, bits, a, b))
        }
        Binary::And {} | Binary::Or {} | Binary::Xor {} => return None,
    })
}

fn structured(op: &Structured, views: &[View<'_, i128>], operands: &[&Tensor], ty: &TensorType) -> Option<Vec<i128>> {
    let x = views[0];
    let fold = |axes: &[u64], start: i128, step: fn(i128, i128) -> i128| Some(accumulate(axes, x, ty, start, step));
    match op {
        Structured::Cast { .. } => Some(x.data.to_vec()),
        Structured::Matmul {} => {
            Some(contraction::matmul(x, views[1], ty, |sum: i128, a, b| sum.wrapping_add(a.wrapping_mul(b))))
        }
        Structured::ArgReduce { max, axis, last, .. } => {
            let places = reduction::arg_reduce(*max, *axis as usize, *last, x, ty);
            Some(places.into_iter().map(|at| at as i128).collect())
        }
        Structured::Where {} => Some(select(views[0], views[1], views[2], ty, |condition| condition != 0)),
        Structured::CumSum { axis, exclusive, reverse } => {
            Some(running(*axis as usize, *exclusive, *reverse, x, 0, |a, b| a + b))
        }
        Structured::CumProd { axis, exclusive, reverse } => {
            Some(running(*axis as usize, *exclusive, *reverse, x, 1, i128::wrapping_mul))
        }
        Structured::TopK { axis, largest, .. } => {
            let places = sorted(*axis as usize, *largest, x, ty);
            Some(places.into_iter().map(|at| at as i128).collect())
        }
        Structured::Reduce { kind, axes, .. } => match kind {
            ReduceKind::Sum => fold(axes, 0, |a, b| a + b),
            ReduceKind::Max => fold(axes, least_of(ty.element()), i128::max),
            ReduceKind::Min => fold(axes, greatest_of(ty.element()), i128::min),
            ReduceKind::Prod => fold(axes, 1, i128::wrapping_mul),
            ReduceKind::L1 => fold(axes, 0, |a, b| a + b.abs()),
            ReduceKind::SumSquare => fold(axes, 0, |a, b| a.wrapping_add(b.wrapping_mul(b))),
            ReduceKind::Mean => {
                let count = axes.iter().map(|a| i128::from(x.ty.shape()[*a as usize])).product::<i128>();
                // Of nothing there is no mean.
                let sums = fold(axes, 0, |a, b| a + b).filter(|_| count > 0)?;
                Some(sums.into_iter().map(|sum| sum / count).collect())
            }
            ReduceKind::L2 | ReduceKind::LogSumExp => None,
        },
        Structured::ScatterElements { merge, .. } | Structured::ScatterNd { merge } => {
            let indices = operands[1].to_i64()?;
            let indices = View { ty: operands[1].ty(), data: &indices[..] };
            let scatter = |f: fn(i128, i128) -> i128| Some(indexed::scattered(op, x, indices, views[2].data, f));
            match merge {
                Merge::Replace => None,
                // Wrapped around each time, so that no sum of many leaves 128 bits.
                Merge::Add => scatter(|a, b| a.wrapping_add(b)),
                Merge::Mul => scatter(i128::wrapping_mul),
                Merge::Max => scatter(i128::max),
                Merge::Min => scatter(i128::min),
            }
        }
        _ => None,
    }
}

fn least_of(element: ElementType) -> i128 {
    match element {
        ElementType::I64 => i64::MIN.into(),
        _ => element.range().map_or(0, |(low, _)| low as i128),
    }
}

fn greatest_of(element: ElementType) -> i128 {
    match element {
        ElementType::I64 => i64::MAX.into(),
        ElementType::U64 => u64::MAX.into(),
        _ => element.range().map_or(0, |(_, high)| high as i128),
    }
}

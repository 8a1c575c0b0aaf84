//! Folds constants, merges equal operations and removes those that do nothing; writes some in another way, so that later passes
//! meet one form of them. A division by a constant becomes a product with its reciprocal where that is exact: quotients decide about
//! quantized numbers, and are rounded once. The power 0.5 becomes a square root, which is not a number at minus infinity.

use super::decides::decides;
use super::numbers::{is_foldable, is_not_negative};
use super::rewriter::{Known, Rewriter, def};
use crate::func::{
    Binary, Budget, Def, ElementType, Func, FuncError, Real, Structured, Tensor, TensorOp, TensorType, Unary, ValueId,
    broadcast,
};

/// What passes make of weights of more bytes is left to be computed when the weights are packed, one after another: a network
/// is larger than what it may take twice.
const LEFT: u64 = 64 << 10;

pub(super) fn simplify(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    let mut known = Known::default();
    let decides = decides(func);
    for id in r.ids() {
        let value = func.value(id);
        match &value.def {
            Def::Argument => {}
            Def::Constant(_) => {
                let tensor = func.constant(id).expect("it is one");
                match known.constant(&tensor) {
                    Some(new) => r.set(id, new),
                    None => {
                        r.keep(id)?;
                        known.add_constant(tensor, r.get(id));
                    }
                }
            }
            Def::Result { op, operands } => {
                let operands = r.all(operands);
                let new = emit(&mut r, &mut known, id, decides[id.index()], op.clone(), operands)?;
                r.set(id, new);
            }
        }
    }
    r.finish()
}

/// What an operation becomes.
enum Simpler {
    /// A value that is there.
    Value(ValueId),
    /// Another operation.
    Op(TensorOp, Vec<ValueId>),
    /// A constant.
    Constant(Tensor),
    /// An operation on what another operation makes of a constant.
    OnConstant(TensorOp, ValueId, Tensor),
}

/// Emits an operation in its simplest form; one that `decides` is rounded as it was.
fn emit(
    r: &mut Rewriter<'_>,
    known: &mut Known,
    old: ValueId,
    decides: bool,
    mut op: TensorOp,
    mut operands: Vec<ValueId>,
) -> Result<ValueId, FuncError> {
    // Every step makes the operation one of a simpler kind; the limit is there for mistakes.
    for _ in 0..16 {
        match simpler(r, &op, &operands, decides) {
            Some(Simpler::Value(value)) => return Ok(value),
            Some(Simpler::Op(simpler, on)) => (op, operands) = (simpler, on),
            Some(Simpler::Constant(tensor)) => return Ok(constant(r, known, tensor)),
            Some(Simpler::OnConstant(simpler, x, tensor)) => {
                (op, operands) = (simpler, vec![x, constant(r, known, tensor)])
            }
            None => break,
        }
    }
    // Functions with their constants are not compared.
    let is_compared = op.bodies().next().is_none();
    if is_compared && let Some(value) = known.operation(&op, &operands) {
        return Ok(value);
    }
    r.replace(old, op.clone(), &operands)?;
    let new = r.get(old);
    if is_compared {
        known.add(op, &operands, new);
    }
    Ok(new)
}

fn constant(r: &mut Rewriter<'_>, known: &mut Known, tensor: Tensor) -> ValueId {
    known.constant(&tensor).unwrap_or_else(|| {
        let new = r.constant(&tensor);
        known.add_constant(tensor, new);
        new
    })
}

fn simpler(r: &mut Rewriter<'_>, op: &TensorOp, operands: &[ValueId], decides: bool) -> Option<Simpler> {
    if let Some(tensor) = folded(r, op, operands) {
        return Some(Simpler::Constant(tensor));
    }
    match op {
        TensorOp::Unary(op) => unary(op, operands[0]),
        TensorOp::Binary(op) => binary(r, op, operands[0], operands[1], decides),
        TensorOp::Structured(op) => structured(r, op, operands),
        TensorOp::Control(_) => None,
    }
}

/// The result if all operands are constants.
fn folded(r: &mut Rewriter<'_>, op: &TensorOp, operands: &[ValueId]) -> Option<Tensor> {
    if matches!(op, TensorOp::Structured(Structured::Kernel { .. })) {
        return None;
    }
    let stays = matches!(
        op,
        TensorOp::Structured(Structured::Transpose { .. } | Structured::Concat { .. } | Structured::Broadcast { .. })
            | TensorOp::Binary(Binary::Mul {})
    );
    r.compute(op, operands, if stays { LEFT } else { Budget::MOST_BYTES })
}

fn unary(op: &Unary, x: ValueId) -> Option<Simpler> {
    match op {
        Unary::Clamp { low, high } if low.0 == 0.0 && high.0 == f64::INFINITY => {
            Some(Simpler::Op(Unary::Relu {}.into(), vec![x]))
        }
        Unary::Clamp { low, high } if low.0 == f64::NEG_INFINITY && high.0 == f64::INFINITY => Some(Simpler::Value(x)),
        _ => None,
    }
}

fn binary(r: &Rewriter<'_>, op: &Binary, a: ValueId, b: ValueId, decides: bool) -> Option<Simpler> {
    let ty = |id: ValueId| &r.value(id).ty;
    let shape = broadcast(ty(a).shape(), ty(b).shape()).ok()?;
    // What is stretched anyway need not be stretched before.
    for (stretched, other, first) in [(a, b, true), (b, a, false)] {
        if let Some((TensorOp::Structured(Structured::Broadcast { .. }), from)) = def(r.value(stretched))
            && broadcast(ty(from[0]).shape(), ty(other).shape()).ok().as_ref() == Some(&shape)
        {
            let operands = if first { vec![from[0], other] } else { vec![other, from[0]] };
            return Some(Simpler::Op(op.clone().into(), operands));
        }
    }
    let is_float = ty(a).element().is_float();
    // A limit is a double, which not all integers are.
    let is_exact = !matches!(ty(a).element(), ElementType::I64 | ElementType::U64);
    // Constants of commutative operations are second.
    if matches!(op, Binary::Add {} | Binary::Mul {} | Binary::Max {} | Binary::Min {} | Binary::And {} | Binary::Or {})
        && r.as_constant(a).is_some()
        && r.as_constant(b).is_none()
    {
        return Some(Simpler::Op(op.clone().into(), vec![b, a]));
    }
    let constant = r.as_constant(b)?;
    // Another constant is made of it.
    let is_small = constant.ty().bytes() <= LEFT;
    let splat = r.as_splat(b).filter(|v| !v.is_nan());
    let keeps_shape = *ty(a).shape() == *shape;
    let nothing = match op {
        Binary::Add {} | Binary::Sub {} => splat == Some(0.0),
        Binary::Mul {} | Binary::Div {} | Binary::Pow {} => splat == Some(1.0),
        Binary::And {} => splat == Some(1.0),
        Binary::Or {} => splat == Some(0.0),
        _ => false,
    };
    if nothing && keeps_shape {
        return Some(Simpler::Value(a));
    }
    let inner = |wanted: &Binary| match def(r.value(a)) {
        Some((TensorOp::Binary(inner), on)) if inner == wanted => Some((on[0], r.as_splat(on[1])?)),
        _ => None,
    };
    match (op, splat) {
        // A sum of products is rounded in no certain order: there the last bit means nothing, unless something is decided by it.
        (Binary::Div {}, _) if is_small && is_float => {
            let may_round = !decides && matches!(ty(b).element(), ElementType::F32 | ElementType::F64);
            let reciprocals = reciprocals(&constant, may_round && is_of_product(r, a))?;
            Some(Simpler::OnConstant(Binary::Mul {}.into(), a, reciprocals))
        }
        (Binary::Sub {}, _) if is_float && is_small => {
            let negative: Vec<f64> = constant.to_f64().iter().map(|v| -v).collect();
            Some(Simpler::OnConstant(Binary::Add {}.into(), a, Tensor::from_f64(constant.ty().clone(), &negative)))
        }
        (Binary::Mul {}, Some(factor)) if is_float && ty(b).elements() == 1 && !decides => {
            // A constant before it may stretch what it multiplies.
            let (x, before) = inner(&Binary::Mul {}).filter(|(x, _)| ty(*x) == ty(a))?;
            if ![before, factor, before * factor].iter().all(|v| is_foldable(ty(b).element(), *v)) {
                return None;
            }
            let both = Tensor::from_f64(ty(b).clone(), &[before * factor]);
            Some(Simpler::OnConstant(Binary::Mul {}.into(), x, both))
        }
        (Binary::Pow {}, Some(power)) if is_float && keeps_shape => match power {
            2.0 => Some(Simpler::Op(Binary::Mul {}.into(), vec![a, a])),
            // The power of minus infinity is infinite, its root is not a number.
            0.5 if is_not_negative(r, a) => Some(Simpler::Op(Unary::Sqrt {}.into(), vec![a])),
            _ => None,
        },
        (Binary::Max {}, Some(0.0)) if keeps_shape && is_exact => Some(Simpler::Op(Unary::Relu {}.into(), vec![a])),
        (Binary::Max {}, Some(low)) if keeps_shape && is_exact => {
            Some(Simpler::Op(Unary::Clamp { low: Real(low), high: Real(f64::INFINITY) }.into(), vec![a]))
        }
        (Binary::Min {}, Some(high)) if keeps_shape && is_exact => {
            let (x, low) = match def(r.value(a)) {
                Some((TensorOp::Unary(Unary::Clamp { low, high }), on)) if high.0 == f64::INFINITY => (on[0], low.0),
                Some((TensorOp::Unary(Unary::Relu {}), on)) => (on[0], 0.0),
                _ => (a, f64::NEG_INFINITY),
            };
            Some(Simpler::Op(Unary::Clamp { low: Real(low), high: Real(high) }.into(), vec![x]))
        }
        _ => None,
    }
}

/// The shape of a result that has all elements of its operand in their order.
fn same_elements(op: &Structured, operand: &TensorType) -> Option<Vec<u64>> {
    let strided = op.strided(operand)?;
    let shape: Vec<u64> = strided.dims.iter().map(|(n, _)| *n).collect();
    (shape.iter().product::<u64>() == operand.elements() && strided.dense() == Some(0)).then_some(shape)
}

/// The reciprocals of all elements, if products with them are the same as quotients; or, if they may be rounded, if all are numbers
/// of normal size.
fn reciprocals(constant: &Tensor, may_round: bool) -> Option<Tensor> {
    let divisors = constant.to_f64();
    let all: Vec<f64> = divisors.iter().map(|v| 1.0 / v).collect();
    let tensor = Tensor::from_f64(constant.ty().clone(), &all);
    let rounded = tensor.to_f64();
    let is_exact = |(divisor, (all, rounded)): (&f64, (&f64, &f64))| {
        let is_power_of_two = divisor.is_normal() && divisor.to_bits().trailing_zeros() >= f64::MANTISSA_DIGITS - 1;
        is_power_of_two && all == rounded
    };
    let is_normal = |v: &f64| (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&v.abs());
    let are_same = divisors.iter().zip(all.iter().zip(&rounded)).all(is_exact);
    (are_same || (may_round && all.iter().all(is_normal))).then_some(tensor)
}

/// Whether a value is a sum of products, with other numbers added or multiplied perhaps.
fn is_of_product(r: &Rewriter<'_>, id: ValueId) -> bool {
    let mut at = id;
    // What follows a product that it is a part of is short.
    for _ in 0..16 {
        at = match def(r.value(at)) {
            Some((TensorOp::Structured(Structured::Matmul {} | Structured::Conv { .. }), _)) => return true,
            Some((TensorOp::Structured(Structured::ConvTranspose { .. }), _)) => return true,
            Some((TensorOp::Structured(Structured::Reshape { .. } | Structured::Transpose { .. }), on)) => on[0],
            Some((TensorOp::Structured(Structured::Slice { .. }), on)) => on[0],
            Some((TensorOp::Binary(Binary::Add {} | Binary::Sub {} | Binary::Mul {}), &[a, b])) => {
                if r.as_constant(b).is_some() { a } else { b }
            }
            _ => return false,
        }
    }
    false
}

fn structured(r: &Rewriter<'_>, op: &Structured, operands: &[ValueId]) -> Option<Simpler> {
    let x = *operands.first()?;
    let ty = &r.value(x).ty;
    let inner = || match def(r.value(x)) {
        Some((TensorOp::Structured(inner), on)) => Some((inner, on[0])),
        _ => None,
    };
    match op {
        Structured::Reshape { shape } => match inner() {
            _ if ty.shape() == shape => Some(Simpler::Value(x)),
            Some((Structured::Reshape { .. }, from)) => Some(Simpler::Op(op.clone().into(), vec![from])),
            _ => None,
        },
        Structured::Transpose { perm } => {
            if let Some(shape) = same_elements(op, ty) {
                return Some(Simpler::Op(Structured::Reshape { shape }.into(), vec![x]));
            }
            match inner() {
                Some((Structured::Transpose { perm: before }, from)) => {
                    let perm = perm.iter().map(|axis| before[*axis as usize]).collect();
                    Some(Simpler::Op(Structured::Transpose { perm }.into(), vec![from]))
                }
                _ => None,
            }
        }
        Structured::Cast { to } if ty.element() == *to => Some(Simpler::Value(x)),
        Structured::Broadcast { shape } if ty.shape() == shape => Some(Simpler::Value(x)),
        Structured::Slice { .. } => {
            same_elements(op, ty).filter(|shape| shape == ty.shape()).map(|_| Simpler::Value(x))
        }
        Structured::Concat { .. } if operands.len() == 1 => Some(Simpler::Value(x)),
        Structured::Pad { before, after, .. } if before.iter().chain(after).all(|n| *n == 0) => Some(Simpler::Value(x)),
        Structured::Where {} => {
            let [condition, a, b] = [operands[0], operands[1], operands[2]];
            let chosen = if r.as_splat(condition)? != 0.0 { a } else { b };
            let shapes = [condition, a, b].map(|id| r.value(id).ty.shape());
            let shape = broadcast(shapes[0], &broadcast(shapes[1], shapes[2]).ok()?).ok()?;
            Some(Simpler::Op(Structured::Broadcast { shape }.into(), vec![chosen]))
        }
        _ => None,
    }
}

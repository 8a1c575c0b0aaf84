//! Numbers as integers with a scale and a zero point, and back.

use kiln_ir::func::{ElementType, ReduceKind, Unary};

use super::Row;
use super::math::{element, narrow_settings};
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axis_of, one};
use crate::import::program::{Val, scalar};

pub(super) const OPS: &[Row] =
    &[("DequantizeLinear", dequantize), ("DynamicQuantizeLinear", dynamic_quantize), ("QuantizeLinear", quantize)];

/// Rounded to even, and no further than the type goes.
pub(super) fn saturated(c: &mut Ctx<'_>, x: &Val, zero: Option<&Val>, to: ElementType) -> Result<Val, Fault> {
    let Some((low, high)) = to.range() else { return Err(format!("{to} is not a type of integers").into()) };
    let mut x = c.unary(Unary::Round {}, x)?;
    if let Some(zero) = zero.filter(|zero| !c.is_zero(zero)) {
        let zero = c.cast(zero, c.element(&x))?;
        x = c.add(&x, &zero)?;
    }
    let x = c.unary(Unary::Clamp { low: low.into(), high: high.into() }, &x)?;
    c.cast(&x, to)
}

/// A scale or a zero point, so that it stretches to the tensor: one for all, one for each of an axis, or one for each block.
fn stretched(c: &mut Ctx<'_>, value: &Val, x: &Val) -> Result<Val, Fault> {
    let (shape, own) = (c.shape(x), c.shape(value));
    let axis = c.int("axis", 1)?;
    let block = u64::try_from(c.int("block_size", 0)?).map_err(|_| "attribute `block_size` is negative")?;
    if c.ty(value).elements() == 1 && block == 0 {
        return c.reshape(value, []);
    }
    let axis = axis_of(axis, shape.len())?;
    if block == 0 {
        if own != [shape[axis]] {
            return Err(format!("a scale or zero point of {} for axis {axis} of {}", c.ty(value), c.ty(x)).into());
        }
        return c.along(value, axis, shape.len());
    }
    let mut expected = shape.clone();
    expected[axis] = shape[axis].div_ceil(block);
    if own != expected {
        return Err(format!("a scale or zero point of {} for blocks of {block} of {}", c.ty(value), c.ty(x)).into());
    }
    // Each is repeated, and what the last block has not is cut off.
    let mut split = own.clone();
    split.insert(axis + 1, 1);
    let mut wide = own.clone();
    wide.insert(axis + 1, block);
    let mut whole = own;
    whole[axis] = whole[axis].checked_mul(block).ok_or("its blocks are too large")?;
    let value = c.reshape(value, split)?;
    let value = c.broadcast(&value, wide)?;
    let value = c.reshape(&value, whole)?;
    c.slice(&value, axis, 0, 1, shape[axis])
}

pub(super) fn quantize(c: &mut Ctx<'_>) -> Outputs {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let zero = c.optional(2);
    narrow_settings(c)?;
    let asked = match c.int("output_dtype", 0)? {
        0 => None,
        number => Some(element(number)?),
    };
    let to = match (&zero, asked) {
        (Some(zero), Some(asked)) if asked != c.element(zero) => {
            return Err(format!("attribute `output_dtype` is {asked}, and its zero point is {}", c.ty(zero)).into());
        }
        (Some(zero), _) => c.element(zero),
        (None, asked) => asked.unwrap_or(ElementType::U8),
    };
    // Quotients decide about the result: they are rounded once, in the precision of the scale or as the node asks for.
    let precision = match c.int("precision", 0)? {
        0 => c.element(&scale),
        number => element(number)?,
    };
    if !precision.is_float() {
        return Err(format!("attribute `precision` is {precision}: expected a type of floating-point numbers").into());
    }
    let scale = stretched(c, &scale, &x)?;
    let (wide, scale) = (c.cast(&x, precision)?, c.cast(&scale, precision)?);
    let zero = zero.map(|zero| stretched(c, &zero, &x)).transpose()?;
    let scaled = c.div(&wide, &scale)?;
    let scaled = c.rounded(&scaled)?;
    // Not all integers of 16 bits are numbers of 16 bits.
    let is_narrow = matches!(precision, ElementType::F16 | ElementType::Bf16);
    let scaled = if is_narrow { c.cast(&scaled, ElementType::F32)? } else { scaled };
    one(saturated(c, &scaled, zero.as_ref(), to)?)
}

pub(super) fn dequantize(c: &mut Ctx<'_>) -> Outputs {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let to = match c.int("output_dtype", 0)? {
        0 => c.element(&scale),
        number => element(number)?,
    };
    let zero = c.optional(2).filter(|zero| !c.is_zero(zero));
    let mut y = x.clone();
    if let Some(zero) = zero {
        let zero = stretched(c, &zero, &x)?;
        let (wide, zero) = (c.cast(&x, ElementType::I32)?, c.cast(&zero, ElementType::I32)?);
        y = c.sub(&wide, &zero)?;
    }
    let scale = stretched(c, &scale, &x)?;
    let (y, scale) = (c.cast(&y, ElementType::F32)?, c.cast(&scale, ElementType::F32)?);
    let y = c.mul(&y, &scale)?;
    let y = c.rounded(&y)?;
    one(c.cast(&y, to)?)
}

fn dynamic_quantize(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    dynamically(c, &x).map(Vec::from)
}

/// A tensor as integers of 8 bits, with scale and zero point from the least and the greatest element, so that 0 is exact.
pub(super) fn dynamically(c: &mut Ctx<'_>, x: &Val) -> Result<[Val; 3], Fault> {
    let axes: Vec<usize> = (0..c.rank(x)).collect();
    let (low, high) = (c.reduce(x, ReduceKind::Min, &axes, false)?, c.reduce(x, ReduceKind::Max, &axes, false)?);
    let negative_or_zero = Unary::Clamp { low: f64::NEG_INFINITY.into(), high: 0.0.into() };
    let (low, high) = (c.unary(negative_or_zero, &low)?, c.unary(Unary::Relu {}, &high)?);
    let range = c.sub(&high, &low)?;
    let range = c.rounded(&range)?;
    let levels = c.number_like(x, 255.0);
    let scale = c.div(&range, &levels)?;
    let scale = c.rounded(&scale)?;
    let below = c.unary(Unary::Neg {}, &low)?;
    let zero = c.div(&below, &scale)?;
    let zero = c.rounded(&zero)?;
    let zero = saturated(c, &zero, None, ElementType::U8)?;
    let scaled = c.div(x, &scale)?;
    let scaled = c.rounded(&scaled)?;
    Ok([saturated(c, &scaled, Some(&zero), ElementType::U8)?, scale, zero])
}

/// An integer tensor less its zero point, exactly.
pub(super) fn centred(c: &mut Ctx<'_>, x: &Val, zero: Option<Val>) -> Result<Val, Fault> {
    let wide = c.cast(x, ElementType::I32)?;
    let Some(zero) = zero.filter(|zero| !c.is_zero(zero)) else { return Ok(wide) };
    let zero = c.cast(&zero, ElementType::I32)?;
    let y = c.sub(&wide, &zero)?;
    if c.shape(&y) != c.shape(x) {
        return Err(format!("its zero point {} does not stretch to {}", c.ty(&zero), c.ty(x)).into());
    }
    Ok(y)
}

/// A sum of products of integers as an integer of less precision. Scales are single numbers, and so is what they make together; a
/// sum is exact, and so is its product with that, to the precision of doubles.
pub(super) fn requantized(c: &mut Ctx<'_>, sum: &Val, [a, b, y]: [&Val; 3], zero: &Val) -> Result<Val, Fault> {
    let [a, b, y] = [c.cast(a, ElementType::F32)?, c.cast(b, ElementType::F32)?, c.cast(y, ElementType::F32)?];
    let product = c.mul(&a, &b)?;
    let product = c.rounded(&product)?;
    let factor = c.div(&product, &y)?;
    let factor = c.rounded(&factor)?;
    let (wide, factor) = (c.cast(sum, ElementType::F64)?, c.cast(&factor, ElementType::F64)?);
    let scaled = c.mul(&wide, &factor)?;
    let scaled = if c.shape(&scaled) == c.shape(sum) {
        scaled
    } else {
        return Err("its scales do not stretch to its result".into());
    };
    saturated(c, &scaled, Some(zero), c.element(zero))
}

/// One number for all, if there is but one.
pub(super) fn single(c: &mut Ctx<'_>, value: &Val) -> Result<Option<Val>, Fault> {
    if let Val::Known(tensor) = value
        && let Some(number) = tensor.splat()
    {
        return Ok(Some(scalar(tensor.ty().element(), number)));
    }
    if c.ty(value).elements() == 1 { c.reshape(value, []).map(Some) } else { Ok(None) }
}

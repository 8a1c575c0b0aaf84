//! Softmax, and normalisations.

use kiln_ir::func::{Binary, ElementType, ReduceKind, Structured, Unary};

use super::Row;
use super::math::element;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axes_of, axis_of, one};
use crate::import::program::{Val, scalar};

pub(super) const OPS: &[Row] = &[
    ("BatchNormalization", batch_norm),
    ("GroupNormalization", group_norm),
    ("InstanceNormalization", instance_norm),
    ("LRN", lrn),
    ("LayerNormalization", layer_norm),
    ("LogSoftmax", |c| softmax(c, |axis| Structured::LogSoftmax { axis })),
    ("LpNormalization", lp_norm),
    ("MeanVarianceNormalization", mean_variance_norm),
    ("RMSNormalization", rms_norm),
    ("Softmax", |c| softmax(c, |axis| Structured::Softmax { axis })),
];

/// Before version 13, all axes from one on are one.
fn softmax(c: &mut Ctx<'_>, op: fn(u64) -> Structured) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    if c.opset >= 13 {
        let axis = axis_of(c.int("axis", -1)?, shape.len())?;
        return one(c.push(op(axis as u64), &[&x])?);
    }
    let axis = c.int("axis", 1)?;
    let axis = if axis == shape.len() as i64 { shape.len() } else { axis_of(axis, shape.len())? };
    if axis + 1 == shape.len() {
        return one(c.push(op(axis as u64), &[&x])?);
    }
    let (outer, inner) = (shape[..axis].iter().product(), shape[axis..].iter().product());
    let flat = c.reshape(&x, [outer, inner])?;
    let y = c.push(op(1), &[&flat])?;
    one(c.reshape(&y, shape)?)
}

fn batch_norm(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let epsilon = c.float("epsilon", 1e-5)?.into();
    // How much of the old statistics new ones keep.
    c.float("momentum", 0.9)?;
    let is_training = c.flag("training_mode", false)? || (1..5).any(|output| c.wants(output));
    let is_test = c.flag("is_test", c.opset >= 7)?;
    if is_training || !is_test {
        return Err("statistics of the batch, as in training, are not supported: export the model for inference".into());
    }
    if !c.flag("spatial", true)? {
        return Err("one statistic a pixel (`spatial` of 0) is not supported".into());
    }
    let element = c.element(&x);
    let mut operands = vec![x];
    for index in 1..5 {
        let operand = c.input(index)?;
        operands.push(c.cast(&operand, element)?);
    }
    let operands: Vec<_> = operands.iter().collect();
    one(c.push(Structured::BatchNorm { epsilon, channels_last: false }, &operands)?)
}

/// The precision of means and deviations.
pub(super) fn stash(c: &Ctx<'_>) -> Result<ElementType, Fault> {
    match element(c.int("stash_type", 1)?)? {
        stash if stash.is_float() => Ok(stash),
        other => Err(format!("attribute `stash_type` is {other}: expected a type of floating-point numbers").into()),
    }
}

/// Elements, less their mean if it is asked for, over all axes from one on; the mean; and the reciprocal of their deviation, with an
/// epsilon added to its square. All have the type that comes before the epsilon.
pub(super) fn moments(
    c: &mut Ctx<'_>,
    x: &Val,
    axis: usize,
    is_centred: bool,
    (stash, epsilon): (ElementType, f64),
) -> Result<[Val; 3], Fault> {
    let axes: Vec<usize> = (axis..c.rank(x)).collect();
    let mut wide = c.cast(x, stash)?;
    let mean = c.reduce(&wide, ReduceKind::Mean, &axes, true)?;
    if is_centred {
        wide = c.sub(&wide, &mean)?;
    }
    let squared = c.mul(&wide, &wide)?;
    let variance = c.reduce(&squared, ReduceKind::Mean, &axes, true)?;
    let variance = c.add(&variance, &scalar(stash, epsilon))?;
    let deviation = c.unary(Unary::Sqrt {}, &variance)?;
    Ok([wide, mean, c.unary(Unary::Reciprocal {}, &deviation)?])
}

/// All axes from one on normalised, by mean and deviation or by the root of the mean square, then times a scale and plus a bias.
/// Single precision is what the operations of functions have.
fn normalized(c: &mut Ctx<'_>, x: &Val, axis: usize, is_centred: bool, others: &[Val]) -> Result<Val, Fault> {
    let (stash, epsilon) = (stash(c)?, c.float("epsilon", 1e-5)?);
    if stash == ElementType::F32 {
        let (axis, epsilon) = (axis as u64, epsilon.into());
        let op =
            if is_centred { Structured::LayerNorm { axis, epsilon } } else { Structured::RmsNorm { axis, epsilon } };
        return c.push(op, &std::iter::once(x).chain(others).collect::<Vec<_>>());
    }
    let [wide, _, inverse] = moments(c, x, axis, is_centred, (stash, epsilon))?;
    let y = c.mul(&wide, &inverse)?;
    let mut y = c.cast(&y, c.element(x))?;
    if let Some(scale) = others.first() {
        y = c.mul(&y, scale)?;
    }
    if let Some(bias) = others.get(1) {
        y = c.add(&y, bias)?;
    }
    Ok(y)
}

/// Normalised over all of each of some groups of channels: `[n, groups, all of a group]`.
fn grouped(c: &mut Ctx<'_>, x: &Val, groups: u64) -> Result<Val, Fault> {
    let shape = c.shape(x);
    if shape.len() < 3 || groups == 0 || !shape[1].is_multiple_of(groups) {
        return Err(format!("{} in {groups} group(s) of channels", c.ty(x)).into());
    }
    let inner = shape[1] / groups * shape[2..].iter().product::<u64>();
    let x = c.reshape(x, [shape[0], groups, inner])?;
    normalized(c, &x, 2, true, &[])
}

/// Times the second input, plus the third, which go along the second axis.
fn affine(c: &mut Ctx<'_>, x: &Val) -> Result<Val, Fault> {
    let (scale, bias) = (c.input(1)?, c.input(2)?);
    let shape = c.shape(x);
    for value in [&scale, &bias] {
        if c.shape(value) != shape[1..2] {
            return Err(format!("its scale or bias is {}: expected {} numbers", c.ty(value), shape[1]).into());
        }
    }
    let (scale, bias) = (c.along(&scale, 1, shape.len())?, c.along(&bias, 1, shape.len())?);
    let scaled = c.mul(x, &scale)?;
    c.add(&scaled, &bias)
}

fn instance_norm(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let y = grouped(c, &x, shape.get(1).copied().unwrap_or(0))?;
    let y = c.reshape(&y, shape)?;
    one(affine(c, &y)?)
}

/// Scale and bias are by group before version 21, then by channel.
fn group_norm(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let groups = c.int_or_none("num_groups")?.and_then(|n| u64::try_from(n).ok()).ok_or("lacks its `num_groups`")?;
    let mut y = grouped(c, &x, groups)?;
    if c.opset < 21 {
        y = affine(c, &y)?;
        return one(c.reshape(&y, shape)?);
    }
    y = c.reshape(&y, shape)?;
    one(affine(c, &y)?)
}

/// A scale or a bias in the shape of the axes that are normalised.
fn stretched(c: &mut Ctx<'_>, value: Option<Val>, shape: &[u64]) -> Result<Option<Val>, Fault> {
    value.map(|value| c.broadcast(&value, shape)).transpose()
}

pub(super) fn layer_norm(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let axis = axis_of(c.int("axis", -1)?, shape.len())?;
    let scale = stretched(c, Some(c.input(1)?), &shape[axis..])?;
    let bias = stretched(c, c.optional(2), &shape[axis..])?;
    let operands: Vec<_> = [scale, bias].into_iter().flatten().collect();
    let mut outputs = vec![normalized(c, &x, axis, true, &operands)?];
    if c.wants(1) || c.wants(2) {
        let precision = (stash(c)?, c.float("epsilon", 1e-5)?);
        let [_, mean, inverse] = moments(c, &x, axis, true, precision)?;
        outputs.extend([mean, inverse]);
    }
    Ok(outputs)
}

pub(super) fn rms_norm(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let axis = axis_of(c.int("axis", -1)?, shape.len())?;
    let scale = c.broadcast(&c.input(1)?, &shape[axis..])?;
    one(normalized(c, &x, axis, false, &[scale])?)
}

fn lrn(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let size = c.int_or_none("size")?.and_then(|n| u64::try_from(n).ok()).ok_or("lacks its `size`")?;
    let (alpha, beta) = (c.float("alpha", 1e-4)?.into(), c.float("beta", 0.75)?.into());
    let bias = c.float("bias", 1.0)?.into();
    one(c.push(Structured::Lrn { size, alpha, beta, bias }, &[&x])?)
}

fn lp_norm(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let axis = axis_of(c.int("axis", -1)?, c.rank(&x))?;
    let kind = match c.int("p", 2)? {
        1 => ReduceKind::L1,
        2 => ReduceKind::L2,
        p => return Err(format!("attribute `p` is {p}: expected 1 or 2").into()),
    };
    // Where all elements are 0 the result is, too.
    let norm = c.reduce(&x, kind, &[axis], true)?;
    let (zero, one_) = (c.number_like(&x, 0.0), c.number_like(&x, 1.0));
    let is_zero = c.push(Binary::Equal {}, &[&norm, &zero])?;
    let norm = c.select(&is_zero, &one_, &norm)?;
    one(c.div(&x, &norm)?)
}

/// Elements less their mean over some axes, divided by their deviation, which has no epsilon inside of its root.
fn mean_variance_norm(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let axes = c.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = axes_of(&axes, c.rank(&x))?;
    let mean = c.reduce(&x, ReduceKind::Mean, &axes, true)?;
    let centred = c.sub(&x, &mean)?;
    let squared = c.mul(&centred, &centred)?;
    let variance = c.reduce(&squared, ReduceKind::Mean, &axes, true)?;
    let deviation = c.unary(Unary::Sqrt {}, &variance)?;
    let least = c.number_like(&x, 1e-9);
    let deviation = c.add(&deviation, &least)?;
    one(c.div(&centred, &deviation)?)
}

//! Axes in another order, tensors beside each other, and elements picked by number.

use kiln_ir::func::{ElementType, Structured};
use kiln_ir::text::Listed;

use super::Row;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axes_of, axis_of, numbers, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[
    ("CenterCropPad", center_crop_pad),
    ("Concat", concat),
    ("DepthToSpace", depth_to_space),
    ("Gather", gather),
    ("SpaceToDepth", space_to_depth),
    ("Transpose", transpose),
];

fn transpose(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let rank = c.rank(&x);
    let perm = match c.ints("perm")?.filter(|perm| !perm.is_empty()) {
        Some(perm) if perm.len() == rank => axes_of(&perm, rank)?,
        Some(perm) => return Err(format!("`perm` is {}: expected each axis of {}", Listed(&perm), c.ty(&x)).into()),
        None => (0..rank).rev().collect(),
    };
    one(c.transpose(&x, &perm)?)
}

fn concat(c: &mut Ctx<'_>) -> Outputs {
    let parts = c.all_inputs()?;
    let axis = match c.int_or_none("axis")? {
        Some(axis) => axis,
        None if c.opset < 4 => 1,
        None => return Err("lacks its attribute `axis`".into()),
    };
    let axis = axis_of(axis, c.rank(&parts[0]))?;
    one(c.concat(&parts.iter().collect::<Vec<_>>(), axis)?)
}

fn gather(c: &mut Ctx<'_>) -> Outputs {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let axis = axis_of(c.int("axis", 0)?, c.rank(&x))?;
    one(gathered(c, &x, &indices, axis)?)
}

/// Slices along an axis that indices name.
pub(super) fn gathered(c: &mut Ctx<'_>, x: &Val, indices: &Val, axis: usize) -> Result<Val, Fault> {
    let is_index = matches!(c.element(indices), ElementType::I32 | ElementType::I64);
    let indices = if is_index { indices.clone() } else { c.cast(indices, ElementType::I64)? };
    c.push(Structured::Gather { axis: axis as u64 }, &[x, &indices])
}

/// The block size and `[n, c, h, w]`.
fn image(c: &Ctx<'_>, x: &Val) -> Result<(u64, [u64; 4]), Fault> {
    let block = c.int_or_none("blocksize")?.and_then(|b| u64::try_from(b).ok()).filter(|b| (1..1 << 16).contains(b));
    let block = block.ok_or("lacks a `blocksize` from 1")?;
    let shape = <[u64; 4]>::try_from(c.shape(x)).map_err(|_| format!("{}: expected images, of rank 4", c.ty(x)))?;
    Ok((block, shape))
}

fn depth_to_space(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let (b, [n, channels, h, w]) = image(c, &x)?;
    if !channels.is_multiple_of(b * b) {
        return Err(format!("{channels} channels are not blocks of {b}x{b}").into());
    }
    let depth = channels / (b * b);
    let (shape, perm) = match c.string("mode", "DCR")?.as_str() {
        "DCR" => ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        other => return Err(format!("attribute `mode` is `{other}`: expected `DCR` or `CRD`").into()),
    };
    let x = c.reshape(&x, shape)?;
    let x = c.transpose(&x, &perm)?;
    one(c.reshape(&x, [n, depth, h * b, w * b])?)
}

fn space_to_depth(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let (b, [n, channels, h, w]) = image(c, &x)?;
    if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err(format!("{h}x{w} pixels are not blocks of {b}x{b}").into());
    }
    let x = c.reshape(&x, [n, channels, h / b, b, w / b, b])?;
    let perm = match c.string("mode", "DCR")?.as_str() {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(format!("attribute `mode` is `{other}`: expected `DCR` or `CRD`").into()),
    };
    let x = c.transpose(&x, &perm)?;
    one(c.reshape(&x, [n, channels * b * b, h / b, w / b])?)
}

/// The middle of some axes, or zeros around them, so that they have a size.
fn center_crop_pad(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let wanted = c.known_ints(1, "shape")?.ok_or("lacks its input 1")?;
    let wanted = numbers("shape", &wanted)?;
    let axes = match c.ints("axes")? {
        Some(axes) => axes_of(&axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    if axes.len() != wanted.len() {
        return Err(format!("a shape of {wanted:?} for axes {axes:?}").into());
    }
    let (mut y, mut before, mut after) = (x.clone(), vec![0; shape.len()], vec![0; shape.len()]);
    for (axis, size) in axes.into_iter().zip(wanted) {
        if size < shape[axis] {
            y = c.slice(&y, axis, (shape[axis] - size) / 2, 1, size)?;
        } else {
            before[axis] = (size - shape[axis]) / 2;
            after[axis] = size - shape[axis] - before[axis];
        }
    }
    one(c.padded(&y, before, after)?)
}

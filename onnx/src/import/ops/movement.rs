//! Axes in another order, tensors beside each other, and elements picked by number.

use kiln_ir::func::{Binary, ElementType, Structured, TensorType};

use super::Row;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axes_of, axis_of, one};
use crate::import::program::{Val, list};

pub(super) const OPS: &[Row] = &[
    ("Concat", concat),
    ("DepthToSpace", depth_to_space),
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("SpaceToDepth", space_to_depth),
    ("Transpose", transpose),
];

fn transpose(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let rank = c.rank(&x);
    let perm = match c.ints("perm")?.filter(|perm| !perm.is_empty()) {
        Some(perm) if perm.len() == rank => axes_of(&perm, rank)?,
        Some(perm) => return Err(format!("`perm` is {perm:?}: expected each axis of {}", c.ty(&x)).into()),
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

/// Slices along an axis; indices that are known are checked.
pub(super) fn gathered(c: &mut Ctx<'_>, x: &Val, indices: &Val, axis: usize) -> Result<Val, Fault> {
    let size = c.shape(x)[axis] as i64;
    if let Val::Known(tensor) = indices
        && let Some(outside) = tensor.to_i64().unwrap_or_default().into_iter().find(|i| !(-size..size).contains(i))
    {
        return Err(format!("index {outside} is outside axis {axis} of {}", c.ty(x)).into());
    }
    let is_index = matches!(c.element(indices), ElementType::I32 | ElementType::I64);
    let indices = if is_index { indices.clone() } else { c.cast(indices, ElementType::I64)? };
    c.push(Structured::Gather { axis: axis as u64 }, &[x, &indices])
}

/// Each element of the result is where an index says along one axis, and where it is itself along the others.
fn gather_elements(c: &mut Ctx<'_>) -> Outputs {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let (shape, wanted) = (c.shape(&x), c.shape(&indices));
    let axis = axis_of(c.int("axis", 0)?, shape.len())?;
    let fits = |a: usize| a == axis || wanted[a] <= shape[a];
    if wanted.len() != shape.len() || !(0..shape.len()).all(fits) {
        return Err(format!("indices {} for {}", c.ty(&indices), c.ty(&x)).into());
    }
    // Where all elements are the same, indices do not matter.
    if let Val::Known(tensor) = &x
        && let Some(number) = tensor.splat()
    {
        let number = c.number_like(&x, number);
        return one(c.broadcast(&number, wanted)?);
    }
    let mut at = c.cast(&indices, ElementType::I64)?;
    let (zero, size) = (c.number_like(&at, 0.0), c.number_like(&at, shape[axis] as f64));
    let is_negative = c.push(Binary::Less {}, &[&at, &zero])?;
    let from_first = c.add(&at, &size)?;
    at = c.select(&is_negative, &from_first, &at)?;
    // The tensor is taken as a vector, with indices into all of it.
    let stride = |axis: usize| shape[axis + 1..].iter().product::<u64>();
    at = c.scaled(&at, stride(axis) as f64)?;
    for other in (0..shape.len()).filter(|a| *a != axis && wanted[*a] > 1) {
        c.program.allow(&TensorType::new(ElementType::I64, [wanted[other]])?)?;
        let offsets = list((0..wanted[other]).map(|i| (i * stride(other)) as i64).collect());
        let offsets = c.along(&offsets, other, shape.len())?;
        at = c.add(&at, &offsets)?;
    }
    let flat = c.reshape(&x, [c.ty(&x).elements()])?;
    one(gathered(c, &flat, &at, 0)?)
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
    let x = c.transpose(&x, &[0, 3, 5, 1, 2, 4])?;
    one(c.reshape(&x, [n, channels * b * b, h / b, w / b])?)
}

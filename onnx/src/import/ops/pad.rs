//! Elements around tensors.

use kiln_ir::func::{PadMode, Structured};
use kiln_ir::text::Listed;

use super::Row;
use super::elementwise::EXACT;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axes_of, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[("Pad", pad)];

fn pad(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let rank = c.rank(&x);
    let pads = match c.ints("paddings")? {
        Some(pads) => pads,
        None => c.setting("pads", 1)?.ok_or("lacks its pads")?,
    };
    let value = match c.float_or_none("value")? {
        Some(value) => value,
        None => c.known_number(2, "constant_value")?.unwrap_or(0.0),
    };
    let mode = match c.string("mode", "constant")?.as_str() {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(format!("attribute `mode` is `{other}`, which is not known").into()),
    };
    let axes = match c.known_ints(3, "axes")? {
        Some(axes) => axes_of(&axes, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("pads {}: expected two for each of {} axes", Listed(&pads), axes.len()).into());
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (i, axis) in axes.iter().enumerate() {
        (before[*axis], after[*axis]) = (pads[i], pads[axes.len() + i]);
    }
    one(padded(c, &x, mode, &before, &after, value)?)
}

/// Elements around a tensor; where a number is negative, elements are cut off first.
fn padded(c: &mut Ctx<'_>, x: &Val, mode: PadMode, before: &[i64], after: &[i64], value: f64) -> Result<Val, Fault> {
    let mut x = x.clone();
    for axis in 0..before.len() {
        let size = c.shape(&x)[axis];
        let cut = |pad: i64| if pad < 0 { pad.unsigned_abs() } else { 0 };
        let (first, last) = (cut(before[axis]), cut(after[axis]));
        let rest = size.checked_sub(first).and_then(|n| n.checked_sub(last));
        let rest = rest.ok_or_else(|| format!("more is cut off axis {axis} of {} than there is", c.ty(&x)))?;
        x = c.slice(&x, axis, if rest == 0 { 0 } else { first }, 1, rest)?;
    }
    let added = |pads: &[i64]| pads.iter().map(|pad| (*pad).max(0) as u64).collect::<Vec<_>>();
    let (before, after) = (added(before), added(after));
    if before.iter().chain(&after).all(|pad| *pad == 0) {
        return Ok(x);
    }
    let value = if mode == PadMode::Constant { value } else { 0.0 };
    if !c.element(&x).is_float() && value.abs() >= EXACT {
        return Err(format!("its constant_value {value:e} is too large: expected an integer below 2^53").into());
    }
    c.push(Structured::Pad { mode, before, after, value: value.into() }, &[&x])
}

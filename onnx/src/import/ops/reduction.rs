//! Reductions along axes.

use kiln_ir::func::{Binary, ReduceKind, Structured, Unary};

use super::Row;
use super::indexed::count_along;
use crate::import::node::{Ctx, Outputs, axes_of, axis_of, one};

pub(super) const OPS: &[Row] = &[
    ("ArgMax", |c| arg(c, true)),
    ("ArgMin", |c| arg(c, false)),
    ("CumProd", |c| running(c, |axis, exclusive, reverse| Structured::CumProd { axis, exclusive, reverse })),
    ("CumSum", |c| running(c, |axis, exclusive, reverse| Structured::CumSum { axis, exclusive, reverse })),
    ("Hardmax", hardmax),
    ("ReduceL1", |c| reduce(c, ReduceKind::L1)),
    ("ReduceL2", |c| reduce(c, ReduceKind::L2)),
    ("ReduceLogSum", reduce_log_sum),
    ("ReduceLogSumExp", |c| reduce(c, ReduceKind::LogSumExp)),
    ("ReduceMax", |c| reduce(c, ReduceKind::Max)),
    ("ReduceMean", |c| reduce(c, ReduceKind::Mean)),
    ("ReduceMin", |c| reduce(c, ReduceKind::Min)),
    ("ReduceProd", |c| reduce(c, ReduceKind::Prod)),
    ("ReduceSum", |c| reduce(c, ReduceKind::Sum)),
    ("ReduceSumSquare", |c| reduce(c, ReduceKind::SumSquare)),
];

fn reduce(c: &mut Ctx<'_>, kind: ReduceKind) -> Outputs {
    let x = c.input(0)?;
    let rank = c.rank(&x);
    let is_none_empty = c.flag("noop_with_empty_axes", false)?;
    let axes = match c.setting("axes", 1)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => axes_of(&axes, rank)?,
        None if is_none_empty => vec![],
        None => (0..rank).collect(),
    };
    let keep = c.flag("keepdims", true)?;
    use ReduceKind::{Max, Mean, Min, Prod, Sum};
    if axes.is_empty() && matches!(kind, Max | Mean | Min | Prod | Sum) {
        return one(x);
    }
    one(c.reduce(&x, kind, &axes, keep)?)
}

fn reduce_log_sum(c: &mut Ctx<'_>) -> Outputs {
    let sum = reduce(c, ReduceKind::Sum)?.remove(0);
    one(c.unary(Unary::Log {}, &sum)?)
}

fn arg(c: &mut Ctx<'_>, max: bool) -> Outputs {
    let x = c.input(0)?;
    let axis = axis_of(c.int("axis", 0)?, c.rank(&x))? as u64;
    let (keep, last) = (c.flag("keepdims", true)?, c.flag("select_last_index", false)?);
    one(c.push(Structured::ArgReduce { max, axis, keep, last }, &[&x])?)
}

fn running(c: &mut Ctx<'_>, op: fn(u64, bool, bool) -> Structured) -> Outputs {
    let x = c.input(0)?;
    let axis = c.known_number(1, "axis")?.ok_or("lacks its axis")?;
    let axis = axis_of(axis as i64, c.rank(&x))? as u64;
    let (exclusive, reverse) = (c.flag("exclusive", false)?, c.flag("reverse", false)?);
    one(c.push(op(axis, exclusive, reverse), &[&x])?)
}

/// 1 at the first of the greatest elements along an axis, else 0. Before version 13, all axes from one on are one.
fn hardmax(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let (shape, element) = (c.shape(&x), c.element(&x));
    if shape.contains(&0) {
        return one(x);
    }
    let (x, axis) = if c.opset >= 13 {
        (x, axis_of(c.int("axis", -1)?, shape.len())?)
    } else {
        let axis = c.int("axis", 1)?;
        let axis = if axis == shape.len() as i64 { shape.len() } else { axis_of(axis, shape.len())? };
        let product = |dims: &[u64]| dims.iter().product::<u64>();
        (c.reshape(&x, [product(&shape[..axis]), product(&shape[axis..])])?, 1)
    };
    let first = Structured::ArgReduce { max: true, axis: axis as u64, keep: true, last: false };
    let first = c.push(first, &[&x])?;
    let (size, rank) = (c.shape(&x)[axis], c.rank(&x));
    let places = count_along(c, size, axis, rank)?;
    let is_it = c.push(Binary::Equal {}, &[&places, &first])?;
    let y = c.cast(&is_it, element)?;
    one(c.reshape(&y, shape)?)
}

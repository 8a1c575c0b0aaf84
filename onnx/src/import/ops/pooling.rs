//! Pools.

use kiln_ir::func::{PoolKind, ReduceKind, Structured};

use super::Row;
use super::window::{Window, pixels};
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};

pub(super) const OPS: &[Row] = &[
    ("AveragePool", average_pool),
    ("GlobalAveragePool", |c| global(c, ReduceKind::Mean)),
    ("GlobalLpPool", global_lp_pool),
    ("GlobalMaxPool", |c| global(c, ReduceKind::Max)),
    ("LpPool", |c| pool(c, PoolKind::Lp)),
    ("MaxPool", max_pool),
];

fn pool(c: &mut Ctx<'_>, kind: PoolKind) -> Outputs {
    let x = c.input(0)?;
    let p = if kind == PoolKind::Lp { norm(c)? } else { 0 };
    let Window { kernel, strides, dilations, pads, out } = Window::read(c, &x, None)?;
    one(c.push(Structured::Pool { kind, p, kernel, strides, pads, dilations, out, channels_last: false }, &[&x])?)
}

/// The p of a norm; the first versions have it as a floating-point number.
fn norm(c: &Ctx<'_>) -> Result<u64, Fault> {
    let p = match c.float_or_none("p") {
        Ok(Some(p)) if p.fract() == 0.0 => p as i64,
        _ => c.int("p", 2)?,
    };
    Ok(u64::try_from(p)
        .ok()
        .filter(|p| *p > 0)
        .ok_or_else(|| format!("attribute `p` is {p}: expected a number from 1"))?)
}

fn average_pool(c: &mut Ctx<'_>) -> Outputs {
    let is_padding_counted = c.flag("count_include_pad", false)?;
    pool(c, if is_padding_counted { PoolKind::AveragePadded } else { PoolKind::Average })
}

fn max_pool(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let mut outputs = pool(c, PoolKind::Max)?;
    let column_major = c.flag("storage_order", false)?;
    if c.wants(1) {
        let Window { kernel, strides, dilations, pads, out } = Window::read(c, &x, None)?;
        let op = Structured::MaxPoolIndices { kernel, strides, pads, dilations, out, column_major };
        outputs.push(c.push(op, &[&x])?);
    }
    Ok(outputs)
}

fn global(c: &mut Ctx<'_>, kind: ReduceKind) -> Outputs {
    let x = c.input(0)?;
    pixels(c, &x)?;
    let axes: Vec<usize> = (2..c.rank(&x)).collect();
    one(c.reduce(&x, kind, &axes, true)?)
}

fn global_lp_pool(c: &mut Ctx<'_>) -> Outputs {
    match norm(c)? {
        1 => global(c, ReduceKind::L1),
        2 => global(c, ReduceKind::L2),
        p => {
            let x = c.input(0)?;
            let kernel = pixels(c, &x)?;
            let ones = vec![1; kernel.len()];
            let op = Structured::Pool {
                kind: PoolKind::Lp,
                p,
                kernel,
                strides: ones.clone(),
                pads: vec![0; 2 * ones.len()],
                dilations: ones.clone(),
                out: ones,
                channels_last: false,
            };
            one(c.push(op, &[&x])?)
        }
    }
}

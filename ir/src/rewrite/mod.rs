//! Rewrites: nest to nest, meaning kept up to the order of additions.
//!
//! In the order the compiler applies them: [`fuse_loops`] brings the epilogue into the contraction, [`align_taps`] and [`lines`] let
//! blocks end where taps and lines of pixels do, [`partition`] cuts an axis into regions with schedules of their own,
//! [`tile`](tile()) blocks a region's axes, [`prepacked`] reads panels that were copied before, [`split_borders`] tells blocks at
//! borders from others, [`pack`](pack()), [`pack_shared`] and [`strip`](strip()) copy a factor's footprint into memory of its own,
//! [`stage`](stage()) does so with the result, [`split_tails`] makes every extent constant, [`tensorize`] turns the innermost loops
//! into micro-kernel calls, and [`divide`](divide()) makes tasks of them. Those that are about index maps keep nests without, and refuse
//! numbers that no verified nest has.

mod align_taps;
mod check_map;
mod divide;
mod footprint;
mod fuse_loops;
mod lines;
mod pack;
mod partition;
mod split_borders;
mod split_tails;
mod stage;
mod strip;
mod taps;
mod tensorize;
mod tile;

pub use align_taps::align_taps;
pub use divide::{divide, inline};
pub use fuse_loops::{fuse_batches, fuse_loops};
pub use lines::lines;
pub use pack::{PackSpec, PanelShape, Side, pack, pack_shared, prepacked};
pub use partition::partition;
pub use split_borders::{Alike, split_borders};
pub use split_tails::split_tails;
pub use stage::stage;
pub use strip::{LinePanel, StripSpec, strip};
pub use tensorize::tensorize;
pub use tile::{Blocks, TileLoop, tile};

use std::ops::Range;

use check_map::{MOST_LOOKED_AT, MOST_MADE, check_map, has_map};

use crate::nest::{Access, Affine, Buffer, Extent, Loop, LoopNest, Stmt, Var};

/// A rewrite that does not apply. Always the schedule's mistake, never the data's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{rewrite}` does not apply: {why}")]
pub struct RewriteError {
    /// Which rewrite.
    pub rewrite: &'static str,
    /// What it found.
    pub why: String,
}

fn refuse<T>(rewrite: &'static str, why: impl Into<String>) -> Result<T, RewriteError> {
    Err(RewriteError { rewrite, why: why.into() })
}

/// Replaces `var` by `value` in every expression of `body`, and resolves `if`s on it when `value` is constant.
fn substitute(body: &mut Vec<Stmt>, var: Var, value: &Affine) {
    for s in body.iter_mut() {
        s.for_each_affine(&mut |a| a.substitute(var, value));
    }
    if value.terms().is_empty() {
        resolve_ifs(body, var, value.constant);
    }
}

/// Whether a condition on `var` is in `s`.
fn is_condition(s: &Stmt, var: Var) -> bool {
    matches!(s, Stmt::If { var: v, .. } if *v == var) || s.body().iter().any(|s| is_condition(s, var))
}

fn resolve_ifs(body: &mut Vec<Stmt>, var: Var, known: i64) {
    let is_on_var = |s: &Stmt| matches!(s, Stmt::If { var: v, .. } if *v == var);
    while let Some(at) = body.iter().position(is_on_var) {
        let Stmt::If { value, body: inner, .. } = body.remove(at) else { continue };
        if value as i64 == known {
            body.splice(at..at, inner);
        }
    }
    body.iter_mut().filter_map(Stmt::body_mut).for_each(|inner| resolve_ifs(inner, var, known));
}

/// The loop over `var` in a body whose statements lead to it; depth first.
fn find_loop(body: &mut [Stmt], var: Var) -> Option<&mut Loop> {
    body.iter_mut().find_map(|s| match s {
        Stmt::Loop(l) => {
            if l.var == var {
                Some(l)
            } else {
                find_loop(&mut l.body, var)
            }
        }
        s => find_loop(s.body_mut()?, var),
    })
}

/// Where the statements of a region are, which are counted behind the nest's barrier if it has one.
fn region_in(body: &[Stmt], region: &Range<usize>, rewrite: &'static str) -> Result<Range<usize>, RewriteError> {
    let behind = body.iter().position(|s| matches!(s, Stmt::Barrier)).map_or(0, |at| at + 1);
    let at = behind + region.start..behind + region.end;
    if body.get(at.clone()).is_some() { Ok(at) } else { refuse(rewrite, "there is no such region") }
}

/// The statements of a region.
fn region_of<'a>(
    body: &'a mut [Stmt],
    region: &Range<usize>,
    rewrite: &'static str,
) -> Result<&'a mut [Stmt], RewriteError> {
    let at = region_in(body, region, rewrite)?;
    Ok(&mut body[at])
}

/// Calls `f` with each loop over `var`.
fn for_each_loop<E>(body: &mut [Stmt], var: Var, f: &mut impl FnMut(&mut Loop) -> Result<(), E>) -> Result<(), E> {
    body.iter_mut().try_for_each(|s| match s {
        Stmt::Loop(l) if l.var == var => f(l),
        s => s.body_mut().map_or(Ok(()), |body| for_each_loop(body, var, f)),
    })
}

/// The result and the factors of the first product.
fn product(body: &[Stmt]) -> Option<(&Access, &Access, &Access)> {
    body.iter().find_map(|s| match s {
        Stmt::MulAdd { dst, lhs, rhs } => Some((dst, lhs, rhs)),
        s => product(s.body()),
    })
}

/// Calls `f` with each statement that has no others in it.
fn for_each_leaf(body: &mut [Stmt], f: &mut impl FnMut(&mut Stmt)) {
    for s in body {
        match s.body_mut() {
            Some(body) => for_each_leaf(body, f),
            None => f(s),
        }
    }
}

/// `for var in 0..extent step step`.
fn over(var: Var, extent: u64, step: u64, body: Vec<Stmt>) -> Stmt {
    Stmt::Loop(Loop { var, extent: Extent::Const(extent), step, parallel: false, body })
}

fn existing_var(nest: &LoopNest, rewrite: &'static str, name: &str) -> Result<Var, RewriteError> {
    match nest.vars.iter().position(|v| v == name) {
        Some(i) => Ok(Var(i as u16)),
        None => refuse(rewrite, format!("there is no variable `{name}`")),
    }
}

/// Elements between neighbours along `var` of a buffer accessed so.
fn stride(rewrite: &'static str, buffer: &Buffer, a: &Access, var: Var) -> Result<u64, RewriteError> {
    let along =
        a.index.iter().zip(&buffer.dims).try_fold(0u64, |sum, (i, d)| {
            sum.checked_add(u64::try_from(i.coefficient(var)).ok()?.checked_mul(d.stride)?)
        });
    match along {
        Some(stride) => Ok(stride),
        None => refuse(rewrite, format!("`{}` is not read forwards", buffer.name)),
    }
}

impl Extent {
    /// The extent of a full iteration.
    fn full(&self) -> u64 {
        match self {
            Extent::Const(n) => *n,
            Extent::Min { tile, .. } => *tile,
        }
    }
}

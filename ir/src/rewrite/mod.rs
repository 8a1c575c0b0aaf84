//! Rewrites: nest to nest, meaning kept up to the order of additions.
//!
//! In the order the compiler applies them: [`fuse_loops`] brings the epilogue into the contraction, [`partition`] cuts an
//! axis into regions with schedules of their own, [`tile`](tile()) blocks a region's axes, [`pack`](pack()) copies a
//! factor's footprint into contiguous panels, [`prepacked`] reads panels that were copied before, [`split_tails`] makes every extent constant, and [`tensorize`] turns the
//! innermost loops into micro-kernel calls.

mod fuse_loops;
mod pack;
mod partition;
mod split_tails;
mod tensorize;
mod tile;

pub use fuse_loops::fuse_loops;
pub use pack::{PackSpec, PanelShape, Side, pack, pack_shared, prepacked};
pub use partition::partition;
pub use split_tails::split_tails;
pub use tensorize::tensorize;
pub use tile::{TileLoop, tile};

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

fn resolve_ifs(body: &mut Vec<Stmt>, var: Var, known: i64) {
    let old = std::mem::take(body);
    for mut s in old {
        match &mut s {
            Stmt::If { var: v, value, body: inner } if *v == var => {
                if *value as i64 == known {
                    resolve_ifs(inner, var, known);
                    body.append(inner);
                }
                continue;
            }
            Stmt::If { body: inner, .. } | Stmt::Loop(Loop { body: inner, .. }) => resolve_ifs(inner, var, known),
            _ => {}
        }
        body.push(s);
    }
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
        Stmt::If { body, .. } => find_loop(body, var),
        _ => None,
    })
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

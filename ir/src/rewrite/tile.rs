use super::{RewriteError, refuse};
use crate::nest::{Affine, Extent, Loop, LoopNest, Stmt, Var};

/// A loop over blocks of an axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileLoop {
    /// `m`, `n` or `k`.
    pub axis: &'static str,
    /// Block size. Along one axis each must divide the one outside it.
    pub step: u64,
    /// Blocks may run on different threads.
    pub parallel: bool,
}

impl TileLoop {
    /// A serial loop over blocks.
    pub fn new(axis: &'static str, step: u64) -> Self {
        Self { axis, step, parallel: false }
    }
}

/// Blocks region `region`, which must be `for m { for n { [dst = 0]; for k { .. }; post-ops } }`, perhaps inside loops over
/// batches, which stay outermost and are parallel if `parallel_batch`, by `loops` from the
/// outside in; the loops over single elements of a block come innermost, as `m`, `n`, `k`. The i-th loop over blocks of
/// axis `x` is called `xi`. When K is blocked, sums start in the first block and post-ops apply in the last.
pub fn tile(
    mut nest: LoopNest,
    region: usize,
    loops: &[TileLoop],
    parallel_batch: bool,
) -> Result<LoopNest, RewriteError> {
    let Some(Stmt::Loop(mut m)) = nest.body.get(region).cloned() else {
        return refuse("tile", format!("region {region} is not a loop"));
    };
    let mut batch = vec![];
    while nest.vars[m.var.0 as usize] != "m" {
        let [Stmt::Loop(inner)] = &m.body[..] else { return refuse("tile", "there is no loop over `m`") };
        let inner = inner.clone();
        batch.push(Loop { parallel: parallel_batch, body: vec![], ..std::mem::replace(&mut m, inner) });
    }
    let [Stmt::Loop(n)] = &m.body[..] else {
        return refuse("tile", "the loop over `m` must hold just the loop over `n`");
    };
    let Some(at) = n.body.iter().position(|s| matches!(s, Stmt::Loop(_))) else {
        return refuse("tile", "there is no contraction loop");
    };
    let (before, Stmt::Loop(k), after) = (&n.body[..at], &n.body[at], &n.body[at + 1..]) else {
        unreachable!("`at` is the position of a loop")
    };

    // Each axis: its point loop, the blocks made so far.
    let axes = [m.clone(), n.clone(), k.clone()];
    let mut index: Vec<Affine> = axes.iter().map(|l| Affine::from(l.var)).collect();
    let mut blocks: Vec<Vec<(Var, u64)>> = vec![vec![]; 3];
    let mut outer: Vec<Loop> = vec![];
    for t in loops {
        let Some(a) = axes.iter().position(|l| nest.vars[l.var.0 as usize] == t.axis) else {
            return refuse("tile", format!("there is no axis `{}`", t.axis));
        };
        if t.step == 0 || blocks[a].last().is_some_and(|(_, s)| s % t.step != 0) {
            return refuse("tile", format!("step {} of `{}` does not divide the one outside it", t.step, t.axis));
        }
        let extent = block_extent(&axes[a], &blocks[a])?;
        let var = nest.var(&format!("{}{}", t.axis, blocks[a].len()));
        outer.push(Loop { var, extent, step: t.step, parallel: t.parallel, body: vec![] });
        blocks[a].push((var, t.step));
        index[a].add_term(var, 1);
    }
    if blocks[2].len() > 1 {
        return refuse("tile", "the contraction axis can be blocked once");
    }

    let guard = |stmts: &[Stmt], value: u64| match blocks[2].first() {
        Some(&(var, _)) if !stmts.is_empty() => vec![Stmt::If { var, value, body: stmts.to_vec() }],
        _ => stmts.to_vec(),
    };
    let last_k = blocks[2].first().map_or(0, |&(_, step)| axes[2].extent.full().saturating_sub(1) / step * step);
    let point = |a: usize, body: Vec<Stmt>| -> Result<Stmt, RewriteError> {
        Ok(Stmt::Loop(Loop {
            var: axes[a].var,
            extent: block_extent(&axes[a], &blocks[a])?,
            step: 1,
            parallel: false,
            body,
        }))
    };
    let mut inner = guard(before, 0);
    inner.push(point(2, k.body.clone())?);
    inner.extend(guard(after, last_k));
    let mut body = vec![point(0, vec![point(1, inner)?])?];
    // Only the accesses move: the extents built above are already in terms of the blocks.
    let keep: Vec<Var> = axes.iter().map(|l| l.var).collect();
    move_accesses(&mut body, &keep, &index);
    for mut l in batch.into_iter().chain(outer).rev() {
        l.body = body;
        body = vec![Stmt::Loop(l)];
    }
    nest.body.splice(region..=region, body);
    Ok(nest.numbered())
}

/// The extent inside `blocks`: constant when the blocks divide the axis, else what is left of it.
fn block_extent(axis: &Loop, blocks: &[(Var, u64)]) -> Result<Extent, RewriteError> {
    let Extent::Const(total) = axis.extent else { return refuse("tile", "the region is already tiled") };
    let Some(&(_, step)) = blocks.last() else { return Ok(Extent::Const(total)) };
    if total == 0 {
        return refuse("tile", "a loop has no iterations");
    }
    if total % step == 0 {
        return Ok(Extent::Const(step));
    }
    let mut rest = Affine::constant(total as i64);
    blocks.iter().for_each(|&(v, _)| rest.add_term(v, -1));
    Ok(Extent::Min { tile: step, rest })
}

fn move_accesses(body: &mut [Stmt], vars: &[Var], index: &[Affine]) {
    for s in body {
        match s {
            Stmt::Loop(Loop { body, .. }) | Stmt::If { body, .. } => move_accesses(body, vars, index),
            s => s.for_each_affine(&mut |a| {
                // Simultaneous: an axis' new index mentions its own variable.
                let mut moved = Affine::constant(a.constant);
                for &(v, c) in a.terms() {
                    match vars.iter().position(|&w| w == v) {
                        Some(i) => index[i].terms().iter().for_each(|&(w, d)| moved.add_term(w, c * d)),
                        None => moved.add_term(v, c),
                    }
                }
                *a = moved;
            }),
        }
    }
}

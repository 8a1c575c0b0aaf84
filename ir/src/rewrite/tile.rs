use super::{RewriteError, find_loop, refuse, substitute};
use crate::nest::{Affine, Extent, Loop, LoopNest, Stmt, Var};

/// The blocks of a [`TileLoop`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Blocks {
    /// All of this size but the last, which may be smaller. Along one axis each must divide the one outside it.
    Of(u64),
    /// So many of each size, one loop after another; the innermost blocks of their axis.
    Sizes(Vec<(u64, u64)>),
    /// Single elements: the axis has no other loop inside.
    Elements,
}

/// A loop over blocks of an axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileLoop {
    /// `m`, `n`, `k`, or an axis of lines.
    pub axis: String,
    /// Its variable; otherwise the i-th loop over blocks of axis `x` is called `xi`.
    pub var: Option<String>,
    /// What it steps by.
    pub blocks: Blocks,
    /// Blocks may run on different threads.
    pub parallel: bool,
}

impl TileLoop {
    /// A serial loop over blocks of a size.
    pub fn new(axis: &str, step: u64) -> Self {
        Self { axis: axis.into(), var: None, blocks: Blocks::Of(step), parallel: false }
    }
}

/// A loop around tiles, and its pieces where it has several: the point loop of their axis is as long as each.
struct Outer {
    head: Loop,
    point: Var,
    sizes: Vec<(u64, u64)>,
}

/// Blocks region `region`, which must be `for m { for n { [dst = 0]; for k { .. }; post-ops } }`, perhaps inside loops over
/// lines and inside of those over batches, which stay outermost and are parallel if `parallel_batch`, by `loops` from the
/// outside in; the loops over single elements of a block come innermost, as `m`, `n`, `k`. When K is blocked, sums start in the
/// first block and post-ops apply in the last.
pub fn tile(
    mut nest: LoopNest,
    region: usize,
    loops: &[TileLoop],
    parallel_batch: bool,
) -> Result<LoopNest, RewriteError> {
    let Some(Stmt::Loop(root)) = nest.body.get(region).cloned() else {
        return refuse("tile", format!("region {region} is not a loop"));
    };
    let (mut batch, mut axes) = (vec![], vec![]);
    let mut body = vec![Stmt::Loop(root)];
    while let [Stmt::Loop(l)] = &mut body[..] {
        let inner = std::mem::take(&mut l.body);
        let name = &nest.vars[usize::from(l.var.0)];
        let is_last = name == "n";
        match name == "m" || name == "n" || loops.iter().any(|t| t.axis == *name) {
            true => axes.push(l.clone()),
            false if axes.is_empty() => batch.push(Loop { parallel: parallel_batch, ..l.clone() }),
            false => return refuse("tile", format!("there is a loop over `{name}` between those of the product")),
        }
        body = inner;
        if is_last {
            break;
        }
    }
    let names: Vec<&str> = axes.iter().map(|l| nest.vars[usize::from(l.var.0)].as_str()).collect();
    if !names.ends_with(&["m", "n"]) {
        return refuse("tile", "there is no loop over `m` that holds just the loop over `n`");
    }
    let Some(at) = body.iter().position(|s| matches!(s, Stmt::Loop(_))) else {
        return refuse("tile", "there is no contraction loop");
    };
    let (before, Stmt::Loop(k), after) = (&body[..at], &body[at], &body[at + 1..]) else {
        unreachable!("`at` is the position of a loop")
    };

    // Each axis: its point loop, the blocks made so far.
    axes.push(Loop { body: vec![], ..k.clone() });
    let mut index: Vec<Affine> = axes.iter().map(|l| Affine::from(l.var)).collect();
    let mut blocks: Vec<Vec<(Var, u64)>> = vec![vec![]; axes.len()];
    let mut is_inside = vec![true; axes.len()];
    let mut outer: Vec<Outer> = vec![];
    for t in loops {
        let Some(a) = axes.iter().position(|l| nest.vars[usize::from(l.var.0)] == t.axis) else {
            return refuse("tile", format!("there is no axis `{}`", t.axis));
        };
        let extent = block_extent(&axes[a], &blocks[a])?;
        let (point, parallel) = (axes[a].var, t.parallel);
        let (step, sizes) = match &t.blocks {
            Blocks::Of(step) => (*step, vec![]),
            Blocks::Sizes(sizes) => {
                let sum = sizes.iter().fold(0u64, |sum, (size, count)| sum.saturating_add(size.saturating_mul(*count)));
                if extent != Extent::Const(sum) {
                    return refuse("tile", format!("blocks of `{}` do not add up to what there is", t.axis));
                }
                (sizes.iter().map(|(size, _)| *size).max().unwrap_or(0), sizes.clone())
            }
            Blocks::Elements => {
                is_inside[a] = false;
                outer.push(Outer { head: Loop { parallel, extent, ..axes[a].clone() }, point, sizes: vec![] });
                continue;
            }
        };
        if step == 0 || (sizes.is_empty() && blocks[a].last().is_some_and(|(_, s)| s % step != 0)) {
            return refuse("tile", format!("step {step} of `{}` does not divide the one outside it", t.axis));
        }
        let name = t.var.clone().unwrap_or_else(|| format!("{}{}", t.axis, blocks[a].len()));
        let var = nest.var(&name);
        outer.push(Outer { head: Loop { var, extent, step, parallel, body: vec![] }, point, sizes });
        blocks[a].push((var, step));
        index[a].add_term(var, 1);
    }
    let [.., k_blocks] = &blocks[..] else { unreachable!("K is an axis") };
    let [lines @ .., m, n, deep] = &axes[..] else { unreachable!("m, n and k are axes") };
    if k_blocks.len() > 1 {
        return refuse("tile", "the contraction axis can be blocked once");
    }
    if is_inside.iter().zip(lines).any(|(inside, _)| *inside) || is_inside[lines.len()..].contains(&false) {
        return refuse("tile", "the loops over single elements of `m`, `n` and `k`, and no others, are innermost");
    }

    let guard = |stmts: &[Stmt], value: u64| match k_blocks.first() {
        Some(&(var, _)) if !stmts.is_empty() => vec![Stmt::If { var, value, body: stmts.to_vec() }],
        _ => stmts.to_vec(),
    };
    let last_k = k_blocks.first().map_or(0, |&(_, step)| deep.extent.full().saturating_sub(1) / step * step);
    let point = |axis: &Loop, at: usize, body: Vec<Stmt>| -> Result<Stmt, RewriteError> {
        let extent = block_extent(axis, &blocks[at])?;
        Ok(Stmt::Loop(Loop { var: axis.var, extent, step: 1, parallel: false, body }))
    };
    let mut inner = guard(before, 0);
    inner.push(point(deep, lines.len() + 2, k.body.clone())?);
    inner.extend(guard(after, last_k));
    let mut body = vec![point(m, lines.len(), vec![point(n, lines.len() + 1, inner)?])?];
    // Only the accesses move: the extents built above are already in terms of the blocks.
    let keep: Vec<Var> = axes.iter().map(|l| l.var).collect();
    move_accesses(&mut body, &keep, &index);
    for Outer { head, point, sizes } in outer.into_iter().rev() {
        body = match sizes.is_empty() {
            true => vec![Stmt::Loop(Loop { body, ..head })],
            false => pieces(&head, point, &sizes, &body),
        };
    }
    body = batch.into_iter().rev().fold(body, |body, l| vec![Stmt::Loop(Loop { body, ..l })]);
    nest.body.splice(region..=region, body);
    Ok(nest.numbered())
}

/// A loop for each size of blocks.
fn pieces(head: &Loop, point: Var, sizes: &[(u64, u64)], body: &[Stmt]) -> Vec<Stmt> {
    let mut start = 0;
    let mut out = vec![];
    for &(step, count) in sizes.iter().filter(|(_, count)| *count > 0) {
        let mut body = body.to_vec();
        if let Some(l) = find_loop(&mut body, point) {
            l.extent = Extent::Const(step);
        }
        let mut index = Affine::from(head.var);
        index.constant = start as i64;
        substitute(&mut body, head.var, &index);
        out.push(Stmt::Loop(Loop { extent: Extent::Const(step * count), step, body, ..head.clone() }));
        start += step * count;
    }
    out
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

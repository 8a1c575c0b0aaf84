use std::ops::Range;

use super::{RewriteError, existing_var, for_each_leaf, for_each_loop, over, refuse, region_of, stride};
use crate::dtype::DType;
use crate::nest::{Access, Affine, Buffer, BufferId, BufferKind, Dim, Extent, Loop, LoopNest, Matrix, Pack, Stmt, Var};

/// A factor of the contraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The left one: its panels are as wide as a tile has rows.
    Lhs,
    /// The right one: its panels are as wide as a tile has columns.
    Rhs,
}

impl Side {
    /// The axis along the width of its panels.
    fn axis(self) -> &'static str {
        match self {
            Side::Lhs => "m",
            Side::Rhs => "n",
        }
    }
}

/// The shape of a panel: K steps of `pitch` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PanelShape {
    /// Elements between consecutive steps of K; at least a tile's rows or columns.
    pub pitch: u64,
    /// Steps of K that are neighbours in memory, see [`Buffer::interleave`].
    pub interleave: u64,
    /// Element type.
    pub dtype: DType,
}

impl PanelShape {
    /// Elements from one panel to the next when each serves `width` rows or columns of `k` steps: a multiple of `width`, so
    /// that the place of a panel is affine in the index of its first row or column.
    pub fn distance(&self, k: u64, width: u64) -> u64 {
        (k.next_multiple_of(self.interleave) * self.pitch).next_multiple_of(width)
    }

    /// Refuses what is no panel of `width` rows or columns.
    fn check(&self, rewrite: &'static str, width: u64) -> Result<(), RewriteError> {
        match self {
            _ if width == 0 || self.interleave == 0 => refuse(rewrite, "a panel is empty"),
            _ if self.pitch < width => refuse(rewrite, "the pitch is smaller than a tile"),
            _ => Ok(()),
        }
    }

    /// The dimensions of a panel: K and the width.
    pub fn dims(&self, k: u64) -> [Dim; 2] {
        let steps = k.next_multiple_of(self.interleave);
        [Dim { extent: steps, stride: self.pitch }, Dim { extent: self.pitch, stride: self.interleave }]
    }
}

/// Which factor is packed, where, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackSpec {
    /// The factor.
    pub side: Side,
    /// Name of the new scratch buffer.
    pub panel: String,
    /// The copy is made at the start of each iteration of this loop.
    pub at: String,
    /// The shape of its panels.
    pub shape: PanelShape,
}

/// What leads to a multiply-add, and one of its factors.
struct Found<'a> {
    path: Vec<&'a Loop>,
    /// Indices that are taken apart into digits.
    digits: Vec<(&'a Affine, &'a [(Var, u64)])>,
    access: Access,
}

/// K in a factor.
struct Deep<'a> {
    /// The factor's dimensions along it.
    dims: Vec<usize>,
    /// The step, and how many there are.
    index: Affine,
    extent: u64,
    /// Taps, and the steps of each, where steps are digits.
    digits: Option<[&'a (Var, u64); 2]>,
}

impl<'a> Found<'a> {
    fn in_body(body: &'a [Stmt], side: Side) -> Option<Self> {
        body.iter().find_map(|s| match s {
            Stmt::MulAdd { lhs, rhs, .. } => {
                let access = if side == Side::Lhs { lhs } else { rhs };
                Some(Found { path: vec![], digits: vec![], access: access.clone() })
            }
            s => {
                let mut found = Found::in_body(s.body(), side)?;
                match s {
                    Stmt::Loop(l) => found.path.insert(0, l),
                    Stmt::Delinearize { index, into, .. } => found.digits.insert(0, (index, into)),
                    _ => {}
                }
                Some(found)
            }
        })
    }

    /// The loop over single elements of `var`.
    fn point(&self, var: Var) -> Result<&'a Loop, RewriteError> {
        match self.path.iter().find(|l| l.var == var && l.step == 1) {
            Some(l) => Ok(l),
            None => refuse("pack", "the loop is inside the tile"),
        }
    }

    /// The dimension of the factor along which `var` counts.
    fn dim(&self, var: Var) -> Result<usize, RewriteError> {
        match self.access.index.iter().position(|i| i.coefficient(var) != 0) {
            Some(dim) => Ok(dim),
            None => refuse("pack", "the factor does not have the axis"),
        }
    }

    /// The factor's axis K, whose variable is `k`.
    fn deep(&self, k: Var, factor: &Buffer) -> Result<Deep<'a>, RewriteError> {
        let Some((index, into)) = self.digits.iter().find(|(index, _)| index.coefficient(k) != 0) else {
            let dim = self.dim(k)?;
            let (index, extent) = (self.access.index[dim].clone(), factor.dims[dim].extent);
            return Ok(Deep { dims: vec![dim], index, extent, digits: None });
        };
        let [tap, step] = into else { return refuse("pack", "steps of K are not those of taps") };
        let dims = vec![self.dim(tap.0)?, self.dim(step.0)?];
        Ok(Deep { dims, index: (*index).clone(), extent: tap.1 * step.1, digits: Some([tap, step]) })
    }
}

/// A factor's panels in memory of their own.
struct Panels {
    /// The loops over panels, outermost first.
    loops: Vec<Loop>,
    /// The copy of one.
    copy: Vec<Stmt>,
    buffer: Buffer,
    /// What is multiplied is read so.
    access: Access,
}

impl Panels {
    /// Those of all elements that the loops of `found` read. A panel is the rows or columns of a tile over all steps of K, those of all its
    /// blocks. What all threads share has the panels of each product of a batch.
    fn of(
        (buffers, vars): (&[Buffer], &mut Vec<String>),
        found: &Found<'_>,
        [width, k]: [Var; 2],
        shape: PanelShape,
        name: &str,
        kind: BufferKind,
    ) -> Result<Self, RewriteError> {
        let from = &found.access;
        let (wide, deep) = (found.point(width)?.clone(), found.point(k)?.clone());
        let source = &buffers[usize::from(from.buffer.0)];
        let (wide_dim, all_deep) = (found.dim(width)?, found.deep(k, source)?);
        let loops = |wanted: &dyn Fn(&Loop) -> bool| -> Vec<Loop> {
            found.path.iter().filter(|l| wanted(l)).map(|l| Loop { body: vec![], ..(*l).clone() }).collect()
        };
        let depends = |l: &Loop, dim: usize| from.index[dim].coefficient(l.var) != 0;
        let blocks = loops(&|l| l.var != width && depends(l, wide_dim));
        let k_blocks = loops(&|l| l.var != k && all_deep.index.coefficient(l.var) != 0);
        let is_other = |dim: &usize| *dim != wide_dim && !all_deep.dims.contains(dim);
        let others: Vec<usize> = (0..from.index.len()).filter(is_other).collect();
        let batch = match kind {
            BufferKind::Shared => loops(&|l| others.iter().any(|dim| depends(l, *dim))),
            _ => vec![],
        };
        if blocks.iter().chain(&batch).any(|l| l.step == 0) {
            return refuse("pack", "a loop has no end");
        }
        if k_blocks.iter().any(|l| l.step % shape.interleave != 0) {
            return refuse("pack", "blocks of K end inside groups of neighbours");
        }
        shape.check("pack", wide.extent.full())?;

        let step = blocks.last().map_or(wide.extent.full(), |l| l.step);
        // Blocks of K are parts of a panel.
        let all_k = k_blocks.first().map_or(&deep.extent, |l| &l.extent).clone();
        let distance = shape.distance(all_k.full(), step);
        let covered = blocks.first().map_or(wide.extent.full(), |l| l.extent.full());
        let mut per = covered.div_ceil(step.max(1)).saturating_mul(distance);
        let mut dims: Vec<Dim> = vec![];
        for l in batch.iter().rev() {
            dims.insert(0, Dim { extent: l.extent.full(), stride: per });
            per = per.saturating_mul(l.extent.full());
        }
        dims.extend(blocks.iter().map(|l| {
            let extent = l.extent.full().saturating_sub(1) / l.step * l.step + 1;
            Dim { extent, stride: distance / step }
        }));
        dims.extend(shape.dims(all_k.full()));
        let loops: Vec<Loop> = batch.into_iter().chain(blocks).collect();
        let mut index: Vec<Affine> = loops.iter().map(|l| l.var).chain([k, width]).map(Affine::from).collect();
        let at_k = index.len() - 2;
        k_blocks.iter().for_each(|l| index[at_k].add_term(l.var, 1));
        let access = Access { buffer: BufferId(buffers.len() as u16), index };
        let inner: Vec<Var> = k_blocks.iter().map(|l| l.var).chain([k, width]).collect();
        let along = |var| stride("pack", source, from, var);
        let step = all_deep.digits.map_or(k, |[_, step]| step.0);
        let mut copy = Pack {
            number: 0,
            dst: Matrix { at: first(&access, &inner), row: shape.pitch, col: shape.interleave },
            src: Matrix { at: first(from, &inner), row: along(step)?, col: along(width)? },
            k: all_k,
            width: wide.extent,
            pitch: shape.pitch,
        };
        let copy = match all_deep.digits {
            None => vec![Stmt::Pack(Box::new(copy))],
            Some([tap, step]) => {
                let mut start = all_deep.index;
                start.substitute(k, &Affine::default());
                let (Extent::Const(steps), []) = (&copy.k, start.terms()) else {
                    return refuse("pack", "steps of taps are packed where they are known");
                };
                let steps = start.constant as u64..start.constant as u64 + steps;
                let taps = Taps { dims: [all_deep.dims[0], all_deep.dims[1]], digits: [tap.0, step.0], steps: step.1 };
                copy.src.at = first(from, &[k, width]);
                taps.copies(&copy, steps, source.dims[all_deep.dims[1]].extent, vars)
            }
        };
        let buffer = Buffer { name: name.into(), dtype: shape.dtype, kind, dims, interleave: shape.interleave };
        Ok(Panels { loops, copy, buffer, access })
    }

    /// The copies of all panels, by loops that divide tasks if they are `parallel`.
    fn copies(loops: Vec<Loop>, copy: Vec<Stmt>, parallel: bool) -> Vec<Stmt> {
        loops.into_iter().rev().fold(copy, |body, l| vec![Stmt::Loop(Loop { parallel, body, ..l })])
    }
}

/// The digits of K in a factor.
struct Taps {
    /// The dimensions along taps, and along the steps of each.
    dims: [usize; 2],
    digits: [Var; 2],
    steps: u64,
}

impl Taps {
    /// The copies of these steps, of which each tap has `own` in the factor: whole taps in a loop.
    fn copies(&self, copy: &Pack, steps: Range<u64>, own: u64, vars: &mut Vec<String>) -> Vec<Stmt> {
        let per = self.steps;
        let mut out = vec![];
        let mut piece = |tap: u64, count: u64, steps_of: Range<u64>| {
            let (from, to) = (steps_of.start, steps_of.end.min(own));
            if count == 0 || from >= to {
                return;
            }
            let mut copy = copy.clone();
            copy.k = Extent::Const(to - from);
            let mut index = Affine::constant(tap as i64);
            let var = (count > 1).then(|| LoopNest::named(vars, "t"));
            var.iter().for_each(|v| index.add_term(*v, 1));
            let k = copy.dst.at.index.len() - 2;
            copy.dst.at.index[k] = Affine::constant((tap * per + from - steps.start) as i64);
            var.iter().for_each(|v| copy.dst.at.index[k].add_term(*v, per as i64));
            copy.src.at.index[self.dims[0]].substitute(self.digits[0], &index);
            copy.src.at.index[self.dims[1]].substitute(self.digits[1], &Affine::constant(from as i64));
            let copy = Stmt::Pack(Box::new(copy));
            out.push(var.map_or(copy.clone(), |v| over(v, count, 1, vec![copy])));
        };
        let whole = steps.start.div_ceil(per)..steps.end / per;
        if whole.start > whole.end {
            piece(whole.end, 1, steps.start % per..steps.end % per);
            return out;
        }
        if !steps.start.is_multiple_of(per) {
            piece(whole.start - 1, 1, steps.start % per..per);
        }
        piece(whole.start, whole.end - whole.start, 0..per);
        piece(whole.end, 1, 0..steps.end % per);
        out
    }
}

/// Copies the footprint of a factor inside loop `at` of region `region` into a scratch buffer, panel by panel, and redirects
/// the contraction to it. A panel is the rows or columns of a tile over all steps of K inside the loop, those of all its blocks of K.
/// When blocks of rows or columns lie inside `at`, panels follow one another.
pub fn pack(mut nest: LoopNest, region: Range<usize>, spec: &PackSpec) -> Result<LoopNest, RewriteError> {
    let at = existing_var(&nest, "pack", &spec.at)?;
    let axes = [existing_var(&nest, "pack", spec.side.axis())?, existing_var(&nest, "pack", "k")?];
    let buffers = nest.buffers.clone();
    let LoopNest { body, vars, .. } = &mut nest;
    let region = region_of(body, &region, "pack")?;
    // The first block is the largest.
    let mut first = None;
    for_each_loop(region, at, &mut |host| {
        let Some(found) = Found::in_body(&host.body, spec.side) else {
            return refuse("pack", format!("nothing is multiplied inside `{}`", spec.at));
        };
        let from = found.access.clone();
        let Panels { loops, copy, buffer, access } =
            Panels::of((&buffers, vars), &found, axes, spec.shape, &spec.panel, BufferKind::Scratch)?;
        redirect(&mut host.body, spec.side, &from, &access);
        host.body.splice(0..0, Panels::copies(loops, copy, false));
        first.get_or_insert(buffer);
        Ok(())
    })?;
    let Some(buffer) = first else { return refuse("pack", format!("no loop over `{}`", spec.at)) };
    nest.buffers.push(buffer);
    Ok(nest.numbered())
}

/// Copies a factor of region `region`, which is counted behind the nest's barrier if it has one, into shared memory, all of it, and
/// redirects the contraction to it. The copies are tasks of a phase of their own, a panel each, before a barrier.
pub fn pack_shared(
    mut nest: LoopNest,
    region: usize,
    side: Side,
    panel: &str,
    shape: PanelShape,
) -> Result<LoopNest, RewriteError> {
    let axes = [existing_var(&nest, "pack", side.axis())?, existing_var(&nest, "pack", "k")?];
    let barrier = nest.body.iter().position(|s| matches!(s, Stmt::Barrier));
    let at = barrier.map_or(0, |at| at + 1) + region;
    let LoopNest { body, vars, buffers, .. } = &mut nest;
    let Some(body) = body.get(at..=at) else { return refuse("pack", "there is no such region") };
    let Some(found) = Found::in_body(body, side) else { return refuse("pack", "nothing is multiplied") };
    let from = found.access.clone();
    let Panels { loops, copy, buffer, access } =
        Panels::of((buffers, vars), &found, axes, shape, panel, BufferKind::Shared)?;
    redirect(&mut nest.body[at..=at], side, &from, &access);
    let copies = Panels::copies(loops, copy, true);
    match barrier {
        Some(barrier) => drop(nest.body.splice(barrier..barrier, copies)),
        None => drop(nest.body.splice(0..0, copies.into_iter().chain([Stmt::Barrier]))),
    }
    nest.buffers.push(buffer);
    Ok(nest.numbered())
}

/// Redirects a region to panels that were packed before the call, each of `width` columns and all of K, one batch after
/// another. The first region's panels take the place of the factor among the arguments; those of others become arguments
/// behind all. So regions go last to first, and before anything is packed into scratch memory.
pub fn prepacked(
    mut nest: LoopNest,
    region: usize,
    side: Side,
    width: u64,
    shape: PanelShape,
) -> Result<LoopNest, RewriteError> {
    let (point, k) = (existing_var(&nest, "prepacked", side.axis())?, existing_var(&nest, "prepacked", "k")?);
    let Some(body) = nest.body.get(region..=region) else { return refuse("prepacked", "there is no such region") };
    let Some(found) = Found::in_body(body, side) else { return refuse("prepacked", "nothing is multiplied") };
    let access = found.access.clone();
    let old = nest.buffers[access.buffer.0 as usize].clone();
    let (wide_dim, deep) = (found.dim(point)?, found.deep(k, &old)?);
    shape.check("prepacked", width)?;
    // The factor's columns that the region covers: where its own index begins, and what its loops add up to.
    let mut columns = access.index[wide_dim].clone();
    let start = std::mem::take(&mut columns.constant) as u64;
    let mut loops = found.path.iter().filter(|l| columns.coefficient(l.var) != 0);
    if loops.clone().any(|l| if l.var == point { l.extent.full() > width } else { l.step % width != 0 }) {
        return refuse("prepacked", format!("the region is not in blocks of {width}"));
    }
    let blocked =
        found.path.iter().any(|l| l.var != k && deep.index.coefficient(l.var) != 0 && l.step % shape.interleave != 0);
    if blocked {
        return refuse("prepacked", "blocks of K end inside groups of neighbours");
    }
    if nest.buffers.iter().any(|b| b.kind == BufferKind::Scratch) {
        return refuse("prepacked", "something is packed into scratch memory already");
    }
    let covered = loops.next().map_or(1, |l| l.extent.full().max(width));
    let covered = covered.min(old.dims[wide_dim].extent.saturating_sub(start)).max(1);
    let distance = shape.distance(deep.extent, width);
    let panels = covered.div_ceil(width);
    columns.substitute(point, &Affine::constant(0));
    let (mut dims, mut index) = (vec![], vec![]);
    let mut per_batch = panels * distance;
    for (d, i) in old
        .dims
        .iter()
        .zip(&access.index)
        .enumerate()
        .rev()
        .filter_map(|(at, x)| (at != wide_dim && !deep.dims.contains(&at)).then_some(x))
    {
        dims.insert(0, Dim { extent: d.extent, stride: per_batch });
        index.insert(0, i.clone());
        per_batch *= d.extent;
    }
    dims.push(Dim { extent: (panels - 1) * width + 1, stride: distance / width });
    index.extend([columns, deep.index, Affine::from(point)]);
    dims.extend(shape.dims(deep.extent));
    let id = if region == 0 { access.buffer } else { BufferId(nest.buffers.len() as u16) };
    let name = if region == 0 { old.name } else { format!("{}_packed{region}", old.name) };
    let panel = Access { buffer: id, index };
    redirect(&mut nest.body[region..=region], side, &access, &panel);
    let buffer = Buffer { name, dtype: shape.dtype, kind: BufferKind::In, dims, interleave: shape.interleave };
    if region > 0 {
        nest.buffers.push(buffer);
    } else {
        // Other regions still need the old one to be redirected from.
        nest.buffers[id.0 as usize] = buffer;
    }
    Ok(nest.numbered())
}

/// The access with `vars` at 0.
fn first(a: &Access, vars: &[Var]) -> Access {
    let mut a = a.clone();
    for index in &mut a.index {
        vars.iter().for_each(|v| index.substitute(*v, &Affine::constant(0)));
    }
    a
}

fn redirect(body: &mut [Stmt], side: Side, from: &Access, to: &Access) {
    for_each_leaf(body, &mut |s| {
        if let Stmt::MulAdd { lhs, rhs, .. } = s {
            let factor = if side == Side::Lhs { lhs } else { rhs };
            if factor == from {
                *factor = to.clone();
            }
        }
    });
}

impl Pack {
    /// Whether either extent depends on `var`.
    pub(super) fn depends_on(&self, var: Var) -> bool {
        [&self.k, &self.width].into_iter().any(|e| matches!(e, Extent::Min { rest, .. } if rest.coefficient(var) != 0))
    }
}

//! Lowering of windowed contractions: from a problem and its schedule to the nest that is emitted.
//!
//! Pixels are cut into tiles so that a tile has the taps that exist and no others: along each axis, outputs that have the same
//! taps form a run, and runs become loops around tiles whose addresses are affine in the loops' variables. Tiles along the last
//! axis that differ in their taps, or in where a line ends in them, are statements of their own. What the register tile needs
//! beyond that is copied first, block of lines by block of lines: channels that are not neighbours, and factors for BFMMLA; a
//! result whose channels are not neighbours is computed in scratch memory and copied to its place afterwards.

mod copies;
mod tiles;

use std::ops::Range;

use kiln_ir::contraction::{self, View};
use kiln_ir::nest::{Affine, Buffer, BufferId, BufferKind, Dim, Extent, Loop, LoopNest, Stmt, Var};
use kiln_ir::rewrite::PanelShape;
use kiln_ir::window::Axis;
use kiln_ir::{Contraction, DType, Window};

use crate::schedule::{LhsAccess, Parallel, Region, RhsAccess, Schedule, TASK_MACS, rows};
use crate::target::VectorUnit;
use copies::{LinePanel, Transposed};

/// The nest of `c`, whose window is `w`.
pub fn lower(problem: &str, c: &Contraction, w: &Window, schedule: &Schedule, unit: &VectorUnit) -> LoopNest {
    let mut nest = contraction::build(problem, c);
    nest.body.clear();
    let batch = (0..c.batch.len()).map(|i| nest.var(&format!("b{i}"))).collect();
    let interleave = schedule.form.k_group();
    let (taps, channels) = c.taps(interleave);
    let (shared, copies) = (vec![], vec![]);
    let mut l =
        Lowering { nest, c, w, schedule, unit, batch, interleave, channels, k: taps * channels, shared, copies };
    let rhs = l.weights();
    let regions: Vec<Stmt> = (0..schedule.regions.len()).flat_map(|i| l.region(i, &rhs[i])).collect();
    let loops: Vec<(Var, u64)> = l.batch.iter().copied().zip(c.batch.iter().copied()).collect();
    let parallel = schedule.parallel != Parallel::None;
    let over_batch = |loops: Vec<(Var, u64)>, body: Vec<Stmt>| {
        loops.into_iter().rev().fold(body, |body, (var, extent)| {
            vec![Stmt::Loop(Loop { var, extent: Extent::Const(extent), step: 1, parallel, body })]
        })
    };
    if !l.copies.is_empty() {
        let of_source = loops.iter().zip(&c.lhs.batch).filter(|(_, stride)| **stride != 0).map(|(l, _)| *l);
        l.nest.body = over_batch(of_source.collect(), std::mem::take(&mut l.copies));
        l.nest.body.push(Stmt::Barrier);
    }
    l.nest.body.extend(over_batch(loops, regions));
    l.nest.numbered()
}

struct Lowering<'a> {
    nest: LoopNest,
    c: &'a Contraction,
    w: &'a Window,
    schedule: &'a Schedule,
    unit: &'a VectorUnit,
    batch: Vec<Var>,
    interleave: u64,
    /// Steps of K of a tap in panels.
    channels: u64,
    /// Steps of K in panels.
    k: u64,
    /// Strips that threads share, by the rows of their blocks.
    shared: Vec<(u64, BufferId)>,
    /// The copies into them.
    copies: Vec<Stmt>,
}

/// The memory that a region's weights are in.
enum Weights {
    /// In panels packed before: an argument.
    Packed(BufferId),
    /// In panels of a block, packed in the nest.
    Block { panel: BufferId, shape: PanelShape },
}

/// The memory that tiles read lhs from.
struct Source {
    buffer: BufferId,
    /// Strides of the axes' inputs.
    axes: Vec<i64>,
    /// The input that is at index 0 along each axis.
    start: Vec<Affine>,
    /// Elements between channels, or between columns.
    col: u64,
    /// Elements between groups of channels of an interleaved panel: `pixels` of a line are one residue of the last axis.
    panel: Option<LinePanel>,
    /// The place of the argument's batch.
    batch: Vec<Affine>,
    /// It is a copy in scratch memory.
    is_copy: bool,
}

/// Blocks of outputs along the block axis that are alike.
#[derive(Clone, PartialEq, Eq)]
struct Blocks {
    start: u64,
    len: u64,
    count: u64,
}

impl Blocks {
    /// The first output of each, in a loop over `var` if there are several.
    fn first(&self, var: Var) -> Affine {
        let index = if self.count == 1 { Affine::default() } else { Affine::from(var) };
        plus(&index, self.start as i64)
    }
}

/// The state of the lowering in a block of rows and columns.
struct Scope<'a> {
    region: &'a Region,
    weights: &'a Weights,
    /// Its weights are in panels already.
    are_packed: bool,
    source: Source,
    /// First output of the block along the block axis.
    block: Affine,
    /// The first of these blocks, whose taps all have.
    first: Range<u64>,
    /// First column of the columns' block, and its number of columns.
    n0: Affine,
    columns: u64,
    /// The result in scratch memory, and post-ops' operands in it: their first pixel is the block's.
    scratch: Option<Transposed>,
    /// Steps of K in panels, and whether the block of them is the first, the last.
    k: Range<u64>,
    is_first: bool,
    is_last: bool,
}

fn over(var: Var, count: u64, step: u64, body: Vec<Stmt>) -> Stmt {
    Stmt::Loop(Loop { var, extent: Extent::Const(count * step), step, parallel: false, body })
}

/// Marks loops in statements that have at least so many elements of the result as parallel, recursively.
fn divide(body: &mut [Stmt], least: u64, only: Var) -> bool {
    if elements(body) < least {
        return false;
    }
    for s in body {
        let is_large = elements(std::slice::from_ref(s)) >= least;
        match s {
            Stmt::Loop(l) if is_large => {
                l.parallel = true;
                divide(&mut l.body, least, only);
            }
            s => {
                let body = vec![s.clone()];
                *s = Stmt::Loop(Loop { var: only, extent: Extent::Const(1), step: 1, parallel: true, body });
            }
        }
    }
    true
}

/// The elements of the result that statements of tiles compute.
fn elements(body: &[Stmt]) -> u64 {
    let of = |s: &Stmt| match s {
        Stmt::Loop(l) => l.trips().unwrap_or(1) * elements(&l.body),
        Stmt::Tile(t) => t.m * t.n,
        _ => 0,
    };
    body.iter().map(of).sum()
}

fn plus(a: &Affine, constant: i64) -> Affine {
    let mut a = a.clone();
    a.constant += constant;
    a
}

fn sum(a: &Affine, b: &Affine, factor: i64) -> Affine {
    let mut sum = a.clone();
    sum.constant += b.constant * factor;
    b.terms().iter().for_each(|&(v, k)| sum.add_term(v, k * factor));
    sum
}

impl Lowering<'_> {
    fn buffer(&mut self, name: String, dtype: DType, kind: BufferKind, dims: Vec<Dim>, interleave: u64) -> BufferId {
        self.nest.buffers.push(Buffer { name, dtype, kind, dims, interleave });
        BufferId(self.nest.buffers.len() as u16 - 1)
    }

    fn shape(&self, r: &Region) -> PanelShape {
        self.schedule.rhs_panel(self.c, r, self.unit)
    }

    /// Steps of K in panels that a block has.
    fn k_block(&self, r: &Region) -> u64 {
        if r.kc >= self.c.k { self.k } else { r.kc.next_multiple_of(self.interleave).min(self.k) }
    }

    /// The weights' buffers: arguments before scratch memory.
    fn weights(&mut self) -> Vec<Weights> {
        let regions = &self.schedule.regions;
        let argument = BufferId(self.c.rhs.argument as u16);
        let packed: Vec<Option<BufferId>> = (0..regions.len())
            .rev()
            .map(|i| {
                let r = &regions[i];
                (r.rhs == RhsAccess::Packed).then(|| {
                    let shape = self.shape(r);
                    let panels = (r.end - r.start).div_ceil(r.nr);
                    let distance = shape.distance(self.k, r.nr);
                    let mut per_batch = panels * distance;
                    let mut dims = vec![];
                    let extents = self.c.batch.iter().zip(&self.c.rhs.batch).filter(|(_, s)| **s != 0);
                    for (extent, _) in extents.collect::<Vec<_>>().into_iter().rev() {
                        dims.insert(0, Dim { extent: *extent, stride: per_batch });
                        per_batch *= extent;
                    }
                    dims.push(Dim { extent: (panels - 1) * r.nr + 1, stride: distance / r.nr });
                    dims.extend(shape.dims(self.k));
                    let old = &self.nest.buffers[usize::from(argument.0)];
                    let (name, kind) = (old.name.clone(), BufferKind::In);
                    if i == 0 {
                        let buffer = Buffer { name, dtype: shape.dtype, kind, dims, interleave: shape.interleave };
                        self.nest.buffers[usize::from(argument.0)] = buffer;
                        argument
                    } else {
                        self.buffer(format!("{name}_packed{i}"), shape.dtype, kind, dims, shape.interleave)
                    }
                })
            })
            .collect();
        let weights = packed.into_iter().rev().enumerate().map(|(i, packed)| match packed {
            Some(buffer) => Weights::Packed(buffer),
            None => {
                let r = &regions[i];
                let shape = self.shape(r);
                let steps = self.k_block(r);
                let mut dims = vec![Dim { extent: r.nc - r.nr + 1, stride: shape.distance(steps, r.nr) / r.nr }];
                dims.extend(shape.dims(steps));
                let name = format!("rhs_panel{i}");
                Weights::Block {
                    panel: self.buffer(name, shape.dtype, BufferKind::Scratch, dims, shape.interleave),
                    shape,
                }
            }
        });
        weights.collect()
    }

    fn region(&mut self, number: usize, weights: &Weights) -> Vec<Stmt> {
        let r = self.schedule.regions[number].clone();
        let blocks = self.blocks(&r);
        let block_var = self.nest.var("m0");
        let column_var = self.nest.var("n0");
        let width = r.end - r.start;
        let columns: Vec<(u64, u64, u64)> = [(0, r.nc, width / r.nc), (width / r.nc * r.nc, width % r.nc, 1)]
            .into_iter()
            .filter(|(_, len, count)| *len > 0 && *count > 0)
            .collect();
        let m_outside = self.schedule.parallel.has_rows_outside();
        let parallel = self.schedule.parallel != Parallel::None;
        // What is inside of the outer loop divides tasks further.
        let is_fine = self.schedule.parallel.is_fine();
        let line = self.line_panel(&r, &blocks);
        let scratch = self.transposed(number, &r, &blocks);
        let strip = self.strip(number, &r, &blocks, line);
        let mut body = vec![];
        if let (LhsAccess::Shared, Some(buffer)) = (r.lhs, strip)
            && !self.shared.iter().any(|(_, known)| *known == buffer)
        {
            self.shared.push((r.mc, buffer));
            self.copy_shared(&r, &blocks, buffer, line, block_var);
        }
        // The panels of all of K serve every block of rows of a task.
        let once = !m_outside && self.k_block(&r) >= self.k;
        let first_column = |&(from, _, count): &(u64, u64, u64)| match count {
            1 => Affine::constant((r.start + from) as i64),
            _ => plus(&Affine::from(column_var), (r.start + from) as i64),
        };
        // Tasks: blocks of rows, or of columns.
        let emit = |l: &mut Self, b: &Blocks, cols: &(u64, u64, u64)| {
            let block = b.first(block_var);
            let (n0, len) = (first_column(cols), cols.1);
            let source = l.source(&block, strip, line, b);
            let scope = Scope {
                region: &r,
                weights,
                are_packed: once,
                source,
                block,
                first: b.start..b.start + b.len,
                n0,
                columns: len,
                scratch: scratch.clone(),
                k: 0..l.k,
                is_first: true,
                is_last: true,
            };
            l.block(scope)
        };
        let loops = |count: u64, var: Var, step: u64, parallel: bool, body: Vec<Stmt>| match count {
            1 if !parallel => body,
            _ => vec![Stmt::Loop(Loop { var, extent: Extent::Const(count * step), step, parallel, body })],
        };
        if m_outside {
            for b in &blocks {
                let mut inner = vec![];
                if !self.w.depthwise {
                    // Once for all columns.
                    inner = self.copy_once(&r, b, strip, line, block_var);
                }
                let inner: Vec<Stmt> = inner
                    .into_iter()
                    .chain(columns.iter().flat_map(|cols| {
                        let stmts = emit(self, b, cols);
                        loops(cols.2, column_var, cols.1, is_fine, stmts)
                    }))
                    .collect();
                body.extend(loops(b.count, block_var, b.len, parallel, inner));
            }
        } else {
            for cols in &columns {
                let mut inner = vec![];
                if let (Weights::Block { panel, shape }, true) = (weights, once) {
                    let columns = (&first_column(cols), cols.1);
                    self.pack_weights(r.nr, columns, &(0..self.k), (*panel, *shape), &mut inner);
                }
                for b in &blocks {
                    let stmts = emit(self, b, cols);
                    inner.extend(loops(b.count, block_var, b.len, is_fine, stmts));
                }
                body.extend(loops(cols.2, column_var, cols.1, parallel, inner));
            }
        }
        body
    }

    /// The copy of a block's source that all of its columns read.
    fn copy_once(
        &mut self,
        r: &Region,
        b: &Blocks,
        strip: Option<BufferId>,
        line: Option<LinePanel>,
        block_var: Var,
    ) -> Vec<Stmt> {
        let mut out = vec![];
        if strip.is_some() && r.lhs == LhsAccess::Block {
            let block = b.first(block_var);
            let source = self.source(&block, strip, line, b);
            self.copy_in(&source, &(b.start..b.start + b.len), (&Affine::default(), r.nc), &mut out);
        }
        out
    }

    /// Blocks of lines, neighbours that are alike together.
    fn blocks(&self, r: &Region) -> Vec<Blocks> {
        let axis = &self.w.axes[rows::block_axis(self.w)];
        let size = match rows::block_axis(self.w) + 1 == self.w.axes.len() {
            true => axis.output,
            false => (r.mc / rows::block_pixels(self.w)).clamp(1, axis.output),
        };
        let mut all: Vec<Blocks> = vec![];
        let mut start = 0;
        let mut last = None;
        while start < axis.output {
            let len = size.min(axis.output - start);
            let taps: Vec<(u64, Range<u64>)> =
                axis.runs(start..start + len).into_iter().map(|(run, taps)| (run.end - run.start, taps)).collect();
            let clip = self.inputs(axis, &(start..start + len));
            let first = axis.input_at(start, 0);
            let alike = Some((taps, clip.start as i64 - first, clip.end as i64 - first));
            match all.last_mut() {
                Some(b) if last == alike => b.count += 1,
                _ => all.push(Blocks { start, len, count: 1 }),
            }
            last = alike;
            start += len;
        }
        all
    }

    /// The inputs that outputs read, or none.
    fn inputs(&self, axis: &Axis, outputs: &Range<u64>) -> Range<u64> {
        let low = axis.input_at(outputs.start, 0).clamp(0, axis.input as i64);
        let high = (axis.input_at(outputs.end - 1, axis.kernel - 1) + 1).clamp(low, axis.input as i64);
        low as u64..high as u64
    }

    /// Indices of the batch axes that a view has.
    fn batch_index(&self, view: &View) -> Vec<Affine> {
        let has = self.batch.iter().zip(&view.batch).filter(|(_, s)| **s != 0);
        has.map(|(v, _)| Affine::from(*v)).collect()
    }

    fn source(&self, block: &Affine, strip: Option<BufferId>, panel: Option<LinePanel>, b: &Blocks) -> Source {
        let axes = self.w.axes.len();
        match strip {
            None => Source {
                buffer: BufferId(self.c.lhs.argument as u16),
                axes: self.w.axes.iter().map(|a| a.lhs as i64).collect(),
                start: vec![Affine::default(); axes],
                col: self.c.lhs.col,
                panel: None,
                batch: self.batch_index(&self.c.lhs),
                is_copy: false,
            },
            Some(buffer) => {
                let at = rows::block_axis(self.w);
                // Where the strip of a block begins among those that threads share.
                let batch = match self.shared.iter().any(|(_, shared)| *shared == buffer) {
                    true => self.batch_index(&self.c.lhs).into_iter().chain([block.clone()]).collect(),
                    false => vec![],
                };
                let dims = &self.nest.buffers[usize::from(buffer.0)].dims[batch.len()..];
                let start = (0..axes)
                    .map(|i| {
                        if i != at || i + 1 == axes {
                            return Affine::default();
                        }
                        if rows::is_compact(self.w, i) {
                            return block.clone();
                        }
                        // Blocks that are alike begin at the same distance from their first output's input.
                        let axis = &self.w.axes[i];
                        let low = self.inputs(axis, &(b.start..b.start + b.len)).start as i64;
                        let clip = low - axis.input_at(b.start, 0);
                        let mut start = Affine::constant(clip - axis.pad + block.constant * axis.stride as i64);
                        block.terms().iter().for_each(|&(v, k)| start.add_term(v, k * axis.stride as i64));
                        start
                    })
                    .collect();
                Source {
                    buffer,
                    axes: dims[..axes].iter().map(|d| d.stride as i64).collect(),
                    start,
                    col: 1,
                    panel,
                    batch,
                    is_copy: true,
                }
            }
        }
    }

    /// A block of rows and columns: what is copied in, its blocks of K, what is copied out.
    fn block(&mut self, mut s: Scope<'_>) -> Vec<Stmt> {
        let mut out = vec![];
        if s.region.lhs == LhsAccess::Block && (self.w.depthwise || !self.schedule.parallel.has_rows_outside()) {
            self.copy_in(&s.source, &s.first, (&s.n0, s.columns), &mut out);
        }
        if let Some(t) = &s.scratch {
            if self.c.accumulate {
                let dst = self.c.dst.clone();
                self.transpose(&s, &dst, t.dst, false, &mut out);
            }
            for (view, buffer) in self.c.post.iter().map(|(_, v)| v).zip(&t.post) {
                if let (Some(view), Some(buffer)) = (view, buffer) {
                    self.transpose(&s, view, *buffer, false, &mut out);
                }
            }
        }
        let step = self.k_block(s.region);
        let mut from = 0;
        while from < self.k {
            let to = (from + step).min(self.k);
            (s.k, s.is_first, s.is_last) = (from..to, from == 0, to == self.k);
            if let (Weights::Block { panel, shape }, false) = (s.weights, s.are_packed) {
                self.pack_weights(s.region.nr, (&s.n0, s.columns), &s.k, (*panel, *shape), &mut out);
            }
            let mut tiles = self.tiles(&s);
            // What is copied out is complete.
            if self.schedule.parallel.is_fine()
                && s.scratch.is_none()
                && self.divide(&mut tiles)
                && !(s.is_first && s.is_last)
            {
                tiles = vec![over(self.nest.var("k0"), 1, 1, tiles)];
            }
            out.extend(tiles);
            from = to;
        }
        if let Some(t) = &s.scratch {
            let dst = self.c.dst.clone();
            self.transpose(&s, &dst, t.dst, true, &mut out);
        }
        out
    }

    /// Divides statements of tiles among tasks, in the same way for each block of K; false if they are too few. Statements that are no
    /// loop become one, of one iteration.
    fn divide(&mut self, body: &mut [Stmt]) -> bool {
        let (least, only) = ((2 * TASK_MACS).div_ceil(self.c.k), self.nest.var("only"));
        divide(body, least, only)
    }

    /// Indices of a tensor like the result, or of one that lacks some of its axes.
    fn tensor_index(&self, view: &View, pixel: &Affine, column: &Affine) -> Vec<Affine> {
        let is_result = view.argument == self.c.dst.argument;
        let mut index = self.batch_index(view);
        if is_result || view.row != 0 {
            index.push(pixel.clone());
        }
        if is_result || view.col != 0 {
            index.push(column.clone());
        }
        index
    }
}

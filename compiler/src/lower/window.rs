//! Lowering of windowed contractions: from a problem and its schedule to the nest that is emitted.
//!
//! Pixels are cut into tiles so that a tile has the taps that exist and no others: along each axis, outputs that have the same
//! taps form a run, and runs become loops around tiles whose addresses are affine in the loops' variables. Tiles along the last
//! axis that differ in their taps, or in where a line ends in them, are statements of their own. What the register tile needs
//! beyond that is copied first, block of lines by block of lines: channels that are not neighbours, and factors for BFMMLA; a
//! result whose channels are not neighbours is computed in scratch memory and copied to its place afterwards.

use std::ops::Range;

use kiln_ir::contraction::{self, View};
use kiln_ir::nest::{
    Access, Affine, Buffer, BufferId, BufferKind, Dim, Extent, Init, Loop, LoopNest, Matrix, Pack, Run, Stmt, Tile,
    TileWindow, Var,
};
use kiln_ir::rewrite::PanelShape;
use kiln_ir::window::Axis;
use kiln_ir::{Contraction, DType, PostOp, Window};

use crate::schedule::{LhsAccess, Order, Parallel, Region, RhsAccess, Rows, Schedule, forms, rows};
use crate::target::VectorUnit;

/// Pixels of a line that one copy into a panel for BFMMLA takes: it is unrolled over them.
const COPY_PIXELS: u64 = 64;
/// The width of one transposing copy, which is unrolled over it too.
const COPY_WIDTH: u64 = 32;

/// The nest of `c`, whose window is `w`.
pub fn lower(problem: &str, c: &Contraction, w: &Window, schedule: &Schedule, unit: &VectorUnit) -> LoopNest {
    let mut nest = contraction::build(problem, c);
    nest.body.clear();
    let batch = (0..c.batch.len()).map(|i| nest.var(&format!("b{i}"))).collect();
    let interleave = forms::interleave(schedule.form);
    let (taps, channels) = c.taps(interleave);
    let mut l = Lowering { nest, c, w, schedule, unit, batch, interleave, channels, k: taps * channels };
    let rhs = l.weights();
    let regions: Vec<Stmt> = (0..schedule.regions.len()).flat_map(|i| l.region(i, &rhs[i])).collect();
    let loops: Vec<(Var, u64)> = l.batch.iter().copied().zip(c.batch.iter().copied()).collect();
    let parallel = schedule.parallel != Parallel::None;
    l.nest.body = loops.into_iter().rev().fold(regions, |body, (var, extent)| {
        vec![Stmt::Loop(Loop { var, extent: Extent::Const(extent), step: 1, parallel, body })]
    });
    l.nest
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
}

/// Where a region finds its weights.
enum Weights {
    /// In panels packed before: an argument.
    Packed(BufferId),
    /// In panels of a block, packed in the nest.
    Block { panel: BufferId, shape: PanelShape },
}

/// Where tiles read lhs: elements from one input to the next along each axis but the last, and along it.
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

#[derive(Clone, Copy)]
struct LinePanel {
    /// Pixels of a line and residue, with a zero behind them.
    pitch: u64,
    /// Elements from one residue to the next.
    residue: u64,
    /// What is before the first pixel of a line is zero too: the end of the line before.
    halo: bool,
}

impl LinePanel {
    /// Pixels in front of the first line: one that is only there to have a zero after it.
    const FRONT: u64 = 2;

    /// Where pixel 0 of a line is.
    fn first(&self) -> u64 {
        if self.halo { Self::FRONT } else { 0 }
    }
}

/// Blocks of outputs along the block axis that are alike.
#[derive(Clone, PartialEq, Eq)]
struct Blocks {
    start: u64,
    len: u64,
    count: u64,
}

/// What a block knows.
struct Scope<'a> {
    region: &'a Region,
    weights: &'a Weights,
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

#[derive(Clone)]
struct Transposed {
    dst: BufferId,
    post: Vec<Option<BufferId>>,
    pitch: u64,
}

/// A tile's pixels: their outputs along each axis from the first pixel's, and their taps.
struct Pixels {
    /// The first pixel.
    base: Vec<Affine>,
    /// Outputs from it, by row and axis.
    offsets: Vec<Vec<u64>>,
    /// Taps that exist, by row and axis.
    taps: Vec<Vec<Range<u64>>>,
}

fn over(var: Var, count: u64, step: u64, body: Vec<Stmt>) -> Stmt {
    Stmt::Loop(Loop { var, extent: Extent::Const(count * step), step, parallel: false, body })
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
        let m_outside = self.schedule.parallel == Parallel::M;
        let parallel = self.schedule.parallel != Parallel::None;
        let line = self.line_panel(&r, &blocks);
        let scratch = self.transposed(number, &r, &blocks);
        let strip = self.strip(number, &r, &blocks, line);
        let mut body = vec![];
        // Tasks: blocks of rows, or of columns.
        let emit = |l: &mut Self, b: &Blocks, &(from, len, count): &(u64, u64, u64)| {
            let block = match b.count {
                1 => Affine::constant(b.start as i64),
                _ => plus(&Affine::from(block_var), b.start as i64),
            };
            let n0 = match count {
                1 => Affine::constant((r.start + from) as i64),
                _ => plus(&Affine::from(column_var), (r.start + from) as i64),
            };
            let source = l.source(&block, strip, line, b);
            let scope = Scope {
                region: &r,
                weights,
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
                        loops(cols.2, column_var, cols.1, false, stmts)
                    }))
                    .collect();
                body.extend(loops(b.count, block_var, b.len, parallel, inner));
            }
        } else {
            for cols in &columns {
                let inner: Vec<Stmt> = blocks
                    .iter()
                    .flat_map(|b| {
                        let stmts = emit(self, b, cols);
                        loops(b.count, block_var, b.len, false, stmts)
                    })
                    .collect();
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
        if strip.is_some() {
            let block = match b.count {
                1 => Affine::constant(b.start as i64),
                _ => plus(&Affine::from(block_var), b.start as i64),
            };
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

    /// Inputs of each axis that a block reads, at most: the strip that is copied.
    fn strip_extents(&self, blocks: &[Blocks]) -> Vec<u64> {
        let most = blocks.iter().map(|b| b.len).max().unwrap_or(1);
        (0..self.w.axes.len()).map(|i| rows::strip_extent(self.w, i, most)).collect()
    }

    fn line_panel(&self, r: &Region, blocks: &[Blocks]) -> Option<LinePanel> {
        if r.lhs != LhsAccess::Block || self.interleave == 1 {
            return None;
        }
        let last = self.strip_extents(blocks)[self.w.axes.len() - 1];
        let outer = &self.w.axes[..rows::block_axis(self.w).min(self.w.axes.len() - 1)];
        // Lines that some blocks lack would leave gaps between others.
        let halo = outer.iter().all(|a| a.input == 1);
        let pitch = last.div_ceil(self.w.axes[self.w.axes.len() - 1].stride) + u64::from(halo);
        Some(LinePanel { pitch, residue: self.channels * pitch, halo })
    }

    /// Scratch memory for the source of a block, if it is copied.
    fn strip(&mut self, number: usize, r: &Region, blocks: &[Blocks], line: Option<LinePanel>) -> Option<BufferId> {
        if r.lhs != LhsAccess::Block {
            return None;
        }
        let extents = self.strip_extents(blocks);
        let (last, outer) = extents.split_last().expect("a window has an axis");
        let channels = if self.w.depthwise { r.nc } else { self.channels };
        let (mut dims, mut per) = match line {
            Some(p) => {
                let residues = self.w.axes[outer.len()].stride;
                let dims = vec![
                    Dim { extent: residues, stride: p.residue },
                    Dim { extent: self.channels, stride: p.pitch },
                    Dim { extent: p.pitch + p.first(), stride: self.interleave },
                ];
                (dims, residues * p.residue)
            }
            None => {
                let dims = vec![Dim { extent: *last, stride: channels }, Dim { extent: channels, stride: 1 }];
                (dims, last * channels)
            }
        };
        for extent in outer.iter().rev() {
            dims.insert(0, Dim { extent: *extent, stride: per });
            per *= extent;
        }
        let dtype = if line.is_some() { DType::Bf16 } else { self.c.lhs.dtype };
        Some(self.buffer(format!("lhs_strip{number}"), dtype, BufferKind::Scratch, dims, self.interleave))
    }

    /// Scratch memory for a result whose columns are not neighbours, and for operands laid out like it.
    fn transposed(&mut self, number: usize, r: &Region, blocks: &[Blocks]) -> Option<Transposed> {
        if !forms::transposes_result(self.c) {
            return None;
        }
        let pixels = blocks.iter().map(|b| b.len).max().unwrap_or(1) * rows::block_pixels(self.w);
        let dims = || vec![Dim { extent: pixels, stride: r.nc }, Dim { extent: r.nc, stride: 1 }];
        let dst = self.buffer(format!("dst_strip{number}"), DType::F32, BufferKind::Scratch, dims(), 1);
        let post: Vec<Option<DType>> =
            self.c.post.iter().map(|(_, v)| v.as_ref().filter(|v| v.col > 1).map(|v| v.dtype)).collect();
        let post = post
            .into_iter()
            .enumerate()
            .map(|(i, dtype)| {
                let dtype = dtype?;
                Some(self.buffer(format!("post_strip{number}_{i}"), dtype, BufferKind::Scratch, dims(), 1))
            })
            .collect();
        Some(Transposed { dst, post, pitch: r.nc })
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
                let dims = &self.nest.buffers[usize::from(buffer.0)].dims;
                let at = rows::block_axis(self.w);
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
                    batch: vec![],
                    is_copy: true,
                }
            }
        }
    }

    /// A block of rows and columns: what is copied in, its blocks of K, what is copied out.
    fn block(&mut self, mut s: Scope<'_>) -> Vec<Stmt> {
        let mut out = vec![];
        if s.region.lhs == LhsAccess::Block && (self.w.depthwise || self.schedule.parallel != Parallel::M) {
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
            if let Weights::Block { panel, shape } = s.weights {
                self.pack_weights(&s, *panel, *shape, &mut out);
            }
            out.extend(self.tiles(&s));
            from = to;
        }
        if let Some(t) = &s.scratch {
            let dst = self.c.dst.clone();
            self.transpose(&s, &dst, t.dst, true, &mut out);
        }
        out
    }

    /// Copies the weights of a block of K and columns into panels.
    fn pack_weights(&mut self, s: &Scope<'_>, panel: BufferId, shape: PanelShape, out: &mut Vec<Stmt>) {
        let (column, tap_var) = (self.nest.var("n1"), self.nest.var("t"));
        let nr = s.region.nr;
        let taps = self.w.channels;
        // Pieces of taps: whole ones in a loop.
        let whole = s.k.start.div_ceil(self.channels)..s.k.end / self.channels;
        let mut pieces = vec![];
        let piece = |tap: u64, from: u64, to: u64| (Affine::constant(tap as i64), from, to.min(taps));
        if whole.start > whole.end {
            pieces.push((piece(s.k.start / self.channels, s.k.start % self.channels, s.k.end % self.channels), 1));
        } else {
            if !s.k.start.is_multiple_of(self.channels) {
                let tap = s.k.start / self.channels;
                pieces.push((piece(tap, s.k.start % self.channels, self.channels), 1));
            }
            if !whole.is_empty() {
                let count = whole.end - whole.start;
                let index = if count == 1 { Affine::default() } else { Affine::from(tap_var) };
                pieces.push(((plus(&index, whole.start as i64), 0, taps), count));
            }
            if !s.k.end.is_multiple_of(self.channels) {
                pieces.push((piece(s.k.end / self.channels, 0, s.k.end % self.channels), 1));
            }
        }
        let columns = if s.columns == nr { Affine::default() } else { Affine::from(column) };
        let mut body = vec![];
        for ((tap, from, to), count) in pieces.into_iter().filter(|((_, from, to), _)| from < to) {
            let mut k = plus(&Affine::default(), from as i64 - s.k.start as i64);
            k = sum(&k, &tap, self.channels as i64);
            let mut source = self.batch_index(&self.c.rhs);
            source.extend([tap, Affine::constant(from as i64), sum(&s.n0, &columns, 1)]);
            let copy = Stmt::Pack(Box::new(Pack {
                dst: Matrix {
                    at: Access { buffer: panel, index: vec![columns.clone(), k, Affine::default()] },
                    row: shape.pitch,
                    col: shape.interleave,
                },
                src: Matrix {
                    at: Access { buffer: BufferId(self.c.rhs.argument as u16), index: source },
                    row: self.c.rhs.row,
                    col: self.c.rhs.col,
                },
                k: Extent::Const(to - from),
                width: Extent::Const(nr),
                pitch: shape.pitch,
            }));
            body.push(if count == 1 { copy } else { over(tap_var, count, 1, vec![copy]) });
        }
        match s.columns / nr {
            1 => out.extend(body),
            count => out.push(over(column, count, nr, body)),
        }
    }

    /// Copies the source of a block into its strip.
    fn copy_in(&mut self, from: &Source, first: &Range<u64>, columns: (&Affine, u64), out: &mut Vec<Stmt>) {
        let at = rows::block_axis(self.w);
        let (last, outer) = self.w.axes.split_last().expect("a window has an axis");
        let extents: Vec<u64> = outer
            .iter()
            .enumerate()
            .map(|(i, a)| {
                let inputs = match (i == at, rows::is_compact(self.w, i)) {
                    (true, true) => first.clone(),
                    (false, true) => 0..a.output,
                    (true, false) => self.inputs(a, first),
                    (false, false) => 0..a.input,
                };
                inputs.end - inputs.start
            })
            .collect();
        if extents.contains(&0) {
            return;
        }
        let vars: Vec<Var> = (0..outer.len()).map(|i| self.nest.var(&format!("x{i}"))).collect();
        let index: Vec<Affine> = vars
            .iter()
            .zip(&extents)
            .map(|(v, e)| if *e == 1 { Affine::default() } else { Affine::from(*v) })
            .collect();
        let mut body = vec![];
        let source = |l: &Self, x: i64, channel: Affine| {
            let mut all = l.batch_index(&l.c.lhs);
            let scale = |i: usize| if rows::is_compact(l.w, i) { l.w.axes[i].stride as i64 } else { 1 };
            let place = index.iter().zip(&from.start).enumerate();
            all.extend(place.map(|(i, (x, start))| sum(&Affine::default(), &sum(x, start, 1), scale(i))));
            all.extend([Affine::constant(x), channel]);
            Access { buffer: BufferId(l.c.lhs.argument as u16), index: all }
        };
        match from.panel {
            Some(p) => {
                let copy = |to: Vec<Affine>, x: u64, k: u64, width: u64, pitch: u64| {
                    Stmt::Pack(Box::new(Pack {
                        dst: Matrix {
                            at: Access { buffer: from.buffer, index: to },
                            row: p.pitch,
                            col: self.interleave,
                        },
                        src: Matrix {
                            at: source(self, x as i64, Affine::default()),
                            row: self.c.lhs.col,
                            col: last.stride * last.lhs,
                        },
                        k: Extent::Const(k),
                        width: Extent::Const(width),
                        pitch,
                    }))
                };
                if p.halo {
                    let first = vec![Affine::default(); outer.len() + 3];
                    let scale = |i: usize| if rows::is_compact(self.w, i) { self.w.axes[i].stride as i64 } else { 1 };
                    let starts = from.start.iter().enumerate();
                    let at: Vec<Affine> = starts.map(|(i, a)| sum(&Affine::default(), a, scale(i))).collect();
                    let mut any = self.batch_index(&self.c.lhs);
                    any.extend(at);
                    any.push(Affine::default());
                    let Stmt::Pack(mut front) = copy(first, 0, 1, 1, LinePanel::FRONT) else { unreachable!("a copy") };
                    front.src.at.index = any;
                    out.push(Stmt::Pack(front));
                }
                let every = last.kernel > 1 || last.pad != 0;
                let residues = if every { last.stride.min(last.input) } else { 1 };
                for residue in 0..residues {
                    let pixels = (last.input - residue).div_ceil(last.stride);
                    for pixel in (0..pixels).step_by(COPY_PIXELS as usize) {
                        let width = (pixels - pixel).min(COPY_PIXELS);
                        let mut to = index.clone();
                        to.extend([residue, 0, p.first() + pixel].map(|i| Affine::constant(i as i64)));
                        let pitch = if p.halo && pixel + width == pixels { p.pitch - pixel } else { width };
                        body.push(copy(to, residue + pixel * last.stride, self.w.channels, width, pitch));
                    }
                }
            }
            None => {
                let mut to = index.clone();
                to.extend([Affine::default(), Affine::default()]);
                let (first, width) = if self.w.depthwise {
                    (columns.0.clone(), columns.1)
                } else {
                    (Affine::default(), self.w.channels)
                };
                let copy = Pack {
                    dst: Matrix {
                        at: Access { buffer: from.buffer, index: to },
                        row: *from.axes.last().expect("a window has an axis") as u64,
                        col: 1,
                    },
                    src: Matrix { at: source(self, 0, first), row: last.lhs, col: self.c.lhs.col },
                    k: Extent::Const(last.input),
                    width: Extent::Const(width),
                    pitch: width,
                };
                body.extend(self.in_widths(copy, width, [1, 1]));
            }
        }
        out.extend(vars.iter().zip(&extents).rev().fold(body, |body, (v, e)| match e {
            1 => body,
            _ => vec![over(*v, *e, 1, body)],
        }));
    }

    /// Copies a block of a tensor that has pixels for neighbours into scratch memory, where columns are, or back.
    fn transpose(&mut self, s: &Scope<'_>, view: &View, buffer: BufferId, back: bool, out: &mut Vec<Stmt>) {
        let pitch = s.scratch.as_ref().map_or(1, |t| t.pitch);
        let block = rows::block_pixels(self.w);
        let mut pixel = Affine::default();
        pixel = sum(&pixel, &s.block, block as i64);
        let tensor = Access { buffer: BufferId(view.argument as u16), index: self.tensor_index(view, &pixel, &s.n0) };
        let scratch = Access { buffer, index: vec![Affine::default(); 2] };
        let pixels = (s.first.end - s.first.start) * block;
        let (copy, width, dims) = match back {
            false => (
                Pack {
                    dst: Matrix { at: scratch, row: pitch, col: 1 },
                    src: Matrix { at: tensor, row: view.row, col: view.col },
                    k: Extent::Const(pixels),
                    width: Extent::Const(s.columns),
                    pitch: s.columns,
                },
                s.columns,
                [1, 1],
            ),
            // Runs of pixels are neighbours in the tensor.
            true => (
                Pack {
                    dst: Matrix { at: tensor, row: view.col, col: view.row },
                    src: Matrix { at: scratch, row: 1, col: pitch },
                    k: Extent::Const(s.columns),
                    width: Extent::Const(pixels),
                    pitch: pixels,
                },
                pixels,
                [2, 2],
            ),
        };
        out.extend(self.in_widths(copy, width, dims));
    }

    /// A copy in pieces of [`COPY_WIDTH`]. The width is along the last dimension but `dims - 1` of destination and source.
    fn in_widths(&mut self, copy: Pack, width: u64, dims: [usize; 2]) -> Vec<Stmt> {
        let var = self.nest.var("w");
        let piece = |from: Affine, width: u64| {
            let mut copy = copy.clone();
            for (m, dim) in [(&mut copy.dst, dims[0]), (&mut copy.src, dims[1])] {
                let at = m.at.index.len() - dim;
                m.at.index[at] = sum(&m.at.index[at], &from, 1);
            }
            (copy.width, copy.pitch) = (Extent::Const(width), width);
            Stmt::Pack(Box::new(copy))
        };
        let (count, rest) = (width / COPY_WIDTH, width % COPY_WIDTH);
        let mut out = vec![];
        match count {
            0 => {}
            1 => out.push(piece(Affine::default(), COPY_WIDTH)),
            _ => out.push(over(var, count, COPY_WIDTH, vec![piece(Affine::from(var), COPY_WIDTH)])),
        }
        if rest > 0 {
            out.push(piece(Affine::constant((count * COPY_WIDTH) as i64), rest));
        }
        out
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

    /// The tiles of a block, in the order of the schedule.
    fn tiles(&mut self, s: &Scope<'_>) -> Vec<Stmt> {
        let column = self.nest.var("n1");
        let trips = s.columns / s.region.nr;
        let n1 = if trips == 1 { Affine::default() } else { Affine::from(column) };
        match (s.region.order, trips) {
            (_, 1) => self.axis(s, &n1, 0, vec![], vec![], None),
            (Order::NM, _) => {
                let body = self.axis(s, &n1, 0, vec![], vec![], None);
                vec![over(column, trips, s.region.nr, body)]
            }
            (Order::MN, _) => self.axis(s, &n1, 0, vec![], vec![], Some((column, trips))),
        }
    }

    /// Tiles of a position along the axes before `axis`, whose taps are `taps`.
    fn axis(
        &mut self,
        s: &Scope<'_>,
        n1: &Affine,
        axis: usize,
        base: Vec<Affine>,
        taps: Vec<Range<u64>>,
        columns: Option<(Var, u64)>,
    ) -> Vec<Stmt> {
        let finish = |tile: Stmt| match columns {
            Some((column, trips)) => over(column, trips, s.region.nr, vec![tile]),
            None => tile,
        };
        if self.schedule.rows == Rows::Flat {
            return self.flat(s, n1).into_iter().map(finish).collect();
        }
        let a = self.w.axes[axis];
        let var = self.nest.var(&format!("o{axis}"));
        let (from, range) = if axis == rows::block_axis(self.w) && axis + 1 < self.w.axes.len() {
            (s.block.clone(), s.first.clone())
        } else {
            (Affine::default(), 0..a.output)
        };
        // Positions are counted from the block's first.
        let relative = |o: u64| (o - range.start) as i64;
        let from = if axis == rows::block_axis(self.w) && axis + 1 < self.w.axes.len() {
            from
        } else {
            Affine::constant(range.start as i64)
        };
        if axis + 1 == self.w.axes.len() {
            return self
                .line(s, n1, base, taps, var)
                .into_iter()
                .map(|(tile, repeat)| {
                    let tile = finish(tile);
                    match repeat {
                        Some((count, step)) => over(var, count, step, vec![tile]),
                        None => tile,
                    }
                })
                .collect();
        }
        let mut out = vec![];
        for (run, own) in a.runs(range.clone()) {
            let count = run.end - run.start;
            let mut at = plus(&from, relative(run.start));
            if count > 1 {
                at.add_term(var, 1);
            }
            let (mut base, mut taps) = (base.clone(), taps.clone());
            base.push(at);
            taps.push(own);
            let body = self.axis(s, n1, axis + 1, base, taps, columns);
            out.extend(if count > 1 { vec![over(var, count, 1, body)] } else { body });
        }
        out
    }

    /// Tiles of a line, and how often and at what distance each is repeated.
    fn line(
        &self,
        s: &Scope<'_>,
        n1: &Affine,
        base: Vec<Affine>,
        taps: Vec<Range<u64>>,
        var: Var,
    ) -> Vec<(Stmt, Option<(u64, u64)>)> {
        let a = self.w.axes.last().expect("a window has an axis");
        let tiles = rows::even(a.output, s.region.mr, rows::granularity(self.schedule.form));
        let taps_of = |tile: &Range<u64>| tile.clone().map(|o| a.taps(o)).collect::<Vec<_>>();
        let mut groups: Vec<(Range<u64>, u64)> = vec![];
        for tile in tiles {
            match groups.last_mut() {
                Some((first, count)) if taps_of(first) == taps_of(&tile) => *count += 1,
                _ => groups.push((tile, 1)),
            }
        }
        let tile = |(first, count): (Range<u64>, u64)| {
            let size = first.end - first.start;
            let mut at = Affine::constant(first.start as i64);
            if count > 1 {
                at.add_term(var, 1);
            }
            let mut base = base.clone();
            base.push(at);
            let axes = self.w.axes.len();
            let offsets = (0..size).map(|i| [vec![0; axes - 1], vec![i]].concat()).collect();
            let taps = first.map(|o| [taps.clone(), vec![a.taps(o)]].concat()).collect();
            let tile = self.tile(s, n1, &Pixels { base, offsets, taps });
            (tile, (count > 1).then_some((count, size)))
        };
        groups.into_iter().map(tile).collect()
    }

    /// Tiles over all pixels, whatever line they are in.
    fn flat(&self, s: &Scope<'_>, n1: &Affine) -> Vec<Stmt> {
        let tiles = rows::even(self.w.pixels(), s.region.mr, rows::granularity(self.schedule.form));
        let tile = |pixels: Range<u64>| {
            let first = self.w.position(pixels.start);
            let at = |m: u64| self.w.position(m);
            let pixels = Pixels {
                base: first.iter().map(|o| Affine::constant(*o as i64)).collect(),
                offsets: pixels
                    .clone()
                    .map(|m| at(m).iter().zip(&first).map(|(o, f)| o.wrapping_sub(*f)).collect())
                    .collect(),
                taps: pixels.map(|m| at(m).iter().zip(&self.w.axes).map(|(o, a)| a.taps(*o)).collect()).collect(),
            };
            self.tile(s, n1, &pixels)
        };
        tiles.into_iter().map(tile).collect()
    }

    /// Elements that a tap is behind the first one, by axis; along the last axis of a panel with its residue.
    fn tap_offset(&self, source: &Source, axis: usize, tap: u64) -> i64 {
        let a = &self.w.axes[axis];
        let input = (tap * a.dilation) as i64;
        match source.panel {
            Some(p) if axis + 1 == self.w.axes.len() => {
                let (input, stride) = (input - a.pad, a.stride as i64);
                let pixel = input.div_euclid(stride) * self.interleave as i64;
                pixel + input.rem_euclid(stride) * p.residue as i64
            }
            _ => input * source.axes[axis],
        }
    }

    fn row_offset(&self, source: &Source, axis: usize, output: u64) -> i64 {
        let a = &self.w.axes[axis];
        let output = output as i64;
        match source.panel {
            Some(_) if axis + 1 == self.w.axes.len() => output * self.interleave as i64,
            _ if source.is_copy && rows::is_compact(self.w, axis) => output * source.axes[axis],
            _ => output * a.stride as i64 * source.axes[axis],
        }
    }

    /// The element of the source that a pixel's tap reads at a channel.
    fn element(&self, s: &Scope<'_>, base: &[Affine], outputs: &[u64], taps: &[u64], channel: u64) -> Access {
        let source = &s.source;
        let mut index = source.batch.clone();
        let last = self.w.axes.len() - 1;
        for (i, a) in self.w.axes.iter().enumerate() {
            let offset = (outputs[i] as i64) * a.stride as i64 + (taps[i] * a.dilation) as i64 - a.pad;
            if let (Some(_), true) = (source.panel, i == last) {
                // By residue: the place is that of the output, moved by the tap.
                let moved = (taps[i] * a.dilation) as i64 - a.pad;
                let residue = moved.rem_euclid(a.stride as i64);
                let first = source.panel.map_or(0, |p| p.first()) as i64;
                let pixel = plus(&base[i], first + outputs[i] as i64 + moved.div_euclid(a.stride as i64));
                index.extend([Affine::constant(residue), Affine::constant(channel as i64), pixel]);
                continue;
            }
            if source.is_copy && rows::is_compact(self.w, i) {
                index.push(sum(&plus(&base[i], outputs[i] as i64), &source.start[i], -1));
                continue;
            }
            let mut at = Affine::constant(offset);
            at = sum(&at, &base[i], a.stride as i64);
            index.push(sum(&at, &source.start[i], -1));
        }
        if source.panel.is_none() {
            index.push(match (self.w.depthwise, s.region.lhs) {
                (true, LhsAccess::InPlace) => s.n0.clone(),
                (true, LhsAccess::Block) => Affine::default(),
                (false, _) => Affine::constant(channel as i64),
            });
        }
        Access { buffer: source.buffer, index }
    }

    fn tile(&self, s: &Scope<'_>, n1: &Affine, p: &Pixels) -> Stmt {
        let (w, r) = (self.w, s.region);
        let axes = w.axes.len();
        let rows: Vec<i64> =
            p.offsets.iter().map(|o| (0..axes).map(|i| self.row_offset(&s.source, i, o[i])).sum()).collect();
        // Runs of steps, each with its first element's tap, channel and row: the first of all is where lhs begins.
        let mut runs: Vec<Run> = vec![];
        let mut origin: Option<(i64, Vec<u64>, u64, usize)> = None;
        let (first_tap, end_tap) = (s.k.start / self.channels, s.k.end.div_ceil(self.channels));
        let mut tap = vec![0; axes];
        for number in first_tap..end_tap {
            let mut rest = number;
            for (t, a) in tap.iter_mut().zip(&w.axes).rev() {
                *t = rest % a.kernel;
                rest /= a.kernel;
            }
            let exists = |row: &Vec<Range<u64>>| row.iter().zip(&tap).all(|(range, t)| range.contains(t));
            let mut mask = p.taps.iter().enumerate().fold(0u64, |mask, (i, row)| mask | u64::from(exists(row)) << i);
            if s.source.panel.is_some_and(|p| p.halo) {
                // The other row of a pair reads the zero beside the line.
                let pairs = mask | (mask & 0x5555_5555_5555_5555) << 1 | (mask >> 1) & 0x5555_5555_5555_5555;
                mask = if rows.len() < 64 { pairs & ((1 << rows.len()) - 1) } else { pairs };
            }
            let begin = number * self.channels;
            let from = s.k.start.max(begin) - begin;
            let to = (s.k.end - begin).min(w.channels);
            if mask == 0 || from >= to {
                continue;
            }
            let channel_offset = match s.source.panel {
                Some(p) => from * p.pitch,
                None if w.depthwise => 0,
                None => from * s.source.col,
            };
            let lhs = (0..axes).map(|i| self.tap_offset(&s.source, i, tap[i])).sum::<i64>() + channel_offset as i64;
            for (i, row) in rows.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1) {
                if origin.as_ref().is_none_or(|(least, ..)| lhs + row < *least) {
                    origin = Some((lhs + row, tap.clone(), from, i));
                }
            }
            let mergeable = self.interleave == 1 && !w.depthwise;
            let rhs = begin + from;
            match runs.last_mut() {
                Some(last)
                    if mergeable
                        && last.rows == mask
                        && last.rhs + last.len == rhs
                        && last.lhs + (last.len * s.source.col) as i64 == lhs =>
                {
                    last.len += to - from;
                }
                _ => runs.push(Run { lhs, rhs, len: to - from, rows: mask }),
            }
        }
        let k0 = runs.first().map_or(s.k.start, |r| r.rhs);
        let (least, origin) = match origin {
            Some((least, tap, channel, row)) => (least, self.element(s, &p.base, &p.offsets[row], &tap, channel)),
            None => {
                let ranks = self.nest.buffers[usize::from(s.source.buffer.0)].dims.len();
                let mut index = s.source.batch.clone();
                index.resize(ranks, Affine::default());
                (0, Access { buffer: s.source.buffer, index })
            }
        };
        for run in &mut runs {
            run.lhs -= least;
            run.rhs -= k0;
        }
        let mut lhs = origin;
        if w.depthwise {
            let last = lhs.index.last_mut().expect("columns are a dimension");
            *last = sum(last, n1, 1);
        }
        let (lhs_row, lhs_col) = match s.source.panel {
            Some(panel) => (panel.pitch, self.interleave),
            None => (0, s.source.col),
        };
        // The first pixel in the result.
        let mut pixel = Affine::default();
        let mut inner = 1;
        for (a, base) in w.axes.iter().zip(&p.base).rev() {
            pixel = sum(&pixel, base, inner as i64);
            inner *= a.output;
        }
        let column = sum(&s.n0, n1, 1);
        let block_pixel = |pixel: &Affine| sum(pixel, &s.block, -(rows::block_pixels(w) as i64));
        let result = |view: &View, scratch: Option<(BufferId, u64)>| match scratch {
            Some((buffer, pitch)) => {
                Matrix { at: Access { buffer, index: vec![block_pixel(&pixel), n1.clone()] }, row: pitch, col: 1 }
            }
            None => Matrix {
                at: Access { buffer: BufferId(view.argument as u16), index: self.tensor_index(view, &pixel, &column) },
                row: view.row,
                col: view.col,
            },
        };
        let scratch = s.scratch.as_ref();
        let post: Vec<(PostOp, Option<Matrix>)> = match s.is_last {
            false => vec![],
            true => {
                let operand = |i: usize, view: &View| {
                    let strip = scratch.and_then(|t| t.post[i].map(|b| (b, t.pitch)));
                    result(view, strip)
                };
                let ops = self.c.post.iter().enumerate();
                ops.map(|(i, (op, view))| (*op, view.as_ref().map(|v| operand(i, v)))).collect()
            }
        };
        let k = runs.last().map_or(0, |r| r.rhs + r.len);
        let (buffer, shape) = match s.weights {
            Weights::Packed(buffer) => (*buffer, self.shape(r)),
            Weights::Block { panel, shape } => (*panel, *shape),
        };
        let rhs_index = match s.weights {
            Weights::Packed(_) => {
                let mut index = self.batch_index(&self.c.rhs);
                index.extend([plus(&column, -(r.start as i64)), Affine::constant(k0 as i64), Affine::default()]);
                index
            }
            Weights::Block { .. } => {
                vec![n1.clone(), Affine::constant((k0 - s.k.start) as i64), Affine::default()]
            }
        };
        Stmt::Tile(Box::new(Tile {
            m: rows.len() as u64,
            n: r.nr,
            k,
            dst: result(&self.c.dst, scratch.map(|t| (t.dst, t.pitch))),
            lhs: Matrix { at: lhs, row: lhs_row, col: lhs_col },
            rhs: Matrix { at: Access { buffer, index: rhs_index }, row: shape.pitch, col: shape.interleave },
            init: if s.is_first && !self.c.accumulate { Init::Zero } else { Init::Load },
            post,
            spill: None,
            window: Some(Box::new(TileWindow { rows, runs, columns: w.depthwise })),
        }))
    }
}

//! The copies around tiles: strips of the source, blocks of weights, and results that are computed elsewhere.

use std::ops::Range;

use kiln_ir::DType;
use kiln_ir::contraction::View;
use kiln_ir::nest::{Access, Affine, BufferId, BufferKind, Dim, Extent, Loop, Matrix, Pack, Stmt, Var};
use kiln_ir::rewrite::PanelShape;

use super::{Blocks, Lowering, Scope, Source, over, plus, sum};
use crate::form::operands::{is_transposed, transposes_result};
use crate::schedule::{LhsAccess, Region, rows};

/// Pixels of a line that one copy into a panel for BFMMLA takes: it is unrolled over them.
const COPY_PIXELS: u64 = 64;
/// The multiple of elements that strips in shared memory begin at: a line of the cache, whatever their type.
const SHARED_ALIGN: u64 = 32;
/// The width of one transposing copy, which is unrolled over it too.
const COPY_WIDTH: u64 = 32;

/// Lines of a strip for BFMMLA: groups of channels, in each the pixels of one residue of the last axis after another.
#[derive(Clone, Copy)]
pub(super) struct LinePanel {
    /// Pixels of a line and residue, with a zero behind them.
    pub(super) pitch: u64,
    /// Elements from one residue to the next.
    pub(super) residue: u64,
    /// The pixel before the first of a line is zero, too: it is the end of the line before.
    pub(super) halo: bool,
}

impl LinePanel {
    /// Pixels in front of the first line: one that is only there to have a zero after it.
    const FRONT: u64 = 2;

    /// The place of pixel 0 of a line.
    pub(super) fn first(&self) -> u64 {
        if self.halo { Self::FRONT } else { 0 }
    }
}

/// A block of the result, and of operands laid out like it, with columns for neighbours.
#[derive(Clone)]
pub(super) struct Transposed {
    pub(super) dst: BufferId,
    pub(super) post: Vec<Option<BufferId>>,
    pub(super) pitch: u64,
}

impl Lowering<'_> {
    /// Inputs of each axis that a block reads, at most: the strip that is copied.
    fn strip_extents(&self, blocks: &[Blocks]) -> Vec<u64> {
        let most = blocks.iter().map(|b| b.len).max().unwrap_or(1);
        (0..self.w.axes.len()).map(|i| rows::strip_extent(self.w, i, most)).collect()
    }

    pub(super) fn line_panel(&self, r: &Region, blocks: &[Blocks]) -> Option<LinePanel> {
        if !r.lhs.is_packed() || self.interleave == 1 {
            return None;
        }
        let last = self.strip_extents(blocks)[self.w.axes.len() - 1];
        let outer = &self.w.axes[..rows::block_axis(self.w).min(self.w.axes.len() - 1)];
        // Lines that some blocks lack would leave gaps between others.
        let halo = outer.iter().all(|a| a.input == 1);
        let pitch = last.div_ceil(self.w.axes[self.w.axes.len() - 1].stride) + u64::from(halo);
        Some(LinePanel { pitch, residue: self.channels * pitch, halo })
    }

    /// Memory for the source of a block, if it is copied: scratch memory for one, or shared memory for all blocks of all products.
    pub(super) fn strip(
        &mut self,
        number: usize,
        r: &Region,
        blocks: &[Blocks],
        line: Option<LinePanel>,
    ) -> Option<BufferId> {
        if !r.lhs.is_packed() {
            return None;
        }
        if let Some((_, known)) = self.shared.iter().find(|(rows, _)| *rows == r.mc) {
            return Some(*known);
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
        let dtype = self.schedule.form.panel_dtype(self.c, self.c.lhs.dtype);
        if r.lhs == LhsAccess::Block {
            return Some(self.buffer(format!("lhs_strip{number}"), dtype, BufferKind::Scratch, dims, self.interleave));
        }
        // A block's strip is found by its first output, and begins on a line of the cache.
        let size = blocks.iter().map(|b| b.len).max().unwrap_or(1);
        let last = blocks.iter().map(|b| b.start + (b.count - 1) * b.len).max().unwrap_or(0);
        // The last line reaches beyond its place by the pixels in front of the first.
        per += line.map_or(0, |p| p.first() * self.interleave);
        per = per.next_multiple_of(size * SHARED_ALIGN);
        dims.insert(0, Dim { extent: last + 1, stride: per / size });
        per *= last / size + 1;
        let extents = self.c.batch.iter().zip(&self.c.lhs.batch).filter(|(_, stride)| **stride != 0);
        for (extent, _) in extents.collect::<Vec<_>>().into_iter().rev() {
            dims.insert(0, Dim { extent: *extent, stride: per });
            per *= extent;
        }
        Some(self.buffer(format!("lhs_shared{number}"), dtype, BufferKind::Shared, dims, self.interleave))
    }

    /// Copies the source of all blocks into memory that threads share, as tasks.
    pub(super) fn copy_shared(
        &mut self,
        r: &Region,
        blocks: &[Blocks],
        strip: BufferId,
        line: Option<LinePanel>,
        block_var: Var,
    ) {
        let only = self.nest.var("only");
        for b in blocks {
            let source = self.source(&b.first(block_var), Some(strip), line, b);
            let mut body = vec![];
            self.copy_in(&source, &(b.start..b.start + b.len), (&Affine::default(), r.nc), &mut body);
            for s in &mut body {
                match s {
                    Stmt::Loop(l) => l.parallel = true,
                    s => {
                        let extent = Extent::Const(1);
                        *s = Stmt::Loop(Loop { var: only, extent, step: 1, parallel: true, body: vec![s.clone()] });
                    }
                }
            }
            let extent = Extent::Const(b.count * b.len);
            self.copies.push(Stmt::Loop(Loop { var: block_var, extent, step: b.len, parallel: true, body }));
        }
    }

    /// Scratch memory for a result whose columns are not neighbours, and for operands laid out like it.
    pub(super) fn transposed(&mut self, number: usize, r: &Region, blocks: &[Blocks]) -> Option<Transposed> {
        if !transposes_result(self.c) {
            return None;
        }
        let pixels = blocks.iter().map(|b| b.len).max().unwrap_or(1) * rows::block_pixels(self.w);
        let dims = || vec![Dim { extent: pixels, stride: r.nc }, Dim { extent: r.nc, stride: 1 }];
        let dst = self.buffer(format!("dst_strip{number}"), DType::F32, BufferKind::Scratch, dims(), 1);
        let post: Vec<Option<DType>> =
            self.c.post.iter().map(|(_, v)| v.as_ref().filter(|v| is_transposed(v)).map(|v| v.dtype)).collect();
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

    /// Copies the weights of a block of K, and of so many columns from `n0` on, into panels.
    pub(super) fn pack_weights(
        &mut self,
        nr: u64,
        (n0, columns): (&Affine, u64),
        k: &Range<u64>,
        (panel, shape): (BufferId, PanelShape),
        out: &mut Vec<Stmt>,
    ) {
        let (column, tap_var) = (self.nest.var("n1"), self.nest.var("t"));
        let taps = self.w.channels;
        // Pieces of taps: whole ones in a loop.
        let whole = k.start.div_ceil(self.channels)..k.end / self.channels;
        let mut pieces = vec![];
        let piece = |tap: u64, from: u64, to: u64| (Affine::constant(tap as i64), from, to.min(taps));
        if whole.start > whole.end {
            pieces.push((piece(k.start / self.channels, k.start % self.channels, k.end % self.channels), 1));
        } else {
            if !k.start.is_multiple_of(self.channels) {
                let tap = k.start / self.channels;
                pieces.push((piece(tap, k.start % self.channels, self.channels), 1));
            }
            if !whole.is_empty() {
                let count = whole.end - whole.start;
                let index = if count == 1 { Affine::default() } else { Affine::from(tap_var) };
                pieces.push(((plus(&index, whole.start as i64), 0, taps), count));
            }
            if !k.end.is_multiple_of(self.channels) {
                pieces.push((piece(k.end / self.channels, 0, k.end % self.channels), 1));
            }
        }
        let index = if columns == nr { Affine::default() } else { Affine::from(column) };
        let mut body = vec![];
        for ((tap, from, to), count) in pieces.into_iter().filter(|((_, from, to), _)| from < to) {
            let step = sum(&Affine::constant(from as i64 - k.start as i64), &tap, self.channels as i64);
            let mut source = self.batch_index(&self.c.rhs);
            source.extend([tap, Affine::constant(from as i64), sum(n0, &index, 1)]);
            let copy = Stmt::Pack(Box::new(Pack {
                number: 0,
                dst: Matrix {
                    at: Access { buffer: panel, index: vec![index.clone(), step, Affine::default()] },
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
        match columns / nr {
            1 => out.extend(body),
            count => out.push(over(column, count, nr, body)),
        }
    }

    /// The input along an axis that is at index `at` of a strip.
    fn input(&self, from: &Source, axis: usize, at: &Affine) -> Affine {
        let scale = if rows::is_compact(self.w, axis) { self.w.axes[axis].stride } else { 1 };
        sum(&Affine::default(), &sum(at, &from.start[axis], 1), scale as i64)
    }

    /// Copies the source of a block into its strip.
    pub(super) fn copy_in(&mut self, from: &Source, first: &Range<u64>, columns: (&Affine, u64), out: &mut Vec<Stmt>) {
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
            all.extend((0..index.len()).map(|i| l.input(from, i, &index[i])));
            all.extend([Affine::constant(x), channel]);
            Access { buffer: BufferId(l.c.lhs.argument as u16), index: all }
        };
        match from.panel {
            Some(p) => {
                let copy = |to: Vec<Affine>, x: u64, k: u64, width: u64, pitch: u64| {
                    let to = from.batch.iter().cloned().chain(to).collect();
                    Stmt::Pack(Box::new(Pack {
                        number: 0,
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
                    let mut any = self.batch_index(&self.c.lhs);
                    any.extend((0..=outer.len()).map(|i| self.input(from, i, &Affine::default())));
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
                if p.halo && residues < last.stride {
                    // Behind the last residue is the zero before the next line, and nothing else of that residue is read if the line
                    // has no pixel of it.
                    let mut to = index.clone();
                    to.extend([last.stride - 1, 0, p.first()].map(|i| Affine::constant(i as i64)));
                    body.push(copy(to, 0, self.w.channels, 1, p.pitch));
                }
            }
            None => {
                let mut to = from.batch.clone();
                to.extend(index.iter().cloned().chain([Affine::default(), Affine::default()]));
                let (first, width) = if self.w.depthwise {
                    (columns.0.clone(), columns.1)
                } else {
                    (Affine::default(), self.w.channels)
                };
                let copy = Pack {
                    number: 0,
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
    pub(super) fn transpose(&mut self, s: &Scope<'_>, view: &View, buffer: BufferId, back: bool, out: &mut Vec<Stmt>) {
        let pitch = s.scratch.as_ref().map_or(1, |t| t.pitch);
        let block = rows::block_pixels(self.w);
        let pixel = sum(&Affine::default(), &s.block, block as i64);
        let tensor = Access { buffer: BufferId(view.argument as u16), index: self.tensor_index(view, &pixel, &s.n0) };
        let scratch = Access { buffer, index: vec![Affine::default(); 2] };
        let pixels = (s.first.end - s.first.start) * block;
        let (copy, width, dims) = match back {
            false => (
                Pack {
                    number: 0,
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
                    number: 0,
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
}

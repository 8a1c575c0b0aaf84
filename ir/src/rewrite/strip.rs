use std::ops::Range;

use super::footprint::{Footprint, footprints, in_widths};
use super::{
    MOST_MADE, RewriteError, check_map, existing_var, for_each_leaf, for_each_loop, over, product, refuse, region_of,
};
use crate::dtype::DType;
use crate::nest::{Access, Affine, Buffer, BufferId, BufferKind, Dim, Extent, Loop, LoopNest, Matrix, Pack, Stmt, Var};

/// Pixels of a line that one copy into interleaved lines takes: it is unrolled over them.
const COPY_PIXELS: u64 = 64;
/// The multiple of elements that strips in shared memory begin at: a line of the cache, whatever their type.
const SHARED_ALIGN: u64 = 32;

/// A copy of the inputs that blocks of pixels read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StripSpec {
    /// Name of the new buffer. Where there is one of the name, the region reads it.
    pub strip: String,
    /// The copy is made at the start of each iteration of this loop, or in shared memory, by tasks of a phase of its own.
    pub at: String,
    /// Scratch or shared memory.
    pub kind: BufferKind,
    /// Element type.
    pub dtype: DType,
    /// Inputs along each axis that a block reads at most, and every how many there is one that it reads.
    pub axes: Vec<(u64, u64)>,
    /// The axis along which blocks follow one another, the outputs of all blocks and those of one at most; of other axes a block has
    /// all.
    pub block: (usize, [u64; 2]),
    /// Channels, or columns of a block.
    pub width: u64,
    /// How lines lie if channels are interleaved.
    pub lines: Option<LinePanel>,
}

/// Lines of a strip that is interleaved: groups of channels, in each the pixels of one residue of the last axis after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinePanel {
    /// Channels that are neighbours.
    pub interleave: u64,
    /// Input pixels from one output to the next: as many residues.
    pub stride: u64,
    /// How many of the residues are read.
    pub residues: u64,
    /// Pixels of a line and residue, with a zero behind them.
    pub pitch: u64,
    /// The pixel before the first of a line is zero, too: it is the end of the line before.
    pub halo: bool,
}

impl LinePanel {
    /// Pixels in front of the first line: one that is only there to have a zero after it.
    const FRONT: u64 = 2;

    /// The place of pixel 0 of a line.
    fn first(&self) -> u64 {
        if self.halo { Self::FRONT } else { 0 }
    }
}

impl StripSpec {
    /// Refuses numbers that the left factor `from` has no strip of.
    fn check(&self, from: &Access, source: Option<&Buffer>) -> Result<(), RewriteError> {
        let (axis, [outputs, size]) = self.block;
        let dims = source.map_or(&[][..], |b| &b.dims);
        let Some(line) = dims.len().checked_sub(2).map(|i| dims[i].extent) else {
            return refuse("strip", "the left factor has no axes");
        };
        if self.axes.is_empty() || from.index.len() != dims.len() || self.axes.len() >= dims.len() {
            return refuse("strip", "the left factor has other axes than the strip");
        }
        let mut numbers =
            self.axes.iter().flat_map(|(extent, step)| [*extent, *step]).chain([outputs, size, self.width]);
        let most = 1 << 33;
        if axis >= self.axes.len() || numbers.any(|n| n == 0 || n > most) || self.axes.iter().any(|(_, s)| *s > 1 << 20)
        {
            return refuse("strip", "a number of the strip is 0, or too large");
        }
        let elements = self.axes.iter().try_fold(self.width, |all, (extent, _)| all.checked_mul(*extent));
        let Some(p) = self.lines else {
            return if elements.is_some_and(|n| n <= most) {
                Ok(())
            } else {
                refuse("strip", "the strip is too large")
            };
        };
        let fits = p.stride > 0 && p.stride <= 1 << 20 && p.residues > 0 && p.residues <= p.stride.min(line);
        let pitch = line.div_ceil(p.stride.max(1))..=most;
        if !fits || p.interleave == 0 || p.interleave > 1 << 10 || !pitch.contains(&p.pitch) {
            return refuse("strip", "lines of the strip do not have the residues and pixels of the left factor");
        }
        let outer =
            self.axes[..self.axes.len() - 1].iter().try_fold(self.width, |all, (extent, _)| all.checked_mul(*extent));
        let elements = outer.and_then(|n| n.checked_mul(p.pitch)?.checked_mul(p.stride));
        match elements.is_some_and(|n| n <= most) && p.residues.saturating_mul(p.pitch / COPY_PIXELS + 1) <= MOST_MADE {
            true => Ok(()),
            false => refuse("strip", "the strip is too large"),
        }
    }
}

/// Copies the inputs that the blocks of a region read into memory of their own, and redirects the left factor to it.
pub fn strip(mut nest: LoopNest, region: Range<usize>, spec: &StripSpec) -> Result<LoopNest, RewriteError> {
    check_map(&nest, "strip")?;
    let at = existing_var(&nest, "strip", &spec.at)?;
    let barrier = nest.body.iter().position(|s| matches!(s, Stmt::Barrier));
    let known = nest.buffer(&spec.strip);
    let Some(from) = product(region_of(&mut nest.body, &region, "strip")?).map(|(_, lhs, _)| lhs.clone()) else {
        return refuse("strip", "nothing is multiplied");
    };
    spec.check(&from, nest.buffers.get(usize::from(from.buffer.0)))?;
    let outer = (0..spec.axes.len() - 1).map(|i| nest.var(&format!("x{i}"))).collect();
    let names = ["w", "q", "r"].map(|name| nest.var(name));
    let id = known.unwrap_or(BufferId(nest.buffers.len() as u16));
    let LoopNest { body, buffers, vars, .. } = &mut nest;
    let batch = from.index.len() - spec.axes.len() - 1;
    let strip = Strip { spec, source: buffers[usize::from(from.buffer.0)].clone(), from, id, batch, names, outer };
    // Blocks are told by their first output.
    let (mut position, mut copies, mut last) = (0, vec![], 0);
    let (_, [outputs, _]) = spec.block;
    let mut only = None;
    for_each_loop(region_of(body, &region, "strip")?, at, &mut |host| {
        let Extent::Const(extent) = host.extent else { return refuse("strip", "blocks differ in their size") };
        let mut block = if extent == host.step { Affine::default() } else { Affine::from(host.var) };
        block.constant = (position % outputs) as i64;
        last = last.max(position % outputs + extent.saturating_sub(host.step));
        let made = strip.block(host, &block)?;
        match spec.kind {
            BufferKind::Shared if position < outputs => {
                let only = *only.get_or_insert_with(|| LoopNest::named(vars, "only"));
                let body = made.into_iter().map(|s| as_task(s, only)).collect();
                copies.push(Stmt::Loop(Loop { parallel: true, body, ..host.clone() }));
            }
            BufferKind::Shared => {}
            _ => drop(host.body.splice(0..0, made)),
        }
        position += extent;
        Ok(())
    })?;
    if known.is_none() {
        let buffer = strip.buffer(last);
        nest.buffers.push(buffer);
        if spec.kind == BufferKind::Shared {
            let batches = strip.from.index[..batch].iter().zip(&strip.source.dims);
            let copies = batches.rev().fold(copies, |body, (index, dim)| {
                // An index without a variable is the same for all batches.
                let Some(&(var, _)) = index.terms().first() else { return body };
                vec![Stmt::Loop(Loop { var, extent: Extent::Const(dim.extent), step: 1, parallel: true, body })]
            });
            let place = barrier.unwrap_or(0);
            let end = barrier.is_none().then_some(Stmt::Barrier);
            nest.body.splice(place..place, copies.into_iter().chain(end));
        }
    }
    Ok(nest.numbered())
}

/// A statement as a task, or several.
fn as_task(s: Stmt, only: Var) -> Stmt {
    match s {
        Stmt::Loop(l) => Stmt::Loop(Loop { parallel: true, ..l }),
        s => Stmt::Loop(Loop { var: only, extent: Extent::Const(1), step: 1, parallel: true, body: vec![s] }),
    }
}

struct Strip<'a> {
    spec: &'a StripSpec,
    source: Buffer,
    from: Access,
    id: BufferId,
    /// The source's dimensions of a batch.
    batch: usize,
    /// Variables for pieces of a width, and for a line's pixels and residues.
    names: [Var; 3],
    /// Variables along the outer axes.
    outer: Vec<Var>,
}

impl Strip<'_> {
    /// The memory for blocks the last of which begins at output `last`.
    fn buffer(&self, last: u64) -> Buffer {
        let spec = self.spec;
        let (_, [_, size]) = spec.block;
        let (line, outer) = spec.axes.split_last().expect("a window has an axis");
        let (mut dims, mut per) = match spec.lines {
            Some(p) => {
                let residue = spec.width * p.pitch;
                let dims = vec![
                    Dim { extent: p.stride, stride: residue },
                    Dim { extent: spec.width, stride: p.pitch },
                    Dim { extent: p.pitch + p.first(), stride: p.interleave },
                ];
                (dims, p.stride * residue)
            }
            None => {
                let dims = vec![Dim { extent: line.0, stride: spec.width }, Dim { extent: spec.width, stride: 1 }];
                (dims, line.0 * spec.width)
            }
        };
        for (extent, _) in outer.iter().rev() {
            dims.insert(0, Dim { extent: *extent, stride: per });
            per *= extent;
        }
        if spec.kind == BufferKind::Shared {
            // The last line reaches beyond its place by the pixels in front of the first.
            per += spec.lines.map_or(0, |p| p.first() * p.interleave);
            per = per.next_multiple_of(size * SHARED_ALIGN);
            dims.insert(0, Dim { extent: last + 1, stride: per / size });
            per *= last / size + 1;
            for dim in self.source.dims[..self.batch].iter().rev() {
                dims.insert(0, Dim { extent: dim.extent, stride: per });
                per *= dim.extent;
            }
        }
        let interleave = spec.lines.map_or(1, |p| p.interleave);
        Buffer { name: spec.strip.clone(), dtype: spec.dtype, kind: spec.kind, dims, interleave }
    }

    /// Redirects a block to its strip; the copies that fill it.
    fn block(&self, host: &mut Loop, block: &Affine) -> Result<Vec<Stmt>, RewriteError> {
        let mut prints = footprints(&host.body, self.from.buffer);
        let Some(columns) = prints.pop() else { return refuse("strip", "nothing is multiplied in a block") };
        let (axes, line) = (&self.spec.axes, self.spec.axes.len() - 1);
        // The first input of each axis, and how many are copied.
        let mut starts = vec![Affine::default(); axes.len()];
        let mut counts: Vec<u64> = vec![];
        for (i, ((print, (_, step)), dim)) in
            prints[self.batch..].iter().zip(axes).zip(&self.source.dims[self.batch..]).enumerate()
        {
            let low = print.low.clamp(0, dim.extent as i64);
            let high = (print.high + 1).clamp(low, dim.extent as i64);
            let is_whole = i != self.spec.block.0 || i == line;
            if !is_whole {
                starts[i] = print.outer.clone();
                starts[i].constant = low;
            }
            let inputs = if is_whole && *step == 1 { dim.extent } else { (high - low) as u64 };
            counts.push(inputs.div_ceil(*step));
        }
        let mut place = vec![];
        if self.spec.kind == BufferKind::Shared {
            place.extend(self.from.index[..self.batch].iter().cloned());
            place.push(block.clone());
        }
        let redirected = self.redirect(&mut host.body, &place, &starts, &columns);
        redirected.ok_or(()).or_else(|()| refuse("strip", "the inputs that are copied are not those that are read"))?;
        counts.pop();
        Ok(self.copies(&place, &starts, &counts, &columns))
    }

    fn redirect(&self, body: &mut [Stmt], place: &[Affine], starts: &[Affine], columns: &Footprint) -> Option<()> {
        let mut fits = Some(());
        for_each_leaf(body, &mut |s| {
            let Stmt::MulAdd { lhs, .. } = s else { return };
            if lhs.buffer != self.from.buffer {
                return;
            }
            let own = &lhs.index[self.batch..];
            let axes = own.iter().zip(starts).zip(&self.spec.axes);
            let Some(mut index) =
                axes.map(|((i, start), (_, step))| i.plus(start, -1).divided(*step as i64)).collect::<Option<Vec<_>>>()
            else {
                return fits = None;
            };
            let column = own[own.len() - 1].plus(&columns.first(), -1);
            index.splice(0..0, place.iter().cloned());
            let [_, pixel, residue] = self.names;
            let input = index.pop().unwrap_or_default();
            match self.spec.lines {
                None => index.extend([input.clone(), column]),
                Some(p) => {
                    let mut at = Affine::from(pixel);
                    at.constant = p.first() as i64;
                    index.extend([Affine::from(residue), column, at]);
                }
            }
            *lhs = Access { buffer: self.id, index };
            if let Some(p) = self.spec.lines {
                let extent = self.source.dims[self.source.dims.len() - 2].extent;
                let into = vec![(pixel, extent.div_ceil(p.stride)), (residue, p.stride)];
                let product = std::mem::replace(s, Stmt::Barrier);
                *s = Stmt::Delinearize { index: input, into, body: vec![product] };
            }
        });
        fits
    }

    /// The copies of so many inputs along each outer axis.
    fn copies(&self, place: &[Affine], starts: &[Affine], counts: &[u64], columns: &Footprint) -> Vec<Stmt> {
        if counts.contains(&0) {
            return vec![];
        }
        let (batch, dims) = (&self.from.index[..self.batch], &self.source.dims[self.batch..]);
        let [.., pixels, channels] = dims else { return vec![] };
        let index: Vec<Affine> = self
            .outer
            .iter()
            .zip(counts)
            .map(|(v, e)| if *e == 1 { Affine::default() } else { Affine::from(*v) })
            .collect();
        let width = columns.len().min(channels.extent);
        let source = |at: &[Affine], pixel: u64| {
            let mut all = batch.to_vec();
            let inputs = at.iter().zip(starts).zip(&self.spec.axes);
            all.extend(inputs.map(|((at, start), (_, step))| start.plus(at, *step as i64)));
            all.extend([Affine::constant(pixel as i64), columns.first()]);
            Access { buffer: self.from.buffer, index: all }
        };
        let strip = |at: &[Affine], rest: &[u64]| {
            let rest = rest.iter().map(|i| Affine::constant(*i as i64));
            Access { buffer: self.id, index: place.iter().chain(at).cloned().chain(rest).collect() }
        };
        let mut out = vec![];
        let body = match self.spec.lines {
            None => {
                let dst = Matrix { at: strip(&index, &[0, 0]), row: self.spec.width, col: 1 };
                let src = Matrix { at: source(&index, 0), row: pixels.stride, col: channels.stride };
                let (k, pitch) = (Extent::Const(pixels.extent), width);
                let copy = Pack { number: 0, dst, src, k, width: Extent::Const(width), pitch };
                in_widths(&copy, width, [0, 0], self.names[0])
            }
            Some(p) => {
                let copy = |(to, rest): (&[Affine], [u64; 3]), pixel: u64, k: u64, width: u64, pitch: u64| {
                    let dst = Matrix { at: strip(to, &rest), row: p.pitch, col: p.interleave };
                    let src = Matrix { at: source(to, pixel), row: channels.stride, col: p.stride * pixels.stride };
                    let (k, width) = (Extent::Const(k), Extent::Const(width));
                    Stmt::Pack(Box::new(Pack { number: 0, dst, src, k, width, pitch }))
                };
                if p.halo {
                    let first = vec![Affine::default(); counts.len()];
                    out.push(copy((&first, [0; 3]), 0, 1, 1, LinePanel::FRONT));
                }
                let mut body = vec![];
                for residue in 0..p.residues {
                    let count = (pixels.extent - residue).div_ceil(p.stride);
                    for pixel in (0..count).step_by(COPY_PIXELS as usize) {
                        let width = (count - pixel).min(COPY_PIXELS);
                        let pitch = if p.halo && pixel + width == count { p.pitch - pixel } else { width };
                        let to = [residue, 0, p.first() + pixel];
                        body.push(copy((&index, to), residue + pixel * p.stride, channels.extent, width, pitch));
                    }
                }
                if p.halo && p.residues < p.stride {
                    // Behind the last residue is the zero before the next line, and nothing else of that residue is read if the line
                    // has no pixel of it.
                    body.push(copy((&index, [p.stride - 1, 0, p.first()]), 0, channels.extent, 1, p.pitch));
                }
                body
            }
        };
        let loops = self.outer.iter().zip(counts).rev().filter(|(_, count)| **count > 1);
        out.extend(loops.fold(body, |body, (v, count)| vec![over(*v, *count, 1, body)]));
        out
    }
}

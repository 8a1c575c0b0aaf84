//! The tiles of a block: runs of outputs that have the same taps, lines cut into tiles, and what each tile reads.

use std::ops::Range;

use kiln_ir::PostOp;
use kiln_ir::contraction::View;
use kiln_ir::nest::{Access, Affine, BufferId, Init, Matrix, Run, Stmt, Tile, TileWindow, Var};

use super::{Lowering, Scope, Source, Weights, over, plus, sum};
use crate::schedule::{LhsAccess, Order, Rows, rows};
/// A tile's pixels: their outputs along each axis from the first pixel's, and their taps.
struct Pixels {
    /// The first pixel.
    base: Vec<Affine>,
    /// Outputs from it, by row and axis.
    offsets: Vec<Vec<u64>>,
    /// Taps that exist, by row and axis.
    taps: Vec<Vec<Range<u64>>>,
}

impl Lowering<'_> {
    /// The tiles of a block, in the order of the schedule.
    pub(super) fn tiles(&mut self, s: &Scope<'_>) -> Vec<Stmt> {
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
        // Positions are counted from the block's first, or from 0.
        let is_blocked = axis == rows::block_axis(self.w) && axis + 1 < self.w.axes.len();
        let (from, range) =
            if is_blocked { (s.block.clone(), s.first.clone()) } else { (Affine::default(), 0..a.output) };
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
            let mut at = plus(&from, (run.start - range.start) as i64);
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
        let tiles = rows::even(a.output, s.region.mr, self.schedule.form.rules().rows_at_once());
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
        let tiles = rows::even(self.w.pixels(), s.region.mr, self.schedule.form.rules().rows_at_once());
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
                (true, LhsAccess::Block | LhsAccess::Shared) => Affine::default(),
                (false, _) => Affine::constant(channel as i64),
            });
        }
        Access { buffer: source.buffer, index }
    }

    /// The runs of steps of a tile whose rows have these places, the first step in the weights, and the element of the source from
    /// which rows and runs are counted: the first that is read.
    fn runs(&self, s: &Scope<'_>, p: &Pixels, rows: &[i64]) -> (Vec<Run>, u64, Access) {
        let w = self.w;
        let axes = w.axes.len();
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
        (runs, k0, origin)
    }

    fn tile(&self, s: &Scope<'_>, n1: &Affine, p: &Pixels) -> Stmt {
        let (w, r) = (self.w, s.region);
        let rows: Vec<i64> =
            p.offsets.iter().map(|o| (0..w.axes.len()).map(|i| self.row_offset(&s.source, i, o[i])).sum()).collect();
        let (runs, k0, mut lhs) = self.runs(s, p, &rows);
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
        let constant = |k: u64| Affine::constant(k as i64);
        let (buffer, shape, place) = match s.weights {
            Weights::Packed(buffer) => {
                let mut index = self.batch_index(&self.c.rhs);
                index.extend([plus(&column, -(r.start as i64)), constant(k0)]);
                (*buffer, self.shape(r), index)
            }
            Weights::Block { panel, shape } => (*panel, *shape, vec![n1.clone(), constant(k0 - s.k.start)]),
        };
        let rhs_index = [place, vec![Affine::default()]].concat();
        Stmt::Tile(Box::new(Tile {
            number: 0,
            m: rows.len() as u64,
            n: r.nr,
            k,
            dst: result(&self.c.dst, scratch.map(|t| (t.dst, t.pitch))),
            lhs: Matrix { at: lhs, row: lhs_row, col: lhs_col },
            rhs: Matrix { at: Access { buffer, index: rhs_index }, row: shape.pitch, col: shape.interleave },
            init: if s.is_first && !self.c.accumulate { Init::Zero } else { Init::Load },
            post,
            window: Some(Box::new(TileWindow { rows, runs, columns: w.depthwise })),
        }))
    }
}

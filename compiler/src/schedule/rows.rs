//! Cutting the pixels of a window into rows of tiles: the facts that legality, costs and lowering share.

use std::ops::Range;

use kiln_ir::nest::MAX_WINDOW_ROWS;
use kiln_ir::window::Axis;
use kiln_ir::{Contraction, Window};

use super::{Form, LhsAccess, Region, RhsAccess, Rows, Schedule};
use crate::form::operands::{is_transposed, transposes_result};

/// The most tiles that are statements of their own: more only makes code larger.
const MAX_FLAT_TILES: u64 = 64;

/// Cuts `extent` into as few tiles of at most `most` as there can be, as even as multiples of `unit` allow: a short last tile
/// would have too few sums to keep the multiply-add pipes busy.
pub fn even(extent: u64, most: u64, unit: u64) -> Vec<Range<u64>> {
    let mut start = 0;
    let sizes = even_sizes(extent, most, unit).into_iter();
    sizes
        .flat_map(|(size, count)| (0..count).map(move |_| size))
        .map(|size| {
            let tile = start..start + size;
            start = tile.end;
            tile
        })
        .collect()
}

/// The sizes of the tiles that [`even`] cuts, in order, with how many follow each other of each: larger ones, smaller ones, and
/// one that is no multiple.
pub fn even_sizes(extent: u64, most: u64, unit: u64) -> [(u64, u64); 3] {
    let most = (most / unit * unit).max(1);
    let units = extent.div_ceil(unit);
    // With fewer rows than a unit asked for, tiles are of a unit.
    let tiles = extent.div_ceil(most).clamp(1, units.max(1));
    let (small, larger) = (units / tiles * unit, units % tiles);
    let cut = units * unit - extent;
    [(small + unit, larger), (small, tiles - larger - u64::from(cut > 0)), (small - cut, u64::from(cut > 0))]
}

/// The axis whose blocks are row blocks: the outermost that has more than one output.
pub fn block_axis(w: &Window) -> usize {
    w.axes.iter().position(|a| a.output > 1).unwrap_or(0)
}

/// Pixels of one output along the block axis.
pub fn block_pixels(w: &Window) -> u64 {
    w.axes[block_axis(w) + 1..].iter().map(|a| a.output).product()
}

/// True if a copy of the source takes only the inputs along an axis that outputs read: those of single taps.
pub fn is_compact(w: &Window, axis: usize) -> bool {
    let a = &w.axes[axis];
    axis + 1 < w.axes.len() && a.kernel == 1 && a.pad == 0 && a.stride > 1 && (a.output - 1) * a.stride < a.input
}

/// Inputs along an axis that a copy for `outputs` of the block axis takes, at most.
pub fn strip_extent(w: &Window, axis: usize, outputs: u64) -> u64 {
    let a = &w.axes[axis];
    let blocked = axis == block_axis(w) && axis + 1 < w.axes.len();
    match (blocked, is_compact(w, axis)) {
        (true, true) => outputs.min(a.output),
        (false, true) => a.output,
        (true, false) => ((outputs.max(1) - 1) * a.stride + (a.kernel - 1) * a.dilation + 1).min(a.input),
        (false, false) => a.input,
    }
}

/// Heights of the tiles, with how many there are of each, of all pixels; some may be none.
pub fn heights(w: &Window, form: Form, rows: Rows, mr: u64) -> [(u64, u64); 3] {
    let (extent, times) = match rows {
        Rows::Flat => (w.pixels(), 1),
        Rows::Line => {
            let line = w.axes.last().map_or(1, |a| a.output);
            (line, w.pixels() / line)
        }
    };
    even_sizes(extent, mr, form.rules().rows_at_once()).map(|(height, count)| (height, count * times))
}

/// Pairs of rows and taps that tiles compute, per region of `(mr, width, nr)`: each tap of a pair of rows counts for both where
/// rows come in pairs.
pub fn row_taps(
    w: &Window,
    form: Form,
    regions: impl Iterator<Item = (u64, u64, u64)>,
) -> impl Iterator<Item = (u64, u64, u64)> {
    let last = *w.axes.last().expect("a window has an axis");
    let unit = form.rules().rows_at_once();
    let outer: u64 = w.axes[..w.axes.len() - 1]
        .iter()
        .map(|a| (0..a.output).map(|o| a.taps(o)).map(|t| t.end - t.start).sum::<u64>())
        .product();
    let inside = w.taps_inside();
    regions.map(move |(mr, width, nr)| {
        let pair = |rows: Range<u64>| {
            let taps = |o| last.taps(o);
            let any = (0..last.kernel).filter(|t| rows.clone().any(|o| taps(o).contains(t))).count();
            unit * any as u64
        };
        let taps = match unit {
            1 => inside,
            _ => {
                let tiles = even(last.output, mr, unit);
                let pairs = tiles.into_iter().flat_map(|t| t.clone().step_by(2).map(move |o| o..(o + 2).min(t.end)));
                outer * pairs.map(pair).sum::<u64>()
            }
        };
        (taps, width, nr)
    })
}

/// About as many runs of steps as the tiles of a window have, over all that differ: what its code grows with.
pub fn distinct_runs(w: &Window) -> u64 {
    let (last, outer) = w.axes.split_last().expect("a window has an axis");
    let taps = |a: &Axis| a.runs(0..a.output).into_iter().map(|(_, taps)| taps.end - taps.start).sum::<u64>();
    let classes = last.runs(0..last.output).len() as u64;
    // Taps of a line that continue each other are one run, in a tile at a border a few.
    let continues = !w.depthwise && (w.channels == 1 || last.dilation == 1);
    let per_line = if continues { 2 * classes } else { taps(last) };
    outer.iter().map(taps).fold(per_line, u64::saturating_mul)
}

/// Fails if a region's rows do not suit a window, with the reason.
pub fn check(s: &Schedule, r: &Region, c: &Contraction, w: &Window) -> Result<(), String> {
    let line = w.axes.last().map_or(1, |a| a.output);
    if r.mr > MAX_WINDOW_ROWS {
        return Err(format!("mr={} is more than the {MAX_WINDOW_ROWS} rows of a window's tile", r.mr));
    }
    if s.rows == Rows::Flat {
        if r.mr > c.m || r.mc != c.m || c.m.div_ceil(r.mr) > MAX_FLAT_TILES {
            return Err(format!("rows=flat is of all {} rows in at most {MAX_FLAT_TILES} tiles", c.m));
        }
        if s.form.rules().rows_at_once() > 1 {
            return Err("rows in pairs end with the line: rows=line".into());
        }
    } else if r.mr > line {
        return Err(format!("mr={} is more than a line of {line} pixels", r.mr));
    } else if r.mc != c.m && (r.mc > c.m || !r.mc.is_multiple_of(block_pixels(w)) || block_axis(w) + 1 == w.axes.len())
    {
        return Err(format!("mc={} must be a multiple of {} pixels or all {}", r.mc, block_pixels(w), c.m));
    }
    if matches!(r.rhs, RhsAccess::InPlace | RhsAccess::Panel | RhsAccess::Shared) {
        return Err("the weights of a convolution are read packed: rhs=packed or rhs=block".into());
    }
    Ok(())
}

/// Bytes of scratch memory that a region takes: strips of the source and the result, and blocks of weights.
pub fn scratch_bytes(s: &Schedule, r: &Region, c: &Contraction, w: &Window) -> u64 {
    let bytes = |d: kiln_ir::DType| d.bytes() as u64;
    let lines = (r.mc / block_pixels(w)).max(1);
    let mut total = 0;
    // Strips that threads share are not in scratch memory.
    if r.lhs == LhsAccess::Block {
        let inputs: u64 = (0..w.axes.len()).map(|i| strip_extent(w, i, lines)).product();
        let element = s.form.panel_bytes(c, c.lhs.dtype);
        total += inputs * element * if w.depthwise { r.nc } else { w.channels.next_multiple_of(4) };
    }
    if transposes_result(c) {
        let post: u64 =
            c.post.iter().filter_map(|(_, v)| v.as_ref()).filter(|v| is_transposed(v)).map(|v| bytes(v.dtype)).sum();
        total += r.mc * r.nc * (4 + post);
    }
    if r.rhs == RhsAccess::Block {
        total += r.kc.min(c.k) * r.nc * s.form.panel_bytes(c, c.rhs.dtype);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_even() {
        let sizes = |extent, most, unit| even(extent, most, unit).iter().map(|t| t.end - t.start).collect::<Vec<_>>();
        assert_eq!(sizes(56, 6, 1), [6, 6, 6, 6, 6, 6, 5, 5, 5, 5]);
        assert_eq!(sizes(56, 10, 2), [10, 10, 10, 10, 8, 8]);
        assert_eq!(sizes(7, 10, 2), [7]);
        assert_eq!(sizes(7, 4, 2), [4, 3]);
        assert_eq!(sizes(1, 6, 1), [1]);
        for (extent, most, unit) in (1..40).flat_map(|e| (1..9).flat_map(move |m| [(e, m, 1), (e, 2 * m, 2)])) {
            let tiles = even(extent, most, unit);
            assert!(tiles.iter().all(|t| t.end > t.start && t.end - t.start <= most), "{extent} {most} {unit}");
            assert!(tiles.windows(2).all(|t| t[0].end == t[1].start && t[0].end % unit == 0));
            assert_eq!((tiles[0].start, tiles[tiles.len() - 1].end), (0, extent));
        }
    }
}

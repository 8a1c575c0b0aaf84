//! The arguments of rewrites that windows have for themselves: loops over lines, and strips of inputs.

use kiln_ir::nest::BufferKind;
use kiln_ir::rewrite::{Blocks, LinePanel, StripSpec, TileLoop};
use kiln_ir::{Contraction, Window};

use super::has_k_blocks;
use crate::schedule::{LhsAccess, Order, Parallel, Region, Rows, Schedule, rows};

/// The loops over blocks of lines, and tiles that end with the lines or are each on their own.
pub(super) fn tile_loops(c: &Contraction, w: &Window, schedule: &Schedule, r: &Region) -> Vec<TileLoop> {
    let (last, blocked) = (w.axes.len() - 1, rows::block_axis(w));
    let is_flat = schedule.rows == Rows::Flat;
    // Axes of a single output have no loop; where all have, the blocked axis is among them.
    let axis = |i: usize| if is_flat || i == last || w.axes[i].output == 1 { "m".into() } else { format!("o{i}") };
    let lines = if is_flat || blocked == last { r.mc } else { r.mc / rows::block_pixels(w) };
    let (line, unit) = (if is_flat { c.m } else { w.axes[last].output }, schedule.form.rules().rows_at_once());
    let sizes = rows::even_sizes(line, r.mr, unit).into_iter().filter(|(_, count)| *count > 0).collect();
    let new =
        |axis: &str, var: &str, blocks| TileLoop { axis: axis.into(), var: Some(var.into()), blocks, parallel: false };
    let m0 = new(&axis(blocked), "m0", Blocks::Of(lines));
    let n0 = new("n", "n0", Blocks::Of(r.nc));
    let mut loops = if schedule.parallel.has_rows_outside() { vec![m0, n0] } else { vec![n0, m0] };
    loops[0].parallel = schedule.parallel != Parallel::None;
    loops[1].parallel = schedule.parallel.is_fine();
    if has_k_blocks(c, schedule, r) {
        loops.push(TileLoop::new("k", k_block(c, schedule, r)));
    }
    let outer = (0..last).filter(|i| !is_flat && w.axes[*i].output > 1);
    let mut rows: Vec<TileLoop> = outer.map(|i| new(&axis(i), &axis(i), Blocks::Elements)).collect();
    rows.push(new("m", &tiles_var(last, is_flat), Blocks::Sizes(sizes)));
    rows.insert(if r.order == Order::NM { 0 } else { rows.len() }, new("n", "n1", Blocks::Of(r.nr)));
    loops.extend(rows);
    loops
}

/// The variable of the loop over tiles: lines along the last axis have its name.
fn tiles_var(last: usize, is_flat: bool) -> String {
    if is_flat { "m1".into() } else { format!("o{last}") }
}

/// The loop that tiles are directly in, but for those over tiles.
pub(super) fn innermost_block(c: &Contraction, schedule: &Schedule, r: &Region) -> &'static str {
    match (has_k_blocks(c, schedule, r), schedule.parallel.has_rows_outside()) {
        (true, _) => "k0",
        (false, true) => "n0",
        (false, false) => "m0",
    }
}

/// Steps of K in panels.
pub(super) fn steps(c: &Contraction, schedule: &Schedule) -> u64 {
    let (taps, channels) = c.taps(schedule.form.k_group());
    taps * channels
}

/// Those that a block has.
pub(super) fn k_block(c: &Contraction, schedule: &Schedule, r: &Region) -> u64 {
    let all = steps(c, schedule);
    if r.kc >= c.k { all } else { r.kc.next_multiple_of(schedule.form.k_group()).min(all) }
}

/// The strip that the inputs of a region's blocks are copied into; regions with the same blocks share one.
pub(super) fn strip_spec(c: &Contraction, w: &Window, schedule: &Schedule, region: usize) -> Option<StripSpec> {
    let r = &schedule.regions[region];
    let kind = match r.lhs {
        LhsAccess::InPlace => return None,
        LhsAccess::Block => BufferKind::Scratch,
        LhsAccess::Shared => BufferKind::Shared,
    };
    let same = schedule.regions.iter().position(|other| other.lhs == LhsAccess::Shared && other.mc == r.mc);
    let strip = match (kind, same) {
        (BufferKind::Shared, Some(first)) => format!("lhs_shared{first}"),
        _ => format!("lhs_strip{region}"),
    };
    let (blocked, last) = (rows::block_axis(w), w.axes.len() - 1);
    let (axis, line) = (&w.axes[blocked], &w.axes[last]);
    let most = match blocked == last {
        true => axis.output,
        false => (r.mc / rows::block_pixels(w)).clamp(1, axis.output),
    };
    let axes = w
        .axes
        .iter()
        .enumerate()
        .map(|(i, a)| (rows::strip_extent(w, i, most), if rows::is_compact(w, i) { a.stride } else { 1 }));
    let axes: Vec<(u64, u64)> = axes.collect();
    let channels = c.taps(schedule.form.k_group()).1;
    let halo = has_zeros_beside_lines(c, schedule);
    let lines = (schedule.form.k_group() > 1).then(|| LinePanel {
        interleave: schedule.form.k_group(),
        stride: line.stride,
        residues: if line.kernel > 1 || line.pad != 0 { line.stride.min(line.input) } else { 1 },
        pitch: axes[last].0.div_ceil(line.stride) + u64::from(halo),
        halo,
    });
    Some(StripSpec {
        strip,
        // The columns of a block have channels of their own.
        at: if w.depthwise && schedule.parallel.has_rows_outside() { "n0" } else { "m0" }.into(),
        kind,
        dtype: schedule.form.panel_dtype(c, c.lhs.dtype),
        axes,
        block: (blocked, [axis.output, most]),
        width: if w.depthwise { r.nc } else { channels },
        lines,
    })
}

/// Whether lines in interleaved strips have zeros beside them: not where some blocks lack lines, which would leave gaps.
fn has_zeros_beside_lines(c: &Contraction, schedule: &Schedule) -> bool {
    c.window.as_ref().is_some_and(|w| {
        let outer = &w.axes[..rows::block_axis(w).min(w.axes.len() - 1)];
        schedule.form.k_group() > 1 && outer.iter().all(|a| a.input == 1)
    })
}

//! Lowering: from a problem and its schedule to the nest that is emitted, one named rewrite after another.

mod window;

use std::ops::Range;

use kiln_ir::rewrite::{
    self, Alike, Blocks, PackSpec, RewriteError, Side, TileLoop, align_taps, divide, fuse_batches, fuse_loops, inline,
    lines, pack, pack_shared, partition, prepacked, split_tails, stage, strip, tensorize, tile,
};
use kiln_ir::{Contraction, LoopNest, Problem, contraction};

use crate::form::operands::transposes_result;
use crate::schedule::{LhsAccess, Order, Parallel, Region, RhsAccess, Rows, Schedule, TASK_MACS};
use crate::target::VectorUnit;

/// Lowers `problem`, computed as `c`, by `schedule`; `seen` is called with each rewrite's name and result.
pub fn lower(
    problem: &Problem,
    c: &Contraction,
    schedule: &Schedule,
    unit: &VectorUnit,
    mut seen: impl FnMut(&'static str, &LoopNest),
) -> Result<LoopNest, RewriteError> {
    let mut nest = contraction::build(&problem.to_string(), c);
    seen("build", &nest);
    nest = fuse_loops(nest)?;
    seen("fuse_loops", &nest);
    if let Some(w) = &c.window {
        nest = align_taps(nest, schedule.form.k_group())?;
        if schedule.rows == Rows::Line {
            nest = lines(nest)?;
        }
        seen("lines", &nest);
        // Addresses are sums in the order in which variables are named: those of blocks first, whichever is outside, then inputs.
        let inputs = (1..w.axes.len()).map(|i| format!("x{}", i - 1));
        for name in ["m0", "n0"].map(str::to_owned).into_iter().chain(inputs) {
            nest.var(&name);
        }
    }
    if let [_, rest @ ..] = &schedule.regions[..]
        && !rest.is_empty()
    {
        let cuts: Vec<u64> = rest.iter().map(|r| r.start).collect();
        nest = partition(nest, 0, "n", &cuts)?;
        seen("partition", &nest);
    }
    for (i, r) in schedule.regions.iter().enumerate() {
        nest = tile(nest, i, &tile_loops(c, schedule, r), schedule.parallel != Parallel::None)?;
    }
    seen("tile", &nest);
    // The first region last: its panels take the place of the factor that the others are redirected from.
    for (i, r) in schedule.regions.iter().enumerate().rev().filter(|(_, r)| r.rhs == RhsAccess::Packed) {
        nest = prepacked(nest, i, Side::Rhs, r.nr, schedule.rhs_panel(c, r, unit))?;
        if i == 0 {
            seen("prepacked", &nest);
        }
    }
    // The statements of each region.
    let mut regions: Vec<Range<usize>> = (0..schedule.regions.len()).map(|i| i..i + 1).collect();
    nest = split_borders(nest, &mut regions, &["m0", "n0", "k0"], Alike::Footprint)?;
    if c.window.is_some() {
        seen("split_borders", &nest);
    }
    let mut packed = false;
    for (i, (r, at)) in schedule.regions.iter().zip(&regions).enumerate() {
        for spec in packs(c, schedule, r, i, unit) {
            nest = pack(nest, at.clone(), &spec)?;
            packed = true;
        }
    }
    for (i, (r, at)) in schedule.regions.iter().zip(&regions).enumerate() {
        if let Some(w) = &c.window {
            let block = if schedule.parallel.has_rows_outside() { "n0" } else { "m0" };
            nest = stage(nest, at.clone(), block, [r.mc, r.nc], &i.to_string())?;
            if let Some(spec) = window::strip_spec(c, w, schedule, i) {
                nest = strip(nest, at.clone(), &spec)?;
                packed = true;
            }
            continue;
        }
        if r.lhs == LhsAccess::Shared {
            nest = pack_shared(nest, i, Side::Lhs, &format!("lhs_shared{i}"), schedule.lhs_panel(c, r))?;
        }
        if r.rhs == RhsAccess::Shared {
            nest = pack_shared(nest, i, Side::Rhs, &format!("rhs_shared{i}"), schedule.rhs_panel(c, r, unit))?;
        }
        packed |= r.lhs == LhsAccess::Shared || r.rhs == RhsAccess::Shared;
    }
    if packed {
        seen("pack", &nest);
    }
    if let Some(w) = &c.window {
        let names: Vec<String> = (0..w.axes.len()).map(|i| format!("o{i}")).collect();
        let axes: Vec<&str> = ["k0", "m1"].into_iter().chain(names.iter().map(String::as_str)).collect();
        nest = split_borders(nest, &mut regions, &axes, Alike::Conditions)?;
    }
    nest = split_tails(nest)?;
    seen("split_tails", &nest);
    nest = tensorize(nest)?;
    seen("tensorize", &nest);
    if c.window.is_some() {
        for (r, at) in schedule.regions.iter().zip(&regions) {
            // What is copied out is complete.
            if schedule.parallel.is_fine() && !transposes_result(c) {
                nest =
                    divide(nest, at.clone(), window::innermost_block(c, schedule, r), (2 * TASK_MACS).div_ceil(c.k))?;
            }
        }
        nest = fuse_batches(inline(nest)).numbered();
        seen("divide", &nest);
    }
    Ok(nest)
}

/// The loops over blocks, from the outside in. Every loop over rows or columns may divide the tasks.
fn tile_loops(c: &Contraction, schedule: &Schedule, r: &Region) -> Vec<TileLoop> {
    if let Some(w) = &c.window {
        return window::tile_loops(c, w, schedule, r);
    }
    let (n0, n1) = (TileLoop::new("n", r.nc), TileLoop::new("n", r.nr));
    let (m0, m1) = (TileLoop::new("m", r.mc.next_multiple_of(r.mr)), TileLoop::new("m", r.mr));
    // Blocks begin where groups of neighbours do.
    let k0 = TileLoop::new("k", r.kc.next_multiple_of(schedule.form.k_group()));
    let rows_outside = schedule.parallel.has_rows_outside();
    let mut loops = match (rows_outside, r.rhs, r.order) {
        (true, _, Order::NM) => vec![m0, n0, k0, n1, m1],
        (true, _, Order::MN) => vec![m0, n0, k0, m1, n1],
        (_, RhsAccess::Panel, _) => vec![n0, k0, n1, m0, m1],
        // A block of columns that is packed serves all rows.
        (_, RhsAccess::Block, Order::NM) => vec![n0, k0, m0, n1, m1],
        (_, RhsAccess::Block, Order::MN) => vec![n0, k0, m0, m1, n1],
        (_, _, Order::NM) => vec![n0, m0, k0, n1, m1],
        (_, _, Order::MN) => vec![n0, m0, k0, m1, n1],
    };
    if !has_k_blocks(c, schedule, r) {
        loops.retain(|l| l.axis != "k");
    }
    let [mut rows, mut columns] = [c.m, r.end - r.start];
    for (at, l) in loops.iter_mut().enumerate() {
        let Blocks::Of(step) = l.blocks else { continue };
        // Blocks of K add to the same elements one after the other.
        if l.axis == "k" {
            continue;
        }
        // What the loop would divide.
        let is_worth_it = at == 0 || rows * columns * c.k >= 2 * TASK_MACS;
        l.parallel = match schedule.parallel {
            Parallel::None => false,
            Parallel::M | Parallel::N => at == 0,
            Parallel::Mn | Parallel::Nm => is_worth_it,
        };
        if !l.parallel {
            break;
        }
        let extent = if l.axis == "m" { &mut rows } else { &mut columns };
        *extent = (*extent).min(step);
    }
    loops
}

/// Splits regions at borders, which may then have more statements.
fn split_borders(
    mut nest: LoopNest,
    regions: &mut [Range<usize>],
    axes: &[&str],
    alike: Alike,
) -> Result<LoopNest, RewriteError> {
    let mut more = 0;
    for region in regions {
        let before = nest.body.len();
        *region = region.start + more..region.end + more;
        nest = rewrite::split_borders(nest, region.clone(), axes, alike)?;
        let added = nest.body.len() - before;
        region.end += added;
        more += added;
    }
    Ok(nest)
}

/// Whether K is cut into blocks; in a window, its steps are those of panels.
fn has_k_blocks(c: &Contraction, schedule: &Schedule, r: &Region) -> bool {
    match c.window {
        Some(_) => window::k_block(c, schedule, r) < window::steps(c, schedule),
        None => r.kc < c.k,
    }
}

fn packs(c: &Contraction, schedule: &Schedule, r: &Region, region: usize, unit: &VectorUnit) -> Vec<PackSpec> {
    let mut specs = vec![];
    let rows_outside = schedule.parallel.has_rows_outside();
    // The loop inside of which there is no block of K any more.
    let inside_k = |otherwise: &'static str| if has_k_blocks(c, schedule, r) { "k0" } else { otherwise };
    let rhs_at = match r.rhs {
        RhsAccess::InPlace | RhsAccess::Shared | RhsAccess::Packed => None,
        RhsAccess::Panel => Some("n1"),
        RhsAccess::Block => Some(inside_k("n0")),
    };
    if let Some(at) = rhs_at {
        let panel = format!("rhs_panel{region}");
        specs.push(PackSpec { side: Side::Rhs, panel, at: at.into(), shape: schedule.rhs_panel(c, r, unit) });
    }
    if r.lhs == LhsAccess::Block && c.window.is_none() {
        // A panel of columns is packed outside of the loop over blocks of rows, so all rows are packed before it. Otherwise each block of
        // rows is.
        let at = match (rows_outside, r.rhs) {
            (false, RhsAccess::Panel) => inside_k("n0"),
            // Its panels have all of K, whatever blocks of K lie inside.
            _ => "m0",
        };
        let panel = format!("lhs_panel{region}");
        specs.push(PackSpec { side: Side::Lhs, panel, at: at.into(), shape: schedule.lhs_panel(c, r) });
    }
    specs
}

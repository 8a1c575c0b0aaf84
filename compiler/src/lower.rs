//! Lowering: from a problem and its schedule to the nest that is emitted, one named rewrite after another.

use kiln_ir::op;
use kiln_ir::rewrite::{PackSpec, RewriteError, TileLoop, fuse_loops, pack, partition, split_tails, tensorize, tile};
use kiln_ir::{LoopNest, Problem};

use crate::schedule::{LhsAccess, Order, Parallel, Region, RhsAccess, Schedule};

/// Lowers `problem` by `schedule`; `seen` is called with each rewrite's name and result.
pub fn lower(
    problem: &Problem,
    schedule: &Schedule,
    lanes: u64,
    mut seen: impl FnMut(&'static str, &LoopNest),
) -> Result<LoopNest, RewriteError> {
    let mut nest = op::build(problem);
    seen("build", &nest);
    nest = fuse_loops(nest)?;
    seen("fuse_loops", &nest);
    if let [_, rest @ ..] = &schedule.regions[..]
        && !rest.is_empty()
    {
        let cuts: Vec<u64> = rest.iter().map(|r| r.start).collect();
        nest = partition(nest, 0, "n", &cuts)?;
        seen("partition", &nest);
    }
    for (i, r) in schedule.regions.iter().enumerate() {
        nest = tile(nest, i, &tile_loops(schedule, r))?;
    }
    seen("tile", &nest);
    let mut packed = false;
    for (i, r) in schedule.regions.iter().enumerate() {
        for spec in packs(schedule, r, i, lanes) {
            nest = pack(nest, i, &spec)?;
            packed = true;
        }
    }
    if packed {
        seen("pack", &nest);
    }
    nest = split_tails(nest)?;
    seen("split_tails", &nest);
    nest = tensorize(nest)?;
    seen("tensorize", &nest);
    Ok(nest)
}

fn tile_loops(schedule: &Schedule, r: &Region) -> Vec<TileLoop> {
    let parallel = |t: TileLoop| TileLoop { parallel: schedule.parallel != Parallel::None, ..t };
    let (n0, n1) = (TileLoop::new("n", r.nc), TileLoop::new("n", r.nr));
    let (m0, m1) = (TileLoop::new("m", r.mc.next_multiple_of(r.mr)), TileLoop::new("m", r.mr));
    let k0 = TileLoop::new("k", r.kc);
    match (schedule.parallel, r.rhs, r.order) {
        (Parallel::None | Parallel::N, RhsAccess::Panel, _) => vec![parallel(n0), k0, n1, m0, m1],
        (Parallel::None | Parallel::N, _, Order::NM) => vec![parallel(n0), k0, m0, n1, m1],
        (Parallel::None | Parallel::N, _, Order::MN) => vec![parallel(n0), k0, m0, m1, n1],
        (Parallel::M, _, Order::NM) => vec![parallel(m0), n0, k0, n1, m1],
        (Parallel::M, _, Order::MN) => vec![parallel(m0), n0, k0, m1, n1],
    }
}

fn packs(schedule: &Schedule, r: &Region, region: usize, lanes: u64) -> Vec<PackSpec> {
    let mut specs = vec![];
    let rhs_at = match r.rhs {
        RhsAccess::InPlace => None,
        RhsAccess::Panel => Some("n1"),
        RhsAccess::Block => Some("k0"),
    };
    if let Some(at) = rhs_at {
        let panel = format!("rhs_panel{region}");
        specs.push(PackSpec { operand: "rhs", panel, at: at.into(), pitch: r.nr.next_multiple_of(lanes) });
    }
    if r.lhs == LhsAccess::Block {
        // A panel is packed inside the loop over rows, so the rows are packed outside of it, all at once.
        let at = match (schedule.parallel, r.rhs) {
            (Parallel::None | Parallel::N, RhsAccess::InPlace | RhsAccess::Block) => "m0",
            _ => "k0",
        };
        let panel = format!("lhs_panel{region}");
        specs.push(PackSpec { operand: "lhs", panel, at: at.into(), pitch: r.kc.next_multiple_of(lanes) });
    }
    specs
}

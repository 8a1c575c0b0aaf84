//! The search: candidate schedules, weighed by the cost model.
//!
//! Register tiles are ranked first, then cache blocks and packing are tried for the best few. Nothing is looked up by
//! shape; the same search serves every target.

use std::fmt;

use kiln_ir::Epilogue;
use kiln_ir::op::Matmul;

use super::cost::{Prediction, predict, predict_in_cache};
use super::{LhsAccess, Order, Parallel, Region, RhsAccess, Schedule};
use crate::microkernel::build::registers_needed;
use crate::target::{Multiplier, Target, VectorUnit};

/// Register tiles that cache blocks are tried for.
const TILES_KEPT: usize = 4;
/// Candidates kept for the explanation.
const CANDIDATES_KEPT: usize = 8;
/// Lengths of K blocks that are tried, longest first.
const K_BLOCKS: [u64; 4] = [1024, 768, 512, 256];
/// Multiply-adds from which a problem is divided into tasks: below, starting them would cost more than they save.
const PARALLEL_MACS: u64 = 1 << 20;
/// Columns below which a task's share of the columns is not cut further for the sake of more tasks.
const TASK_COLUMNS: u64 = 128;
/// Tasks that a parallel axis should give at least.
const TASKS: u64 = 8;

/// The chosen schedule and what it was weighed against.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The cheapest.
    pub schedule: Schedule,
    /// Its cost.
    pub prediction: Prediction,
    /// The cheapest few, cheapest first, the chosen one among them.
    pub candidates: Vec<(Schedule, Prediction)>,
    /// Lanes computed in vain, in multiply-adds.
    pub wasted_macs: u64,
    /// Multiply-adds of the problem.
    pub macs: u64,
}

/// Chooses a schedule for a matrix product with an epilogue on a target.
pub fn search(shape: Matmul, epilogue: &Epilogue, target: &Target) -> Choice {
    let mut tiles: Vec<(Schedule, f64)> = vec![];
    for unit in &target.units {
        for (rows, columns) in register_tiles(unit, shape) {
            let schedule = plain(shape, unit, target, rows, columns);
            let cost = predict_in_cache(shape, epilogue, &schedule, target);
            tiles.extend(cost.map(|c| (schedule, c)));
        }
    }
    // Both sorts are stable: at equal cost the order of construction decides, on every host alike.
    tiles.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut weighed: Vec<(Schedule, Prediction)> = vec![];
    for (tile, _) in tiles.into_iter().take(TILES_KEPT) {
        for schedule in blockings(shape, &tile, target) {
            if schedule.verify(shape, target).is_ok() {
                let cost = predict(shape, epilogue, &schedule, target);
                weighed.extend(cost.map(|c| (schedule, c)));
            }
        }
    }
    weighed.sort_by(|a, b| a.1.cycles.total_cmp(&b.1.cycles));
    weighed.dedup_by(|a, b| a.0 == b.0);
    weighed.truncate(CANDIDATES_KEPT);
    let (schedule, prediction) = weighed[0].clone();
    let wasted_macs = schedule.wasted_macs(shape, target);
    Choice { schedule, prediction, candidates: weighed, wasted_macs, macs: shape.macs() }
}

/// Tiles that fit in the registers: rows by columns, columns in whole vectors unless the problem has fewer.
fn register_tiles(unit: &VectorUnit, shape: Matmul) -> Vec<(u64, u64)> {
    let lanes = u64::from(unit.lanes);
    let mut tiles = vec![];
    for vectors in 1.. {
        if !fits(unit, 1, vectors) {
            break;
        }
        let columns = (vectors * lanes).min(shape.n);
        tiles.extend((1..=max_rows(unit, vectors).min(shape.m)).map(|rows| (rows, columns)));
        if columns == shape.n {
            break;
        }
    }
    tiles
}

fn fits(unit: &VectorUnit, rows: u64, vectors: u64) -> bool {
    let reachable = match unit.multiplier {
        Multiplier::Lane { max_reg } => rows <= u64::from(max_reg),
        Multiplier::Broadcast => true,
    };
    reachable && registers_needed(unit, rows, vectors) <= u64::from(unit.registers)
}

fn max_rows(unit: &VectorUnit, vectors: u64) -> u64 {
    (1..).take_while(|&rows| fits(unit, rows, vectors)).last().unwrap_or(0)
}

/// The schedule with one tile, nothing packed and no cache blocks; columns left over get the best rows for their width.
fn plain(shape: Matmul, unit: &VectorUnit, target: &Target, rows: u64, columns: u64) -> Schedule {
    let parallel = parallel_axis(shape, rows, columns);
    let region = |start: u64, end: u64, mr: u64, nr: u64| Region {
        start,
        end,
        mr,
        nr,
        mc: if parallel == Parallel::M { blocks(shape.m, mr) } else { shape.m },
        nc: if parallel == Parallel::N { blocks(end - start, nr) } else { end - start },
        kc: shape.k,
        unroll: unroll(unit, mr, nr),
        order: Order::NM,
        lhs: LhsAccess::InPlace,
        rhs: RhsAccess::InPlace,
    };
    let main = shape.n / columns * columns;
    let mut regions = vec![region(0, main, rows, columns)];
    let left = shape.n - main;
    if left > 0 {
        let vectors = left.div_ceil(u64::from(unit.lanes));
        let cost = |mr: u64| {
            let one = Schedule {
                isa: unit.isa,
                parallel: Parallel::N,
                regions: vec![Region { start: 0, end: left, ..region(0, left, mr, left) }],
            };
            predict_in_cache(shape, &Epilogue::default(), &one, target).unwrap_or(f64::INFINITY)
        };
        let best = (1..=max_rows(unit, vectors).min(shape.m)).min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        regions.push(region(main, shape.n, best.unwrap_or(1), left));
    }
    Schedule { isa: unit.isa, parallel, regions }
}

/// Steps of K in a loop body: enough that the loop's own instructions do not count.
fn unroll(unit: &VectorUnit, rows: u64, columns: u64) -> u64 {
    let steps: u64 = match rows * columns.div_ceil(u64::from(unit.lanes)) {
        0..4 => 8,
        4..8 => 4,
        _ => 2,
    };
    match unit.multiplier {
        Multiplier::Lane { .. } => steps.next_multiple_of(4),
        Multiplier::Broadcast => steps,
    }
}

/// The axis whose tiles give [`TASKS`] tasks, columns before rows: a task then packs what it alone reads.
fn parallel_axis(shape: Matmul, rows: u64, columns: u64) -> Parallel {
    match (shape.n / columns, shape.m.div_ceil(rows)) {
        _ if shape.macs() < PARALLEL_MACS => Parallel::None,
        (strips, tiles) if strips < TASKS && tiles > strips => Parallel::M,
        _ => Parallel::N,
    }
}

/// The extent of a task along an axis in tiles of `tile`: whole tiles, few enough for [`TASKS`] tasks.
fn blocks(extent: u64, tile: u64) -> u64 {
    (extent / tile).div_ceil(TASKS).max(1) * tile
}

/// The same tiles with every way of blocking and packing.
fn blockings(shape: Matmul, tile: &Schedule, target: &Target) -> Vec<Schedule> {
    let mut out = vec![];
    let mut k_blocks = vec![shape.k];
    k_blocks.extend(K_BLOCKS.iter().filter(|&&k| k < shape.k).map(|&k| even_blocks(shape.k, k)));
    k_blocks.dedup();
    for &kc in &k_blocks {
        for (rhs, order, lhs) in [
            (RhsAccess::InPlace, Order::NM, LhsAccess::InPlace),
            (RhsAccess::InPlace, Order::MN, LhsAccess::InPlace),
            (RhsAccess::Panel, Order::NM, LhsAccess::InPlace),
            (RhsAccess::Block, Order::MN, LhsAccess::InPlace),
        ] {
            let mut s = tile.clone();
            for r in &mut s.regions {
                (r.kc, r.rhs, r.order, r.lhs) = (kc, rhs, order, lhs);
                if order == Order::MN {
                    // Columns whose block of rhs takes half of the second-level cache.
                    let most = (target.l2.bytes / 2 / (4 * kc)).max(r.nr) / r.nr * r.nr;
                    let most = if s.parallel == Parallel::N { most.min(r.nc.max(TASK_COLUMNS)) } else { most };
                    r.nc = even_blocks(r.end - r.start, most).next_multiple_of(r.nr).min(r.end - r.start);
                }
            }
            out.push(s);
        }
    }
    out
}

/// A block size of at most about `target` that cuts `total` into equal blocks, a multiple of 4.
fn even_blocks(total: u64, target: u64) -> u64 {
    total.div_ceil(total.div_ceil(target)).next_multiple_of(4).min(total)
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "schedule  {}", self.schedule)?;
        writeln!(f, "predicted {}", self.prediction)?;
        let share = 100.0 * self.wasted_macs as f64 / self.macs as f64;
        writeln!(f, "wasted    {} multiply-adds of {} ({share:.1} %)", self.wasted_macs, self.macs)?;
        for (s, p) in &self.candidates {
            writeln!(f, "weighed   {:>12.0} cycles  {s}", p.cycles)?;
        }
        Ok(())
    }
}

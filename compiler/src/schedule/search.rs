//! The search: candidate schedules, weighed by the cost model.
//!
//! Register tiles are ranked first, then cache blocks and packing are tried for the best few. Nothing is looked up by
//! shape; the same search serves every target.

use std::fmt;

use kiln_ir::Epilogue;
use kiln_ir::op::Matmul;

use super::cost::{Prediction, predict};
use super::{LhsAccess, Order, Parallel, Region, RhsAccess, Schedule};
use crate::microkernel::build::registers_needed;
use crate::target::{Multiplier, Target, VectorUnit};

/// Register tiles that cache blocks are tried for.
const TILES_KEPT: usize = 4;
/// Candidates kept for the explanation.
const CANDIDATES_KEPT: usize = 8;
/// Lengths of K blocks that are tried, longest first.
const K_BLOCKS: [u64; 4] = [768, 512, 384, 256];
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
    let mut weighed: Vec<(Schedule, Prediction)> = vec![];
    let mut tiles: Vec<(Schedule, Prediction)> = vec![];
    for unit in &target.units {
        for (rows, columns) in register_tiles(unit, shape) {
            let schedule = plain(shape, unit, target, rows, columns);
            let cost = predict(shape, epilogue, &schedule, target);
            tiles.extend(cost.map(|c| (schedule, c)));
        }
    }
    cheapest_first(&mut tiles);
    tiles.truncate(TILES_KEPT);
    for (tile, cost) in tiles {
        for schedule in blockings(shape, &tile) {
            if schedule.verify(shape, target).is_ok() {
                let cost = predict(shape, epilogue, &schedule, target);
                weighed.extend(cost.map(|c| (schedule, c)));
            }
        }
        weighed.push((tile, cost));
    }
    cheapest_first(&mut weighed);
    weighed.dedup_by(|a, b| a.0 == b.0);
    weighed.truncate(CANDIDATES_KEPT);
    let (schedule, prediction) = weighed[0].clone();
    let wasted_macs = schedule.wasted_macs(shape, target);
    Choice { schedule, prediction, candidates: weighed, wasted_macs, macs: shape.macs() }
}

fn cheapest_first(candidates: &mut [(Schedule, Prediction)]) {
    // Stable: at equal cost the order of construction decides, so the result does not depend on anything else.
    candidates.sort_by(|a, b| a.1.cycles.total_cmp(&b.1.cycles));
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
    let region = |start: u64, end: u64, mr: u64, nr: u64| Region {
        start,
        end,
        mr,
        nr,
        mc: shape.m,
        nc: task_columns(end - start, nr),
        kc: shape.k,
        unroll: 4,
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
            predict(shape, &Epilogue::default(), &one, target).map_or(f64::INFINITY, |p| p.cycles)
        };
        let best = (1..=max_rows(unit, vectors).min(shape.m)).min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        regions.push(region(main, shape.n, best.unwrap_or(1), left));
    }
    Schedule { isa: unit.isa, parallel: Parallel::N, regions }
}

/// Columns of a task: whole tiles, few enough for [`TASKS`] tasks.
fn task_columns(width: u64, nr: u64) -> u64 {
    (width / nr).div_ceil(TASKS).max(1) * nr
}

/// The same tiles with every way of blocking and packing.
fn blockings(shape: Matmul, tile: &Schedule) -> Vec<Schedule> {
    let mut out = vec![];
    let mut k_blocks = vec![shape.k];
    k_blocks.extend(K_BLOCKS.iter().filter(|&&k| k < shape.k).map(|&k| even_blocks(shape.k, k)));
    k_blocks.dedup();
    for &kc in &k_blocks {
        for (rhs, order, lhs) in [
            (RhsAccess::InPlace, Order::NM, LhsAccess::InPlace),
            (RhsAccess::InPlace, Order::MN, LhsAccess::InPlace),
            (RhsAccess::Panel, Order::NM, LhsAccess::InPlace),
            (RhsAccess::Panel, Order::NM, LhsAccess::Block),
            (RhsAccess::Block, Order::NM, LhsAccess::InPlace),
            (RhsAccess::Block, Order::NM, LhsAccess::Block),
            (RhsAccess::Block, Order::MN, LhsAccess::InPlace),
        ] {
            let mut s = tile.clone();
            for r in &mut s.regions {
                (r.kc, r.rhs, r.order, r.lhs) = (kc, rhs, order, lhs);
                if rhs == RhsAccess::Block {
                    r.mc = even_blocks(shape.m, 192).next_multiple_of(r.mr).min(shape.m);
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

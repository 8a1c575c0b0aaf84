//! The cost model: predicted cycles of a schedule, from the target's data alone.
//!
//! A tile's K loop takes as long as its scarcest resource: multiply-add pipes, load ports, the accumulators' latency, issue
//! slots, or the bandwidth of the cache its operands come from. To that each call adds filling and draining the pipeline,
//! starting and storing the accumulators, and the driver's work; packing is counted by what it copies. This is the
//! roofline idea at the level of a register tile, in the manner of BLIS' analytical model (Low et al., "Analytical Modeling
//! Is Enough for High-Performance BLIS", ACM TOMS 43(2), 2016), extended to operands read in place.

use std::fmt;

use kiln_ir::Epilogue;
use kiln_ir::op::Matmul;

use super::{LhsAccess, Order, Parallel, Region, RhsAccess, Schedule};
use crate::target::{Cache, Multiplier, Target, VectorUnit};

/// Cycles to call a micro-kernel: arguments, call, return, and a mispredicted loop exit now and then.
const CALL: f64 = 12.0;
/// Accumulators that just cover the latency leave no slack for anything that delays one of them.
const LATENCY_SLACK: f64 = 1.1;
/// Bytes per cycle that the second-level cache sustains into the first while the core computes.
const L2_BANDWIDTH: f64 = 16.0;
/// The same for what lies behind the second level, read in order.
const L3_BANDWIDTH: f64 = 10.0;
/// Cycles by which the first line of each run exceeds that: no prefetcher follows runs across pages.
const L3_RUN: f64 = 2.0;
/// Cycles per run that is read from another page than the run before, where a panel spans more pages than the first-level
/// translation buffer holds.
const TRANSLATION: f64 = 0.25;
/// Bytes that the first-level translation buffers of the cores described here reach: 64 entries at the least.
const TRANSLATED: u64 = 64 * 4096;
/// Cycles per run of a packing copy beyond its vectors.
const COPY_RUN: f64 = 2.0;
/// The same where the run comes from behind the second-level cache: copies have nothing to hide the wait behind.
const COPY_RUN_FAR: f64 = 12.0;
/// Cycles per 16 bytes copied while packing.
const COPY_VECTOR: f64 = 1.0;
/// Share of the time to fetch from the second-level cache that computing does not hide, when it takes as long; less in
/// proportion when it takes less.
const EXPOSED_NEAR: f64 = 0.08;
/// The same for what lies behind it, in the proportion that computing has of both.
const EXPOSED_FAR: f64 = 0.25;

/// What limits a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Multiply-add pipes.
    Fma,
    /// Load ports.
    Load,
    /// Latency of too few accumulators.
    Latency,
    /// Issue slots.
    Issue,
    /// Bandwidth of a cache.
    Memory,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Fma => "multiply-add pipes",
            Bound::Load => "load ports",
            Bound::Latency => "accumulator latency",
            Bound::Issue => "issue slots",
            Bound::Memory => "cache bandwidth",
        })
    }
}

/// Predicted cycles, on one thread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// All of it.
    pub cycles: f64,
    /// In K loops.
    pub kernel: f64,
    /// Around them: calls, accumulators, stores, post-ops.
    pub overhead: f64,
    /// Packing.
    pub pack: f64,
    /// What limits the K loop that takes longest.
    pub bound: Bound,
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prediction { cycles, kernel, overhead, pack, bound } = self;
        write!(
            f,
            "{cycles:.0} cycles (K loops {kernel:.0}, around them {overhead:.0}, packing {pack:.0}), bound by {bound}"
        )
    }
}

/// Cycles of one step of K of a `rows x vectors` tile with operands in the first-level cache, and what bounds it.
pub fn step(unit: &VectorUnit, target: &Target, rows: u64, vectors: u64) -> (f64, Bound) {
    let fmas = (rows * vectors) as f64;
    let row_loads = match unit.multiplier {
        Multiplier::Lane { .. } => rows as f64 / 4.0,
        Multiplier::Broadcast => rows as f64,
    };
    let loads = vectors as f64 + row_loads;
    [
        (fmas / f64::from(unit.fma_pipes), Bound::Fma),
        (loads / f64::from(unit.load_ports), Bound::Load),
        (LATENCY_SLACK * f64::from(unit.fma_latency), Bound::Latency),
        ((fmas + loads + 0.5) / f64::from(target.dispatch), Bound::Issue),
    ]
    .into_iter()
    .fold((0.0, Bound::Fma), |worst, x| if x.0 > worst.0 { x } else { worst })
}

/// Predicted cycles of `schedule` for `shape` if every operand were in the first-level cache: what ranks register tiles.
pub fn predict_in_cache(shape: Matmul, epilogue: &Epilogue, schedule: &Schedule, target: &Target) -> Option<f64> {
    weigh(shape, epilogue, schedule, target, false).map(|p| p.cycles)
}

/// Predicted cycles of `schedule` for `shape`.
pub fn predict(shape: Matmul, epilogue: &Epilogue, schedule: &Schedule, target: &Target) -> Option<Prediction> {
    weigh(shape, epilogue, schedule, target, true)
}

fn weigh(
    shape: Matmul,
    epilogue: &Epilogue,
    schedule: &Schedule,
    target: &Target,
    with_memory: bool,
) -> Option<Prediction> {
    let unit = target.unit(schedule.isa)?;
    let mut total = Prediction { cycles: 0.0, kernel: 0.0, overhead: 0.0, pack: 0.0, bound: Bound::Fma };
    let mut longest = 0.0;
    for r in &schedule.regions {
        let mut p = region(shape, epilogue, r, unit, target, with_memory);
        let again = if schedule.parallel == Parallel::M { shape.m.div_ceil(r.mc) } else { 1 };
        p.pack = packing(shape, r, r.end - r.start, Memory::of(shape, target), again);
        total.kernel += p.kernel;
        total.overhead += p.overhead;
        total.pack += p.pack;
        if p.kernel > longest {
            longest = p.kernel;
            total.bound = p.bound;
        }
    }
    total.cycles = total.kernel + total.overhead + total.pack;
    Some(total)
}

fn region(
    shape: Matmul,
    epilogue: &Epilogue,
    r: &Region,
    unit: &VectorUnit,
    target: &Target,
    with_memory: bool,
) -> Prediction {
    let lanes = u64::from(unit.lanes);
    let vectors = r.nr.div_ceil(lanes);
    let width = r.end - r.start;
    let strips = width / r.nr;
    let blocks_k = shape.k.div_ceil(r.kc);
    let mut p = Prediction { cycles: 0.0, kernel: 0.0, overhead: 0.0, pack: 0.0, bound: Bound::Fma };
    let mut most = 0.0;
    // Every block of rows has whole tiles and perhaps a smaller one; so has the last block.
    let (whole, rest) = (shape.m / r.mc, shape.m % r.mc);
    let heights = [(r.mr, whole * (r.mc / r.mr) + rest / r.mr), (r.mc % r.mr, whole), (rest % r.mr, 1)];
    for (rows, count) in heights {
        if rows == 0 || count == 0 {
            continue;
        }
        let calls = (count * strips) as f64;
        let (per_step, mut bound) = step(unit, target, rows, vectors);
        let compute = per_step * shape.k as f64;
        let fetch = if with_memory { fetch_per_step(shape, r, rows, lanes, target) } else { Fetch::default() };
        let memory = (fetch.near + fetch.far) * shape.k as f64;
        let overlap = per_step / (per_step + fetch.near + fetch.far);
        let exposed = fetch.near * fetch.near / per_step * EXPOSED_NEAR + fetch.far * EXPOSED_FAR * overlap;
        if memory > compute {
            bound = Bound::Memory;
        }
        let kernel = calls * (compute.max(memory) + exposed.min(per_step) * shape.k as f64);
        if kernel > most {
            most = kernel;
            p.bound = bound;
        }
        p.kernel += kernel;
        // Part of a vector is stored in pieces that are powers of two.
        let pieces = u64::from((r.nr % lanes).count_ones()).saturating_sub(1);
        let stores = rows as f64 * (vectors + pieces) as f64 / f64::from(unit.store_ports);
        let fill = f64::from(unit.fma_latency) * 2.0 + 6.0;
        let post = epilogue.ops().len() as f64 * (rows * vectors) as f64 / f64::from(unit.fma_pipes);
        let per_block = CALL + fill + stores + (rows * vectors) as f64 / f64::from(target.dispatch);
        // Every block of K but the first reads the tile back, and it has left the first-level cache by then.
        let reload = (2 * rows * r.nr * 4) as f64 / L3_BANDWIDTH;
        p.overhead += calls * (blocks_k as f64 * per_block + (blocks_k - 1) as f64 * reload + post);
    }
    p
}

/// Cycles to fetch operands: from the second-level cache, and from behind it.
#[derive(Clone, Copy, Debug, Default)]
struct Fetch {
    near: f64,
    far: f64,
}

impl Fetch {
    /// `bytes` at `rate`, of which `share` are fetched so.
    fn add(&mut self, bytes: u64, rate: Rate, share: f64) {
        match rate {
            Rate::L1 => {}
            Rate::Near(per_byte) => self.near += bytes as f64 * per_byte * share,
            Rate::Far(per_byte) => self.far += bytes as f64 * per_byte * share,
        }
    }
}

/// Cycles per byte, by where the bytes are.
#[derive(Clone, Copy, Debug)]
enum Rate {
    L1,
    Near(f64),
    Far(f64),
}

/// What one step of K of a tile fetches from beyond the first-level cache.
///
/// Each operand is fetched once from where it lies, unless packing just did, and then again from wherever the part of it
/// that is used over and over in the inner loop stays.
fn fetch_per_step(shape: Matmul, r: &Region, rows: u64, lanes: u64, target: &Target) -> Fetch {
    let width = r.nr.next_multiple_of(lanes);
    let (rows_again, cols_again) = ((r.nc / r.nr) as f64, (r.mc.div_ceil(r.mr)) as f64);
    let lhs_stride = if r.lhs == LhsAccess::Block { r.kc } else { shape.k };
    let (lhs_rows, rhs_cols) = match r.order {
        Order::NM => (r.mc, width),
        Order::MN => (r.mr, r.nc),
    };
    let memory = Memory::of(shape, target);
    let mut fetch = Fetch::default();
    let mut operand = |bytes: u64, first: Option<Rate>, stays: Rate, again: f64| {
        if let Some(first) = first {
            fetch.add(bytes, first, 1.0 / again);
        }
        fetch.add(bytes, stays, 1.0 - 1.0 / again);
    };
    let lhs_first = (r.lhs == LhsAccess::InPlace).then(|| memory.rate(r.kc));
    operand(4 * rows, lhs_first, stays(target, lhs_rows, r.kc, lhs_stride), rows_again);
    match r.rhs {
        RhsAccess::InPlace => {
            let first = Some(memory.rate(r.nr));
            operand(4 * r.nr, first, stays(target, r.kc, rhs_cols, shape.n), cols_again);
            if r.kc * shape.n * 4 > TRANSLATED {
                fetch.far += TRANSLATION / EXPOSED_FAR;
            }
        }
        RhsAccess::Panel | RhsAccess::Block => {
            operand(4 * r.nr, None, stays(target, r.kc, rhs_cols, rhs_cols), cols_again);
        }
    }
    fetch
}

/// Where a problem's operands are when a call starts: the first level that holds them all, since calls repeat.
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    L1,
    L2,
    Beyond,
}

impl Memory {
    fn of(shape: Matmul, target: &Target) -> Self {
        let bytes = 4 * (shape.m * shape.k + shape.k * shape.n + shape.m * shape.n);
        match bytes {
            b if b <= target.l1d.bytes * 3 / 4 => Memory::L1,
            b if b <= target.l2.bytes * 3 / 4 => Memory::L2,
            _ => Memory::Beyond,
        }
    }

    /// The rate of runs of `elements`.
    fn rate(self, elements: u64) -> Rate {
        match self {
            Memory::L1 => Rate::L1,
            Memory::L2 => Rate::Near(1.0 / L2_BANDWIDTH),
            Memory::Beyond => Rate::Far(1.0 / L3_BANDWIDTH + L3_RUN / (4 * elements).max(64) as f64),
        }
    }
}

/// The rate at which `rows` runs of `width` elements, `stride` apart, are read again: from the cache where they stay.
fn stays(target: &Target, rows: u64, width: u64, stride: u64) -> Rate {
    if strided_fits(target.l1d, target.line, rows, width, stride) {
        Rate::L1
    } else if strided_fits(target.l2, target.line, rows, width, stride) {
        Rate::Near(1.0 / L2_BANDWIDTH)
    } else {
        Memory::Beyond.rate(if width == stride { rows * width } else { width })
    }
}

/// Whether they fill no more than half of the part of a cache that they can be in: runs whose distance is a
/// multiple of a large power of two compete for few sets.
fn strided_fits(cache: Cache, line: u32, rows: u64, width: u64, stride: u64) -> bool {
    let line = u64::from(line);
    let sets = cache.bytes / (u64::from(cache.ways) * line);
    let bytes = stride * 4;
    let (per_row, reached) = if width == stride {
        ((width * 4).div_ceil(line), sets)
    } else if bytes.is_multiple_of(line) {
        let per_row = (width * 4).div_ceil(line);
        (per_row, (sets / gcd(sets, bytes / line) * per_row).min(sets))
    } else {
        ((width * 4).div_ceil(line) + 1, sets)
    };
    2 * rows * per_row <= reached * u64::from(cache.ways)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `again` counts how often the columns of a region are packed: once per task where tasks are blocks of rows.
fn packing(shape: Matmul, r: &Region, width: u64, memory: Memory, again: u64) -> f64 {
    let copy = |runs: u64, len: u64| {
        let mut fetch = Fetch::default();
        fetch.add(4 * len, memory.rate(len), 1.0);
        let (move_it, fetch_it) = (len as f64 / 4.0 * COPY_VECTOR, fetch.near + fetch.far);
        let start = if memory == Memory::Beyond { COPY_RUN_FAR } else { COPY_RUN };
        runs as f64 * (start + move_it.max(fetch_it))
    };
    let rhs = match r.rhs {
        RhsAccess::InPlace => 0.0,
        RhsAccess::Panel | RhsAccess::Block => copy(shape.k * (width / r.nr), r.nr) * again as f64,
    };
    let lhs = match r.lhs {
        LhsAccess::InPlace => 0.0,
        LhsAccess::Block => copy(shape.m * shape.k.div_ceil(r.kc), r.kc) * width.div_ceil(r.nc) as f64,
    };
    rhs + lhs
}

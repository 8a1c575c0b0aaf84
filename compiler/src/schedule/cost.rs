//! The cost model: predicted cycles of a schedule, from the target's data alone.
//!
//! A tile's K loop takes as long as its scarcest resource: multiply-add pipes, load ports, the accumulators' latency, issue
//! slots, or the bandwidth of the cache its operands come from. To that each call adds filling and draining the pipeline,
//! starting and storing the accumulators, and the driver's work; packing is counted by what it copies. This is the
//! roofline idea at the level of a register tile, in the manner of BLIS' analytical model (Low et al., "Analytical Modeling
//! Is Enough for High-Performance BLIS", ACM TOMS 43(2), 2016), extended to operands read in place.

use std::fmt;

use kiln_ir::nest::{Extent, Init, Pack, Tile};
use kiln_ir::{Contraction, DType, Window};

use super::post::PostCost;
use super::{Form, LhsAccess, Order, Region, RhsAccess, Rows, Schedule, rows};
use crate::form::StepWork;
use crate::form::operands::{gathers_columns, gathers_rows, is_transposed, transposes_result};
use crate::target::product;
use crate::target::{Cache, Costs, Target, VectorUnit};

/// The resource that limits a schedule.
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
    /// The resource that limits the K loop that takes longest.
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

/// Cycles that no schedule can do without: the products on the pipes of the target's widest arithmetic, or every operand moved
/// once from behind the second-level cache, whichever takes longer (the roofline).
pub fn bound(c: &Contraction, target: &Target) -> f64 {
    let costs = target.costs();
    let rate = |u: &VectorUnit| f64::from(u.lanes * u.fma_pipes) * product::widest(u, c);
    let products = target.units.iter().map(rate).fold(1.0, f64::max);
    let bytes = c.operand_bytes();
    // What fits in the second-level cache may be there already.
    let moved =
        if bytes > target.l2.bytes { bytes as f64 / costs.l3_bandwidth } else { bytes as f64 / costs.l2_bandwidth };
    (c.macs() as f64 / products).max(moved)
}

/// Cycles of one step of K of a `rows x columns` tile with operands in the first-level cache, and what bounds it.
fn step(
    costs: &Costs,
    c: &Contraction,
    form: Form,
    unit: &VectorUnit,
    target: &Target,
    tile: [u64; 2],
    access: (LhsAccess, RhsAccess),
) -> (f64, Bound) {
    let StepWork { products, loads, conversions, others, of_loop, per_product, is_straight } =
        form.rules().step(c, unit, tile, access);
    [
        ((products + conversions) / f64::from(unit.fma_pipes), Bound::Fma),
        (loads / f64::from(unit.load_ports), Bound::Load),
        // A product that takes several steps of K adds to an accumulator only once for all of them.
        (
            if is_straight { 0.0 } else { costs.latency_slack * f64::from(unit.fma_latency) / per_product },
            Bound::Latency,
        ),
        ((products + loads + conversions + others + of_loop) / f64::from(target.dispatch), Bound::Issue),
    ]
    .into_iter()
    .fold((0.0, Bound::Fma), |worst, x| if x.0 > worst.0 { x } else { worst })
}

/// The model of one contraction on one target.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    c: &'a Contraction,
    target: &'a Target,
    costs: &'a Costs,
    post: Option<PostCost>,
    /// Of a window, the taps of a pixel that are on the input, on average.
    taps: f64,
    memory: Memory,
}

impl<'a> Model<'a> {
    /// Makes the model and computes what does not depend on the schedule.
    pub fn of(c: &'a Contraction, target: &'a Target) -> Self {
        Self::with(c, target, target.costs())
    }

    /// The same with other parameters than those of the target.
    pub fn with(c: &'a Contraction, target: &'a Target, costs: &'a Costs) -> Self {
        let taps = c.window.as_ref().map_or(1.0, |w| w.taps_inside() as f64 / w.pixels() as f64);
        Self { c, target, costs, post: PostCost::of(c), taps, memory: Memory::of(c, target) }
    }

    /// The model of the same contraction without post-ops.
    pub fn bare(&self) -> Self {
        Self { post: None, ..self.clone() }
    }

    /// Predicted cycles of `schedule` if every operand were in the first-level cache: what ranks register tiles.
    pub fn predict_in_cache(&self, schedule: &Schedule) -> Option<f64> {
        self.weigh(schedule, false).map(|p| p.cycles)
    }

    /// Predicted cycles of `schedule`; `None` if the target lacks its vector unit.
    pub fn predict(&self, schedule: &Schedule) -> Option<Prediction> {
        self.weigh(schedule, true)
    }

    /// Steps of K of a row: of a window, those whose taps are on the input, on average.
    fn steps(&self, form: Form) -> f64 {
        match &self.c.window {
            Some(w) => self.taps * w.channels.next_multiple_of(form.k_group()) as f64,
            None => self.c.k as f64,
        }
    }

    /// Predicted cycles of one call for a tile of a nest, which computes a part of K; `None` if the target lacks the schedule's vector
    /// unit.
    pub fn tile(&self, schedule: &Schedule, t: &Tile) -> Option<f64> {
        let unit = self.target.unit(schedule.isa)?;
        let r = schedule.regions.iter().find(|r| r.nr == t.n).or(schedule.regions.first())?;
        let all = self.steps(schedule.form);
        let cost = tile(self, schedule, r, unit, t.m, all, true);
        // Rows at a border have fewer steps.
        let steps = match &t.window {
            Some(w) => {
                w.runs.iter().map(|run| run.len * u64::from(run.rows.count_ones())).sum::<u64>() as f64 / t.m as f64
            }
            None => t.k as f64,
        };
        let reload = if t.init == Init::Load { cost.reload } else { 0.0 };
        let post = if t.post.is_empty() { 0.0 } else { cost.post };
        Some(cost.kernel * steps / all + cost.per_block + reload + post)
    }

    /// Cycles of one copy of a nest into a panel, apart from waiting for memory. They are for comparing copies of a nest with each other.
    pub fn copy(&self, p: &Pack, is_interleaved: bool) -> f64 {
        let costs = self.costs;
        let extent = |e: &Extent| match e {
            Extent::Const(n) => *n,
            Extent::Min { tile, .. } => *tile,
        };
        let (k, width) = (extent(&p.k) as f64, extent(&p.width) as f64);
        let per_element = match (is_interleaved, p.src.col == 1 || p.src.row == 1) {
            (true, true) => costs.copy_rearranged / 8.0,
            (true, false) => costs.copy_gathered,
            (false, _) if p.src.col == 1 => costs.copy_vector / 4.0,
            (false, _) => costs.copy_element,
        };
        k * (costs.copy_run + width * per_element)
    }

    fn weigh(&self, schedule: &Schedule, with_memory: bool) -> Option<Prediction> {
        let Self { c, target, memory, .. } = *self;
        let unit = target.unit(schedule.isa)?;
        let mut total = Prediction { cycles: 0.0, kernel: 0.0, overhead: 0.0, pack: 0.0, bound: Bound::Fma };
        let mut longest = 0.0;
        let batch = c.batch.iter().product::<u64>() as f64;
        for r in &schedule.regions {
            let mut p = region(self, schedule, r, unit, with_memory);
            p.pack = packing(self.costs, c, schedule, r, memory);
            if let Some(w) = &c.window {
                p.pack += strips(self.costs, c, w, schedule, r, memory);
            }
            total.kernel += batch * p.kernel;
            total.overhead += batch * p.overhead;
            total.pack += batch * p.pack;
            if p.kernel > longest {
                longest = p.kernel;
                total.bound = p.bound;
            }
        }
        total.cycles = total.kernel + total.overhead + total.pack;
        Some(total)
    }
}

fn region(model: &Model<'_>, schedule: &Schedule, r: &Region, unit: &VectorUnit, with_memory: bool) -> Prediction {
    let Model { c, .. } = *model;
    let form = schedule.form;
    let width = r.end - r.start;
    let strips = width / r.nr;
    let blocks_k = c.k.div_ceil(r.kc);
    let k = model.steps(form);
    let mut p = Prediction { cycles: 0.0, kernel: 0.0, overhead: 0.0, pack: 0.0, bound: Bound::Fma };
    let mut most = 0.0;
    // Every block of rows has whole tiles and perhaps a smaller one; so has the last block.
    let (whole, rest) = (c.m / r.mc, c.m % r.mc);
    let heights = match &c.window {
        Some(w) => rows::heights(w, form, schedule.rows, r.mr),
        None => [(r.mr, whole * (r.mc / r.mr) + rest / r.mr), (r.mc % r.mr, whole), (rest % r.mr, 1)],
    };
    for (rows, count) in heights {
        if rows == 0 || count == 0 {
            continue;
        }
        let calls = (count * strips) as f64;
        let tile = tile(model, schedule, r, unit, rows, k, with_memory);
        let kernel = calls * tile.kernel;
        if kernel > most {
            most = kernel;
            p.bound = tile.bound;
        }
        p.kernel += kernel;
        p.overhead += calls * (blocks_k as f64 * tile.per_block + (blocks_k - 1) as f64 * tile.reload + tile.post);
    }
    p
}

/// Cycles of a tile, by what they are for.
struct TileCost {
    /// All steps of K.
    kernel: f64,
    /// A call that computes a block of K.
    per_block: f64,
    /// Reading the tile back in each block of K but the first.
    reload: f64,
    /// Post-ops.
    post: f64,
    /// The resource that limits the K loop.
    bound: Bound,
}

/// The cycles of a tile of so many rows in a region, with `k` steps of K.
fn tile(
    model: &Model<'_>,
    schedule: &Schedule,
    r: &Region,
    unit: &VectorUnit,
    rows: u64,
    k: f64,
    with_memory: bool,
) -> TileCost {
    let Model { c, target, post, .. } = *model;
    let costs = model.costs;
    let form = schedule.form;
    let lanes = u64::from(unit.lanes);
    let vectors = r.nr.div_ceil(lanes);
    let (per_step, mut bound) = step(costs, c, form, unit, target, [rows, r.nr], (r.lhs, r.rhs));
    let accumulators = rows * vectors;
    let post = post.map_or(0.0, |post| post.per_vector(unit, accumulators));
    let code = fetch_code(costs, c, unit, schedule, r, rows, post);
    let per_step = per_step.max(code.per_step);
    let compute = per_step * k;
    let fetch = match &c.window {
        _ if !with_memory => Fetch::default(),
        Some(w) => window_fetch(model, w, form, r, rows, lanes),
        None => fetch_per_step(model, form, r, rows, lanes, schedule.parallel.has_rows_outside()),
    };
    let memory = (fetch.near + fetch.far) * k;
    let overlap = per_step / (per_step + fetch.near + fetch.far);
    let exposed = fetch.near * fetch.near / per_step * costs.exposed_near + fetch.far * costs.exposed_far * overlap;
    if memory > compute {
        bound = Bound::Memory;
    }
    let kernel = compute.max(memory) + exposed.min(per_step) * k;
    // Part of a vector is stored in pieces that are powers of two.
    let pieces = u64::from((r.nr % lanes).count_ones()).saturating_sub(1);
    let stores = rows as f64 * (vectors + pieces) as f64 / f64::from(unit.store_ports);
    let fill = f64::from(unit.fma_latency) * 2.0 + 6.0;
    let post = post * accumulators as f64 / f64::from(unit.fma_pipes);
    let arrange = form.rules().arrange(unit, rows, r.nr);
    let per_block =
        costs.call + fill + stores + arrange + accumulators as f64 / f64::from(target.dispatch) + code.per_call;
    // Every block of K but the first reads the tile back, and it has left the first-level cache by then.
    let reload = (2 * rows * r.nr * 4) as f64 / costs.l3_bandwidth;
    TileCost { kernel, per_block, reload, post, bound }
}

/// Cycles to fetch the code of a tile.
#[derive(Clone, Copy, Debug, Default)]
struct CodeFetch {
    /// For each step of K.
    per_step: f64,
    /// For starting accumulators, and for applying post-ops to them and storing them.
    per_call: f64,
}

/// Cycles to fetch the code of a tile of a window: 0 if that of all its micro-kernels stays in the instruction cache. Steps of a window that
/// do not follow each other in memory are no loop.
fn fetch_code(
    costs: &Costs,
    c: &Contraction,
    unit: &VectorUnit,
    schedule: &Schedule,
    r: &Region,
    rows: u64,
    post: f64,
) -> CodeFetch {
    let (Some(w), Some(most)) = (&c.window, unit.straight_code) else { return CodeFetch::default() };
    let vectors = r.nr.div_ceil(u64::from(unit.lanes)) as f64;
    let accumulators = rows as f64 * vectors;
    let step = accumulators * costs.product_bytes + (rows as f64 + vectors) * costs.load_bytes;
    let neighbours = !w.depthwise && (c.lhs.col == 1 || r.lhs.is_packed());
    let taps = w.axes.last().filter(|a| neighbours && a.dilation == 1).map_or(1, |a| a.kernel);
    let run = (w.channels * taps).min(r.kc).max(1);
    let of_run = if run >= 2 * r.unroll { r.unroll + run % r.unroll } else { run };
    let steps = step * (r.kc.div_ceil(run) * of_run) as f64;
    let call = accumulators * (2.0 + post) * costs.product_bytes;
    let kernels = match schedule.rows {
        Rows::Line => costs.line_kernels,
        // Tiles that begin at different places of a line are different micro-kernels, as are those at borders.
        Rows::Flat => {
            let line = w.axes.last().map_or(1, |a| a.output);
            (line / gcd(line, rows).max(1) + 2).min(w.pixels().div_ceil(rows)) as f64
        }
    };
    if kernels * (steps + call) <= most as f64 {
        return CodeFetch::default();
    }
    CodeFetch { per_step: step / costs.l2_bandwidth, per_call: call / costs.l2_bandwidth }
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

/// Cycles to fetch what one step of K of a tile reads from beyond the first-level cache.
///
/// Each operand is fetched once from where it lies, unless packing just did, and then again from wherever the part of it
/// that is used over and over in the inner loop stays.
fn fetch_per_step(model: &Model<'_>, form: Form, r: &Region, rows: u64, lanes: u64, rows_outside: bool) -> Fetch {
    let Model { c, target, memory, .. } = *model;
    let costs = model.costs;
    let width = r.nr.next_multiple_of(lanes);
    let (rows_again, cols_again) = ((r.nc / r.nr) as f64, (r.mc.div_ceil(r.mr)) as f64);
    let (lhs_rows, rhs_cols) = match r.order {
        Order::NM => (r.mc, width),
        Order::MN => (r.mr, r.nc),
    };
    // Bytes of an element where the micro-kernel reads it.
    let bytes = |dtype: DType, panel: bool| if panel { form.panel_bytes(c, dtype) } else { dtype.bytes() as u64 };
    let (lhs_packed, rhs_packed) = (r.lhs.is_packed(), r.rhs != RhsAccess::InPlace);
    let (lhs_bytes, rhs_bytes) = (bytes(c.lhs.dtype, lhs_packed), bytes(c.rhs.dtype, rhs_packed));
    let mut fetch = Fetch::default();
    let mut operand = |bytes: u64, first: Option<Rate>, stays: Rate, again: f64| {
        if let Some(first) = first {
            fetch.add(bytes, first, 1.0 / again);
        }
        fetch.add(bytes, stays, 1.0 - 1.0 / again);
    };
    let lhs_first = match r.lhs {
        LhsAccess::InPlace => Some(memory.rate(costs, r.kc, lhs_bytes)),
        LhsAccess::Block => None,
        // All rows were copied before the first tile.
        LhsAccess::Shared => Some(stays(costs, target, c.k, c.m, c.m, lhs_bytes)),
    };
    // Runs along K, unless rows are contiguous.
    let lhs_stays = if lhs_packed || c.lhs.col != 1 {
        stays(costs, target, r.kc, lhs_rows, if lhs_packed { lhs_rows } else { c.lhs.col }, lhs_bytes)
    } else {
        stays(costs, target, lhs_rows, r.kc, c.lhs.row, lhs_bytes)
    };
    operand(lhs_bytes * rows, lhs_first, lhs_stays, rows_again);
    match r.rhs {
        RhsAccess::InPlace if c.rhs.col != 1 => {
            // Columns along K.
            let first = Some(memory.rate(costs, r.kc, rhs_bytes));
            operand(rhs_bytes * r.nr, first, stays(costs, target, rhs_cols, r.kc, c.rhs.col, rhs_bytes), cols_again);
        }
        RhsAccess::InPlace => {
            let first = Some(memory.rate(costs, r.nr, rhs_bytes));
            operand(rhs_bytes * r.nr, first, stays(costs, target, r.kc, rhs_cols, c.rhs.row, rhs_bytes), cols_again);
            if r.kc * c.rhs.row * rhs_bytes > costs.translated {
                fetch.far += costs.translation / costs.exposed_far;
            }
        }
        RhsAccess::Panel | RhsAccess::Block | RhsAccess::Shared | RhsAccess::Packed => {
            let first = match r.rhs {
                RhsAccess::Packed => Some(memory.rate(costs, r.kc * r.nr, rhs_bytes)),
                // All columns were copied before the first tile.
                RhsAccess::Shared => Some(stays(costs, target, c.k, c.n, c.n, rhs_bytes)),
                _ => None,
            };
            let (bytes, block) = (rhs_bytes * r.nr, stays(costs, target, r.kc, rhs_cols, rhs_cols, rhs_bytes));
            // A panel is read again for the next block of rows. Until then all other columns are read, so it is found in the cache that
            // holds all of them.
            let between = if rows_outside { r.end - r.start } else { r.nc }.next_multiple_of(lanes);
            match (first, stays(costs, target, c.k, between, between, rhs_bytes)) {
                (Some(first), near @ (Rate::L1 | Rate::Near(_))) => {
                    let blocks = c.m.div_ceil(r.mc) as f64;
                    fetch.add(bytes, first, 1.0 / (cols_again * blocks));
                    fetch.add(bytes, near, (1.0 - 1.0 / blocks) / cols_again);
                    fetch.add(bytes, block, 1.0 - 1.0 / cols_again);
                }
                (first, _) => operand(bytes, first, block, cols_again),
            }
        }
    }
    fetch
}

/// Pixels of the source that a window's block of `outputs` along the block axis reads.
fn block_inputs(w: &Window, outputs: u64) -> u64 {
    (0..w.axes.len()).map(|i| rows::strip_extent(w, i, outputs)).product()
}

/// [`fetch_per_step`] of a window: neighbouring rows and taps read the same inputs, so that what a tile fetches of the source is
/// its share of what there is.
fn window_fetch(model: &Model<'_>, w: &Window, form: Form, r: &Region, rows: u64, lanes: u64) -> Fetch {
    let Model { c, target, memory, .. } = *model;
    let costs = model.costs;
    let width = r.nr.next_multiple_of(lanes);
    let (lhs_bytes, rhs_bytes) = (form.panel_bytes(c, c.lhs.dtype), form.panel_bytes(c, c.rhs.dtype));
    let mut fetch = Fetch::default();
    let outputs = r.mc / rows::block_pixels(w).max(1);
    let inputs = block_inputs(w, outputs);
    let columns = if w.depthwise { r.nc } else { 1 };
    // Of a block of K, what a block of rows reads, and what a tile does.
    let share = r.kc as f64 / c.k as f64;
    let of_block = (inputs * w.channels * columns * lhs_bytes) as f64 * share.max(1.0 / w.taps() as f64);
    let per_step = (of_block * rows as f64 / r.mc.max(1) as f64 / r.kc as f64).min((rows * lhs_bytes * columns) as f64);
    let of_tile = per_step * r.kc as f64;
    let again = (r.nc / r.nr) as f64;
    let fits = |bytes: f64| {
        if bytes <= target.l1d.bytes as f64 / 2.0 {
            Rate::L1
        } else if bytes <= target.l2.bytes as f64 / 2.0 {
            Rate::Near(1.0 / costs.l2_bandwidth)
        } else {
            Memory::Beyond.rate(costs, 1 << 20, 1)
        }
    };
    let mut add = |bytes: f64, rate: Rate, times: f64| match rate {
        Rate::L1 => {}
        Rate::Near(cost) => fetch.near += bytes * cost * times,
        Rate::Far(cost) => fetch.far += bytes * cost * times,
    };
    let first = match r.lhs {
        LhsAccess::InPlace => memory.rate(costs, 1 << 20, 1),
        LhsAccess::Block => fits(of_block),
        // The source of all products was copied before the first tile.
        LhsAccess::Shared => {
            let all: u64 = w.axes.iter().map(|a| a.input).product::<u64>() * c.batch.iter().product::<u64>();
            fits((all * w.channels * lhs_bytes) as f64)
        }
    };
    let (source_again, weights_again) = match r.order {
        Order::NM => (fits(of_block), fits((r.kc * width * rhs_bytes) as f64)),
        Order::MN => (fits(of_tile), fits((r.kc * r.nc * rhs_bytes) as f64)),
    };
    add(per_step, first, 1.0 / again);
    add(per_step, source_again, 1.0 - 1.0 / again);
    if r.lhs == LhsAccess::InPlace && c.lhs.col > 1 && w.channels > 1 {
        // Each channel is in lines of its own, which come again and again unless all of them stay.
        let run = w.axes.last().map_or(1, |a| (rows - 1) * a.stride + (a.kernel - 1) * a.dilation + 1);
        let lines = (run * lhs_bytes).div_ceil(u64::from(target.line)) + 1;
        let channels = w.channels.min(r.kc);
        if !strided_fits(target.l1d, target.line, channels, run, c.lhs.col, lhs_bytes) {
            add((lines * u64::from(target.line)) as f64, Rate::Near(1.0 / costs.l2_bandwidth), 1.0);
        }
    }
    if w.depthwise && r.lhs == LhsAccess::InPlace {
        // A tile's vectors take parts of lines, and those of the next columns the rest, if they stay so long.
        let (run, line) = (r.nr * lhs_bytes, u64::from(target.line));
        let pixel = w.axes.last().map_or(1, |a| a.lhs);
        let pixels = rows * w.axes[..w.axes.len() - 1].iter().map(|a| a.kernel).product::<u64>();
        if run < line && !strided_fits(target.l1d, target.line, pixels, r.nr, pixel, lhs_bytes) {
            add(
                (rows * (line - run)) as f64 / w.axes.last().map_or(1, |a| a.kernel) as f64,
                Rate::Near(1.0 / costs.l2_bandwidth),
                1.0,
            );
        }
    }
    let tiles = (r.mc / rows.max(1)).max(1) as f64;
    let weights = (width * rhs_bytes) as f64;
    let packed = if r.rhs == RhsAccess::Packed { memory.rate(costs, 1 << 20, 1) } else { Rate::L1 };
    add(weights, packed, 1.0 / tiles);
    add(weights, weights_again, 1.0 - 1.0 / tiles);
    fetch
}

/// Cycles of a window's copies for one product of a batch: those of the source into strips, and those of a result that is computed
/// in scratch memory.
fn strips(costs: &Costs, c: &Contraction, w: &Window, schedule: &Schedule, r: &Region, memory: Memory) -> f64 {
    let copied = |elements: f64, dtype: DType, per_element: f64| {
        let bytes = dtype.bytes() as f64;
        let fetch = match memory.rate(costs, 1 << 20, 1) {
            Rate::L1 => 0.0,
            Rate::Near(cost) | Rate::Far(cost) => bytes * cost,
        };
        elements * per_element.max(fetch)
    };
    let width = r.end - r.start;
    let outputs = r.mc / rows::block_pixels(w).max(1);
    let block = &w.axes[rows::block_axis(w)];
    let blocks = block.output.div_ceil(outputs.max(1)) as f64;
    // Blocks of columns that each copy the source again.
    let is_once = r.lhs == LhsAccess::Shared || (schedule.parallel.has_rows_outside() && !w.depthwise);
    let again = if is_once { 1 } else { width.div_ceil(r.nc) } as f64;
    let mut total = 0.0;
    // Regions whose blocks are alike share what is copied for all threads.
    let is_first = schedule.regions.iter().find(|other| other.mc == r.mc).is_some_and(|other| other.start == r.start);
    if r.lhs == LhsAccess::Block || (r.lhs == LhsAccess::Shared && is_first) {
        let inputs = block_inputs(w, outputs) as f64 * blocks;
        let elements = inputs * if w.depthwise { r.nc } else { w.channels } as f64;
        let cost = match schedule.form.rearranges() {
            true if gathers_rows(c) => costs.copy_gathered,
            true => costs.copy_rearranged / 8.0,
            false => costs.copy_element,
        };
        total += copied(elements * again, c.lhs.dtype, cost);
    }
    if transposes_result(c) {
        let elements = (c.m * width) as f64;
        let operands = c.post.iter().filter_map(|(_, v)| v.as_ref()).filter(|v| is_transposed(v)).count() as f64;
        total += elements * costs.copy_element * (1.0 + operands + if c.accumulate { 1.0 } else { 0.0 });
    }
    total
}

/// The memory that a problem's operands are in when a call starts: the first level that holds them all, since calls repeat.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Memory {
    L1,
    L2,
    Beyond,
}

impl Memory {
    fn of(c: &Contraction, target: &Target) -> Self {
        let bytes = |rows: u64, cols: u64, dtype: DType| rows * cols * dtype.bytes() as u64;
        let source = match &c.window {
            Some(w) => {
                let columns = if w.depthwise { c.n } else { 1 };
                bytes(w.axes.iter().map(|a| a.input).product(), w.channels * columns, c.lhs.dtype)
            }
            None => bytes(c.m, c.k, c.lhs.dtype),
        };
        let bytes = source + bytes(c.k, c.n, c.rhs.dtype) + bytes(c.m, c.n, c.dst.dtype);
        match bytes.saturating_mul(c.batch.iter().product()) {
            b if b <= target.l1d.bytes * 3 / 4 => Memory::L1,
            b if b <= target.l2.bytes * 3 / 4 => Memory::L2,
            _ => Memory::Beyond,
        }
    }

    /// The rate of runs of `elements` of so many bytes.
    fn rate(self, costs: &Costs, elements: u64, bytes: u64) -> Rate {
        match self {
            Memory::L1 => Rate::L1,
            Memory::L2 => Rate::Near(1.0 / costs.l2_bandwidth),
            Memory::Beyond => Rate::Far(1.0 / costs.l3_bandwidth + costs.l3_run / (bytes * elements).max(64) as f64),
        }
    }
}

/// The rate at which `rows` runs of `width` elements, `stride` apart, are read again: from the cache where they stay.
fn stays(costs: &Costs, target: &Target, rows: u64, width: u64, stride: u64, bytes: u64) -> Rate {
    if strided_fits(target.l1d, target.line, rows, width, stride, bytes) {
        Rate::L1
    } else if strided_fits(target.l2, target.line, rows, width, stride, bytes) {
        Rate::Near(1.0 / costs.l2_bandwidth)
    } else {
        Memory::Beyond.rate(costs, if width == stride { rows * width } else { width }, bytes)
    }
}

/// True if they fill no more than half of the part of a cache that they can be in: runs whose distance is a
/// multiple of a large power of two compete for few sets.
fn strided_fits(cache: Cache, line: u32, rows: u64, width: u64, stride: u64, bytes: u64) -> bool {
    let line = u64::from(line);
    let sets = cache.bytes / (u64::from(cache.ways) * line);
    let distance = stride * bytes;
    if width == stride {
        return 2 * (rows * width * bytes).div_ceil(line) <= sets * u64::from(cache.ways);
    }
    let (per_row, reached) = if distance > 0 && distance.is_multiple_of(line) {
        let per_row = (width * bytes).div_ceil(line);
        (per_row, (sets / gcd(sets, distance / line) * per_row).min(sets))
    } else {
        ((width * bytes).div_ceil(line) + 1, sets)
    };
    2 * rows * per_row <= reached * u64::from(cache.ways)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Cycles of copying into panels, for one product of a batch.
fn packing(costs: &Costs, c: &Contraction, schedule: &Schedule, r: &Region, memory: Memory) -> f64 {
    let width = r.end - r.start;
    // `runs` runs of `len` elements along the width of a panel, contiguous in memory or gathered.
    let copy = |runs: u64, len: u64, dtype: DType, contiguous: bool, gathered: bool| {
        let bytes = dtype.bytes() as u64;
        let mut fetch = Fetch::default();
        fetch.add(bytes * len, memory.rate(costs, len, bytes), 1.0);
        let work = match (schedule.form.rearranges(), contiguous) {
            (true, _) if gathered => len as f64 * costs.copy_gathered,
            (true, _) => {
                let element = if dtype.is_integer() { schedule.form.panel_bytes(c, dtype) } else { 4 };
                (element * len) as f64 / 16.0 * costs.copy_rearranged
            }
            (false, true) => (bytes.max(schedule.form.panel_bytes(c, dtype)) * len) as f64 / 16.0 * costs.copy_vector,
            (false, false) => len as f64 * costs.copy_element,
        };
        let start = if memory == Memory::Beyond { costs.copy_run_far } else { costs.copy_run };
        let start = start / schedule.form.k_group() as f64;
        runs as f64 * (start + work.max(fetch.near + fetch.far))
    };
    // Columns are packed again for each block of rows where those are tasks, and in a window also where blocks of K take turns in
    // the panels; rows are packed once for each block of columns.
    let again = match schedule.parallel.has_rows_outside() {
        true => c.m.div_ceil(r.mc),
        _ if c.window.is_some() && r.kc < c.k => c.m.div_ceil(r.mc),
        _ => 1,
    };
    let rhs = match r.rhs {
        RhsAccess::InPlace | RhsAccess::Packed => 0.0,
        RhsAccess::Panel | RhsAccess::Block | RhsAccess::Shared => {
            let gathered = gathers_columns(c, r.nr);
            let again = if r.rhs == RhsAccess::Shared { 1 } else { again };
            copy(c.k * (width / r.nr), r.nr, c.rhs.dtype, c.rhs.col == 1, gathered) * again as f64
        }
    };
    let lhs = match r.lhs {
        LhsAccess::InPlace => 0.0,
        _ if c.window.is_some() => 0.0,
        LhsAccess::Block | LhsAccess::Shared => {
            let gathered = gathers_rows(c);
            let runs = copy(c.k * c.m.div_ceil(r.mr), r.mr, c.lhs.dtype, c.lhs.row == 1, gathered);
            // All columns of a block of rows share its copy if they are inside of it.
            if r.lhs == LhsAccess::Shared || schedule.parallel.has_rows_outside() {
                runs
            } else {
                runs * width.div_ceil(r.nc) as f64
            }
        }
    };
    rhs + lhs
}

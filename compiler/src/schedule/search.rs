//! The search: candidate schedules, weighed by the cost model.
//!
//! Register tiles are ranked first, then cache blocks and packing are tried for the best few. Nothing is looked up by
//! shape; the same search serves every target.

use std::fmt;
use std::ops::Range;

use kiln_ir::nest::MAX_WINDOW_ROWS;
use kiln_ir::{Contraction, Window};

use super::bf16::Bf16Products;
use super::cost::{self, Model, Prediction};
use super::{Form, LhsAccess, Order, Parallel, Region, RhsAccess, Rows, Schedule, TASK_MACS, rows};
use crate::form::operands::transposes_result;
use crate::packed::PackedLayout;
use crate::target::{Target, VectorUnit};

/// Register tiles that cache blocks are tried for.
const TILES_KEPT: usize = 4;
/// Candidates kept for the explanation.
const CANDIDATES_KEPT: usize = 8;
/// Lengths of K blocks that are tried, longest first.
const K_BLOCKS: [u64; 4] = [1024, 768, 512, 256];
/// Multiply-adds from which a problem is divided into tasks: below, starting them would cost more than they save.
const PARALLEL_MACS: u64 = 1 << 18;
/// Columns below which blocks of columns are not cut further for the sake of more of them.
const BLOCK_COLUMNS: u64 = 128;
/// Blocks that an axis is cut into, if its length allows.
const BLOCKS: u64 = 8;
/// Threads that schedules are to have tasks for.
const THREADS: u64 = 64;
/// A schedule's predicted time is raised by this share if [`THREADS`] threads would take twice as long as with equal shares, and in
/// proportion if they would take less or more. The share is small, so that it decides only between schedules that one thread executes about
/// equally fast.
const IDLE: f64 = 0.001;
/// The same share for problems of one row. Every schedule of those reads each weight once, so that one thread waits for memory whatever the
/// schedule is, but many threads have the whole bandwidth of memory only if they have equal shares. So the share is larger.
const ROW_IDLE: f64 = 0.01;
/// The same share for the time in which [`THREADS`] threads make copies that other threads make too. It is larger, because the time of
/// copying is predicted with more certainty than which of several tiles is faster.
const COPYING: f64 = 0.02;
/// The share of the time that packing again for the sake of more tasks may take.
const REPACKING: f64 = 0.02;
/// Cycles in which [`THREADS`] threads wait until the last of them has made its part of the copies that they share: about a microsecond.
const PHASE: f64 = 3_000.0;

/// The chosen schedule and what it was weighed against.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The cheapest.
    pub schedule: Schedule,
    /// Its cost.
    pub prediction: Prediction,
    /// Cycles that no schedule can do without, by the target's data.
    pub bound_cycles: f64,
    /// The cheapest few, cheapest first, the chosen one among them.
    pub candidates: Vec<(Schedule, Prediction)>,
    /// The decision for or against products of bf16.
    pub bf16: Bf16Products,
    /// Lanes computed in vain, in multiply-adds.
    pub wasted_macs: u64,
    /// Multiply-adds of the problem.
    pub macs: u64,
    /// Bytes of its operands.
    pub operand_bytes: u64,
}

/// Chooses a schedule for a contraction on a target. With `constant` weights the right operand may be packed before calls; it is
/// packed in the layout `like`, where there is one. `None` if no schedule reads that.
pub fn search(c: &Contraction, target: &Target, constant: bool, like: Option<&PackedLayout>) -> Option<Choice> {
    let mut weighed = weigh(c, target, constant, like);
    let bf16 = Bf16Products::of(c, target, weighed.first()?, &weighed, like.is_some());
    weighed.truncate(CANDIDATES_KEPT);
    let (schedule, prediction) = weighed.first()?.clone();
    Some(Choice::new(c, target, schedule, prediction, weighed, bf16))
}

/// All schedules that are weighed against each other for a contraction, as in [`search`]. The first is the one to choose. The others follow by
/// their predicted time, raised for what 64 threads would lose with them.
pub fn weigh(
    c: &Contraction,
    target: &Target,
    constant: bool,
    like: Option<&PackedLayout>,
) -> Vec<(Schedule, Prediction)> {
    let model = &Model::of(c, target);
    let mut tiles: Vec<(f64, Schedule)> = vec![];
    for unit in &target.units {
        for &(_, form) in Form::ALL {
            if form.rules().check(c, unit).is_err() || !form.rules().is_worth_trying(c) {
                continue;
            }
            let modes: &[Rows] = if c.window.is_some() { &[Rows::Line, Rows::Flat] } else { &[Rows::Flat] };
            for &mode in modes {
                // The columns that are left over, and the best rows for them: the same for many tiles.
                let mut rest = (0, 1);
                for (rows, columns) in register_tiles(form, unit, c, mode) {
                    let left = c.n % columns;
                    if left > 0 && left != rest.0 {
                        rest = (left, best_rows(c, form, unit, model, mode, left));
                    }
                    let schedule = plain(c, form, unit, mode, [rows, columns], rest.1);
                    let cost = model.predict_in_cache(&schedule);
                    tiles.extend(cost.map(|cost| (cost * (1.0 + IDLE * idle(c, &schedule)), schedule)));
                }
            }
        }
    }
    if let Some(layout) = like {
        tiles.retain(|(_, tile)| layout.is_of_panels(c, tile, target));
    }
    // Both sorts are stable: at equal cost the order of construction decides, on every host alike.
    tiles.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut weighed: Vec<(Schedule, Prediction)> = vec![];
    let mut kept = Kept::default();
    for (_, tile) in &tiles {
        // One row takes as long as its weights take to come, whatever its tile.
        if kept.is_worth_trying(tile) || c.m == 1 {
            let all = match &c.window {
                Some(w) => window_blockings(c, w, tile, target, constant),
                None => blockings(c, tile, target, model, constant),
            };
            for schedule in all {
                if schedule.check(c, target).is_ok() {
                    let cost = model.predict(&schedule);
                    weighed.extend(cost.map(|cost| (schedule, cost)));
                }
            }
        }
    }
    if let Some(w) = &c.window {
        // A line or a plane may be too large for any.
        let scratch = |s: &Schedule| s.regions.iter().map(|r| rows::scratch_bytes(s, r, c, w)).sum::<u64>();
        let fits = |(s, _): &(Schedule, _)| scratch(s) <= most_scratch(target);
        let some_fit = weighed.iter().any(fits);
        weighed.retain(|s| !some_fit || fits(s));
    }
    if let Some(layout) = like {
        weighed.retain(|(s, _)| PackedLayout::of(c, s, target).as_ref() == Some(layout));
    }
    let cost = |(s, p): &(Schedule, Prediction), unequal: f64| {
        p.cycles * (1.0 + unequal * idle(c, s) + COPYING * copied_again(c, s, p))
    };
    weighed.sort_by(|a, b| cost(a, IDLE).total_cmp(&cost(b, IDLE)));
    weighed.dedup_by(|a, b| a.0 == b.0);
    if c.m == 1 {
        // The order is that of one thread. The tasks of the first may be cut otherwise, but by code of the same kind: what is predicted for
        // kinds of code differs by more from what they take than what is at stake.
        let kind = |s: &Schedule| (s.isa, s.form, s.regions.first().map(|r| r.rhs));
        let first = weighed.first().map(|(s, _)| kind(s));
        let alike = weighed.iter().enumerate().filter(|(_, (s, _))| Some(kind(s)) == first);
        let even = alike.min_by(|(_, a), (_, b)| cost(a, ROW_IDLE).total_cmp(&cost(b, ROW_IDLE)));
        if let Some((at, _)) = even {
            weighed[..=at].rotate_right(1);
        }
    }
    weighed
}

/// The time that [`THREADS`] threads spend idle, as a multiple of the time that they work, if tasks take equally long.
fn idle(c: &Contraction, s: &Schedule) -> f64 {
    if s.parallel == Parallel::None {
        return 0.0;
    }
    let tasks = tasks(c, s);
    (tasks.div_ceil(THREADS) * THREADS) as f64 / tasks as f64 - 1.0
}

/// The time in which [`THREADS`] threads make copies that other threads make too, as a multiple of the time that they work. A thread copies
/// what belongs to a block if it has tasks of the block. If threads share what they copy, this is the time in which they wait for each other.
fn copied_again(c: &Contraction, s: &Schedule, p: &Prediction) -> f64 {
    if !s.copies_for_tasks() {
        return if s.has_shared_copies() { THREADS as f64 * PHASE / p.cycles } else { 0.0 };
    }
    let blocks = |r: &Region| match s.parallel.has_rows_outside() {
        true => c.m.div_ceil(r.mc),
        false => (r.end - r.start).div_ceil(r.nc),
    };
    let blocks = c.batch.iter().product::<u64>() * s.regions.iter().map(blocks).max().unwrap_or(1);
    p.pack / blocks as f64 * THREADS as f64 / p.cycles
}

/// About the tasks of a schedule: those of its nest.
fn tasks(c: &Contraction, s: &Schedule) -> u64 {
    let of_region = |r: &Region| {
        let width = r.end - r.start;
        let blocks = c.m.div_ceil(r.mc) * width.div_ceil(r.nc);
        if transposes_result(c) {
            return blocks;
        }
        let tiles = c.m.div_ceil(r.mr) * (width / r.nr);
        tiles.min(c.m * width * c.k / TASK_MACS).max(blocks)
    };
    c.batch.iter().product::<u64>() * s.regions.iter().map(of_region).sum::<u64>()
}

/// The tiles taken so far: the best few of each form, since what an operand costs to read or pack is not known before.
#[derive(Default)]
struct Kept(Vec<((Form, Rows), usize)>);

impl Kept {
    fn is_worth_trying(&mut self, s: &Schedule) -> bool {
        let slot = match self.0.iter().position(|(kind, _)| *kind == (s.form, s.rows)) {
            Some(slot) => slot,
            None => {
                self.0.push(((s.form, s.rows), 0));
                self.0.len() - 1
            }
        };
        self.0[slot].1 += 1;
        self.0[slot].1 <= TILES_KEPT
    }
}

/// Tiles that fit in the registers: rows by columns, columns in whole vectors unless the problem has fewer.
fn register_tiles(form: Form, unit: &VectorUnit, c: &Contraction, mode: Rows) -> Vec<(u64, u64)> {
    let lanes = u64::from(unit.lanes);
    let mut tiles = vec![];
    let rows = if c.window.is_some() { max_line_rows(c, mode) } else { c.m };
    let (column_step, row_step) = (form.rules().column_step(lanes), form.rules().rows_at_once());
    for steps in 1.. {
        let columns = (steps * column_step).min(c.n);
        if !fits(c, form, unit, 1, columns) {
            break;
        }
        let most = max_rows(c, form, unit, columns, rows);
        tiles.extend((1..=most).filter(|r| r % row_step == 0 || *r == rows).map(|rows| (rows, columns)));
        if columns == c.n {
            break;
        }
    }
    tiles
}

fn fits(c: &Contraction, form: Form, unit: &VectorUnit, rows: u64, columns: u64) -> bool {
    let form = form.rules();
    let reachable = form.most_rows(unit).is_none_or(|most| rows <= most);
    reachable && form.registers_needed(unit, rows, columns, LhsAccess::Block, c.dst.dtype) <= u64::from(unit.registers)
}

fn max_rows(c: &Contraction, form: Form, unit: &VectorUnit, columns: u64, m: u64) -> u64 {
    (1..=m).take_while(|&rows| fits(c, form, unit, rows, columns)).last().unwrap_or(0)
}

/// The schedule with one tile, nothing packed and no cache blocks; columns left over have tiles of `rest` rows.
fn plain(c: &Contraction, form: Form, unit: &VectorUnit, mode: Rows, [rows, columns]: [u64; 2], rest: u64) -> Schedule {
    let parallel = if c.window.is_some() { Parallel::None } else { parallel(c, form, rows, columns) };
    let main = c.n / columns * columns;
    let mut regions = vec![plain_region(c, form, unit, parallel, 0..main, [rows, columns])];
    if main < c.n {
        regions.push(plain_region(c, form, unit, parallel, main..c.n, [rest, c.n - main]));
    }
    Schedule { isa: unit.isa, form, rows: mode, parallel, regions }
}

fn plain_region(
    c: &Contraction,
    form: Form,
    unit: &VectorUnit,
    parallel: Parallel,
    columns: Range<u64>,
    [mr, nr]: [u64; 2],
) -> Region {
    let Range { start, end } = columns;
    Region {
        start,
        end,
        mr,
        nr,
        mc: if parallel == Parallel::Mn { blocks(c.m, mr) } else { c.m },
        nc: if parallel == Parallel::Nm && !is_batch(c) { blocks(end - start, nr) } else { end - start },
        kc: c.k,
        unroll: form.rules().unroll(unit, mr * nr.div_ceil(unit.lanes.into())),
        order: Order::NM,
        // Whether rows and columns are packed is decided later. Tiles are ranked as if they were where that is likely, because rearranging
        // or widening them in place would decide the order of the tiles.
        lhs: if form.packs_rows(c) { LhsAccess::Block } else { LhsAccess::InPlace },
        rhs: if form.rearranges() || !form.packs_columns(c) { RhsAccess::InPlace } else { RhsAccess::Panel },
    }
}

/// The best rows of a tile that is `columns` wide.
fn best_rows(c: &Contraction, form: Form, unit: &VectorUnit, model: &Model<'_>, mode: Rows, columns: u64) -> u64 {
    let bare = model.bare();
    // Tiles of a window are as high as the others at most: lines are cut alike.
    let most = if c.window.is_some() { max_line_rows(c, mode) } else { c.m };
    let cost = |mr: u64| {
        let parallel = Parallel::Nm;
        let regions = vec![plain_region(c, form, unit, parallel, 0..columns, [mr, columns])];
        let one = Schedule { isa: unit.isa, form, rows: mode, parallel, regions };
        (mr, bare.predict_in_cache(&one).unwrap_or(f64::INFINITY))
    };
    let best = (1..=max_rows(c, form, unit, columns, most)).map(cost).min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(1, |(rows, _)| rows)
}

/// The most rows that a window's tile may have.
fn max_line_rows(c: &Contraction, mode: Rows) -> u64 {
    let line = match &c.window {
        Some(w) if mode == Rows::Line => w.axes.last().map_or(1, |a| a.output),
        _ => c.m,
    };
    line.min(MAX_WINDOW_ROWS)
}

/// True if the products of a batch are blocks enough.
fn is_batch(c: &Contraction) -> bool {
    c.batch.iter().product::<u64>() >= BLOCKS
}

/// The order of blocks: columns before rows where there are so many blocks of them, so that a task packs what it alone reads. If
/// rows are packed, blocks of rows are outside, so that each task packs its own.
fn parallel(c: &Contraction, form: Form, rows: u64, columns: u64) -> Parallel {
    if c.macs() < PARALLEL_MACS {
        return Parallel::None;
    }
    match (c.n / columns, c.m.div_ceil(rows)) {
        _ if is_batch(c) => Parallel::Nm,
        (_, tiles) if form.packs_rows(c) && tiles > 1 => Parallel::Mn,
        (strips, tiles) if strips < BLOCKS && tiles > strips => Parallel::Mn,
        // Columns that are not cut for the sake of tasks would be a single one.
        (_, tiles) if c.n < 2 * BLOCK_COLUMNS && tiles >= BLOCKS => Parallel::Mn,
        _ => Parallel::Nm,
    }
}

/// The extent of a block along an axis in tiles of `tile`: whole tiles, few enough for [`BLOCKS`] of them.
fn blocks(extent: u64, tile: u64) -> u64 {
    (extent / tile).div_ceil(BLOCKS).max(1) * tile
}

/// Schedules with the same tiles and every way of blocking and packing.
fn blockings(c: &Contraction, tile: &Schedule, target: &Target, model: &Model<'_>, constant: bool) -> Vec<Schedule> {
    let mut out = vec![];
    let mut k_blocks = vec![c.k];
    // Blocks of K add to the result in memory.
    if !c.dst.dtype.is_narrow() {
        k_blocks.extend(K_BLOCKS.iter().filter(|&&k| k < c.k).map(|&k| even_blocks(c.k, k)));
    }
    k_blocks.dedup();
    let (block, in_place, shared) = (LhsAccess::Block, LhsAccess::InPlace, LhsAccess::Shared);
    for &kc in &k_blocks {
        for (rhs, order, lhs) in [
            (RhsAccess::InPlace, Order::NM, in_place),
            (RhsAccess::InPlace, Order::MN, in_place),
            (RhsAccess::Panel, Order::NM, in_place),
            (RhsAccess::Block, Order::MN, in_place),
            (RhsAccess::Packed, Order::NM, in_place),
            (RhsAccess::Packed, Order::MN, in_place),
            (RhsAccess::Packed, Order::NM, block),
            (RhsAccess::Packed, Order::MN, block),
            (RhsAccess::Packed, Order::NM, shared),
            (RhsAccess::Packed, Order::MN, shared),
            (RhsAccess::Shared, Order::NM, in_place),
            (RhsAccess::Shared, Order::MN, in_place),
            (RhsAccess::Shared, Order::NM, shared),
            (RhsAccess::Shared, Order::MN, shared),
            (RhsAccess::Panel, Order::NM, block),
            (RhsAccess::Block, Order::NM, block),
            (RhsAccess::Block, Order::MN, block),
        ] {
            // Forms that take rows as they are read them where they are.
            if (rhs == RhsAccess::Packed && !constant) || (lhs.is_packed() && !tile.form.packs_rows(c)) {
                continue;
            }
            let is_shared = rhs == RhsAccess::Shared || lhs == shared;
            if (is_shared && tile.parallel == Parallel::None) || (rhs == RhsAccess::Shared && constant) {
                continue;
            }
            let mut s = tile.clone();
            for r in &mut s.regions {
                (r.kc, r.rhs, r.order, r.lhs) = (kc, rhs, order, lhs);
                if lhs == block {
                    // Rows whose block takes half of the second-level cache.
                    let most =
                        (target.l2.bytes / 2 / (tile.form.panel_bytes(c, c.lhs.dtype) * kc)).max(r.mr) / r.mr * r.mr;
                    r.mc = if most < r.mc { most } else { r.mc };
                }
                if order == Order::MN {
                    // Columns whose block of rhs takes half of the second-level cache.
                    let bytes = tile.form.panel_bytes(c, c.rhs.dtype);
                    let most = (target.l2.bytes / 2 / (bytes * kc)).max(r.nr) / r.nr * r.nr;
                    let most = if s.parallel == Parallel::Nm { most.min(r.nc.max(BLOCK_COLUMNS)) } else { most };
                    r.nc = even_blocks(r.end - r.start, most).next_multiple_of(r.nr).min(r.end - r.start);
                }
            }
            let fits = |s: &Schedule| packed_rows_bytes(c, s) <= most_scratch(target);
            if lhs == block && s.parallel == Parallel::Mn && rhs == RhsAccess::Packed {
                // A block of rows is one tile here, so that few threads pack the same rows.
                let mut small = s.clone();
                small.regions.iter_mut().for_each(|r| r.mc = r.mr);
                out.extend(Some(small).filter(fits));
            }
            let larger = fewer_tasks(c, s.clone(), model);
            out.extend([larger, s].into_iter().find(fits));
        }
    }
    out
}

/// Bytes of scratch memory that packed rows take: those of a block, or all where panels of columns are packed inside of it.
fn packed_rows_bytes(c: &Contraction, s: &Schedule) -> u64 {
    let element = s.form.panel_bytes(c, c.lhs.dtype);
    let bytes = |r: &Region| match (r.lhs, r.rhs, s.parallel.has_rows_outside()) {
        (LhsAccess::InPlace, ..) => 0,
        // Memory of all threads, where the rows themselves are.
        (LhsAccess::Shared, ..) => 0,
        (_, RhsAccess::Panel, false) => element * c.m * r.kc,
        (_, RhsAccess::Block, false) => element * r.mc * r.kc,
        _ => element * r.mc * c.k,
    };
    s.regions.iter().map(bytes).sum()
}

/// A window's tiles with every way of blocking: rows or columns as tasks, blocks of K that the first-level cache holds.
fn window_blockings(c: &Contraction, w: &Window, tile: &Schedule, target: &Target, constant: bool) -> Vec<Schedule> {
    let mut out = vec![];
    let mut k_blocks = vec![c.k];
    if !c.dst.dtype.is_narrow() || transposes_result(c) {
        k_blocks.extend(window_k_blocks(w, c.k));
    }
    k_blocks.dedup();
    let lines = w.axes[rows::block_axis(w)].output;
    let can_block = tile.rows == Rows::Line && rows::block_axis(w) + 1 < w.axes.len();
    let pixels = rows::block_pixels(w);
    let tasks = c.macs() >= PARALLEL_MACS;
    let batch = c.batch.iter().product::<u64>();
    let sources = tile.form.rules().window_sources(c);
    let copies = |lhs: LhsAccess| lhs.is_packed() || transposes_result(c);
    for &kc in &k_blocks {
        for &lhs in sources {
            // The order of blocks, and whether columns are cut into blocks.
            // Blocks are tasks where tiles cannot be.
            let blocks_only = transposes_result(c);
            for (parallel, cut) in [
                (Parallel::Mn, false),
                (Parallel::Mn, true),
                (Parallel::Nm, true),
                (Parallel::Nm, false),
                (Parallel::None, false),
            ] {
                let possible = match (parallel, cut) {
                    (Parallel::None, _) => !tasks,
                    (Parallel::Mn, true) => tasks && can_block && lines > 1 && blocks_only,
                    (Parallel::Nm, false) => tasks && batch >= 2,
                    (Parallel::Mn, _) => tasks && can_block && lines > 1,
                    _ => tasks,
                };
                if !possible || (lhs == LhsAccess::Shared && !tasks) {
                    continue;
                }
                // Outputs of a block along the block axis.
                let mut sizes = vec![lines];
                if can_block && (parallel == Parallel::Mn || copies(lhs)) {
                    sizes = vec![lines.div_ceil(BLOCKS), lines.div_ceil(2 * BLOCKS), lines.div_ceil(4 * BLOCKS), 1];
                    if parallel != Parallel::Mn {
                        sizes.insert(0, lines);
                        sizes.insert(1, lines.div_ceil(2));
                    } else if !constant && tile.form.rearranges() {
                        // Fewer tasks that each rearrange the weights.
                        sizes.splice(0..0, [lines.div_ceil(2), lines.div_ceil(4)]);
                    }
                    sizes.dedup();
                }
                // Tasks of columns that each copy the source should be few.
                let copies_again = lhs == LhsAccess::Block && !w.depthwise && cut;
                let tasks: &[u64] = if copies_again { &[BLOCKS, BLOCKS / 2, BLOCKS / 4] } else { &[BLOCKS] };
                for (size, tasks) in sizes.into_iter().flat_map(|size| tasks.iter().map(move |t| (size, *t))) {
                    for order in [Order::NM, Order::MN] {
                        // Columns of a pixel are neighbours in both factors: other orders read and write parts of lines.
                        let whole_pixels = order == Order::MN && (!cut || !can_block);
                        if w.depthwise && !whole_pixels {
                            continue;
                        }
                        let mut s = tile.clone();
                        s.parallel = parallel;
                        for r in &mut s.regions {
                            let width = r.end - r.start;
                            r.kc = kc;
                            r.lhs = lhs;
                            r.order = order;
                            r.rhs = if constant { RhsAccess::Packed } else { RhsAccess::Block };
                            r.mc = if size >= lines { c.m } else { size * pixels };
                            let strips = (width / r.nr).div_ceil(tasks).max(1);
                            r.nc = if cut { strips * r.nr } else { width };
                            if !constant || transposes_result(c) {
                                // What is packed, or copied afterwards, stays in the second-level cache.
                                let element =
                                    if tile.form.rearranges() { tile.form.panel_bytes(c, c.rhs.dtype) } else { 4 };
                                let per = if constant { 4 * r.mc } else { element * r.kc };
                                let most = (target.l2.bytes / 4 / per.max(1)).max(r.nr) / r.nr * r.nr;
                                r.nc = r.nc.min(most);
                            }
                        }
                        out.push(s);
                    }
                }
            }
        }
    }
    out
}

/// Scratch memory that a thread may take: the second-level cache also holds what is read.
fn most_scratch(target: &Target) -> u64 {
    target.l2.bytes / 8 * 7
}

/// The most blocks of K that a window has: each has statements of its own.
const MAX_WINDOW_K_BLOCKS: u64 = 64;

/// Lengths of blocks of K: whole taps, or parts of one.
fn window_k_blocks(w: &Window, k: u64) -> Vec<u64> {
    let mut all = vec![];
    for target in [1024, 512, 256].map(|t| t.max(k / MAX_WINDOW_K_BLOCKS)) {
        let kc = if w.channels > target {
            even_blocks(w.channels, target)
        } else {
            let taps = (target / w.channels).max(1);
            // Whole lines of the kernel keep steps together.
            let line = w.axes.last().map_or(1, |a| a.kernel);
            (if taps > line { taps / line * line } else { taps }) * w.channels
        };
        if kc < k {
            all.push(kc);
        }
    }
    all
}

/// Tasks that each pack the same again are made larger until that costs little.
fn fewer_tasks(c: &Contraction, mut s: Schedule, model: &Model<'_>) -> Schedule {
    let rows_outside = s.parallel.has_rows_outside();
    let repacks = |r: &Region| match rows_outside {
        true => matches!(r.rhs, RhsAccess::Panel | RhsAccess::Block),
        false => r.lhs == LhsAccess::Block,
    };
    let is_one = s.parallel == Parallel::None || is_batch(c);
    if is_one || !s.form.packs_rows(c) || !s.regions.iter().any(repacks) {
        return s;
    }
    let whole =
        |s: &Schedule| s.regions.iter().all(|r| if rows_outside { r.mc >= c.m } else { r.nc >= r.end - r.start });
    while !whole(&s) {
        let Some(p) = model.predict(&s) else { return s };
        let tasks = s
            .regions
            .iter()
            .map(|r| if rows_outside { c.m.div_ceil(r.mc) } else { (r.end - r.start).div_ceil(r.nc) })
            .max();
        let tasks = tasks.unwrap_or(1) as f64;
        if p.pack * (tasks - 1.0) / tasks <= REPACKING * p.cycles {
            return s;
        }
        for r in &mut s.regions {
            if rows_outside {
                r.mc = (2 * r.mc).min(c.m);
                r.mc = if r.mc == c.m { c.m } else { r.mc / r.mr * r.mr };
            } else {
                r.nc = (2 * r.nc).min(r.end - r.start) / r.nr * r.nr;
            }
        }
    }
    s
}

/// A block size of at most about `target` that cuts `total` into equal blocks, a multiple of 4.
fn even_blocks(total: u64, target: u64) -> u64 {
    total.div_ceil(total.div_ceil(target)).next_multiple_of(4).min(total)
}

impl Choice {
    /// This choice where the contraction could also have been computed in another way, for which `other` was chosen.
    pub(crate) fn beside(mut self, other: &Choice) -> Self {
        let cycles = self.prediction.cycles;
        self.bf16 = self.bf16.beside(&other.bf16, other.prediction.cycles, cycles);
        self
    }

    /// A schedule of `c` with what explains it.
    pub(crate) fn new(
        c: &Contraction,
        target: &Target,
        schedule: Schedule,
        prediction: Prediction,
        candidates: Vec<(Schedule, Prediction)>,
        bf16: Bf16Products,
    ) -> Self {
        let (macs, operand_bytes, bound_cycles) = (c.macs(), c.operand_bytes(), cost::bound(c, target));
        let wasted_macs = schedule.wasted_macs(c, target);
        Self { schedule, prediction, bound_cycles, candidates, bf16, wasted_macs, macs, operand_bytes }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "schedule  {}", self.schedule)?;
        writeln!(f, "predicted {}", self.prediction)?;
        let fraction = 100.0 * self.bound_cycles / self.prediction.cycles;
        writeln!(f, "bound     {:.0} cycles, {fraction:.0} % of it predicted", self.bound_cycles)?;
        let share = 100.0 * self.wasted_macs as f64 / self.macs as f64;
        writeln!(f, "wasted    {} multiply-adds of {} ({share:.1} %)", self.wasted_macs, self.macs)?;
        let (moved, each) = (self.operand_bytes, self.macs as f64 / self.operand_bytes as f64);
        writeln!(f, "moved     {moved} bytes of operands at least, {each:.1} multiply-adds a byte")?;
        for (s, p) in &self.candidates {
            writeln!(f, "weighed   {:>12.0} cycles  {s}", p.cycles)?;
        }
        Ok(())
    }
}

//! General code for free rows: kernels of one register tile's rows, called for each block of columns and, within it, for each
//! tile of rows. The block's packed weights stay in the cache meanwhile.

use std::sync::Arc;

use kiln_compiler::packed::PackedLayout;
use kiln_compiler::schedule::{Choice, LhsAccess, Order, Parallel, Region, RhsAccess, Rows, Schedule, search};
use kiln_compiler::{Options, Target};
use kiln_ir::Contraction;

use super::pattern::Pattern;
use super::steps::advanced;
use crate::args::{Divided, Pointers};
use crate::cpu::check_thread;
use crate::division::threads_worth;
use crate::error::RuntimeError;
use crate::kernel::{Kernel, Shared};
use crate::runtime::Runtime;

/// The numbers of rows that tiles are chosen for, and the layout of packed weights with them, many rows first.
const SAMPLE: [u64; 3] = [512, 64, 7];
/// Columns that are worth copying a tile's rows for, where they have to be copied for each block of columns.
const COLUMNS_PER_COPY: u64 = 512;
/// Pieces that a call is divided into at least, if it is at all.
const PIECES: u64 = 8;

pub(super) struct Tiles {
    /// Of 1 row, 2 rows and so on, up to a full tile.
    kernels: Vec<Arc<Kernel>>,
    /// Bytes from row to row.
    strides: Vec<usize>,
    /// Blocks of columns: tasks of each kernel.
    blocks: u64,
    /// Predicted.
    cycles_per_row: f64,
    scratch_bytes: usize,
    target: Target,
}

impl Tiles {
    /// `None` if rows are not what is free, or cannot be divided.
    pub(super) fn new(
        runtime: &Runtime,
        pattern: &Pattern<'_>,
        strides: &[usize],
        options: &Options,
    ) -> Result<Option<Self>, RuntimeError> {
        let contraction = |rows| Ok::<_, RuntimeError>(Contraction::of(&runtime.effective(&pattern.problem(rows)?)));
        let [c, fewer, few] = SAMPLE.map(contraction);
        let (c, sample) = (c?, [fewer?, few?]);
        let is_rows = c.window.is_none() && !c.swapped && c.m == SAMPLE[0] && c.batch.iter().all(|e| *e == 1);
        if !is_rows || strides[1] != 0 || c.rhs.argument != 1 {
            return Ok(None);
        }
        let target = runtime.target();
        let chosen = match options.constant_weights {
            true => choose_packed(&c, &sample, target),
            false => search(&c, target, false, None),
        };
        let Some(full) = chosen.and_then(|choice| tile_schedule(choice.schedule, &c, target)) else {
            return Ok(None);
        };
        let height = full.regions.iter().map(|r| r.mr).max().unwrap_or(1);
        let mut kernels = vec![];
        for rows in 1..=height {
            let problem = pattern.problem(rows)?;
            let schedule = with_rows(&full, rows);
            if schedule.verify(&Contraction::of(&runtime.effective(&problem)), target).is_err() {
                return Ok(None);
            }
            let options = Options { schedule: Some(schedule), ..options.clone() };
            kernels.push(runtime.kernel_with(&problem, &options)?);
        }
        let one = &kernels[0];
        if kernels.iter().any(|k| k.tasks() != one.tasks() || k.weights_layout() != one.weights_layout()) {
            return Ok(None);
        }
        let last = &kernels[kernels.len() - 1];
        Ok(Some(Tiles {
            blocks: one.tasks(),
            cycles_per_row: last.predicted_cycles() / height as f64,
            scratch_bytes: kernels.iter().map(|k| k.scratch_bytes()).max().unwrap_or(0),
            strides: strides.into(),
            target: target.clone(),
            kernels,
        }))
    }

    pub(super) fn kernels(&self) -> &[Arc<Kernel>] {
        &self.kernels
    }

    pub(super) fn run(&self, shared: &Shared, n: u64, pointers: &Pointers<'_>) -> Result<(), RuntimeError> {
        let height = self.kernels.len() as u64;
        let tiles = n.div_ceil(height);
        let threads = threads_worth(self.cycles_per_row * n as f64).min(shared.threads.count());
        if threads == 1 {
            return self.piece(shared, n, pointers.as_slice(), [0, n], [0, self.blocks]);
        }
        // Rows are cut only where there are too few blocks of columns: each cut reads the weights again.
        let cuts = PIECES.max(2 * threads as u64).div_ceil(self.blocks).min(tiles);
        let divided = Divided::new(pointers.as_slice());
        let rows_per_cut = tiles.div_ceil(cuts) * height;
        shared.threads.each_on(threads, self.blocks * cuts, &|begin, end| {
            // Threads of others may have another vector length.
            check_thread(&self.target)?;
            for piece in begin..end {
                let (block, cut) = (piece / cuts, piece % cuts);
                let rows = [cut * rows_per_cut, (cut + 1) * rows_per_cut].map(|row| row.min(n));
                self.piece(shared, n, divided.pointers(), rows, [block, block + 1])?;
            }
            Ok(())
        })
    }

    /// Computes `rows`, which begin at a multiple of the full height and end at one or at `n`, of some blocks of columns.
    fn piece(
        &self,
        shared: &Shared,
        n: u64,
        pointers: &[*mut u8],
        [first, end]: [u64; 2],
        [first_block, end_block]: [u64; 2],
    ) -> Result<(), RuntimeError> {
        debug_assert!(end <= n);
        let height = self.kernels.len() as u64;
        let mut moved = Vec::with_capacity(pointers.len());
        let mut scratch = shared.scratch_for(self.scratch_bytes)?;
        for block in first_block..end_block {
            let mut row = first;
            while row < end {
                let rows = height.min(end - row);
                advanced(pointers, &self.strides, row, &mut moved);
                let kernel = &self.kernels[rows as usize - 1];
                // SAFETY: the pointers are those of a call with `n` rows, checked; rows `row..row + rows` are among them, and lie
                // `stride` bytes apart in each operand that has them, as they would in operands of `rows` rows. Other threads
                // compute other rows or other blocks of columns. The thread's vector length was checked, and scratch
                // memory is as long as the kernel with the largest needs.
                unsafe { kernel.entry()(moved.as_ptr(), scratch.as_mut_ptr(), block, block + 1) };
                row += rows;
            }
        }
        Ok(())
    }
}

/// The schedule for `c` with the layout of packed weights that costs the least where it costs the most: exact code for any number of
/// rows has to read it, and the width of panels that is best for many rows leaves few with too few sums at a time.
fn choose_packed(c: &Contraction, sample: &[Contraction], target: &Target) -> Option<Choice> {
    let all = || std::iter::once(c).chain(sample);
    let free: Vec<Choice> = all().map(|c| search(c, target, true, None)).collect::<Option<_>>()?;
    let layouts = all().zip(&free).filter_map(|(c, choice)| PackedLayout::of(c, &choice.schedule, target));
    let mut best: Option<(f64, Choice)> = None;
    for layout in layouts {
        let with = all().zip(&free).map(|(c, free)| {
            let choice = search(c, target, true, Some(&layout))?;
            Some((choice.prediction.cycles / free.prediction.cycles, choice))
        });
        let Some(with) = with.collect::<Option<Vec<_>>>() else { continue };
        let worst = with.iter().map(|(ratio, _)| *ratio).fold(1.0, f64::max);
        if best.as_ref().is_none_or(|(least, _)| worst < *least) {
            best = with.into_iter().next().map(|(_, many)| (worst, many));
        }
    }
    // Nothing is packed where that gains nothing.
    best.map(|(_, choice)| choice).or_else(|| free.into_iter().next())
}

/// The schedule with blocks of columns for tasks and one tile of rows; `None` if its tiles cannot be called one by one.
fn tile_schedule(chosen: Schedule, c: &Contraction, target: &Target) -> Option<Schedule> {
    if !chosen.form.has_free_tiles() || chosen.rows != Rows::Flat {
        return None;
    }
    let region = |r: Region| {
        // Copying columns for each tile of rows would cost more than computing them.
        let rhs = match r.rhs {
            RhsAccess::Packed | RhsAccess::InPlace => r.rhs,
            _ => RhsAccess::InPlace,
        };
        let width = r.end - r.start;
        let panel = r.kc * r.nr * c.rhs.dtype.bytes() as u64;
        // A quarter of the second-level cache, and enough blocks for a few threads.
        let panels = (target.l2.bytes / 4 / panel.max(1)).clamp(1, (width / r.nr).div_ceil(PIECES));
        let least = if r.lhs.is_packed() { (COLUMNS_PER_COPY / r.nr).max(1) } else { 1 };
        let nc = (panels.max(least) * r.nr).min(width);
        // Each tile of rows is a call of its own.
        let lhs = if r.lhs == LhsAccess::Shared { LhsAccess::Block } else { r.lhs };
        Region { nc, rhs, lhs, order: Order::NM, ..r }
    };
    let regions: Vec<Region> = chosen.regions.into_iter().map(region).collect();
    let is_one_block = regions.len() == 1 && regions[0].nc == c.n;
    let parallel = if is_one_block { Parallel::None } else { Parallel::N };
    Some(Schedule { regions, parallel, ..chosen })
}

fn with_rows(full: &Schedule, rows: u64) -> Schedule {
    let region = |r: &Region| Region { mr: r.mr.min(rows), mc: rows, ..r.clone() };
    Schedule { regions: full.regions.iter().map(region).collect(), ..full.clone() }
}

//! Schedules: how a problem is cut into tiles.
//!
//! A [`Schedule`] says everything that lowering needs: the vector unit, the regions of columns with their register tiles,
//! the cache blocks, what is packed and how tasks follow one another. [`search`](search()) chooses one by the [`cost`]
//! model; [`Schedule::verify`] checks one from anywhere. It has a text form that parses back:
//!
//! ```text
//! avx2 parallel=n; n 0..48 tile 6x16 mc=128 nc=16 kc=256 unroll=4 order=nm lhs=inplace rhs=panel; n 48..53 tile 12x5 ...
//! ```

pub mod bf16;
pub mod cost;
mod post;
pub mod rows;
mod search;
mod text;

pub use search::{Choice, search, weigh};
pub use text::ScheduleParseError;

use kiln_ir::Contraction;
use kiln_ir::rewrite::PanelShape;

use crate::form::operands::transposes_result;
pub use crate::form::{Form, LhsAccess, RhsAccess};
use crate::target::{Target, VectorIsa, VectorUnit};

/// The order in which the pixels of a window become the rows of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Tiles end where lines do: tiles of a line, and lines, are alike but at the borders.
    Line,
    /// All pixels follow one another, and each tile is on its own. Without a window, rows always do.
    Flat,
}

/// The order of the loops over tiles inside a cache block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Columns outside, rows inside: a panel of rhs is reused from the first-level cache.
    NM,
    /// Rows outside, columns inside: a strip of lhs is.
    MN,
}

/// How a problem is divided into tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parallel {
    /// Everything is one task.
    None,
    /// Blocks of rows of each product of a batch.
    M,
    /// Blocks of columns of each product of a batch.
    N,
    /// Blocks of rows, in them blocks of columns, and in those tiles. Whatever has twice [`TASK_MACS`] multiply-adds is divided.
    Mn,
    /// Blocks of columns, in them blocks of rows, and in those tiles.
    Nm,
}

impl Parallel {
    /// Whether the loop over blocks of rows is around that over blocks of columns.
    pub fn has_rows_outside(self) -> bool {
        matches!(self, Parallel::M | Parallel::Mn)
    }

    /// Whether blocks are divided further.
    pub fn is_fine(self) -> bool {
        matches!(self, Parallel::Mn | Parallel::Nm)
    }
}

/// Multiply-adds that make a task: one core takes about a microsecond for them, and fewer are not worth giving to another thread.
pub const TASK_MACS: u64 = 1 << 15;

/// A range of columns and how it is computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// First column.
    pub start: u64,
    /// One past the last column.
    pub end: u64,
    /// Rows of the register tile; the last tile of a block may have fewer.
    pub mr: u64,
    /// Columns of the register tile; divides the region.
    pub nr: u64,
    /// Rows of a cache block, a multiple of `mr` or all rows.
    pub mc: u64,
    /// Columns of a cache block, a multiple of `nr`.
    pub nc: u64,
    /// Length of the sum in a cache block.
    pub kc: u64,
    /// Steps of K in the micro-kernel's loop body.
    pub unroll: u64,
    /// Loop order inside a block.
    pub order: Order,
    /// Row operand.
    pub lhs: LhsAccess,
    /// Column operand.
    pub rhs: RhsAccess,
}

/// A way to compute a problem. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// The vector unit.
    pub isa: VectorIsa,
    /// The form of its micro-kernels.
    pub form: Form,
    /// The rows of a window.
    pub rows: Rows,
    /// What tasks are.
    pub parallel: Parallel,
    /// Regions, ascending, covering all columns.
    pub regions: Vec<Region>,
}

/// The most steps of K in a loop body: more only makes code larger.
pub const MAX_UNROLL: u64 = 64;

/// A schedule that cannot be lowered for a problem and target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("illegal schedule `{schedule}`: {why}")]
pub struct ScheduleError {
    /// The schedule's text.
    pub schedule: String,
    /// The rule it breaks.
    pub why: String,
}

impl Schedule {
    /// Checks legality for a contraction on a target: what [`search`](search()) proposes always passes.
    pub fn verify(&self, c: &Contraction, target: &Target) -> Result<(), ScheduleError> {
        self.check(c, target).map_err(|why| ScheduleError { schedule: self.to_string(), why })
    }

    /// Why it is illegal.
    fn check(&self, c: &Contraction, target: &Target) -> Result<(), String> {
        let Some(unit) = target.unit(self.isa) else { return Err(format!("{target} has no {}", self.isa)) };
        let form = self.form.rules();
        form.check(c, unit)?;
        let mut at = 0;
        for r in &self.regions {
            if r.start != at || r.end <= r.start {
                return Err(format!("regions must follow one another; one starts at {} after {at}", r.start));
            }
            at = r.end;
            // Before anything is computed from sizes: they are then at most those of the result.
            if at > c.n {
                return Err(format!("regions reach column {at} of {}", c.n));
            }
            if [r.mr, r.nr, r.mc, r.nc, r.kc, r.unroll].contains(&0) {
                return Err("every size must be at least 1".into());
            }
            let group = form.unroll_group(unit);
            if r.unroll > MAX_UNROLL.max(group) {
                return Err(format!("unroll={} is more than {MAX_UNROLL}", r.unroll));
            }
            if r.unroll % group != 0 {
                return Err(format!(
                    "unroll={} is not a multiple of the {group} steps that {} takes at once",
                    r.unroll, unit.isa
                ));
            }
            let width = r.end - r.start;
            if width % r.nr != 0 || r.nc % r.nr != 0 || r.nc > width {
                return Err(format!("nr={} must divide nc={} and the region's {width} columns", r.nr, r.nc));
            }
            if let Some(w) = &c.window {
                rows::check(self, r, c, w)?;
            } else if r.mr > r.mc || r.mc > c.m || (r.mc % r.mr != 0 && r.mc != c.m) {
                return Err(format!("mc={} must be a multiple of mr={} or all {} rows", r.mc, r.mr, c.m));
            }
            if r.kc > c.k {
                return Err(format!("kc={} is more than K={}", r.kc, c.k));
            }
            if r.kc < c.k {
                if c.dst.dtype.is_narrow() && !(c.window.is_some() && transposes_result(c)) {
                    return Err("blocks of K add to a result of f32 or s32".into());
                }
                if r.kc % form.k_group() != 0 {
                    return Err(format!("kc={} cuts a group of {} steps", r.kc, form.k_group()));
                }
            }
            let needed = form.registers_needed(unit, r.mr, r.nr, r.lhs, c.dst.dtype);
            if needed > u64::from(unit.registers) {
                return Err(format!(
                    "a {}x{} tile needs {needed} registers, {} has {}",
                    r.mr, r.nr, unit.isa, unit.registers
                ));
            }
            if self.rows == Rows::Line && c.window.is_none() {
                return Err("rows=line is of convolutions".into());
            }
            if let Some(most) = form.most_rows(unit).filter(|most| r.mr > *most) {
                return Err(format!("mr={} is more than the {most} registers a lane can be taken from", r.mr));
            }
            if r.rhs == RhsAccess::Panel && (r.order != Order::NM || self.parallel.has_rows_outside()) {
                return Err("a panel is packed for all rows: order=nm, and not parallel=m or mn".into());
            }
            if r.rhs == RhsAccess::Packed && c.swapped {
                return Err(
                    "the weights are the left factor here, and only the right one is packed before calls".into()
                );
            }
            if (r.rhs == RhsAccess::Packed) != (self.regions[0].rhs == RhsAccess::Packed) {
                return Err("packed weights are packed for all regions".into());
            }
            if (r.lhs == LhsAccess::Shared || r.rhs == RhsAccess::Shared) && self.parallel == Parallel::None {
                return Err("what is shared needs tasks: not parallel=none".into());
            }
            match &c.window {
                Some(_) => form.check_window(c, r.lhs)?,
                None => form.check_access(c, unit, r.lhs, r.rhs, r.nr)?,
            }
        }
        if at != c.n {
            return Err(format!("regions cover {at} of {} columns", c.n));
        }
        Ok(())
    }

    /// Whether a first phase makes copies that all threads share.
    pub fn has_shared_copies(&self) -> bool {
        self.regions.iter().any(|r| r.lhs == LhsAccess::Shared || r.rhs == RhsAccess::Shared)
    }

    /// Whether tasks read the same copies of operands, which each thread makes when it begins in the middle of them.
    pub fn copies_for_tasks(&self) -> bool {
        let copies = |r: &Region| r.lhs == LhsAccess::Block || matches!(r.rhs, RhsAccess::Panel | RhsAccess::Block);
        self.regions.iter().any(copies)
    }

    /// The shape of the panels that a region's columns are packed in.
    pub fn rhs_panel(&self, c: &Contraction, r: &Region, unit: &VectorUnit) -> PanelShape {
        self.form.panel(c, c.rhs.dtype, r.nr, u64::from(unit.lanes))
    }

    /// The shape of the panels that a region's rows are packed in.
    pub fn lhs_panel(&self, c: &Contraction, r: &Region) -> PanelShape {
        self.form.row_panel(c, c.lhs.dtype, r.mr)
    }

    /// Multiply-adds that vector lanes make beyond the problem's own: lanes past the last column of each region, and the row
    /// that an odd number of rows lacks where instructions take two.
    pub fn wasted_macs(&self, c: &Contraction, target: &Target) -> u64 {
        let Some(unit) = target.unit(self.isa) else { return 0 };
        let form = self.form.rules();
        let (rows, (k, columns)) = (form.rows_at_once(), form.granularity(c, unit));
        let batch: u64 = c.batch.iter().product();
        if let Some(w) = &c.window {
            let row_taps = rows::row_taps(w, self.form, self.regions.iter().map(|r| (r.mr, r.end - r.start, r.nr)));
            let steps = w.channels.next_multiple_of(k);
            let columns = |(taps, width, nr): (u64, u64, u64)| taps * (width / nr * nr.next_multiple_of(columns));
            return (row_taps.map(columns).sum::<u64>() * steps * batch).saturating_sub(c.macs());
        }
        let waste = |r: &Region| {
            let strips = (r.end - r.start) / r.nr;
            let tails = c.m / r.mc * (r.mc % r.mr).next_multiple_of(rows) + (c.m % r.mc % r.mr).next_multiple_of(rows);
            let whole = (c.m / r.mc * (r.mc / r.mr) + c.m % r.mc / r.mr) * r.mr.next_multiple_of(rows);
            (whole + tails) * r.nr.next_multiple_of(columns) * strips * c.k.next_multiple_of(k)
        };
        (self.regions.iter().map(waste).sum::<u64>() * batch).saturating_sub(c.macs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schedule: &str, [m, k, n]: [u64; 3], target: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        let problem = kiln_ir::Problem::matmul(m, k, n).build().unwrap();
        schedule.verify(&Contraction::of(&problem), &target.parse().unwrap()).unwrap_err().why
    }

    #[test]
    fn illegal_schedules_are_refused() {
        let whole =
            |tile: &str, rest: &str| format!("avx2 parallel=none; n 0..16 tile {tile} mc=4 nc=16 {rest} rhs=inplace");
        let shape = [4, 64, 16];
        let why = |tile: &str, rest: &str| refused(&whole(tile, rest), shape, "x86-64-v3");
        assert!(why("4x16", "kc=64 unroll=65 order=nm lhs=inplace").contains("unroll=65"));
        assert!(why("4x16", &format!("kc=64 unroll={} order=nm lhs=inplace", u64::MAX)).contains("unroll"));
        assert!(why("4x16", "kc=65 unroll=1 order=nm lhs=inplace").contains("kc=65"));
        assert!(why("4x5", "kc=64 unroll=1 order=nm lhs=inplace").contains("must divide"));
        assert!(why("0x16", "kc=64 unroll=1 order=nm lhs=inplace").contains("at least 1"));
        let max = u64::MAX;
        let beyond = format!(
            "avx2 parallel=none; n 0..{max} tile 4x{max} mc=4 nc={max} kc=64 unroll=1 order=nm lhs=inplace rhs=panel"
        );
        assert!(refused(&beyond, shape, "x86-64-v3").contains("of 16"));
        let lanes = "neon parallel=none; n 0..16 tile 4x16 mc=4 nc=16 kc=64 unroll=2 order=nm lhs=inplace rhs=inplace";
        assert!(refused(lanes, shape, "neoverse-n1").contains("multiple of the 4 steps"));
        assert!(refused(lanes, shape, "x86-64-v3").contains("has no neon"));
    }
}

//! Schedules: how a problem is cut into tiles.
//!
//! A [`Schedule`] says everything that lowering needs: the vector unit, the regions of columns with their register tiles,
//! the cache blocks, what is packed and which axis is parallel. [`search`](search()) chooses one by the [`cost`]
//! model; [`Schedule::verify`] checks one from anywhere. It has a text form that parses back:
//!
//! ```text
//! avx2 parallel=n; n 0..48 tile 6x16 mc=128 nc=16 kc=256 unroll=4 order=nm lhs=inplace rhs=panel; n 48..53 tile 12x5 ...
//! ```

pub mod cost;
mod search;
mod text;

pub use search::{Choice, search};
pub use text::ScheduleParseError;

use kiln_ir::op::Matmul;

use crate::microkernel::build::registers_needed;
use crate::target::{Multiplier, Target, VectorIsa};

/// Where a micro-kernel reads the row operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LhsAccess {
    /// From the caller's matrix.
    InPlace,
    /// From a block of MC x KC copied row by row.
    Block,
}

/// Where a micro-kernel reads the column operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RhsAccess {
    /// From the caller's matrix.
    InPlace,
    /// From one KC x NR panel, copied just before it is used for all rows.
    Panel,
    /// From a block of KC x NC, copied panel by panel before any is used.
    Block,
}

/// The order of the loops over tiles inside a cache block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Columns outside, rows inside: a panel of rhs is reused from the first-level cache.
    NM,
    /// Rows outside, columns inside: a strip of lhs is.
    MN,
}

/// The axis whose blocks are independent tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parallel {
    /// Everything is one task.
    None,
    /// Blocks of rows.
    M,
    /// Blocks of columns.
    N,
}

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

/// How a problem is computed. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// The vector unit.
    pub isa: VectorIsa,
    /// The parallel axis.
    pub parallel: Parallel,
    /// Regions, ascending, covering all columns.
    pub regions: Vec<Region>,
}

/// The most steps of K in a loop body: more only makes code larger.
pub const MAX_UNROLL: u64 = 64;
/// The most elements of a packed row: offsets in it are immediates of 32 bits.
pub const MAX_PACKED_ROW: u64 = 1 << 24;

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
    /// Checks legality for a shape on a target: what [`search`](search()) proposes always passes.
    pub fn verify(&self, shape: Matmul, target: &Target) -> Result<(), ScheduleError> {
        let fail = |why: String| Err(ScheduleError { schedule: self.to_string(), why });
        let Some(unit) = target.unit(self.isa) else { return fail(format!("{target} has no {}", self.isa)) };
        let mut at = 0;
        for r in &self.regions {
            if r.start != at || r.end <= r.start {
                return fail(format!("regions must follow one another; one starts at {} after {at}", r.start));
            }
            at = r.end;
            if [r.mr, r.nr, r.mc, r.nc, r.kc, r.unroll].contains(&0) {
                return fail("every size must be at least 1".into());
            }
            if r.unroll > MAX_UNROLL {
                return fail(format!("unroll={} is more than {MAX_UNROLL}", r.unroll));
            }
            if matches!(unit.multiplier, Multiplier::Lane { .. }) && r.unroll % 4 != 0 {
                return fail(format!(
                    "unroll={} is not a multiple of the 4 lanes that {} multiplies by",
                    r.unroll, unit.isa
                ));
            }
            if r.lhs == LhsAccess::Block && r.kc > MAX_PACKED_ROW {
                return fail(format!("rows of kc={} are too long to pack, the limit is {MAX_PACKED_ROW}", r.kc));
            }
            let width = r.end - r.start;
            if width % r.nr != 0 || r.nc % r.nr != 0 || r.nc > width {
                return fail(format!("nr={} must divide nc={} and the region's {width} columns", r.nr, r.nc));
            }
            if r.mr > r.mc || r.mc > shape.m || (r.mc % r.mr != 0 && r.mc != shape.m) {
                return fail(format!("mc={} must be a multiple of mr={} or all {} rows", r.mc, r.mr, shape.m));
            }
            if r.kc > shape.k {
                return fail(format!("kc={} is more than K={}", r.kc, shape.k));
            }
            let vectors = r.nr.div_ceil(u64::from(unit.lanes));
            let needed = registers_needed(unit, r.mr, vectors);
            if needed > u64::from(unit.registers) {
                return fail(format!(
                    "a {}x{} tile needs {needed} registers, {} has {}",
                    r.mr, r.nr, unit.isa, unit.registers
                ));
            }
            if let Multiplier::Lane { max_reg } = unit.multiplier
                && r.mr > u64::from(max_reg)
            {
                return fail(format!("mr={} is more than the {max_reg} registers a lane can be taken from", r.mr));
            }
            if r.rhs == RhsAccess::Panel && (r.order != Order::NM || self.parallel == Parallel::M) {
                return fail("a panel is packed for all rows: order=nm, and not parallel=m".into());
            }
            if r.nr % u64::from(unit.lanes) != 0 && r.rhs != RhsAccess::InPlace && width != r.nr {
                return fail("panels of part of a vector cannot follow one another".into());
            }
        }
        if at != shape.n {
            return fail(format!("regions cover {at} of {} columns", shape.n));
        }
        Ok(())
    }

    /// Multiply-adds that vector lanes make beyond the problem's own: lanes past the last column of each region.
    pub fn wasted_macs(&self, shape: Matmul, target: &Target) -> u64 {
        let lanes = target.unit(self.isa).map_or(1, |u| u64::from(u.lanes));
        let waste = |r: &Region| (r.nr.next_multiple_of(lanes) - r.nr) * ((r.end - r.start) / r.nr);
        self.regions.iter().map(waste).sum::<u64>() * shape.m * shape.k
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schedule: &str, [m, k, n]: [u64; 3], target: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        schedule.verify(Matmul { m, k, n }, &target.parse().unwrap()).unwrap_err().why
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
        let wide = "avx2 parallel=none; n 0..1 tile 1x1 mc=1 nc=1 kc=536870913 unroll=2 order=nm lhs=block rhs=inplace";
        assert!(refused(wide, [1, 536_870_913, 1], "x86-64-v3").contains("too long to pack"));
        let lanes = "neon parallel=none; n 0..16 tile 4x16 mc=4 nc=16 kc=64 unroll=2 order=nm lhs=inplace rhs=inplace";
        assert!(refused(lanes, shape, "neoverse-n1").contains("multiple of the 4 lanes"));
        assert!(refused(lanes, shape, "x86-64-v3").contains("has no neon"));
    }
}

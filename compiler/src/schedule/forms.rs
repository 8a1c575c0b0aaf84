//! The requirements of each form of micro-kernel on registers, operands and panels: the facts that legality, costs, lowering and
//! the builder share.

use kiln_ir::contraction::View;
use kiln_ir::rewrite::PanelShape;
use kiln_ir::{Contraction, DType};

use super::{Form, LhsAccess, Region, RhsAccess};
use crate::target::{Multiplier, VectorUnit};

/// The most f32 lanes with which BFMMLA micro-kernels are built: packing transposes as many rows as a vector has groups of
/// four bf16, in registers.
const MMLA_LANES: u32 = 32;

/// Fails if a contraction cannot be computed in this form at all, with the reason.
pub fn check(form: Form, c: &Contraction, unit: &VectorUnit) -> Result<(), String> {
    if (form == Form::Depthwise) != c.window.as_ref().is_some_and(|w| w.depthwise) {
        return Err("depthwise is the form of convolutions with a channel per group, and their only one".into());
    }
    match form {
        Form::Outer | Form::Depthwise => Ok(()),
        Form::Dot if c.window.is_some() => Err("sums in lanes are of matrices".into()),
        Form::Dot if is_unit(c.lhs.col, c.k) && is_unit(c.rhs.row, c.k) => Ok(()),
        Form::Dot => Err("sums in lanes need both factors contiguous along K".into()),
        Form::Mmla if !unit.bf16 => Err(format!("{} has no BFMMLA here", unit.isa)),
        Form::Mmla if unit.lanes > MMLA_LANES => {
            Err(format!("{} lanes are too many for packing to BFMMLA", unit.lanes))
        }
        Form::Mmla if !bf16_factors(c) => Err("f32 factors may not be rounded to bf16".into()),
        Form::Mmla => Ok(()),
    }
}

/// Tells whether columns are neighbours in memory along neither axis of the right factor: a copy for BFMMLA then takes them
/// element by element.
pub fn gathers_columns(c: &Contraction, columns: u64) -> bool {
    !is_unit(c.rhs.row, c.taps(1).1) && !is_unit(c.rhs.col, columns)
}

/// Tells whether rows are neighbours in memory along neither axis of the left factor, as [`gathers_columns`] does; in a window,
/// channels and the pixels of a line.
pub fn gathers_rows(c: &Contraction) -> bool {
    match &c.window {
        None => !is_unit(c.lhs.row, c.m) && !is_unit(c.lhs.col, c.k),
        Some(w) => {
            let pixels = w.axes.last().is_some_and(|a| is_unit(a.stride * a.lhs, a.input));
            !is_unit(c.lhs.col, w.channels) && !pixels
        }
    }
}

/// True if a result whose columns are not neighbours is computed elsewhere and copied.
pub fn transposes_result(c: &Contraction) -> bool {
    c.window.is_some() && c.dst.col != 1
}

/// True if a tensor like such a result has pixels for neighbours.
pub fn is_transposed(v: &View) -> bool {
    v.col > 1
}

/// True if the factors are bf16 or may be rounded to it.
pub fn bf16_factors(c: &Contraction) -> bool {
    c.math.allows_bf16() || (c.lhs.dtype == DType::Bf16 && c.rhs.dtype == DType::Bf16)
}

/// True if neighbours along an axis of `extent` elements are neighbours in memory.
fn is_unit(stride: u64, extent: u64) -> bool {
    stride == 1 || extent == 1
}

/// Fails if a region may not read its operands as it says, with the reason.
pub fn check_access(form: Form, c: &Contraction, unit: &VectorUnit, r: &Region) -> Result<(), String> {
    if c.window.is_some() {
        return match form {
            Form::Mmla if r.lhs == LhsAccess::InPlace => Err("BFMMLA reads these rows packed".into()),
            _ => Ok(()),
        };
    }
    match form {
        Form::Dot if r.lhs != LhsAccess::InPlace || r.rhs != RhsAccess::InPlace => {
            Err("sums in lanes read both factors in place".into())
        }
        Form::Outer if r.rhs == RhsAccess::InPlace && !is_unit(c.rhs.col, r.nr) => {
            Err("columns that are not contiguous must be packed".into())
        }
        Form::Mmla if r.rhs == RhsAccess::InPlace => Err("BFMMLA reads packed columns".into()),
        Form::Mmla if r.lhs == LhsAccess::InPlace && !mmla_in_place(&c.lhs, c.k, unit) => {
            Err("BFMMLA reads these rows packed".into())
        }
        _ => Ok(()),
    }
}

/// True if blocks for BFMMLA can be made of rows as they lie in memory.
pub fn mmla_in_place(lhs: &View, k: u64, unit: &VectorUnit) -> bool {
    // f32 rows are narrowed to blocks of 128 bits, which is a vector only of NEON.
    is_unit(lhs.col, k) && (lhs.dtype == DType::Bf16 || unit.lanes == 4)
}

/// Steps of K that are neighbours in panels.
pub fn interleave(form: Form) -> u64 {
    if form == Form::Mmla { 4 } else { 1 }
}

/// The panel of `width` rows or columns for vectors of `lanes`.
pub fn panel(form: Form, dtype: DType, width: u64, lanes: u64) -> PanelShape {
    match form {
        Form::Mmla => PanelShape { pitch: width.next_multiple_of(lanes / 2), interleave: 4, dtype: DType::Bf16 },
        Form::Outer | Form::Dot | Form::Depthwise => {
            PanelShape { pitch: width.next_multiple_of(lanes), interleave: 1, dtype }
        }
    }
}

/// The multiple of K steps that a loop body must have.
pub fn unroll_group(form: Form, unit: &VectorUnit) -> u64 {
    match (form, unit.multiplier) {
        (Form::Outer, Multiplier::Lane { .. }) => 4,
        (Form::Outer, Multiplier::Broadcast) | (Form::Depthwise, _) => 1,
        // Eight steps of a row are one load.
        (Form::Mmla, _) => 8,
        (Form::Dot, _) => 2 * u64::from(unit.lanes),
    }
}

/// Registers that a tile takes, with as few for its operands as will do.
pub fn registers_needed(form: Form, unit: &VectorUnit, rows: u64, columns: u64, lhs: LhsAccess) -> u64 {
    let lanes = u64::from(unit.lanes);
    let vectors = columns.div_ceil(lanes);
    match (form, unit.multiplier) {
        (Form::Outer, Multiplier::Lane { .. }) => rows * vectors + rows + 1,
        (Form::Outer, Multiplier::Broadcast) => rows * vectors + vectors + 1,
        (Form::Dot, _) => rows * columns + rows + 1,
        // The weights of a few taps and two vectors of the source.
        (Form::Depthwise, _) => rows * vectors + 5,
        (Form::Mmla, _) => {
            let pairs = rows.div_ceil(2);
            // In place, a block is put together from two rows, eight steps at a time.
            let operands = if lhs == LhsAccess::InPlace { 2 * pairs + 3 } else { pairs + 1 };
            // Results come two registers a row vector, and one more is free to separate rows.
            (pairs * columns.div_ceil(lanes / 2) + operands).max(pairs * 2 * vectors + 1)
        }
    }
}

/// Rows, steps of K and columns of which a form computes whole multiples.
pub fn granularity(form: Form, unit: &VectorUnit, c: &Contraction) -> (u64, u64, u64) {
    let lanes = u64::from(unit.lanes);
    match form {
        Form::Outer | Form::Depthwise => (1, 1, lanes),
        Form::Dot => (1, lanes * if dot_pairs(c, unit) { 2 } else { 1 }, 1),
        Form::Mmla => (2, 4, lanes / 2),
    }
}

/// True if sums in lanes are made by BFDOT, two products a lane.
pub fn dot_pairs(c: &Contraction, unit: &VectorUnit) -> bool {
    unit.bf16 && c.lhs.dtype == DType::Bf16 && c.rhs.dtype == DType::Bf16
}

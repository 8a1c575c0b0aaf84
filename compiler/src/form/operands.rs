//! Facts about the operands of a contraction that forms, costs and lowering share.

use kiln_ir::contraction::View;
use kiln_ir::{Contraction, DType};

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
    let allows = |dtype| dtype == DType::Bf16 || (dtype == DType::F32 && c.math.allows_bf16());
    allows(c.lhs.dtype) && allows(c.rhs.dtype)
}

/// True if neighbours along an axis of `extent` elements are neighbours in memory.
pub fn is_unit(stride: u64, extent: u64) -> bool {
    stride == 1 || extent == 1
}

/// True if channels of a window are neighbours in memory.
pub fn has_unit_channels(c: &Contraction) -> bool {
    c.lhs.col == 1 || c.window.as_ref().is_some_and(|w| w.channels == 1)
}

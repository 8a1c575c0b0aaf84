//! The operators of ONNX by kind: each file has a table of those that it knows.

mod attention;
mod contraction;
mod conv;
mod einsum;
mod elementwise;
mod math;
mod movement;
mod normalization;
mod pad;
mod pooling;
mod quantization;
mod quantized;
mod reduction;
mod resize;
mod shapes;
mod slicing;
mod window;

use super::node::{Ctx, Outputs};

/// Adds a node to the function, and gives the values that it makes.
type Import = fn(&mut Ctx<'_>) -> Outputs;

/// An operator by its name in ONNX's own domain.
type Row = (&'static str, Import);

const TABLES: &[&[Row]] = &[
    attention::OPS,
    contraction::OPS,
    conv::OPS,
    einsum::OPS,
    elementwise::OPS,
    math::OPS,
    movement::OPS,
    normalization::OPS,
    pad::OPS,
    pooling::OPS,
    quantization::OPS,
    quantized::OPS,
    reduction::OPS,
    resize::OPS,
    shapes::OPS,
    slicing::OPS,
];

/// The import of an operator, if it is known.
pub(super) fn find(domain: &str, op: &str) -> Option<Import> {
    if !domain.is_empty() {
        return None;
    }
    TABLES.iter().flat_map(|table| table.iter()).find(|(name, _)| *name == op).map(|(_, import)| *import)
}

/// The operators that are known, sorted.
pub(super) fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = TABLES.iter().flat_map(|table| table.iter()).map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

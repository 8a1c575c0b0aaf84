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
use super::schema::{Version, versions};

/// Adds a node to the function, and gives the values that it makes.
pub(super) type Import = fn(&mut Ctx<'_>) -> Outputs;

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

/// An operator as an operator set has it, with its import; else what the model's author can do.
pub(super) fn find(domain: &str, op: &str, opset: i64) -> Result<(&'static Version, Import), String> {
    const LIST: &str = "`kiln model operators` lists what is";
    if !domain.is_empty() {
        return Err(format!("only ONNX's own operators are; {LIST}"));
    }
    let rows = || TABLES.iter().flat_map(|table| table.iter());
    let known = rows().find(|(name, _)| *name == op).map(|(_, import)| *import).ok_or_else(|| LIST.to_owned())?;
    let version = Version::of(op, opset).ok_or_else(|| {
        let since = versions(op).first().map_or(0, |version| version.since);
        format!("ONNX has it from operator set {since} on; export the model with that or a later one")
    })?;
    Ok((version, known))
}

/// An operator that is supported, in ONNX's own domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operator {
    /// Its name.
    pub name: &'static str,
    /// The first operator set that has it; it is supported from there to the last of [`OPSETS`](crate::OPSETS).
    pub since: i64,
}

/// The operators that are supported, by name.
pub fn operators() -> Vec<Operator> {
    let all = TABLES.iter().flat_map(|table| table.iter());
    let mut all: Vec<_> = all
        .map(|(name, _)| Operator { name, since: versions(name).first().map_or(1, |version| version.since) })
        .collect();
    all.sort_unstable_by_key(|operator| operator.name);
    all
}

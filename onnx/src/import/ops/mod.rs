//! The operators of ONNX by kind: each file has a table of those that it knows.

mod attention;
mod bits;
mod contraction;
mod conv;
mod einsum;
mod elementwise;
mod indexed;
mod known;
mod linear_attention;
mod loss;
mod math;
mod microsoft;
mod movement;
mod normalization;
mod pad;
mod pooling;
mod preview;
mod quantization;
mod quantized;
mod recurrent;
mod reduction;
mod refused;
mod resize;
mod row;
mod sampling;
mod shapes;
mod signal;
mod slicing;
mod window;

use super::schema::{self, Version, versions};
use super::{control, sequence};
pub use refused::{Refusal, refusals};
use row::{ImportTensors, Row};

/// The function that imports a node, by the kind of what the node takes and gives.
#[derive(Clone, Copy)]
pub(super) enum Import {
    /// One of tensors.
    Tensors(ImportTensors),
    /// One of sequences or optionals.
    Items(sequence::ImportItems),
    /// One that has graphs.
    Control(control::ImportControl),
}

const TABLES: &[&[Row]] = &[
    attention::OPS,
    bits::OPS,
    contraction::OPS,
    conv::OPS,
    einsum::OPS,
    elementwise::OPS,
    indexed::OPS,
    known::OPS,
    linear_attention::OPS,
    loss::OPS,
    math::OPS,
    movement::OPS,
    normalization::OPS,
    pad::OPS,
    pooling::OPS,
    quantization::OPS,
    quantized::OPS,
    recurrent::OPS,
    reduction::OPS,
    resize::OPS,
    sampling::OPS,
    shapes::OPS,
    signal::OPS,
    slicing::OPS,
];

/// The command that lists the operators that are supported.
const LIST: &str = "`kiln model operators` lists what is";

/// An operator as an operator set has it, with its import; else what the model's author can do. `opset` is the version of the
/// domain's operators.
pub(super) fn find(domain: &str, op: &str, opset: i64) -> Result<(&'static Version, Import), String> {
    let of = |tables: &[&[Row]]| {
        let mut rows = tables.iter().flat_map(|table| table.iter());
        rows.find(|(name, _)| *name == op).map(|(_, import)| Import::Tensors(*import))
    };
    let own = || rows().find(|(name, _)| *name == op).map(|(_, import)| import);
    let refused = || refused::why(domain, op).map_or(LIST.to_owned(), |why| format!("{why}; {LIST}"));
    let tables: Option<&[&[Row]]> = match domain {
        microsoft::DOMAIN => Some(microsoft::TABLES),
        preview::DOMAIN => Some(&[preview::OPS]),
        _ => None,
    };
    if let Some(tables) = tables {
        let import = of(tables).zip(schema::other(domain, op));
        return import.map(|(import, version)| (version, import)).ok_or_else(refused);
    }
    if !domain.is_empty() {
        return Err(refused());
    }
    if let Some((import, version)) = own().zip(Version::of(op, opset)) {
        return Ok((version, import));
    }
    if let Some((import, version)) = of(&[microsoft::IN_ONNX]).zip(schema::other(domain, op)) {
        return Ok((version, import));
    }
    match (own(), versions(op).first()) {
        (Some(_), Some(first)) => {
            let since = first.since;
            Err(format!("ONNX has it from operator set {since} on; export the model with that or a later one"))
        }
        _ => Err(refused()),
    }
}

/// The operators of ONNX's own domain that are known.
fn rows() -> impl Iterator<Item = (&'static str, Import)> {
    let tensors = TABLES.iter().flat_map(|table| table.iter()).map(|(name, import)| (*name, Import::Tensors(*import)));
    let items = sequence::OPS.iter().map(|(name, import)| (*name, Import::Items(*import)));
    tensors.chain(items).chain(control::OPS.iter().map(|(name, import)| (*name, Import::Control(*import))))
}

/// True if an operator of ONNX's own domain is known.
pub(super) fn is_known(op: &str) -> bool {
    rows().any(|(name, _)| name == op)
}

/// An operator that is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operator {
    /// The domain that it is of; empty for ONNX's own.
    pub domain: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The first operator set that has it; it is supported from there to the last of [`OPSETS`](crate::OPSETS), or of other domains
    /// in that version.
    pub since: i64,
}

/// The operators that are supported, by domain and name.
pub fn operators() -> Vec<Operator> {
    let own = rows().map(|(name, _)| {
        let since = versions(name).first().map_or(1, |version| version.since);
        Operator { domain: "", name, since }
    });
    let other = microsoft::TABLES.iter().flat_map(|table| table.iter());
    let other = other.map(|(name, _)| Operator { domain: microsoft::DOMAIN, name, since: 1 });
    let preview = preview::OPS.iter().map(|(name, _)| Operator { domain: preview::DOMAIN, name, since: 1 });
    // Those of ONNX that ONNX Runtime writes in earlier versions, too, are there already.
    let early = microsoft::IN_ONNX.iter().filter(|(name, _)| versions(name).is_empty());
    let early = early.map(|(name, _)| Operator { domain: "", name, since: 1 });
    let mut all: Vec<_> = own.chain(other).chain(preview).chain(early).collect();
    all.sort_unstable_by_key(|operator| (operator.domain, operator.name));
    all
}

/// ONNX's own operators that are neither [supported](operators) nor [refused](refusals) for a reason, by name.
pub fn unsupported() -> Vec<&'static str> {
    schema::names().filter(|name| !is_known(name) && refused::why("", name).is_none()).collect()
}

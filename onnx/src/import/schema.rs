//! The signatures of ONNX's own operators: their versions, how many inputs and outputs each may have, and its attributes.

mod microsoft;
mod table;
mod version;

use version::{ANY, Operator, v};
pub(super) use version::{Kind, Version};

/// All versions of one of ONNX's own operators; none if there is no such operator.
pub(super) fn versions(op: &str) -> &'static [Version] {
    let found = table::OPERATORS.binary_search_by(|(name, _)| (*name).cmp(op));
    found.map_or(&[], |at| table::OPERATORS[at].1)
}

/// The names of all of ONNX's own operators.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    table::OPERATORS.iter().map(|(name, _)| *name)
}

/// Operators of `ai.onnx.preview`, sorted by name.
const PREVIEW: &[Operator] = &[(
    "FlexAttention",
    &[v(
        1,
        3,
        3,
        1,
        &[
            ("prob_mod", Kind::Graph),
            ("scale", Kind::Float),
            ("score_mod", Kind::Graph),
            ("softmax_precision", Kind::Int),
        ],
    )],
)];

/// An operator of ONNX's domain of previews, or else one that ONNX Runtime adds, in the only version that there is.
pub(super) fn other(domain: &str, op: &str) -> Option<&'static Version> {
    let table = if domain == "ai.onnx.preview" { PREVIEW } else { microsoft::OPERATORS };
    let found = table.binary_search_by(|(name, _)| (*name).cmp(op));
    found.ok().and_then(|at| table[at].1.first())
}

impl Version {
    /// An operator as an operator set has it.
    pub(super) fn of(op: &str, opset: i64) -> Option<&'static Version> {
        versions(op).iter().rev().find(|version| version.since <= opset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_and_versions_are_in_order() {
        assert!(table::OPERATORS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(microsoft::OPERATORS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(table::OPERATORS.iter().all(|(_, versions)| versions.is_sorted_by(|a, b| a.since < b.since)));
        let since = |op: &str, opset: i64| Version::of(op, opset).map(|version| version.since);
        assert_eq!((since("Relu", 5), since("Relu", 17), since("Gelu", 19)), (Some(1), Some(6), None));
    }
}

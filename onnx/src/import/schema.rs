//! What ONNX's own operators take: their versions, how many inputs and outputs each may have, and its attributes.

mod microsoft;
mod table;

use crate::graph::Attribute;

/// As many inputs or outputs as one likes.
const ANY: usize = usize::MAX;

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Int,
    Str,
    Tensor,
    SparseTensor,
    Graph,
    Type,
    Floats,
    Ints,
    Strings,
}

impl Kind {
    /// Whether a value has this type. A list of one integer may be written as an integer: a file that does not say types of
    /// attributes has no type for an empty list, which is then guessed to be a number.
    fn fits(self, value: &Attribute) -> bool {
        match value {
            Attribute::Float(_) => self == Kind::Float,
            Attribute::Int(_) => matches!(self, Kind::Int | Kind::Ints),
            Attribute::String(_) => self == Kind::Str,
            Attribute::Tensor(_) => self == Kind::Tensor,
            Attribute::Graph(_) => self == Kind::Graph,
            Attribute::Floats(_) => self == Kind::Floats,
            Attribute::Ints(_) => self == Kind::Ints,
            Attribute::Strings(_) => self == Kind::Strings,
            Attribute::Type(_) => self == Kind::Type,
            // It is of a function's, and gone where nodes are imported.
            Attribute::Reference(_) => false,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Kind::Float => "a floating-point number",
            Kind::Int => "an integer",
            Kind::Str => "a string",
            Kind::Tensor => "a tensor",
            Kind::SparseTensor => "a sparse tensor",
            Kind::Graph => "a graph",
            Kind::Type => "a type",
            Kind::Floats => "a list of floating-point numbers",
            Kind::Ints => "a list of integers",
            Kind::Strings => "a list of strings",
        }
    }
}

/// An operator from one version of the operator set on, until its next version.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) since: i64,
    /// How many inputs it needs, and may have.
    pub(super) inputs: std::ops::RangeInclusive<usize>,
    /// How many outputs it may have.
    pub(super) outputs: usize,
    pub(super) attributes: &'static [(&'static str, Kind)],
}

/// An operator by its name, with its versions in ascending order.
pub(super) type Operator = (&'static str, &'static [Version]);

/// A version, as the table has it.
const fn v(
    since: i64,
    least: usize,
    most: usize,
    outputs: usize,
    attributes: &'static [(&'static str, Kind)],
) -> Version {
    Version { since, inputs: std::ops::RangeInclusive::new(least, most), outputs, attributes }
}

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

    /// Why an attribute cannot be one of this operator, if it cannot.
    pub(super) fn refuses(&self, name: &str, value: &Attribute) -> Option<String> {
        match self.attributes.iter().find(|(known, _)| *known == name) {
            Some((_, kind)) if kind.fits(value) => None,
            Some((_, kind)) => Some(format!("it must be {}", kind.words())),
            None => {
                let known: Vec<_> = self.attributes.iter().map(|(name, _)| format!("`{name}`")).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                Some(format!(
                    "ONNX does not define it there, and what it would change is not known; it defines {known}"
                ))
            }
        }
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

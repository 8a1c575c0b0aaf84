//! A version of an operator, and the types of its attributes.

use crate::graph::Attribute;

/// As many inputs or outputs as one likes.
pub(super) const ANY: usize = usize::MAX;

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) enum Kind {
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
    /// True if a value has this type. A list of one integer may be written as an integer: a file that does not say types of
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
pub(in crate::import) struct Version {
    pub(in crate::import) since: i64,
    /// The numbers of inputs that it needs, and may have.
    pub(in crate::import) inputs: std::ops::RangeInclusive<usize>,
    /// The number of outputs that it may have.
    pub(in crate::import) outputs: usize,
    pub(in crate::import) attributes: &'static [(&'static str, Kind)],
}

/// An operator by its name, with its versions in ascending order.
pub(super) type Operator = (&'static str, &'static [Version]);

/// A version, as the table has it.
pub(super) const fn v(
    since: i64,
    least: usize,
    most: usize,
    outputs: usize,
    attributes: &'static [(&'static str, Kind)],
) -> Version {
    Version { since, inputs: std::ops::RangeInclusive::new(least, most), outputs, attributes }
}

impl Version {
    /// The reason why an attribute cannot be one of this operator, if it cannot.
    pub(in crate::import) fn refuses(&self, name: &str, value: &Attribute) -> Option<String> {
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

//! A dimension of an input.

use std::fmt;

use super::name::DimRole;

/// One dimension of an input of a model, with its size as far as [bindings](crate::Bindings) say it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dimension {
    /// The input.
    pub input: String,
    /// Which of its dimensions, from 0.
    pub axis: usize,
    /// Its name in the model; empty if it has none, or one size.
    pub name: String,
    /// Its meaning, as far as its name and its place say it.
    pub role: Option<DimRole>,
    /// True if its place says the role: it has no name, a made-up one, or a single letter that is usual at this place.
    pub is_role_of_place: bool,
    /// Its size, and where that comes from; `None` if it is open.
    pub size: Option<(u64, SizeOrigin)>,
}

/// The source of a dimension's size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SizeOrigin {
    /// The model.
    Model,
    /// The whole shape of the input, or a value for it.
    Shape,
    /// The size that is bound for its name.
    Name,
    /// A dimension of the same name of this input, whose whole shape is bound.
    Input(String),
    /// Its name is an expression of other dimensions; or theirs are of it.
    Expression,
    /// The size that is bound for its role.
    Role,
}

impl Dimension {
    /// True if the model leaves its size open.
    pub fn is_open(&self) -> bool {
        !matches!(self.size, Some((_, SizeOrigin::Model)))
    }
}

/// In short: `input[axis] name = size`.
impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.input.escape_debug(), self.axis)?;
        if !self.name.is_empty() {
            write!(f, " `{}`", self.name.escape_debug())?;
        }
        match &self.size {
            Some((size, _)) => write!(f, " = {size}"),
            None => f.write_str(" is open"),
        }
    }
}

//! What can be wrong with a function, and where.

use std::fmt;

use super::element::UnknownElementType;
use super::op::{OpError, SettingError, TensorOp};
use super::types::{TensorType, TypeError};
use crate::text::{Pos, SyntaxError};

/// A function that is malformed. Always the author's to mend; the message says how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuncError {
    /// Where in the text; none for a function that is built by calls.
    pub at: Option<Pos>,
    /// What is wrong.
    pub kind: FuncErrorKind,
}

impl FuncError {
    pub(super) fn at(at: Pos, kind: impl Into<FuncErrorKind>) -> Self {
        Self { at: Some(at), kind: kind.into() }
    }
}

impl fmt::Display for FuncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "{at}: ")?;
        }
        self.kind.fmt(f)
    }
}

impl std::error::Error for FuncError {}

impl From<FuncErrorKind> for FuncError {
    fn from(kind: FuncErrorKind) -> Self {
        Self { at: None, kind }
    }
}

impl From<SyntaxError> for FuncError {
    fn from(e: SyntaxError) -> Self {
        Self { at: Some(e.at), kind: FuncErrorKind::Syntax { expected: e.expected, found: e.found } }
    }
}

/// What is wrong with a function. Values are named as their author named them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FuncErrorKind {
    /// The text does not follow the grammar.
    #[error("expected {expected}, found {found}")]
    Syntax {
        /// What the grammar allows.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A name is not one.
    #[error("`{0}` is not a name: expected a letter or `_`, then letters, digits, `_` or `.`")]
    Name(String),
    /// Not an element type.
    #[error(transparent)]
    Element(#[from] UnknownElementType),
    /// A shape that no tensor may have.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// Not an operation.
    #[error("unknown operation `{name}`: expected {}", names())]
    UnknownOp {
        /// The word.
        name: String,
    },
    /// Settings that the operation does not have.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A constant whose elements are not all in the text.
    #[error("{value}: {why}")]
    Constant {
        /// Its name.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The function returns nothing.
    #[error("a function returns at least one value")]
    NoResult,
    /// A value that is not there.
    #[error("undefined value {0}: a value is an argument or the result of an earlier operation")]
    Undefined(String),
    /// A value that is there already.
    #[error("{value} is defined again{}", first.map(|at| format!(": it was defined at {at}")).unwrap_or_default())]
    Redefined {
        /// Its name.
        value: String,
        /// Where it was defined first, if there is a text.
        first: Option<Pos>,
    },
    /// An argument is added after an operation.
    #[error("argument {0} comes after an operation: all arguments come first")]
    LateArgument(String),
    /// An operation does not take its operands.
    #[error("{value}: {cause}")]
    Op {
        /// The value it was to define.
        value: String,
        /// What is wrong.
        cause: Box<OpError>,
    },
    /// The value returned is not of the declared type.
    #[error("{value} is {}, but the function is declared to return {}", found.brief(), declared.brief())]
    ReturnType {
        /// The value returned.
        value: String,
        /// Its type.
        found: TensorType,
        /// The type declared.
        declared: TensorType,
    },
    /// A constant is not what the argument is that it is to be.
    #[error("{argument} is {}, and its value is {}", declared.brief(), found.brief())]
    Bound {
        /// The argument.
        argument: String,
        /// Its type.
        declared: TensorType,
        /// The type of the value.
        found: TensorType,
    },
    /// An order of memory is none of the tensor's.
    #[error("{value} is {}, and {order:?} does not name each axis once", ty.brief())]
    Order {
        /// The value.
        value: String,
        /// The axes given.
        order: Vec<u64>,
        /// Its type.
        ty: TensorType,
    },
    /// More or fewer values are returned than declared.
    #[error("{found} value(s) are returned, but the function is declared to return {declared}")]
    Returns {
        /// Values returned.
        found: usize,
        /// Values declared.
        declared: usize,
    },
}

fn names() -> String {
    TensorOp::names().collect::<Vec<_>>().join(", ")
}

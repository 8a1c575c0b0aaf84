//! The pieces that the text of an operation consists of.

use std::fmt;

use super::{Addr, Param, V};

impl fmt::Display for V {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// The parameter is called `p0`, `p1`, ...: an address alone does not know its name.
impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        AddrText { addr: self, params: &[] }.fmt(f)
    }
}

/// A part of the text of an operation in the table.
pub(super) enum Piece {
    /// Stands for itself.
    Text(&'static str),
    /// Stands for the field of this name.
    Field(&'static str),
}

/// The parts of a text such as `{d} += {a} * {b}`.
pub(super) fn pieces(text: &'static str) -> impl Iterator<Item = Piece> {
    text.split('{').flat_map(|part| match part.split_once('}') {
        Some((field, text)) => [Piece::Field(field), Piece::Text(text)],
        None => [Piece::Text(""), Piece::Text(part)],
    })
}

/// An address in a micro-kernel with these parameters.
pub(super) struct AddrText<'a> {
    pub addr: &'a Addr,
    pub params: &'a [Param],
}

impl fmt::Display for AddrText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Addr { param, offset, step } = self.addr;
        match self.params.get(usize::from(param.0)) {
            Some(p) => f.write_str(&p.name)?,
            None => write!(f, "p{}", param.0)?,
        }
        match step {
            0 => write!(f, "[{offset}]"),
            1.. => write!(f, "[{offset} + {step}*t]"),
            _ => write!(f, "[{offset} - {}*t]", step.unsigned_abs()),
        }
    }
}

//! The roles of an operation's fields: registers that are read or written, places in memory, and numbers.

use std::fmt;

use super::{Binary, Factors, Permute, Shift, Unary};
use crate::microkernel::pieces::AddrText;
use crate::microkernel::words::{ParseError, Words};
use crate::microkernel::{Addr, Param, V};

/// The effect of an operation on a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Effect {
    /// The register holds the result.
    pub defined: bool,
    /// The result is written before all operands are read.
    pub early: bool,
    /// Elements of the register are taken one by one.
    pub scalars: bool,
    /// The register is read.
    pub used: bool,
}

const NONE: Effect = Effect { defined: false, early: false, scalars: false, used: false };

/// A rule for a number in an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// An operand by element has 4 elements to choose from in each 128 bits.
    #[error("lane {0}: expected 0 to 3")]
    Lane(u8),
    /// Shifts are by 1 to 31 bits.
    #[error("a shift by {0} bits: expected 1 to 31")]
    ShiftBy(u8),
    /// A frame has [`MAX_SLOTS`] slots.
    #[error("slot {0}: expected less than {MAX_SLOTS}")]
    Slot(u16),
    /// Permutations are by elements of 8, 16, 32 or 64 bits.
    #[error("elements of {0} bits: expected 8, 16, 32 or 64")]
    ElementBits(u8),
}

/// A role that a field can have.
pub(in super::super) trait Role {
    /// The type of the field.
    type Value: Copy;

    /// Prints a field, in an operation of a micro-kernel with these parameters.
    fn print(value: Self::Value, params: &[Param], f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Reads a field of such an operation.
    fn parse(words: &mut Words<'_>, params: &[Param]) -> Result<Self::Value, ParseError>;

    /// The effect of the operation on the register that the field names, if it names one.
    const EFFECT: Effect = NONE;

    /// The register that the field names, if it is one.
    fn register(_value: Self::Value) -> Option<V> {
        None
    }

    /// The slot of the frame that the field names, if it is one.
    fn slot(_value: Self::Value) -> Option<u16> {
        None
    }

    /// The field with another register in the place of its own, if it names one.
    fn rename(value: Self::Value, _f: &mut dyn FnMut(V) -> V) -> Self::Value {
        value
    }

    /// The rule that the field breaks.
    fn check(_value: Self::Value) -> Result<(), Rule> {
        Ok(())
    }

    /// The field in the meaning of its operation: words of a register or of what was loaded, or a number.
    type Meant<'a, W: 'a>;

    /// The meaning of the field. `read` has the words of the operands' registers, from which each operand takes the next; `loaded` are the
    /// words that are loaded from memory or a slot.
    fn mean<'a, W>(value: Self::Value, read: &mut std::slice::Iter<'a, Vec<W>>, loaded: &'a [W]) -> Self::Meant<'a, W>;
}

/// Defines roles that are printed and read alike.
macro_rules! registers {
    ($($(#[$doc:meta])* $role:ident $is_read:ident: $effect:expr;)*) => {$(
        $(#[$doc])*
        pub(in super::super) struct $role;

        impl Role for $role {
            type Value = V;

            fn print(value: V, _params: &[Param], f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{value}")
            }

            fn parse(words: &mut Words<'_>, _params: &[Param]) -> Result<V, ParseError> {
                words.register()
            }

            const EFFECT: Effect = $effect;

            #[inline]
            fn register(value: V) -> Option<V> {
                Some(value)
            }

            #[inline]
            fn rename(value: V, f: &mut dyn FnMut(V) -> V) -> V {
                f(value)
            }

            type Meant<'a, W: 'a> = &'a [W];

            fn mean<'a, W>(_value: V, read: &mut std::slice::Iter<'a, Vec<W>>, _loaded: &'a [W]) -> &'a [W] {
                registers!(@$is_read read)
            }
        }
    )*};
    (@read $read:ident) => { $read.next().map_or(&[], Vec::as_slice) };
    (@written $read:ident) => {{
        let _ = $read;
        &[]
    }};
}

registers! {
    /// The result. It may replace an operand.
    Def written: Effect { defined: true, ..NONE };
    /// The result, in a register that no operand is in.
    Early written: Effect { defined: true, early: true, ..NONE };
    /// The result, which is added to what the register held.
    Acc read: Effect { defined: true, used: true, ..NONE };
    /// An operand.
    Use read: Effect { used: true, ..NONE };
    /// An operand whose elements are taken one by one.
    Scalars read: Effect { used: true, scalars: true, ..NONE };
}

/// An address that is read from or stored to.
pub(in super::super) struct Place;

impl Role for Place {
    type Value = Addr;

    fn print(value: Addr, params: &[Param], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", AddrText { addr: &value, params })
    }

    fn parse(words: &mut Words<'_>, params: &[Param]) -> Result<Addr, ParseError> {
        words.addr(params)
    }

    type Meant<'a, W: 'a> = &'a [W];

    fn mean<'a, W>(_value: Addr, _read: &mut std::slice::Iter<'a, Vec<W>>, loaded: &'a [W]) -> &'a [W] {
        loaded
    }
}

/// A slot of the frame, `[3]`.
pub(in super::super) struct Slot;

impl Role for Slot {
    type Value = u16;

    fn print(value: u16, _params: &[Param], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{value}]")
    }

    fn parse(words: &mut Words<'_>, _params: &[Param]) -> Result<u16, ParseError> {
        words.literal("[")?;
        let slot = words.number("the number of a slot")?;
        words.literal("]")?;
        Ok(slot)
    }

    fn slot(value: u16) -> Option<u16> {
        Some(value)
    }

    fn check(value: u16) -> Result<(), Rule> {
        if value < MAX_SLOTS { Ok(()) } else { Err(Rule::Slot(value)) }
    }

    type Meant<'a, W: 'a> = &'a [W];

    fn mean<'a, W>(_value: u16, _read: &mut std::slice::Iter<'a, Vec<W>>, loaded: &'a [W]) -> &'a [W] {
        loaded
    }
}

/// Slots that a frame can have.
pub const MAX_SLOTS: u16 = 256;

/// Defines roles of numbers and words.
macro_rules! plain {
    ($($(#[$doc:meta])* $role:ident: $value:ty, $print:expr, $parse:expr $(, $check:expr)?;)*) => {$(
        $(#[$doc])*
        pub(in super::super) struct $role;

        impl Role for $role {
            type Value = $value;

            fn print(value: $value, _params: &[Param], f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let print: fn($value, &mut fmt::Formatter<'_>) -> fmt::Result = $print;
                print(value, f)
            }

            fn parse(words: &mut Words<'_>, _params: &[Param]) -> Result<$value, ParseError> {
                let parse: fn(&mut Words<'_>) -> Result<$value, ParseError> = $parse;
                parse(words)
            }

            $(fn check(value: $value) -> Result<(), Rule> {
                let check: fn($value) -> Result<(), Rule> = $check;
                check(value)
            })?

            type Meant<'a, W: 'a> = $value;

            fn mean<'a, W>(value: $value, _read: &mut std::slice::Iter<'a, Vec<W>>, _loaded: &'a [W]) -> $value {
                value
            }
        }
    )*};
}

plain! {
    /// A number of elements, `x8`.
    Elements: u16, |n, f| write!(f, "x{n}"), |words| words.elements();
    /// A small number of elements, `x4`.
    Few: u8, |n, f| write!(f, "x{n}"), |words| words.elements();
    /// A word's bits.
    Bits: u32, |n, f| write!(f, "{n}"), |words| words.number("a 32-bit word");
    /// The index of an element in each 128 bits.
    Lane: u8, |n, f| write!(f, "{n}"), |words| words.number("a lane"),
        |lane| if lane < 4 { Ok(()) } else { Err(Rule::Lane(lane)) };
    /// A distance in bits.
    ShiftBy: u8, |n, f| write!(f, "{n}"), |words| words.number("a number of bits"),
        |by| if (1..=31).contains(&by) { Ok(()) } else { Err(Rule::ShiftBy(by)) };
    /// Bits of an element.
    ElementBits: u8, |n, f| write!(f, "{n}"), |words| words.number("bits of an element"),
        |bits| if matches!(bits, 8 | 16 | 32 | 64) { Ok(()) } else { Err(Rule::ElementBits(bits)) };
    /// One of [`Binary`].
    BinaryWord: Binary, |op, f| f.write_str(name(Binary::ALL, op)), |words| words.named(Binary::ALL);
    /// One of [`Unary`].
    UnaryWord: Unary, |op, f| f.write_str(name(Unary::ALL, op)), |words| words.named(Unary::ALL);
    /// One of [`Shift`].
    ShiftWord: Shift, |op, f| f.write_str(name(Shift::ALL, op)), |words| words.named(Shift::ALL);
    /// One of [`Factors`].
    FactorsWord: Factors, |op, f| f.write_str(name(Factors::ALL, op)), |words| words.named(Factors::ALL);
    /// One of [`Permute`].
    PermuteWord: Permute, |op, f| f.write_str(name(Permute::ALL, op)), |words| words.named(Permute::ALL);
}

/// The word of an operation.
fn name<T: PartialEq>(all: &[(&'static str, T)], op: T) -> &'static str {
    all.iter().find(|(_, o)| *o == op).map_or("?", |(name, _)| name)
}

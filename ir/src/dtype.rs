//! Element types.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16: the upper half of a binary32. Sums of its products are binary32.
    Bf16,
    /// IEEE 754 binary16. Sums of its products are binary32.
    F16,
    /// Integers of 8 bits from -128 to 127. Sums of their products are integers of 32 bits.
    S8,
    /// Integers of 8 bits from 0 to 255. Sums of their products are integers of 32 bits.
    U8,
    /// Integers of 16 bits. Problems have none: those of 8 bits are widened to it in panels where products are of 16 bits.
    S16,
    /// Integers of 32 bits, which sums of products of those of 8 are.
    S32,
}

/// Each with its name and its bytes, in the order of the variants.
const TYPES: &[(&str, usize)] = &[("f32", 4), ("bf16", 2), ("f16", 2), ("s8", 1), ("u8", 1), ("s16", 2), ("s32", 4)];

impl DType {
    /// All element types, in the order they are named to users.
    pub const ALL: &'static [DType] =
        &[DType::F32, DType::Bf16, DType::F16, DType::S8, DType::U8, DType::S16, DType::S32];

    /// The word in problems.
    pub(crate) const fn name(self) -> &'static str {
        TYPES[self as usize].0
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        TYPES[self as usize].1
    }

    /// The whole elements in so many bytes. Their size is a power of two, so that calls of kernels, which count the elements of all
    /// arguments, do not divide.
    pub const fn elements_in(self, bytes: usize) -> usize {
        bytes >> self.bytes().trailing_zeros()
    }

    /// True if an element has fewer bits than a lane of a register. It is widened when it is loaded, floating-point types to f32
    /// and integers to s32. Floating-point types are rounded when they are stored; integers of 8 bits are not stored.
    pub fn is_narrow(self) -> bool {
        self.bytes() < 4
    }

    /// True for integers.
    pub fn is_integer(self) -> bool {
        matches!(self, DType::S8 | DType::U8 | DType::S16 | DType::S32)
    }

    /// The element whose bits are the low ones of `bits`, as f32: integers of more than 24 bits are rounded.
    pub fn from_bits(self, bits: u32) -> f32 {
        match self {
            DType::F32 => f32::from_bits(bits),
            DType::Bf16 => f32::from_bits(bits << 16),
            DType::F16 => f16::from_bits(bits as u16).to_f32(),
            DType::S8 => (bits as u8).cast_signed().into(),
            DType::U8 => (bits as u8).into(),
            DType::S16 => (bits as u16).cast_signed().into(),
            DType::S32 => bits.cast_signed() as f32,
        }
    }

    /// The bits of the element that is nearest to a value, ties to even; NaN stays NaN, and is 0 as an integer.
    pub fn to_bits(self, value: f32) -> u32 {
        match self {
            DType::F32 => value.to_bits(),
            DType::Bf16 => bf16::from_f32(value).to_bits().into(),
            DType::F16 => f16::from_f32(value).to_bits().into(),
            DType::S8 => u32::from((value.round_ties_even() as i8).cast_unsigned()),
            DType::U8 => u32::from(value.round_ties_even() as u8),
            DType::S16 => u32::from((value.round_ties_even() as i16).cast_unsigned()),
            DType::S32 => (value.round_ties_even() as i32).cast_unsigned(),
        }
    }

    /// The bits of the element that is nearest to one of type `from` whose bits are the low ones of `bits`.
    pub fn converted(self, from: DType, bits: u32) -> u32 {
        match self == from {
            true => bits,
            false => self.to_bits(from.from_bits(bits)),
        }
    }

    /// The element whose bits are the low ones of `bits`, exactly.
    pub fn to_f64(self, bits: u32) -> f64 {
        match self {
            DType::S32 => bits.cast_signed().into(),
            other => other.from_bits(bits).into(),
        }
    }

    /// The word that a lane of a register holds for the element whose bits are the low ones of `bits`: floating-point types as f32,
    /// integers as s32.
    pub fn widen(self, bits: u32) -> u32 {
        match self {
            DType::F32 | DType::S32 => bits,
            DType::Bf16 | DType::F16 => self.from_bits(bits).to_bits(),
            DType::S8 => i32::from((bits as u8).cast_signed()).cast_unsigned(),
            DType::U8 => u32::from(bits as u8),
            DType::S16 => i32::from((bits as u16).cast_signed()).cast_unsigned(),
        }
    }

    /// The nearest value of this type, ties to even, as f32.
    pub fn round(self, value: f32) -> f32 {
        self.from_bits(self.to_bits(value))
    }

    /// An upper bound of the error of rounding a value to this type. It is infinite for values that are too large for the type.
    pub fn rounding_error(self, value: f64) -> f64 {
        // Half of the last place of normal numbers, relative; half of the least number; the greatest number.
        let (relative, least, most) = match self {
            DType::F32 | DType::S32 => return 0.0,
            DType::S8 | DType::U8 | DType::S16 => return 0.5,
            DType::Bf16 => (f64::from(bf16::EPSILON) / 2.0, 0.0, f64::INFINITY),
            DType::F16 => (f64::from(f16::EPSILON) / 2.0, f64::from(f16::from_bits(1)) / 2.0, f64::from(f16::MAX)),
        };
        if value.abs() > most { f64::INFINITY } else { value.abs() * relative + least }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no element type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype `{0}`: expected f32, bf16, f16, s8, u8 or s32")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(s: &str) -> Result<Self, UnknownDType> {
        DType::ALL.iter().copied().find(|d| d.to_string() == s).ok_or_else(|| UnknownDType(s.into()))
    }
}

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
}

/// Each with its name and its bytes, in the order of the variants.
const TYPES: &[(&str, usize)] = &[("f32", 4), ("bf16", 2), ("f16", 2)];

impl DType {
    /// All element types, in the order they are named to users.
    pub const ALL: &'static [DType] = &[DType::F32, DType::Bf16, DType::F16];

    /// The word in problems.
    pub(crate) const fn name(self) -> &'static str {
        TYPES[self as usize].0
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        TYPES[self as usize].1
    }

    /// True if elements are widened to f32 when they are loaded, and rounded when they are stored.
    pub fn is_narrow(self) -> bool {
        self != DType::F32
    }

    /// The element whose bits are the low ones of `bits`, as f32.
    pub fn from_bits(self, bits: u32) -> f32 {
        match self {
            DType::F32 => f32::from_bits(bits),
            DType::Bf16 => f32::from_bits(bits << 16),
            DType::F16 => f16::from_bits(bits as u16).to_f32(),
        }
    }

    /// The bits of the element that is nearest to a value, ties to even; NaN stays NaN.
    pub fn to_bits(self, value: f32) -> u32 {
        match self {
            DType::F32 => value.to_bits(),
            DType::Bf16 => bf16::from_f32(value).to_bits().into(),
            DType::F16 => f16::from_f32(value).to_bits().into(),
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
            DType::F32 => return 0.0,
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
#[error("unknown dtype `{0}`: expected f32, bf16 or f16")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(s: &str) -> Result<Self, UnknownDType> {
        DType::ALL.iter().copied().find(|d| d.to_string() == s).ok_or_else(|| UnknownDType(s.into()))
    }
}

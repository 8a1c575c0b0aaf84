//! Element types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16: the upper half of a binary32. Sums of its products are binary32.
    Bf16,
}

impl DType {
    /// All element types, in the order they are named to users.
    pub const ALL: &'static [DType] = &[DType::F32, DType::Bf16];

    /// The nearest value of this type, ties to even, as f32.
    pub fn round(self, value: f32) -> f32 {
        match self {
            DType::F32 => value,
            DType::Bf16 => half::bf16::from_f32(value).to_f32(),
        }
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::Bf16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
        })
    }
}

/// A word that names no element type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype `{0}`: expected f32 or bf16")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(s: &str) -> Result<Self, UnknownDType> {
        DType::ALL.iter().copied().find(|d| d.to_string() == s).ok_or_else(|| UnknownDType(s.into()))
    }
}

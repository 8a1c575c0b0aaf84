//! Types of elements of tensors in functions, and numbers in their operations.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use half::{bf16, f16};

use crate::dtype::DType;

/// The type of a tensor's elements. Kernels compute with [`DType`]s; the others are for what surrounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ElementType {
    F32,
    Bf16,
    F16,
    F64,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    Bool,
}

/// The nearest, ties to even.
pub(super) fn to_bf16(value: f64) -> bf16 {
    bf16::from_f64(sticky(value))
}

/// The nearest, ties to even.
pub(super) fn to_f16(value: f64) -> f16 {
    f16::from_f64(sticky(value))
}

/// The same value for the conversions of `half`, which look at the upper half of its bits alone: the last of these says if there is
/// anything below. They round to 10 bits at most, so that it is no more than that.
fn sticky(value: f64) -> f64 {
    const LOW: u64 = u32::MAX as u64;
    let bits = value.to_bits();
    if value.is_nan() || bits & LOW == 0 { value } else { f64::from_bits((bits & !LOW) | (LOW + 1)) }
}

/// Each with its name and its bytes.
const TYPES: &[(ElementType, &str, usize)] = &[
    (ElementType::F32, "f32", 4),
    (ElementType::Bf16, "bf16", 2),
    (ElementType::F16, "f16", 2),
    (ElementType::F64, "f64", 8),
    (ElementType::I8, "i8", 1),
    (ElementType::U8, "u8", 1),
    (ElementType::I16, "i16", 2),
    (ElementType::U16, "u16", 2),
    (ElementType::I32, "i32", 4),
    (ElementType::U32, "u32", 4),
    (ElementType::I64, "i64", 8),
    (ElementType::U64, "u64", 8),
    (ElementType::Bool, "bool", 1),
];

impl ElementType {
    /// All of them, in the order they are named to users.
    pub fn all() -> impl ExactSizeIterator<Item = ElementType> {
        TYPES.iter().map(|(ty, ..)| *ty)
    }

    fn row(self) -> &'static (ElementType, &'static str, usize) {
        // The table is in the order of the variants, which a test checks.
        &TYPES[self as usize]
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        self.row().2
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        use ElementType::{Bf16, F16, F32, F64};
        matches!(self, F32 | Bf16 | F16 | F64)
    }

    /// The floating-point type that kernels know, if it is one.
    pub fn dtype(self) -> Option<DType> {
        DType::ALL.iter().copied().find(|dtype| !dtype.is_integer() && ElementType::from(*dtype) == self)
    }

    /// The least and the greatest value of an integer type; 0 and 1 of booleans.
    pub fn range(self) -> Option<(f64, f64)> {
        use ElementType::*;
        match self {
            F32 | Bf16 | F16 | F64 => None,
            I8 => Some((i8::MIN.into(), i8::MAX.into())),
            U8 => Some((0.0, u8::MAX.into())),
            I16 => Some((i16::MIN.into(), i16::MAX.into())),
            U16 => Some((0.0, u16::MAX.into())),
            I32 => Some((i32::MIN.into(), i32::MAX.into())),
            U32 => Some((0.0, u32::MAX.into())),
            I64 => Some((i64::MIN as f64, i64::MAX as f64)),
            U64 => Some((0.0, u64::MAX as f64)),
            Bool => Some((0.0, 1.0)),
        }
    }

    /// The nearest value of a floating-point type, ties to even; of an integer type, the integer towards zero, which wraps
    /// around as two's complement does, or is the nearest there is of 64 bits; of booleans, whether it is not zero.
    pub fn round(self, value: f64) -> f64 {
        match self {
            ElementType::F32 => f64::from(value as f32),
            // By way of f32 a value would be rounded twice.
            ElementType::Bf16 => to_bf16(value).to_f64(),
            ElementType::F16 => to_f16(value).to_f64(),
            ElementType::F64 => value,
            ElementType::Bool => f64::from(value != 0.0),
            _ => {
                let (low, high) = self.range().expect("the others are integers");
                let value = value.trunc();
                if (low..=high).contains(&value) || value.is_nan() {
                    return if value.is_nan() { 0.0 } else { value };
                }
                let bits = 8 * self.bytes() as u32;
                if bits == 64 {
                    return value.clamp(low, high);
                }
                let wrapped = (value.clamp(i64::MIN as f64, i64::MAX as f64) as i64) & ((1 << bits) - 1);
                let signed = low < 0.0 && wrapped >> (bits - 1) == 1;
                (if signed { wrapped - (1 << bits) } else { wrapped }) as f64
            }
        }
    }
}

impl From<DType> for ElementType {
    fn from(dtype: DType) -> Self {
        macro_rules! same {
            ($($element:ty, $dtype:ident, $type:ident;)*) => {
                match dtype {
                    $(DType::$dtype => ElementType::$type,)*
                }
            };
        }
        crate::each_element!(same)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().1)
    }
}

/// A word that names no type of elements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown element type `{0}`: expected {names}", names = TYPES.iter().map(|t| t.1).collect::<Vec<_>>().join(", "))]
pub struct UnknownElementType(pub String);

impl FromStr for ElementType {
    type Err = UnknownElementType;

    fn from_str(s: &str) -> Result<Self, UnknownElementType> {
        TYPES.iter().find(|(_, name, _)| *name == s).map(|t| t.0).ok_or_else(|| UnknownElementType(s.into()))
    }
}

/// A number in an operation, compared by its bits.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<f64> for Real {
    fn from(value: f64) -> Self {
        Real(value)
    }
}

impl From<f32> for Real {
    fn from(value: f32) -> Self {
        Real(value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_their_names() {
        for ty in ElementType::all() {
            assert_eq!(ty.to_string().parse(), Ok(ty));
        }
        assert!("f8".parse::<ElementType>().unwrap_err().to_string().contains("bf16"));
    }

    #[test]
    fn values_are_rounded_to_their_type() {
        use ElementType::*;
        let cases = [
            (F16, 65519.0, 65504.0),
            // Half way between two, and a last bit more.
            (F16, 1.0 + 1.0 / 2048.0, 1.0),
            (F16, 1.0 + 1.0 / 2048.0 + f64::EPSILON, 1.0 + 1.0 / 1024.0),
            (Bf16, 1.0 + 1.0 / 256.0, 1.0),
            (Bf16, 1.0 + 1.0 / 256.0 + f64::EPSILON, 1.0 + 1.0 / 128.0),
            (Bf16, -1.0 - 1.0 / 256.0 - f64::from(f32::EPSILON), -1.0 - 1.0 / 128.0),
            (F32, 1e-60, 0.0),
            (I8, 128.0, -128.0),
            (I8, -1.7, -1.0),
            (U8, -1.0, 255.0),
            (U16, 65537.0, 1.0),
            (I32, 2147483648.0, -2147483648.0),
            (I64, 1e30, i64::MAX as f64),
            (Bool, -3.0, 1.0),
            (I32, f64::NAN, 0.0),
        ];
        for (ty, value, expected) in cases {
            assert_eq!(ty.round(value), expected, "{ty} {value}");
        }
    }
}

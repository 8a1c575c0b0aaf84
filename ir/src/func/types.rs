//! The type of a tensor: element type and shape, dense and row-major.

use std::fmt;

use crate::dtype::DType;
use crate::problem::MAX_ELEMENTS;

/// Element type and shape, outermost dimension first. Every dimension is at least 1 and there are at most
/// [`MAX_ELEMENTS`] elements. Rank 0 is a scalar. Prints as `f32[128x768]`, a scalar as `f32[]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    dtype: DType,
    shape: Vec<u64>,
}

/// A shape that no tensor may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// A dimension is zero.
    #[error("{}: dimension {index} is zero: every dimension must be at least 1", Shown(*dtype, shape))]
    ZeroDim {
        /// Element type.
        dtype: DType,
        /// The whole shape.
        shape: Vec<u64>,
        /// Which dimension, from 0.
        index: usize,
    },
    /// Too many elements.
    #[error("{} is too large: a tensor may have at most {MAX_ELEMENTS} elements", Shown(*dtype, shape))]
    TooLarge {
        /// Element type.
        dtype: DType,
        /// The whole shape.
        shape: Vec<u64>,
    },
}

impl TensorType {
    /// Checks the shape.
    pub fn new(dtype: DType, shape: impl Into<Vec<u64>>) -> Result<Self, TypeError> {
        let shape = shape.into();
        if let Some(index) = shape.iter().position(|&d| d == 0) {
            return Err(TypeError::ZeroDim { dtype, shape, index });
        }
        match shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)) {
            Some(n) if n <= MAX_ELEMENTS => Ok(Self { dtype, shape }),
            _ => Err(TypeError::TooLarge { dtype, shape }),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Number of elements, at least 1.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(self.dtype, &self.shape).fmt(f)
    }
}

/// Prints a type that may be invalid.
struct Shown<'a>(DType, &'a [u64]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(dtype, shape) = self;
        write!(f, "{dtype}[")?;
        for (i, d) in shape.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "x" })?;
        }
        f.write_str("]")
    }
}

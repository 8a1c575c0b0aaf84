//! The type of a tensor: element type and shape, dense and row-major.

use std::fmt;

use super::element::ElementType;
use crate::problem::MAX_ELEMENTS;
use crate::text::listed;

/// Element type and shape, outermost dimension first. There are at most [`MAX_ELEMENTS`] elements; a dimension may be 0, and
/// rank 0 is a scalar. Prints as `f32[128x768]`, a scalar as `f32[]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    element: ElementType,
    shape: Vec<u64>,
}

/// A shape that no tensor may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is too large: a tensor may have at most {MAX_ELEMENTS} elements", Brief(*element, shape))]
pub struct TypeError {
    /// Element type.
    pub element: ElementType,
    /// The whole shape.
    pub shape: Vec<u64>,
}

impl TensorType {
    /// Checks the shape.
    pub fn new(element: impl Into<ElementType>, shape: impl Into<Vec<u64>>) -> Result<Self, TypeError> {
        let (element, shape) = (element.into(), shape.into());
        // Zeros do not make the others harmless: strides are products of them.
        match shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1))) {
            Some(n) if n <= MAX_ELEMENTS => Ok(Self { element, shape }),
            _ => Err(TypeError { element, shape }),
        }
    }

    /// Element type.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The type as messages have it: of a shape with many dimensions, the first ones and how many more there are.
    pub fn brief(&self) -> impl fmt::Display + '_ {
        Brief(self.element, &self.shape)
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.element.bytes() as u64
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.element)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "x" })?;
        }
        f.write_str("]")
    }
}

/// Prints a type, which may be invalid, without most of very many dimensions.
struct Brief<'a>(ElementType, &'a [u64]);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Brief(element, shape) = self;
        write!(f, "{element}[")?;
        listed(f, shape, "x", " and ")?;
        f.write_str("]")
    }
}

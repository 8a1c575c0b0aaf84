//! Operations: one file each, with the shape rule and the index maps.

pub mod convolution;
pub mod inner_product;
pub mod matmul;

pub use convolution::{Convolution, Spatial};
pub use inner_product::InnerProduct;
pub use matmul::Matmul;

/// The axes of an operand that take part in a product, as dimensions of its shape. Batch axes come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes {
    /// One per batch axis of the result; `None` where the operand is the same for all of it.
    pub batch: Vec<Option<usize>>,
    /// The outer of the two axes of the matrix: M of lhs and dst, K of rhs.
    pub row: Vec<usize>,
    /// The inner: K of lhs, N of rhs and dst.
    pub col: Vec<usize>,
}

/// Why a pattern of a family is no problem.
pub(crate) const FREE: &str =
    "`?` stands for a free number, which is for families of kernels (`kiln family`): expected a positive integer";

/// A dimension in a descriptor.
pub(crate) fn dim(word: &str, descriptor: &str) -> Result<u64, crate::ProblemError> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
        let why = match descriptor.contains('?') {
            true => FREE.into(),
            false => format!("`{word}` is not a dimension: expected a positive integer"),
        };
        return Err(crate::ProblemError::Descriptor { word: descriptor.into(), why });
    }
    word.parse().map_err(|_| crate::ProblemError::TooLarge { what: format!("dimension {word}") })
}

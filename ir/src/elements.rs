//! Slices of elements whose type is known when the program runs.

pub use half::{bf16, f16};

use crate::dtype::DType;

/// A Rust type whose values are elements of a tensor.
pub trait WithDType: bytemuck::Pod {
    /// The element type that it is.
    const DTYPE: DType;
}

/// Calls a macro with all Rust types that are [elements](WithDType), the [`DType`] of each and its type in tensor functions:
/// `i8, S8, I8; ..`.
#[macro_export]
macro_rules! each_element {
    ($macro:ident) => {
        $macro! {
            f32, F32, F32;
            $crate::elements::bf16, Bf16, Bf16;
            $crate::elements::f16, F16, F16;
            i8, S8, I8;
            u8, U8, U8;
            i16, S16, I16;
            i32, S32, I32;
        }
    };
}

macro_rules! implement {
    ($($element:ty, $dtype:ident, $type:ident;)*) => { $(
        impl WithDType for $element {
            const DTYPE: DType = DType::$dtype;
        }
    )* };
}
each_element!(implement);

/// Bytes that cannot be elements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElementsError {
    /// They do not start where such elements can.
    #[error("elements of {0} start at a multiple of {bytes} bytes in memory", bytes = .0.bytes())]
    Misaligned(DType),
    /// They end inside an element.
    #[error("{len} bytes are no whole number of elements of {dtype}")]
    Partial {
        /// The element type.
        dtype: DType,
        /// Number of bytes.
        len: usize,
    },
}

/// Elements of one type, aligned as that type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elements<'a> {
    dtype: DType,
    bytes: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The elements that `bytes` are.
    pub fn from_bytes(dtype: DType, bytes: &'a [u8]) -> Result<Self, ElementsError> {
        check(dtype, bytes.as_ptr().addr(), bytes.len())?;
        Ok(Self { dtype, bytes })
    }

    /// Their type.
    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// Their number.
    pub fn len(self) -> usize {
        self.dtype.elements_in(self.bytes.len())
    }

    /// True if there are none.
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Their memory.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// They as values of the Rust type that they are; `None` for another.
    pub fn as_slice<T: WithDType>(self) -> Option<&'a [T]> {
        (T::DTYPE == self.dtype).then(|| bytemuck::cast_slice(self.bytes))
    }

    /// The bits of element `at`.
    ///
    /// # Panics
    /// If there is none.
    pub fn bits(self, at: usize) -> u32 {
        let size = self.dtype.bytes();
        self.bytes[at * size..][..size].iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte))
    }

    /// The bits of all elements, in order.
    pub fn iter_bits(self) -> impl Iterator<Item = u32> {
        (0..self.len()).map(move |at| self.bits(at))
    }
}

/// Elements of one type in memory of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedElements {
    dtype: DType,
    /// The elements' bytes, aligned for all types, and zeros behind them.
    words: Vec<u64>,
    bytes: usize,
}

impl OwnedElements {
    /// The elements that `bytes` are, wherever these lie.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Result<Self, ElementsError> {
        check(dtype, 0, bytes.len())?;
        let mut words = vec![0; bytes.len().div_ceil(size_of::<u64>())];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Ok(Self { dtype, words, bytes: bytes.len() })
    }

    /// The elements.
    pub fn as_elements(&self) -> Elements<'_> {
        Elements { dtype: self.dtype, bytes: &bytemuck::cast_slice(&self.words)[..self.bytes] }
    }

    /// Their memory.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    /// They as values of the Rust type that they are; `None` for another.
    pub fn as_mut_slice<T: WithDType>(&mut self) -> Option<&mut [T]> {
        (T::DTYPE == self.dtype).then(|| bytemuck::cast_slice_mut(self.as_mut_bytes()))
    }
}

/// Refuses memory that cannot be elements.
pub fn check(dtype: DType, address: usize, len: usize) -> Result<(), ElementsError> {
    let size = dtype.bytes();
    match (len % size, address % size) {
        (0, 0) => Ok(()),
        (0, _) if len == 0 => Ok(()),
        (0, _) => Err(ElementsError::Misaligned(dtype)),
        _ => Err(ElementsError::Partial { dtype, len }),
    }
}

impl<'a, T: WithDType> From<&'a [T]> for Elements<'a> {
    fn from(values: &'a [T]) -> Self {
        Self { dtype: T::DTYPE, bytes: bytemuck::cast_slice(values) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_whole_aligned_and_of_their_type() {
        let values = [1.5f32, -2.0];
        let all = Elements::from(&values[..]);
        assert_eq!((all.dtype(), all.len(), all.is_empty()), (DType::F32, 2, false));
        assert_eq!(all.as_slice::<f32>(), Some(&values[..]));
        assert_eq!(all.as_slice::<i32>(), None);
        assert_eq!(all.bits(1), (-2.0f32).to_bits());
        let bytes = all.as_bytes();
        assert_eq!(Elements::from_bytes(DType::F32, bytes), Ok(all));
        assert_eq!(
            Elements::from_bytes(DType::F32, &bytes[..3]),
            Err(ElementsError::Partial { dtype: DType::F32, len: 3 })
        );
        assert_eq!(Elements::from_bytes(DType::F32, &bytes[1..5]), Err(ElementsError::Misaligned(DType::F32)));
        assert!(Elements::from_bytes(DType::S32, &[]).is_ok());
        let signed = Elements::from(&[-1i8, 5][..]);
        assert_eq!(signed.iter_bits().map(|b| DType::S8.from_bits(b)).collect::<Vec<_>>(), [-1.0, 5.0]);
    }
}

//! The tensors that calls take, as the caller has them.

use std::mem::MaybeUninit;

use kiln_ir::DType;
use kiln_ir::elements::{self, Elements, ElementsError, WithDType};

use crate::weights::PackedWeights;

/// A tensor that a call reads, in the memory order its operand has in the problem. Made [from](From) slices, arrays and vectors of
/// [element types](WithDType) (`f32`, [`bf16`](crate::bf16), [`f16`](struct@crate::f16), `i8`, `u8`, `i32`), from [`Elements`], from [`PackedWeights`] and
/// from [`PreparedWeights`](crate::PreparedWeights). The slice of a dense operand has as many elements as the operand; that of an operand with strides
/// begins with its first element and reaches to its last at least.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// Elements as they lie in memory.
    Plain(Elements<'a>),
    /// Weights in a kernel's own order.
    Packed(&'a PackedWeights),
}

/// The tensor that a call writes. Made [from](From) slices, arrays and vectors of [element types](WithDType), and from slices and arrays of
/// [`MaybeUninit`] of these: memory that nobody has written yet, as [`Args`](crate::Args) says.
#[derive(Debug)]
pub struct Output<'a> {
    pub(super) dtype: DType,
    pub(super) memory: Memory<'a>,
}

/// The bytes of a result, which are aligned as its elements are.
#[derive(Debug)]
pub(super) enum Memory<'a> {
    Initialised(&'a mut [u8]),
    Uninitialised(&'a mut [MaybeUninit<u8>]),
}

impl<'a> Output<'a> {
    /// Elements of a type that is known when the program runs.
    pub fn from_bytes(dtype: DType, bytes: &'a mut [u8]) -> Result<Self, ElementsError> {
        elements::check(dtype, bytes.as_ptr().addr(), bytes.len())?;
        Ok(Self { dtype, memory: Memory::Initialised(bytes) })
    }

    /// Its address, its number of elements, and whether they are initialised.
    pub(super) fn raw(&mut self) -> (*mut u8, usize, bool) {
        let (first, bytes, is_initialised) = match &mut self.memory {
            Memory::Initialised(bytes) => (bytes.as_mut_ptr(), bytes.len(), true),
            Memory::Uninitialised(bytes) => (bytes.as_mut_ptr().cast(), bytes.len(), false),
        };
        (first, self.dtype.elements_in(bytes), is_initialised)
    }
}

impl Input<'_> {
    /// Pointer, element type and length; `None` of packed weights.
    pub(super) fn plain(self) -> Option<(*mut u8, DType, usize)> {
        match self {
            Input::Plain(v) => Some((v.as_bytes().as_ptr().cast_mut(), v.dtype(), v.len())),
            Input::Packed(_) => None,
        }
    }
}

impl<'a, T: WithDType> From<&'a [T]> for Input<'a> {
    fn from(values: &'a [T]) -> Self {
        Input::Plain(values.into())
    }
}

impl<'a, T: WithDType> From<&'a Vec<T>> for Input<'a> {
    fn from(values: &'a Vec<T>) -> Self {
        values.as_slice().into()
    }
}

impl<'a, T: WithDType, const N: usize> From<&'a [T; N]> for Input<'a> {
    fn from(values: &'a [T; N]) -> Self {
        values.as_slice().into()
    }
}

impl<'a> From<Elements<'a>> for Input<'a> {
    fn from(values: Elements<'a>) -> Self {
        Input::Plain(values)
    }
}

impl<'a> From<&'a PackedWeights> for Input<'a> {
    fn from(weights: &'a PackedWeights) -> Self {
        Input::Packed(weights)
    }
}

impl<'a> Output<'a> {
    fn uninitialised<T: WithDType>(values: &'a mut [MaybeUninit<T>]) -> Self {
        let (first, bytes) = (values.as_mut_ptr().cast(), size_of_val(values));
        // SAFETY: these are the bytes of the slice, which is borrowed for as long; every byte, written or not, is one that need not be
        // initialised.
        let bytes = unsafe { std::slice::from_raw_parts_mut(first, bytes) };
        Output { dtype: T::DTYPE, memory: Memory::Uninitialised(bytes) }
    }
}

macro_rules! outputs {
    ($($element:ty, $dtype:ident, $type:ident;)*) => { $(
        impl<'a> From<&'a mut [$element]> for Output<'a> {
            fn from(values: &'a mut [$element]) -> Self {
                Output { dtype: DType::$dtype, memory: Memory::Initialised(bytemuck::cast_slice_mut(values)) }
            }
        }
        impl<'a> From<&'a mut Vec<$element>> for Output<'a> {
            fn from(values: &'a mut Vec<$element>) -> Self {
                values.as_mut_slice().into()
            }
        }
        impl<'a, const N: usize> From<&'a mut [$element; N]> for Output<'a> {
            fn from(values: &'a mut [$element; N]) -> Self {
                values.as_mut_slice().into()
            }
        }
        impl<'a> From<&'a mut [MaybeUninit<$element>]> for Output<'a> {
            fn from(values: &'a mut [MaybeUninit<$element>]) -> Self {
                Output::uninitialised(values)
            }
        }
        impl<'a, const N: usize> From<&'a mut [MaybeUninit<$element>; N]> for Output<'a> {
            fn from(values: &'a mut [MaybeUninit<$element>; N]) -> Self {
                Output::uninitialised(values)
            }
        }
    )* };
}
kiln_ir::each_element!(outputs);

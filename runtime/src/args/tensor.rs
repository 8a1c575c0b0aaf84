//! The tensors that calls take, as the caller has them.

use std::mem::MaybeUninit;

use half::{bf16, f16};
use kiln_ir::DType;

use crate::weights::PackedWeights;

/// A tensor that a call reads, in the memory order its operand has in the problem. Made [from](From) slices, arrays and vectors of `f32`,
/// [`bf16`] and [`f16`](struct@f16), from [`PackedWeights`] and from [`PreparedWeights`](crate::PreparedWeights). The slice of a dense operand has as many
/// elements as the operand; that of an operand with strides begins with its first element and reaches to its last at least.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// f32.
    F32(&'a [f32]),
    /// bf16.
    Bf16(&'a [bf16]),
    /// f16.
    F16(&'a [f16]),
    /// Weights in a kernel's own order.
    Packed(&'a PackedWeights),
}

/// The tensor that a call writes. Made [from](From) slices, arrays and vectors of `f32`, [`bf16`] and [`f16`](struct@f16), and from slices and
/// arrays of [`MaybeUninit`] of these: memory that nobody has written yet, as [`Args`](crate::Args) says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output<'a> {
    /// f32.
    F32(&'a mut [f32]),
    /// bf16.
    Bf16(&'a mut [bf16]),
    /// f16.
    F16(&'a mut [f16]),
    /// f32 in memory that need not be initialised.
    UninitF32(&'a mut [MaybeUninit<f32>]),
    /// bf16 in memory that need not be initialised.
    UninitBf16(&'a mut [MaybeUninit<bf16>]),
    /// f16 in memory that need not be initialised.
    UninitF16(&'a mut [MaybeUninit<f16>]),
}

macro_rules! tensors {
    ($($element:ty => $variant:ident, $uninit:ident);*) => { $(
        impl<'a> From<&'a [$element]> for Input<'a> {
            fn from(values: &'a [$element]) -> Self {
                Input::$variant(values)
            }
        }
        impl<'a> From<&'a Vec<$element>> for Input<'a> {
            fn from(values: &'a Vec<$element>) -> Self {
                Input::$variant(values)
            }
        }
        impl<'a, const N: usize> From<&'a [$element; N]> for Input<'a> {
            fn from(values: &'a [$element; N]) -> Self {
                Input::$variant(values)
            }
        }
        impl<'a> From<&'a mut [$element]> for Output<'a> {
            fn from(values: &'a mut [$element]) -> Self {
                Output::$variant(values)
            }
        }
        impl<'a> From<&'a mut Vec<$element>> for Output<'a> {
            fn from(values: &'a mut Vec<$element>) -> Self {
                Output::$variant(values)
            }
        }
        impl<'a, const N: usize> From<&'a mut [$element; N]> for Output<'a> {
            fn from(values: &'a mut [$element; N]) -> Self {
                Output::$variant(values)
            }
        }
        impl<'a> From<&'a mut [MaybeUninit<$element>]> for Output<'a> {
            fn from(values: &'a mut [MaybeUninit<$element>]) -> Self {
                Output::$uninit(values)
            }
        }
        impl<'a, const N: usize> From<&'a mut [MaybeUninit<$element>; N]> for Output<'a> {
            fn from(values: &'a mut [MaybeUninit<$element>; N]) -> Self {
                Output::$uninit(values)
            }
        }
    )* };
}
tensors!(f32 => F32, UninitF32; bf16 => Bf16, UninitBf16; f16 => F16, UninitF16);

impl<'a> From<&'a PackedWeights> for Input<'a> {
    fn from(weights: &'a PackedWeights) -> Self {
        Input::Packed(weights)
    }
}

impl Input<'_> {
    /// Pointer, element type and length; `None` of packed weights.
    pub(super) fn plain(self) -> Option<(*mut u8, DType, usize)> {
        match self {
            Input::F32(v) => Some((v.as_ptr().cast_mut().cast(), DType::F32, v.len())),
            Input::Bf16(v) => Some((v.as_ptr().cast_mut().cast(), DType::Bf16, v.len())),
            Input::F16(v) => Some((v.as_ptr().cast_mut().cast(), DType::F16, v.len())),
            Input::Packed(_) => None,
        }
    }
}

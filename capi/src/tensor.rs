//! Tensors of a call.

use std::ffi::c_void;
use std::fmt::Display;

use ::kiln_jit::{Input, Raw, bf16};
use kiln_ir::DType;

use crate::error::Error;
use crate::pointers::fits;

/// The type of a tensor's elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum kiln_dtype {
    /// `float`.
    KILN_F32 = 1,
    /// bfloat16, the upper half of a `float`, as `uint16_t`.
    KILN_BF16 = 2,
}

impl From<DType> for kiln_dtype {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => kiln_dtype::KILN_F32,
            DType::Bf16 => kiln_dtype::KILN_BF16,
        }
    }
}

/// A tensor that a call reads, in the memory order that its operand has in the problem.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_tensor {
    /// The elements, aligned for their type. Two inputs may overlap.
    pub data: *const c_void,
    /// A `kiln_dtype`.
    pub dtype: u32,
    /// How many elements there are. Of an operand with strides: from the first to the last at least, gaps between them included.
    /// Gaps of lhs, rhs and dst are neither read nor written by calls, so that others may use what is there.
    pub elements: usize,
}

/// The tensor that a call writes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_tensor_mut {
    /// The elements, aligned for their type. No other tensor of the call overlaps the range from the first to the last.
    pub data: *mut c_void,
    /// A `kiln_dtype`.
    pub dtype: u32,
    /// How many elements there are, as of a `kiln_tensor`.
    pub elements: usize,
}

/// Memory that may be a tensor: not null, aligned, no longer than an object can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    data: *mut c_void,
    dtype: DType,
    elements: usize,
    bytes: usize,
}

impl Memory {
    pub(crate) fn of_input(tensor: &kiln_tensor, name: impl Display) -> Result<Self, Error> {
        Self::check(tensor.data.cast_mut(), tensor.dtype, tensor.elements, name)
    }

    pub(crate) fn of_output(tensor: &kiln_tensor_mut, name: impl Display) -> Result<Self, Error> {
        Self::check(tensor.data, tensor.dtype, tensor.elements, name)
    }

    fn check(data: *mut c_void, dtype: u32, elements: usize, name: impl Display) -> Result<Self, Error> {
        let known = DType::ALL.iter().find(|d| kiln_dtype::from(**d) as u32 == dtype);
        let Some(&dtype) = known else {
            return Err(Error::argument(name, format!("dtype {dtype}: expected KILN_F32 or KILN_BF16")));
        };
        if data.is_null() {
            return Err(Error::argument(name, "null"));
        }
        let (aligned, bytes) = match dtype {
            DType::F32 => (data.cast::<f32>().is_aligned(), fits::<f32>(data.addr(), elements)),
            DType::Bf16 => (data.cast::<bf16>().is_aligned(), fits::<bf16>(data.addr(), elements)),
        };
        if !aligned {
            return Err(Error::argument(name, format!("not aligned for {dtype}")));
        }
        match bytes {
            Some(bytes) => Ok(Self { data, dtype, elements, bytes }),
            None => Err(Error::argument(name, format!("{elements} elements: too many"))),
        }
    }

    pub(crate) fn overlaps(&self, other: &Memory) -> bool {
        let (mine, theirs) = (self.data.addr(), other.data.addr());
        mine < theirs + other.bytes && theirs < mine + self.bytes
    }

    /// # Safety
    /// The memory is that long, and nobody writes it during `'a`.
    pub(crate) unsafe fn input<'a>(self) -> Input<'a> {
        // SAFETY: checked when `self` was made; every pattern of bits is an element; the caller answers for the rest.
        unsafe {
            match self.dtype {
                DType::F32 => Input::F32(std::slice::from_raw_parts(self.data.cast(), self.elements)),
                DType::Bf16 => Input::Bf16(std::slice::from_raw_parts(self.data.cast(), self.elements)),
            }
        }
    }

    /// The same by address: gaps between elements may be others' to write, and no slice spans them.
    pub(crate) fn raw(self) -> Raw {
        Raw { first: self.data.cast(), dtype: self.dtype, span: self.elements }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_cannot_be_a_tensor_is_refused() {
        let mut values = [0f32; 4];
        let data: *mut c_void = values.as_mut_ptr().cast();
        let (f32, bf16) = (kiln_dtype::KILN_F32 as u32, kiln_dtype::KILN_BF16 as u32);
        let check = |data, dtype, elements| Memory::check(data, dtype, elements, "x").map_err(|e| e.message);
        let error = |data, dtype, elements| check(data, dtype, elements).unwrap_err();
        assert!(error(data, 0, 4).contains("dtype 0"));
        assert!(error(std::ptr::null_mut(), f32, 4).contains("null"));
        assert!(error(data.wrapping_byte_add(2), f32, 3).contains("not aligned"));
        assert!(error(data, bf16, usize::MAX / 2).contains("too many"));
        assert!(check(data.wrapping_byte_add(2), bf16, 3).is_ok());
    }

    #[test]
    fn overlaps_are_by_bytes() {
        let mut values = [0f32; 4];
        let at = |start: usize, elements| {
            let data = values.as_mut_ptr().wrapping_add(start).cast();
            Memory::check(data, kiln_dtype::KILN_F32 as u32, elements, "x").unwrap()
        };
        let [first, second, whole, none] = [(0, 2), (2, 2), (0, 4), (1, 0)].map({
            let mut at = at;
            move |(start, elements)| at(start, elements)
        });
        assert!(!first.overlaps(&second) && !second.overlaps(&first));
        assert!(first.overlaps(&whole) && whole.overlaps(&second));
        assert!(!none.overlaps(&second));
    }
}

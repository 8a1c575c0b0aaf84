//! Tensors of a call.

use std::ffi::c_void;
use std::fmt::Display;

use ::kiln_jit::{Input, Raw};
use kiln_ir::DType;
use kiln_ir::elements::Elements;
use kiln_ir::func::ElementType;

use crate::error::Error;
use crate::pointers::fits;

/// The type of a tensor's elements. Kernels have `KILN_F32`, `KILN_BF16`, `KILN_F16`, `KILN_I8`, `KILN_U8` and `KILN_I32`; networks may take and give any.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum kiln_dtype {
    /// `float`.
    KILN_F32 = 1,
    /// bfloat16, the upper half of a `float`, as `uint16_t`.
    KILN_BF16 = 2,
    /// IEEE 754 binary16, as `uint16_t`.
    KILN_F16 = 3,
    /// `double`.
    KILN_F64 = 4,
    /// `int8_t`.
    KILN_I8 = 5,
    /// `uint8_t`.
    KILN_U8 = 6,
    /// `int16_t`.
    KILN_I16 = 7,
    /// `uint16_t`.
    KILN_U16 = 8,
    /// `int32_t`.
    KILN_I32 = 9,
    /// `uint32_t`.
    KILN_U32 = 10,
    /// `int64_t`.
    KILN_I64 = 11,
    /// `uint64_t`.
    KILN_U64 = 12,
    /// 0 or 1, as `uint8_t`.
    KILN_BOOL = 13,
}

impl From<ElementType> for kiln_dtype {
    fn from(element: ElementType) -> Self {
        match element {
            ElementType::F32 => kiln_dtype::KILN_F32,
            ElementType::Bf16 => kiln_dtype::KILN_BF16,
            ElementType::F16 => kiln_dtype::KILN_F16,
            ElementType::F64 => kiln_dtype::KILN_F64,
            ElementType::I8 => kiln_dtype::KILN_I8,
            ElementType::U8 => kiln_dtype::KILN_U8,
            ElementType::I16 => kiln_dtype::KILN_I16,
            ElementType::U16 => kiln_dtype::KILN_U16,
            ElementType::I32 => kiln_dtype::KILN_I32,
            ElementType::U32 => kiln_dtype::KILN_U32,
            ElementType::I64 => kiln_dtype::KILN_I64,
            ElementType::U64 => kiln_dtype::KILN_U64,
            ElementType::Bool => kiln_dtype::KILN_BOOL,
        }
    }
}

impl From<DType> for kiln_dtype {
    fn from(dtype: DType) -> Self {
        ElementType::from(dtype).into()
    }
}

/// A tensor that a call reads: of a kernel, in the memory order that its operand has in the problem; of a network, dense and row-major.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_tensor {
    /// The elements, aligned for their type. Two inputs may overlap.
    pub data: *const c_void,
    /// A `kiln_dtype`.
    pub dtype: u32,
    /// The number of elements. Of an operand with strides: from the first to the last at least, gaps between them included.
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
    /// The number of elements, as of a `kiln_tensor`.
    pub elements: usize,
}

/// The bytes of a tensor with elements of a type, if there may be one at an address: not null, aligned, no longer than an object can be.
pub(crate) fn bytes_of(data: *const c_void, element: ElementType, elements: usize) -> Result<usize, String> {
    if data.is_null() {
        return Err("null".into());
    }
    // Where Kiln runs, each type is aligned to its size.
    if !data.addr().is_multiple_of(element.bytes()) {
        return Err(format!("not aligned for {element}"));
    }
    let bytes = elements.checked_mul(element.bytes()).and_then(|bytes| fits::<u8>(data.addr(), bytes));
    bytes.ok_or_else(|| format!("{elements} elements: too many"))
}

/// True if two ranges of bytes have one in common.
pub(crate) fn overlap(one: (*const c_void, usize), other: (*const c_void, usize)) -> bool {
    one.0.addr() < other.0.addr() + other.1 && other.0.addr() < one.0.addr() + one.1
}

/// Memory that may be a kernel's tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorMemory {
    data: *mut c_void,
    dtype: DType,
    elements: usize,
    bytes: usize,
}

impl TensorMemory {
    pub(crate) fn of_input(tensor: &kiln_tensor, name: impl Display) -> Result<Self, Error> {
        Self::check(tensor.data.cast_mut(), tensor.dtype, tensor.elements, name)
    }

    pub(crate) fn of_output(tensor: &kiln_tensor_mut, name: impl Display) -> Result<Self, Error> {
        Self::check(tensor.data, tensor.dtype, tensor.elements, name)
    }

    fn check(data: *mut c_void, dtype: u32, elements: usize, name: impl Display) -> Result<Self, Error> {
        let known = DType::ALL.iter().find(|d| kiln_dtype::from(**d) as u32 == dtype);
        let Some(&dtype) = known else {
            return Err(Error::argument(
                name,
                format!(
                    "dtype {dtype}: expected one that kernels have, such as KILN_F32, KILN_BF16, KILN_F16, KILN_I8, \
                     KILN_U8 or KILN_I32"
                ),
            ));
        };
        let bytes = bytes_of(data, dtype.into(), elements).map_err(|why| Error::argument(name, why))?;
        Ok(Self { data, dtype, elements, bytes })
    }

    pub(crate) fn overlaps(&self, other: &TensorMemory) -> bool {
        overlap((self.data, self.bytes), (other.data, other.bytes))
    }

    /// # Safety
    /// The memory is that long, and nobody writes it during `'a`.
    pub(crate) unsafe fn input<'a>(self) -> Input<'a> {
        // An address for a slice: that of nothing need not be one.
        let first = std::ptr::NonNull::new(self.data.cast::<u8>()).unwrap_or(std::ptr::NonNull::dangling());
        // SAFETY: checked when `self` was made; every pattern of bits is an element; the caller answers for the rest.
        let bytes = unsafe { std::slice::from_raw_parts(first.as_ptr(), self.bytes) };
        Input::Plain(Elements::from_bytes(self.dtype, bytes).expect("checked when `self` was made"))
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
        let check = |data, dtype, elements| TensorMemory::check(data, dtype, elements, "x").map_err(|e| e.message);
        let error = |data, dtype, elements| check(data, dtype, elements).unwrap_err();
        assert!(error(data, 0, 4).contains("dtype 0"));
        assert!(error(std::ptr::null_mut(), f32, 4).contains("null"));
        assert!(error(data.wrapping_byte_add(2), f32, 3).contains("not aligned"));
        assert!(error(data, bf16, usize::MAX / 2).contains("too many"));
        assert!(check(data.wrapping_byte_add(2), bf16, 3).is_ok());
    }

    #[test]
    fn types_have_the_size_that_c_has() {
        use kiln_dtype::*;
        let sizes =
            [(KILN_F32, 4), (KILN_BF16, 2), (KILN_F16, 2), (KILN_F64, 8), (KILN_I8, 1), (KILN_U8, 1), (KILN_I16, 2)];
        let more = [(KILN_U16, 2), (KILN_I32, 4), (KILN_U32, 4), (KILN_I64, 8), (KILN_U64, 8), (KILN_BOOL, 1)];
        let known: Vec<_> = ElementType::all().map(|element| (kiln_dtype::from(element), element.bytes())).collect();
        assert_eq!(known, [&sizes[..], &more].concat());
        assert!(known.iter().zip(1..).all(|((dtype, _), number)| *dtype as u32 == number));
    }

    #[test]
    fn overlaps_are_by_bytes() {
        let mut values = [0f32; 4];
        let at = |start: usize, elements| {
            let data = values.as_mut_ptr().wrapping_add(start).cast();
            TensorMemory::check(data, kiln_dtype::KILN_F32 as u32, elements, "x").unwrap()
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

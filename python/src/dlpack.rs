//! DLPack, a layout in memory by which libraries lend each other tensors: the parts of its C interface that are used here.

use std::ffi::{c_int, c_void};

use kiln_ir::func::ElementType;
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::view::{Dims, View};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

#[repr(C)]
pub struct DataType {
    pub code: u8,
    pub bits: u8,
    pub lanes: u16,
}

#[repr(C)]
pub struct DlTensor {
    pub data: *mut c_void,
    pub device_type: i32,
    pub device_id: i32,
    pub ndim: i32,
    pub dtype: DataType,
    pub shape: *mut i64,
    pub strides: *mut i64,
    pub byte_offset: u64,
}

/// A tensor of another library, without a version.
#[repr(C)]
pub struct Managed {
    pub tensor: DlTensor,
    pub context: *mut c_void,
    pub deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

/// A tensor of another library.
#[repr(C)]
pub struct ManagedVersioned {
    pub version: Version,
    pub context: *mut c_void,
    pub deleter: Option<unsafe extern "C" fn(*mut ManagedVersioned)>,
    pub flags: u64,
    pub tensor: DlTensor,
}

/// Set in `flags` if nobody may write the tensor.
pub const READ_ONLY: u64 = 1;

/// The functions that a library offers to those who read its tensors by calls in C.
#[repr(C)]
pub struct ExchangeApi {
    pub version: Version,
    previous: *mut c_void,
    allocator: *mut c_void,
    managed_from_object: *mut c_void,
    managed_to_object: *mut c_void,
    /// Describes an object of that library without a reference to it; not 0 if it fails, with an exception raised.
    pub tensor_from_object: Option<unsafe extern "C" fn(*mut c_void, *mut DlTensor) -> c_int>,
}

impl DlTensor {
    /// One that is to be filled.
    pub fn empty() -> Self {
        DlTensor {
            data: std::ptr::null_mut(),
            device_type: 0,
            device_id: 0,
            ndim: 0,
            dtype: DataType { code: 0, bits: 0, lanes: 0 },
            shape: std::ptr::null_mut(),
            strides: std::ptr::null_mut(),
            byte_offset: 0,
        }
    }

    /// The address of its first element.
    pub fn first(&self) -> *mut u8 {
        self.data.cast::<u8>().wrapping_add(self.byte_offset as usize)
    }

    /// Its description.
    ///
    /// # Safety
    /// Its shape and strides are as many numbers as it says, or the strides are null.
    pub unsafe fn view(&self) -> Result<View> {
        const CPU: i32 = 1;
        if self.device_type != CPU {
            return Err(Error::Value(format!(
                "a tensor on another device (DLPack's number {}): move it to the CPU first",
                self.device_type
            )));
        }
        let element = self.element()?;
        let rank = self.ndim as usize;
        let dims = |numbers: *const i64| -> Dims {
            if rank == 0 {
                return Dims::new();
            }
            // SAFETY: the caller answers for as many numbers.
            SmallVec::from_slice(unsafe { std::slice::from_raw_parts(numbers, rank) })
        };
        let shape = dims(self.shape);
        let strides = if self.strides.is_null() { row_major(&shape) } else { dims(self.strides) };
        Ok(View { data: self.first(), element, shape, strides })
    }

    fn element(&self) -> Result<ElementType> {
        use ElementType as E;
        let DataType { code, bits, lanes } = self.dtype;
        Ok(match (code, bits, lanes) {
            (0, 8, 1) => E::I8,
            (0, 16, 1) => E::I16,
            (0, 32, 1) => E::I32,
            (0, 64, 1) => E::I64,
            (1, 8, 1) => E::U8,
            (1, 16, 1) => E::U16,
            (1, 32, 1) => E::U32,
            (1, 64, 1) => E::U64,
            (2, 16, 1) => E::F16,
            (2, 32, 1) => E::F32,
            (2, 64, 1) => E::F64,
            (4, 16, 1) => E::Bf16,
            (6, 8, 1) => E::Bool,
            _ => {
                return Err(Error::Type(format!(
                    "elements of DLPack's code {code} with {bits} bits and {lanes} lane(s): expected floats, integers or booleans"
                )));
            }
        })
    }
}

/// Strides of a dense row-major tensor.
pub fn row_major(shape: &[i64]) -> Dims {
    let mut strides: Dims = SmallVec::from_elem(1, shape.len());
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

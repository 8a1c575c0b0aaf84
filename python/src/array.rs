//! Arrays of any library, by the buffer protocol or by DLPack, where they lie.

use std::ffi::{c_char, c_int, c_void};

use kiln_ir::func::ElementType;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods};
use pyo3::{ffi, intern};

use crate::dlpack::{Managed, ManagedVersioned, READ_ONLY, row_major};
use crate::error::{Error, Result};
use crate::view::{Dims, Lie, View};

/// An array of somebody else's, lent for as long as this lives.
pub struct Array {
    view: View,
    /// Gives it back.
    _lent: Lent,
}

/// A guard that gives an array back when it is dropped.
#[expect(dead_code, reason = "they are held until they are dropped")]
enum Lent {
    Buffer(Box<Buffer>),
    Managed(Tensor<Managed>),
    Versioned(Tensor<ManagedVersioned>),
}

// SAFETY: the array is read or written through `Array`, whose users answer for it; giving it back takes Python's lock.
unsafe impl Send for Array {}
// SAFETY: as above.
unsafe impl Sync for Array {}

impl Array {
    /// Borrows an array, to be written if `is_written`. `name` is what errors call it.
    pub fn of(object: &Bound<'_, PyAny>, name: &str, is_written: bool) -> Result<Self> {
        let py = object.py();
        if let Some(array) = Self::of_buffer(object, name, is_written)? {
            return Ok(array);
        }
        if object.hasattr(intern!(py, "__dlpack__"))? {
            return Self::of_dlpack(object, name, is_written);
        }
        Err(Error::Type(format!(
            "{name}: expected an array (with the buffer protocol or DLPack), found {}",
            object.get_type().name()?
        )))
    }

    fn of_buffer(object: &Bound<'_, PyAny>, name: &str, is_written: bool) -> Result<Option<Self>> {
        // SAFETY: it is a live object.
        if unsafe { PyObject_CheckBuffer(object.as_ptr()) } == 0 {
            return Ok(None);
        }
        let mut buffer = Box::new(Buffer::empty());
        let flags = RECORDS_RO | if is_written { WRITABLE } else { 0 };
        // SAFETY: it is a live object, and the structure is filled, and given back when it is dropped.
        if unsafe { PyObject_GetBuffer(object.as_ptr(), &mut *buffer, flags) } != 0 {
            let error = PyErr::fetch(object.py());
            // What NumPy has no format for it may lend by DLPack.
            if object.hasattr(intern!(object.py(), "__dlpack__"))? && !is_read_only(object) {
                return Ok(None);
            }
            let of_type = error.is_instance_of::<PyBufferError>(object.py());
            return Err(match of_type || is_written {
                true => Error::Value(format!(
                    "{name}: {error}: it cannot be lent{}",
                    if is_written { " to be written" } else { "" }
                )),
                false => error.into(),
            });
        }
        let view = buffer.view(name)?;
        Ok(Some(Array { view, _lent: Lent::Buffer(buffer) }))
    }

    fn of_dlpack(object: &Bound<'_, PyAny>, name: &str, is_written: bool) -> Result<Self> {
        let py = object.py();
        // Parameters of torch lend nothing while they want gradients.
        let detached = match object.getattr(intern!(py, "requires_grad")) {
            Ok(wants) if wants.is_truthy()? => Some(object.call_method0(intern!(py, "detach"))?),
            _ => None,
        };
        let object = detached.as_ref().unwrap_or(object);
        let method = object.getattr(intern!(py, "__dlpack__"))?;
        let options = pyo3::types::PyDict::new(py);
        options.set_item("max_version", (1, 0))?;
        let capsule = match method.call((), Some(&options)) {
            Ok(capsule) => capsule,
            // Libraries of before DLPack 1.0 know no version.
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) => method.call0()?,
            Err(error) => return Err(error.into()),
        };
        let capsule = capsule.cast_into::<PyCapsule>().map_err(PyErr::from)?;
        if let Ok(pointer) = capsule.pointer_checked(Some(c"dltensor_versioned")) {
            used(&capsule, c"used_dltensor_versioned")?;
            let tensor = Tensor(pointer.as_ptr().cast::<ManagedVersioned>());
            // SAFETY: a capsule of this name has this structure, which is ours from now on.
            let managed = unsafe { &*tensor.0 };
            if managed.version.major != 1 {
                return Err(Error::Value(format!(
                    "{name}: DLPack of version {}, which is not known",
                    managed.version.major
                )));
            }
            if is_written && managed.flags & READ_ONLY != 0 {
                return Err(Error::Value(format!("{name}: it cannot be lent to be written: it is read-only")));
            }
            // SAFETY: the structure is whole.
            let view = unsafe { managed.tensor.view()? };
            return Ok(Array { view, _lent: Lent::Versioned(tensor) });
        }
        let pointer = capsule.pointer_checked(Some(c"dltensor"))?;
        used(&capsule, c"used_dltensor")?;
        let tensor = Tensor(pointer.as_ptr().cast::<Managed>());
        // SAFETY: a capsule of this name has this structure, which is ours from now on.
        let view = unsafe { (*tensor.0).tensor.view()? };
        Ok(Array { view, _lent: Lent::Managed(tensor) })
    }

    /// Where it lies.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Fails unless its elements are where the processor wants elements of their size.
    pub fn check_aligned(&self, name: &str) -> Result<()> {
        let size = self.view.element.bytes();
        match self.view.elements() == 0 || self.view.data.addr().is_multiple_of(size) {
            true => Ok(()),
            false => Err(Error::Value(format!(
                "{name}: its elements of {size} bytes begin at an address that is no multiple of {size}: copy it first"
            ))),
        }
    }

    /// Fails unless its elements lie one after the other, row-major.
    pub fn check_row_major(&self, name: &str) -> Result<()> {
        match self.view.lie() {
            Lie::RowMajor => Ok(()),
            _ => Err(Error::Value(format!(
                "{name}: expected a C-contiguous array, found strides {:?} of {:?}: copy it first, as `numpy.ascontiguousarray` does",
                self.view.strides, self.view.shape
            ))),
        }
    }
}

/// True if an array of NumPy says that it may not be written.
fn is_read_only(object: &Bound<'_, PyAny>) -> bool {
    let writeable = object.getattr("flags").and_then(|flags| flags.getattr("writeable"));
    writeable.and_then(|writeable| writeable.is_truthy()).is_ok_and(|writeable| !writeable)
}

/// Says that what a capsule has is taken.
fn used(capsule: &Bound<'_, PyCapsule>, name: &'static std::ffi::CStr) -> Result<()> {
    // SAFETY: it is a live capsule, and the name lives forever.
    match unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), name.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(capsule.py()).into()),
    }
}

/// A structure of DLPack, given back when it is dropped.
struct Tensor<T: Deleted>(*mut T);

trait Deleted {
    /// The owner that gets it back.
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)>;
}

impl Deleted for Managed {
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

impl Deleted for ManagedVersioned {
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

impl<T: Deleted> Drop for Tensor<T> {
    fn drop(&mut self) {
        // SAFETY: it was taken out of its capsule, and this is the only one who has it.
        Python::attach(|_| unsafe {
            if let Some(delete) = (*self.0).deleter() {
                delete(self.0);
            }
        });
    }
}

/// `Py_buffer`, which the stable interface has since CPython 3.11 and which was the same in 3.10.
#[repr(C)]
struct Buffer {
    data: *mut c_void,
    object: *mut ffi::PyObject,
    len: ffi::Py_ssize_t,
    item: ffi::Py_ssize_t,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut ffi::Py_ssize_t,
    strides: *mut ffi::Py_ssize_t,
    suboffsets: *mut ffi::Py_ssize_t,
    internal: *mut c_void,
}

/// Ask for a format, a shape and strides.
const RECORDS_RO: c_int = 0x0004 | 0x0008 | 0x0010;
const WRITABLE: c_int = 0x0001;

// Every CPython since 3.0 has these, also where a limited interface does not declare them.
unsafe extern "C" {
    fn PyObject_CheckBuffer(object: *mut ffi::PyObject) -> c_int;
    fn PyObject_GetBuffer(object: *mut ffi::PyObject, buffer: *mut Buffer, flags: c_int) -> c_int;
    fn PyBuffer_Release(buffer: *mut Buffer);
}

impl Buffer {
    fn empty() -> Self {
        use std::ptr::null_mut;
        Buffer {
            data: null_mut(),
            object: null_mut(),
            len: 0,
            item: 0,
            readonly: 0,
            ndim: 0,
            format: null_mut(),
            shape: null_mut(),
            strides: null_mut(),
            suboffsets: null_mut(),
            internal: null_mut(),
        }
    }

    fn view(&self, name: &str) -> Result<View> {
        let rank = self.ndim as usize;
        let dims = |numbers: *const ffi::Py_ssize_t| -> Dims {
            // SAFETY: there are as many numbers as dimensions, where there are any.
            (0..rank).map(|axis| unsafe { *numbers.add(axis) } as i64).collect()
        };
        let format = if self.format.is_null() {
            "B"
        } else {
            // SAFETY: it is a text that ends with zero and lives as long as the buffer.
            unsafe { std::ffi::CStr::from_ptr(self.format) }.to_str().unwrap_or("?!")
        };
        let element = element(format, self.item as usize).ok_or_else(|| {
            Error::Type(format!(
                "{name}: elements of format {format:?} with {} bytes: expected floats, integers or booleans",
                self.item
            ))
        })?;
        let shape = if self.shape.is_null() {
            Dims::from_elem(self.len as i64 / element.bytes() as i64, rank)
        } else {
            dims(self.shape)
        };
        let strides = if self.strides.is_null() {
            row_major(&shape)
        } else {
            let mut strides = dims(self.strides);
            let size = element.bytes() as i64;
            if strides.iter().any(|stride| stride % size != 0) {
                return Err(Error::Value(format!(
                    "{name}: strides of {strides:?} bytes are no whole numbers of elements"
                )));
            }
            strides.iter_mut().for_each(|stride| *stride /= size);
            strides
        };
        Ok(View { data: self.data.cast(), element, shape, strides })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.object.is_null() {
            // SAFETY: it was filled, and is given back once.
            Python::attach(|_| unsafe { PyBuffer_Release(self) });
        }
    }
}

/// The type of elements of a format in the letters of Python's module `struct`.
fn element(format: &str, bytes: usize) -> Option<ElementType> {
    use ElementType as E;
    let letter =
        format.strip_prefix(['@', '=', if cfg!(target_endian = "little") { '<' } else { '>' }]).unwrap_or(format);
    Some(match (letter, bytes) {
        ("f", 4) => E::F32,
        ("d", 8) => E::F64,
        ("e", 2) => E::F16,
        // As `ml_dtypes` has it.
        ("E", 2) => E::Bf16,
        ("?", 1) => E::Bool,
        ("b" | "h" | "i" | "l" | "q" | "n", 1) => E::I8,
        ("b" | "h" | "i" | "l" | "q" | "n", 2) => E::I16,
        ("b" | "h" | "i" | "l" | "q" | "n", 4) => E::I32,
        ("b" | "h" | "i" | "l" | "q" | "n", 8) => E::I64,
        ("B" | "c" | "H" | "I" | "L" | "Q" | "N", 1) => E::U8,
        ("H" | "I" | "L" | "Q" | "N", 2) => E::U16,
        ("H" | "I" | "L" | "Q" | "N", 4) => E::U32,
        ("H" | "I" | "L" | "Q" | "N", 8) => E::U64,
        _ => return None,
    })
}

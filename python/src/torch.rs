//! Tensors of torch, read through what it offers in public: DLPack's exchange interface, else the methods of a tensor. Nothing links
//! against torch, and nothing knows how it lays out its objects.

use std::ffi::c_int;
use std::ptr::null_mut;

use kiln_ir::func::ElementType;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyDict, PyTuple, PyType};
use pyo3::{Borrowed, ffi, intern};

use crate::dlpack::{DlTensor, ExchangeApi};
use crate::error::{Error, Result};
use crate::view::{Dims, View};
use crate::weights::Key;

type Describe = unsafe extern "C" fn(*mut std::ffi::c_void, *mut DlTensor) -> c_int;

/// The functions that are used of an installed torch.
pub struct Torch {
    tensor: Py<PyType>,
    /// The descriptor of `_version`, and what calls it: that saves looking it up in each class of the tensor.
    version: Py<PyAny>,
    get: ffi::descrgetfunc,
    /// Since torch 2.10.
    describe: Option<Describe>,
    empty_strided: Py<PyAny>,
    /// The dtype of each type of elements.
    dtypes: Vec<(ElementType, Py<PyAny>)>,
}

/// A version that cannot be read: that of an inference tensor, which nobody changes in place.
pub const NO_VERSION: i64 = -1;

static TORCH: PyOnceLock<Torch> = PyOnceLock::new();

impl Torch {
    /// That of this process; imports it.
    pub fn get(py: Python<'_>) -> Result<&'static Torch> {
        if let Some(torch) = TORCH.get(py) {
            return Ok(torch);
        }
        let torch = Torch::load(py)?;
        Ok(TORCH.get_or_init(py, || torch))
    }

    fn load(py: Python<'_>) -> Result<Torch> {
        let torch = py.import("torch")?;
        let tensor = torch.getattr("Tensor")?.cast_into::<PyType>().map_err(PyErr::from)?;
        let base = torch.getattr("_C")?.getattr("TensorBase")?;
        let version = base.getattr("__dict__")?.get_item("_version")?;
        // SAFETY: the slot of an existing type is asked for.
        let get = unsafe { ffi::PyType_GetSlot(version.get_type().as_type_ptr(), ffi::Py_tp_descr_get) };
        if get.is_null() {
            return Err(Error::Internal("torch's `_version` is no descriptor".into()));
        }
        // SAFETY: what is in this slot has this type.
        let get = unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::descrgetfunc>(get) };
        let mut dtypes = vec![];
        for (element, name) in DTYPES {
            if let Ok(dtype) = torch.getattr(*name) {
                dtypes.push((*element, dtype.unbind()));
            }
        }
        Ok(Torch {
            describe: exchange(&tensor),
            tensor: tensor.unbind(),
            version: version.unbind(),
            get,
            empty_strided: torch.getattr("empty_strided")?.unbind(),
            dtypes,
        })
    }

    /// True if an object is a tensor.
    pub fn is_tensor(&self, object: &Bound<'_, PyAny>) -> bool {
        // SAFETY: both are live objects, and the second is a type.
        unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), self.tensor.as_ptr().cast()) != 0 }
    }

    /// The version of a tensor, which its changes in place count; [`NO_VERSION`] if it has none.
    pub fn version(&self, tensor: &Bound<'_, PyAny>) -> Result<i64> {
        let py = tensor.py();
        // SAFETY: the slot belongs to the descriptor, which checks the type of the tensor itself. It returns a new reference or null.
        let object = unsafe { (self.get)(self.version.as_ptr(), tensor.as_ptr(), null_mut()) };
        if object.is_null() {
            return match PyErr::fetch(py) {
                error if error.is_instance_of::<PyRuntimeError>(py) => Ok(NO_VERSION),
                error => Err(error.into()),
            };
        }
        // SAFETY: it is a number, of which this is the only reference.
        let number = unsafe {
            let number = ffi::PyLong_AsLongLong(object);
            ffi::Py_DecRef(object);
            number
        };
        match number {
            0.. => Ok(number),
            _ => Err(PyErr::fetch(py).into()),
        }
    }

    /// Where the first element of a tensor is.
    pub fn data_ptr(&self, tensor: &Bound<'_, PyAny>) -> Result<usize> {
        match self.describe {
            Some(describe) => Ok(described(describe, tensor)?.first().addr()),
            None => Ok(tensor.call_method0(intern!(tensor.py(), "data_ptr"))?.extract()?),
        }
    }

    /// True if each tensor is where it was and has the version it had, without its number [`NO_VERSION`] being read. This is most of
    /// what a call costs besides the kernels: nothing is counted, copied or looked up by name.
    pub fn are_current<'a, 'py: 'a>(
        &self,
        py: Python<'py>,
        tensors: impl Iterator<Item = (Borrowed<'a, 'py, PyAny>, Key)>,
    ) -> Result<bool> {
        let mut found = DlTensor::empty();
        for (tensor, key) in tensors {
            let data = match self.describe {
                Some(describe) => {
                    // SAFETY: it is a live tensor, as callers have checked, and what is filled is a whole structure.
                    if unsafe { describe(tensor.as_ptr().cast(), &mut found) } != 0 {
                        return Err(raised(py).into());
                    }
                    found.first().addr()
                }
                None => self.data_ptr(&tensor)?,
            };
            if data != key.data || key.version != NO_VERSION && self.version(&tensor)? != key.version {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A tensor where it lies.
    pub fn view(&self, tensor: &Bound<'_, PyAny>) -> Result<View> {
        if !self.is_tensor(tensor) {
            return Err(Error::Type(format!("expected a torch.Tensor, found {}", tensor.get_type().name()?)));
        }
        let view = self.view_of(tensor)?;
        if view.data.is_null() && view.bytes() > 0 {
            return Err(Error::Value(
                "a tensor without memory: the elements of weights were given back (`release=True`), or it is a fake one".into(),
            ));
        }
        Ok(view)
    }

    fn view_of(&self, tensor: &Bound<'_, PyAny>) -> Result<View> {
        match self.describe {
            Some(describe) => match described(describe, tensor) {
                // SAFETY: torch filled it, and its shape and strides are there as long as the tensor, which is borrowed.
                Ok(described) => unsafe { described.view() },
                // The methods tell better what is wrong.
                Err(error) => self.view_by_methods(tensor).and(Err(error)),
            },
            None => self.view_by_methods(tensor),
        }
    }

    fn view_by_methods(&self, tensor: &Bound<'_, PyAny>) -> Result<View> {
        let py = tensor.py();
        let device = tensor.getattr(intern!(py, "device"))?;
        let kind: String = device.getattr(intern!(py, "type"))?.extract()?;
        if kind != "cpu" {
            return Err(Error::Value(format!("a tensor on {device}: move it to the CPU first")));
        }
        let dtype = tensor.getattr(intern!(py, "dtype"))?;
        let element = self.dtypes.iter().find(|(_, known)| known.is(&dtype)).map(|(element, _)| *element);
        let element = element
            .ok_or_else(|| Error::Type(format!("elements of {dtype}: expected floats, integers or booleans")))?;
        let dims = |numbers: Bound<'_, PyAny>| -> Result<Dims> {
            let numbers = numbers.cast_into::<PyTuple>().map_err(PyErr::from)?;
            Ok(numbers.iter().map(|n| n.extract::<i64>()).collect::<PyResult<Dims>>()?)
        };
        Ok(View {
            data: std::ptr::with_exposed_provenance_mut(self.data_ptr(tensor)?),
            element,
            shape: dims(tensor.getattr(intern!(py, "shape"))?)?,
            strides: dims(tensor.call_method0(intern!(py, "stride"))?)?,
        })
    }

    /// A new tensor.
    pub fn empty<'py>(
        &self,
        py: Python<'py>,
        element: ElementType,
        shape: &Py<PyTuple>,
        strides: &Py<PyTuple>,
    ) -> Result<Bound<'py, PyAny>> {
        let dtype = self.dtypes.iter().find(|(known, _)| *known == element);
        let (_, dtype) = dtype.ok_or_else(|| Error::Unsupported(format!("this torch has no dtype for {element}")))?;
        let options = PyDict::new(py);
        options.set_item(intern!(py, "dtype"), dtype)?;
        Ok(self.empty_strided.bind(py).call((shape, strides), Some(&options))?)
    }
}

/// Torch's names of types of elements. Versions before 2.3 lack some.
const DTYPES: &[(ElementType, &str)] = &[
    (ElementType::F32, "float32"),
    (ElementType::F64, "float64"),
    (ElementType::F16, "float16"),
    (ElementType::Bf16, "bfloat16"),
    (ElementType::I8, "int8"),
    (ElementType::I16, "int16"),
    (ElementType::I32, "int32"),
    (ElementType::I64, "int64"),
    (ElementType::U8, "uint8"),
    (ElementType::U16, "uint16"),
    (ElementType::U32, "uint32"),
    (ElementType::U64, "uint64"),
    (ElementType::Bool, "bool"),
];

/// The call that describes tensors, if a class has one of a version that is known.
fn exchange(class: &Bound<'_, PyType>) -> Option<Describe> {
    let capsule = class.getattr("__dlpack_c_exchange_api__").ok()?.cast_into::<PyCapsule>().ok()?;
    let pointer = capsule.pointer_checked(Some(c"dlpack_exchange_api")).ok()?;
    // SAFETY: a capsule of this name has this structure, which lives as long as the process; other major versions have it otherwise,
    // but begin with the version.
    let api = unsafe { pointer.cast::<ExchangeApi>().as_ref() };
    (api.version.major == 1).then_some(api.tensor_from_object).flatten()
}

/// A tensor as torch describes it.
fn described(describe: Describe, tensor: &Bound<'_, PyAny>) -> Result<DlTensor> {
    let mut found = DlTensor::empty();
    // SAFETY: it is a live tensor, as callers have checked, and what is filled is a whole structure.
    match unsafe { describe(tensor.as_ptr().cast(), &mut found) } {
        0 => Ok(found),
        _ => Err(raised(tensor.py()).into()),
    }
}

/// The exception that torch raised.
#[cold]
fn raised(py: Python<'_>) -> PyErr {
    PyErr::take(py).unwrap_or_else(|| PyTypeError::new_err("torch does not describe this tensor"))
}

//! `kiln.Kernel`: a compiled problem, called with arrays of any library where they lie.

use std::str::FromStr;
use std::sync::Arc;

use kiln_ir::elements::Elements;
use kiln_ir::func::ElementType;
use kiln_ir::strides::span;
use kiln_jit::compiler::{Stage, compile};
use kiln_jit::{Args, DType, Input, Kernel as Inner, Operand, Options, Output, PackedWeights, Problem, Runtime};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::array::Array;
use crate::error::{Error, Result, guarded};
use crate::runtimes;

/// A compiled problem.
#[pyclass(frozen, module = "kiln")]
pub struct Kernel {
    kernel: Arc<Inner>,
    constant_weights: bool,
    operands: Vec<Operand>,
}

/// Weights in the order in which kernels read them. They are taken by every kernel that was compiled with `constant_weights` and reads the
/// same layout.
#[pyclass(frozen, module = "kiln")]
pub struct Weights(PackedWeights);

/// An operand of a call.
enum Given<'a, 'py> {
    Array(Array),
    Packed(&'a Bound<'py, Weights>),
}

#[pymethods]
impl Kernel {
    /// Computes into `out`, or adds to it where the problem has `beta=1`, and returns it. Operands come in the order of `operands`, the
    /// result last. Each is a C-contiguous, aligned array with as many elements as the operand has, in the order of memory that the
    /// problem says. No array is copied, and other Python threads run meanwhile.
    #[pyo3(signature = (*inputs, out))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyTuple>,
        out: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            self.call(py, inputs, &out)?;
            Ok(out)
        })
    }

    /// Packs weights into the order in which this kernel reads them; `None` if it reads them as they are.
    fn pack(&self, py: Python<'_>, weights: &Bound<'_, PyAny>) -> PyResult<Option<Weights>> {
        guarded(|| {
            if self.kernel.weights_layout().is_none() {
                return Ok(None);
            }
            let array = self.array(weights, &self.operands[1], false)?;
            // SAFETY: it was checked to be dense and aligned, and its owner is held; Python programs do not write what they lend meanwhile.
            let input = unsafe { input(&array, self.operands[1].dtype) };
            let packed = py.detach(|| self.kernel.pack_weights(input))?;
            Ok(Some(Weights(packed)))
        })
    }

    /// The operation that it computes.
    #[getter]
    fn problem(&self) -> String {
        self.kernel.problem().to_string()
    }

    /// Names, types of elements and shapes of operands in the order of a call, the result last.
    #[getter]
    fn operands(&self) -> Vec<(String, String, Vec<u64>)> {
        self.operands.iter().map(|o| (o.name.clone(), o.dtype.to_string(), o.shape.clone())).collect()
    }

    /// Bytes of machine code.
    #[getter]
    fn code_bytes(&self) -> usize {
        self.kernel.code_bytes()
    }

    /// A stage of its compilation as text: "problem", "schedule", "lowering", "nest", "microkernel" or "asm".
    fn dump(&self, py: Python<'_>, stage: &str) -> PyResult<String> {
        guarded(|| {
            let stage = Stage::from_str(stage).map_err(|e| Error::Value(e.to_string()))?;
            let (problem, target, options) =
                (self.kernel.problem(), self.kernel.target(), options(self.constant_weights));
            let artifact = py.detach(|| compile(problem, target, &options)).map_err(kiln_jit::RuntimeError::from)?;
            Ok(artifact.dump(stage))
        })
    }

    fn __repr__(&self) -> String {
        format!("<kiln.Kernel {} @{}>", self.kernel.problem(), self.kernel.target())
    }
}

#[pymethods]
impl Weights {
    /// Bytes of memory.
    #[getter]
    fn nbytes(&self) -> usize {
        self.0.bytes()
    }
}

impl Kernel {
    /// The kernel of a problem.
    pub fn compile(py: Python<'_>, runtime: &Runtime, problem: &str, constant_weights: bool) -> Result<Self> {
        let problem: Problem = problem.parse().map_err(|e: kiln_jit::ProblemError| Error::Value(e.to_string()))?;
        let kernel = py.detach(|| runtime.kernel_with(&problem, &options(constant_weights)))?;
        let operands = kernel.problem().operands();
        Ok(Kernel { kernel, constant_weights, operands })
    }

    fn call(&self, py: Python<'_>, inputs: &Bound<'_, PyTuple>, out: &Bound<'_, PyAny>) -> Result<()> {
        let (result, operands) = self.operands.split_last().expect("a kernel has a result");
        if inputs.len() != operands.len() {
            let names: Vec<_> = operands.iter().map(|o| &*o.name).collect();
            return Err(Error::Type(format!(
                "{} operands: expected {} ({}) and `out`",
                inputs.len(),
                operands.len(),
                names.join(", ")
            )));
        }
        let objects: Vec<Bound<'_, PyAny>> = inputs.iter().collect();
        let mut given = vec![];
        for (object, operand) in objects.iter().zip(operands) {
            given.push(match object.cast::<Weights>() {
                Ok(packed) => Given::Packed(packed),
                Err(_) => Given::Array(self.array(object, operand, false)?),
            });
        }
        let out = self.array(out, result, true)?;
        for (given, operand) in given.iter().zip(operands) {
            if let Given::Array(array) = given
                && out.view().overlaps(array.view())
            {
                return Err(Error::Value(format!("`{}` and `out` are the same memory", operand.name)));
            }
        }
        let mut all: Vec<Input<'_>> = vec![];
        for (given, operand) in given.iter().zip(operands) {
            all.push(match given {
                Given::Packed(packed) => Input::Packed(&packed.get().0),
                // SAFETY: it was checked to be dense and aligned, and its owner is held; Python programs do not write what they lend meanwhile.
                Given::Array(array) => unsafe { input(array, operand.dtype) },
            });
        }
        // SAFETY: it was checked to be dense and aligned and to share no memory with an operand, and its owner lends it to be written.
        let out = unsafe { output(&out, result.dtype) };
        let args = Args::new(all[0], all[1], out);
        let args = all[2..].iter().fold(args, |args, input| args.post_op(*input));
        runtimes::after_fork()?;
        py.detach(|| self.kernel.run(args))?;
        Ok(())
    }

    /// An array that is this operand.
    fn array(&self, object: &Bound<'_, PyAny>, operand: &Operand, is_written: bool) -> Result<Array> {
        let name = if is_written { "out" } else { &operand.name };
        let array = Array::of(object, name, is_written)?;
        let view = array.view();
        let expected = ElementType::from(operand.dtype);
        if view.element != expected {
            return Err(Error::Type(format!("{name}: expected elements of {expected}, found {}", view.element)));
        }
        array.check_row_major(name)?;
        array.check_aligned(name)?;
        let count = span(&operand.shape, &operand.layout.strides(&operand.shape)).unwrap_or(u64::MAX);
        if view.elements() as u64 != count {
            return Err(Error::Value(format!(
                "{name}: expected {count} elements, as {:?} has, found {} ({:?})",
                operand.shape,
                view.elements(),
                view.shape
            )));
        }
        Ok(array)
    }
}

/// The elements of an array as an operand.
///
/// # Safety
/// It is dense and aligned and has elements of this type; nobody writes it while the operand is used, which is no longer than the array.
unsafe fn input(array: &Array, dtype: DType) -> Input<'_> {
    let (first, bytes) = memory(array, dtype);
    // SAFETY: the caller answers for it.
    let bytes = unsafe { std::slice::from_raw_parts(first, bytes) };
    Input::Plain(Elements::from_bytes(dtype, bytes).expect("aligned and of this type"))
}

/// The elements of an array as a result.
///
/// # Safety
/// It is dense and aligned and has elements of this type; nobody else uses them while the result is, which is no longer than the array.
unsafe fn output(array: &Array, dtype: DType) -> Output<'_> {
    let (first, bytes) = memory(array, dtype);
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts_mut(first, bytes) };
    Output::from_bytes(dtype, bytes).expect("aligned and of this type")
}

/// The address and the bytes of an array. That of nothing need not be an address: it becomes one that a slice may have.
fn memory(array: &Array, dtype: DType) -> (*mut u8, usize) {
    let view = array.view();
    let first = std::ptr::NonNull::new(view.data.cast::<u8>()).unwrap_or(std::ptr::NonNull::dangling());
    (first.as_ptr(), view.elements() * dtype.bytes())
}

/// The options of a kernel.
fn options(constant_weights: bool) -> Options {
    Options { constant_weights, ..Options::default() }
}

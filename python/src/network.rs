//! `kiln.Network`: a whole network from a file or by name.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kiln_ir::func::{ElementType, Tensor, TensorType};
use kiln_jit::{Runtime as Inner, WeightsPack};
use kiln_model::arch::{ArchOptions, Architecture};
use kiln_model::pretrained::Pretrained;
use kiln_model::report::step_times;
use kiln_model::{Bindings, Bound as Concrete, CompileOptions, ImportError, Model, ModelError, Network as Compiled};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::array::Array;
use crate::error::{Error, Result, guarded};
use crate::profile::{Profile, Row};
use crate::runtime::{Runtime, given};
use crate::{report, runtimes};

/// A network: an ONNX file, a folder as Hugging Face lays it out, or a built-in architecture by name (whose weights are random).
///
/// `batch` and `seq` are sizes of built-in networks, of folders, and of ONNX files that leave them open; `dims` are sizes of open dimensions
/// by name, and `shapes` the shapes of inputs. If sizes are missing the network waits for `bind`. `threads` and `fpmath`, or a
/// `runtime`, say how it runs. With `mmap` the file is mapped instead of read: nobody may write to it or cut it off as long as the network
/// is there. `weights` is a file of packed weights that `write_weights` wrote, which is mapped too, so that processes share its memory.
#[pyclass(frozen, module = "kiln")]
pub struct Network {
    source: Source,
    sizes: Sizes,
    runtime: Inner,
    weights: Option<Arc<WeightsPack>>,
    compiled: Option<Compiled>,
}

#[derive(Clone)]
enum Source {
    Onnx(Model, PathBuf),
    Folder(Arc<Pretrained>, PathBuf),
    BuiltIn(Architecture),
}

/// Sizes of what is open.
#[derive(Clone, Default)]
struct Sizes {
    batch: Option<u64>,
    seq: Option<u64>,
    dims: HashMap<String, u64>,
    shapes: HashMap<String, Vec<u64>>,
}

#[pymethods]
impl Network {
    #[new]
    #[pyo3(signature = (path, *, batch = None, seq = None, dims = None, shapes = None, threads = None, fpmath = None, runtime = None,
        mmap = false, weights = None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        batch: Option<u64>,
        seq: Option<u64>,
        dims: Option<HashMap<String, u64>>,
        shapes: Option<HashMap<String, Vec<u64>>>,
        threads: Option<usize>,
        fpmath: Option<&str>,
        runtime: Option<&Bound<'_, Runtime>>,
        mmap: bool,
        weights: Option<PathBuf>,
    ) -> PyResult<Self> {
        guarded(|| {
            let runtime = given(runtime, fpmath, threads)?;
            let sizes = Sizes { batch, seq, dims: dims.unwrap_or_default(), shapes: shapes.unwrap_or_default() };
            py.detach(|| {
                let source = Source::open(&path, mmap)?;
                let weights = weights.map(|path| {
                    // SAFETY: the caller says so, by giving the file: the documentation asks for it.
                    let pack = unsafe { WeightsPack::map(&path) };
                    pack.map(Arc::new).map_err(|e| Error::Value(format!("{}: {e}", path.display())))
                });
                Network::with(source, sizes, runtime, weights.transpose()?)
            })
        })
    }

    /// The same network for other sizes: of open dimensions by name, `batch` and `seq` among them, and of inputs by their shapes. It shares
    /// what is read of the file, and packed weights.
    #[pyo3(signature = (*, batch = None, seq = None, shapes = None, **dims))]
    fn bind(
        &self,
        py: Python<'_>,
        batch: Option<u64>,
        seq: Option<u64>,
        shapes: Option<HashMap<String, Vec<u64>>>,
        dims: Option<HashMap<String, u64>>,
    ) -> PyResult<Self> {
        guarded(|| {
            let mut sizes = self.sizes.clone();
            sizes.batch = batch.or(sizes.batch);
            sizes.seq = seq.or(sizes.seq);
            sizes.dims.extend(dims.unwrap_or_default());
            sizes.shapes.extend(shapes.unwrap_or_default());
            let bound =
                py.detach(|| Network::with(self.source.clone(), sizes, self.runtime.clone(), self.weights.clone()))?;
            bound.compiled()?;
            Ok(bound)
        })
    }

    /// Computes the outputs, as a dictionary of arrays of NumPy by name. Inputs are arrays in the order of `inputs`, or by name; their
    /// elements are read where they lie if they are C-contiguous. `out` has arrays to write outputs into, by name.
    #[pyo3(signature = (*inputs, out = None, **named))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyTuple>,
        out: Option<&Bound<'py, PyDict>>,
        named: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        guarded(|| self.call(py, inputs, out, named))
    }

    /// Names, types of elements and shapes of inputs, in calling order.
    #[getter]
    fn inputs(&self) -> PyResult<Vec<(String, String, Vec<u64>)>> {
        guarded(|| Ok(self.compiled()?.inputs().map(described).collect()))
    }

    /// Names, types of elements and shapes of outputs.
    #[getter]
    fn outputs(&self) -> PyResult<Vec<(String, String, Vec<u64>)>> {
        guarded(|| Ok(self.compiled()?.outputs().map(described).collect()))
    }

    /// True if all sizes are known, so that it can be called.
    #[getter]
    fn is_bound(&self) -> bool {
        self.compiled.is_some()
    }

    /// The steps of a call, as dictionaries: `layer`, `text`, `kind`, `problem`, `type` and `bytes`.
    fn steps<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        guarded(|| self.compiled()?.steps().map(|step| report::step(py, &step)).collect())
    }

    /// Bytes that it takes: `arena`, `peak`, `packed`, `constants` and `code`.
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(|| report::memory(py, &self.compiled()?.memory()))
    }

    /// Measures each step in `runs` calls, after one that warms up. Inputs that are not given by name are zeros. In a notebook, the result
    /// shows as a table.
    #[pyo3(signature = (runs = 10, **named))]
    fn profile(&self, py: Python<'_>, runs: usize, named: Option<&Bound<'_, PyDict>>) -> PyResult<Profile> {
        guarded(|| {
            let network = self.compiled()?;
            if runs == 0 {
                return Err(Error::Value("runs=0: expected at least 1".into()));
            }
            let mut inputs = vec![];
            for (name, ty) in network.inputs() {
                let array = match named.map(|named| named.get_item(name)).transpose()?.flatten() {
                    Some(object) => Some(input(&object, name, ty)?),
                    None => None,
                };
                // SAFETY: the array is dense and held while its elements are copied. Nobody may write to it meanwhile, as callers are told.
                let bytes =
                    array.map_or_else(|| vec![0; ty.bytes() as usize], |array| unsafe { array.bytes() }.to_vec());
                inputs.push(Tensor::new(ty.clone(), Bytes::from(bytes)).map_err(|e| Error::Internal(e.to_string()))?);
            }
            runtimes::after_fork()?;
            let times = py.detach(|| {
                step_times(network, &inputs, 1)?;
                step_times(network, &inputs, runs)
            })?;
            let rows = network.steps().zip(times).map(|(step, times)| Row::new(&step, times));
            Ok(Profile::new(
                self.name(),
                self.runtime.target().to_string(),
                self.runtime.threads(),
                runs,
                rows.collect(),
            ))
        })
    }

    /// A stage between the network and its kernels as text: "import", "optimized", "kernels" or "plan".
    fn dump(&self, py: Python<'_>, stage: &str) -> PyResult<String> {
        guarded(|| {
            let mut text = String::new();
            match stage {
                "import" => return Ok(format!("{:#}", py.detach(|| self.source.bind(&self.sizes))?.func())),
                "optimized" => {
                    let optimized = py.detach(|| self.source.bind(&self.sizes)?.optimize(|_, _| {}))?;
                    return Ok(format!("{optimized:#}"));
                }
                "kernels" => self.compiled()?.kernels().iter().for_each(|kernel| {
                    let _ = writeln!(text, "{}", kernel.problem());
                }),
                "plan" => self.compiled()?.steps().for_each(|step| {
                    let (start, bytes, kind) = (step.memory.start, step.memory.len(), report::kind(step.code));
                    let _ = writeln!(text, "{start:<10} {bytes:<10} {kind:11} {}  # {}", step.text, step.ty);
                }),
                _ => {
                    let expected = "expected \"import\", \"optimized\", \"kernels\" or \"plan\"";
                    return Err(Error::Value(format!("stage {stage:?}: {expected}")));
                }
            }
            Ok(text)
        })
    }

    /// Writes its packed weights to a file, for `weights=` of the same network. The file is whole or not there.
    fn write_weights(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        guarded(|| {
            let network = self.compiled()?;
            Ok(py.detach(|| network.write_weights(&path)).map_err(PyErr::from)?)
        })
    }

    /// Packed weights that it has, and how many of them come from the file `weights`.
    #[getter]
    fn packed_weights(&self) -> PyResult<(usize, usize)> {
        guarded(|| Ok(self.compiled()?.packed_weights()))
    }

    fn __repr__(&self) -> String {
        match &self.compiled {
            Some(network) => format!("<kiln.Network {}: {} steps>", self.name(), network.steps().len()),
            None => format!("<kiln.Network {}: not bound>", self.name()),
        }
    }
}

impl Network {
    fn with(source: Source, sizes: Sizes, runtime: Inner, weights: Option<Arc<WeightsPack>>) -> Result<Self> {
        runtimes::after_fork()?;
        let compiled = match source.bind(&sizes) {
            Ok(bound) => {
                let options = CompileOptions { weights: weights.as_deref(), ..CompileOptions::default() };
                Some(bound.compile_with(&runtime, &options)?)
            }
            // Sizes are missing, and may still be given.
            Err(ModelError::Import(e)) if matches!(*e, ImportError::Dim { .. } | ImportError::NoShape { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Network { source, sizes, runtime, weights, compiled })
    }

    fn compiled(&self) -> Result<&Compiled> {
        match &self.compiled {
            Some(compiled) => Ok(compiled),
            None => Err(Error::Value(match self.source.bind(&self.sizes) {
                Err(error) => format!("{error}: give sizes to `bind`"),
                Ok(_) => "it is not bound".into(),
            })),
        }
    }

    fn name(&self) -> String {
        match &self.source {
            Source::Onnx(_, path) | Source::Folder(_, path) => path.display().to_string(),
            Source::BuiltIn(architecture) => architecture.name().into(),
        }
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyTuple>,
        out: Option<&Bound<'py, PyDict>>,
        named: Option<&Bound<'py, PyDict>>,
    ) -> Result<Bound<'py, PyDict>> {
        let network = self.compiled()?;
        let names: Vec<&str> = network.inputs().map(|(name, _)| name).collect();
        if inputs.len() > names.len() {
            return Err(Error::Type(format!(
                "{} inputs: the network takes {} ({})",
                inputs.len(),
                names.len(),
                names.join(", ")
            )));
        }
        for (key, _) in named.into_iter().flatten() {
            let key: String = key.extract()?;
            if !names.contains(&&*key) {
                return Err(Error::Type(format!("no input `{key}`: the network takes {}", names.join(", "))));
            }
        }
        let mut arrays = vec![];
        for (at, (name, ty)) in network.inputs().enumerate() {
            let by_name = named.map(|named| named.get_item(name)).transpose()?.flatten();
            let object = match (inputs.get_item(at).ok(), by_name) {
                (Some(_), Some(_)) => return Err(Error::Type(format!("input `{name}` is given twice"))),
                (Some(object), None) | (None, Some(object)) => object,
                (None, None) => return Err(Error::Type(format!("input `{name}` is missing: expected {ty}"))),
            };
            arrays.push(input(&object, name, ty)?);
        }
        let results = PyDict::new(py);
        let mut written = vec![];
        for (name, ty) in network.outputs() {
            let object = match out.map(|out| out.get_item(name)).transpose()?.flatten() {
                Some(object) => object,
                None => empty(py, name, ty)?,
            };
            let array = Array::of(&object, name, true)?;
            check_type(&array, name, ty)?;
            array.check_row_major(name)?;
            if arrays.iter().map(Lent::array).chain(&written).any(|other| array.view().overlaps(other.view())) {
                return Err(Error::Value(format!("output `{name}` shares memory with an input or another output")));
            }
            results.set_item(name, object)?;
            written.push(array);
        }
        runtimes::after_fork()?;
        // SAFETY: they are dense or copies, and held until the call is over; Python programs do not write what they lend meanwhile.
        let given: Vec<&[u8]> = arrays.iter().map(|array| unsafe { array.bytes() }).collect();
        // SAFETY: they are dense, share no memory with others, and are lent to be written.
        let mut wanted: Vec<&mut [u8]> = written.iter().map(|array| unsafe { array.view().dense_mut() }).collect();
        py.detach(|| network.run_into(&given, &mut wanted))?;
        Ok(results)
    }
}

/// An input: an array, or a copy of one that is not dense.
enum Lent {
    Dense(Array),
    Copied(Array, Vec<u8>),
}

impl Lent {
    fn array(&self) -> &Array {
        match self {
            Lent::Dense(array) | Lent::Copied(array, _) => array,
        }
    }

    /// Its elements.
    ///
    /// # Safety
    /// Nobody writes the array meanwhile.
    unsafe fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: it is dense and held; the caller answers for the rest.
            Lent::Dense(array) => unsafe { array.view().dense() },
            Lent::Copied(_, copy) => copy,
        }
    }
}

/// An array that is an input.
fn input(object: &Bound<'_, PyAny>, name: &str, ty: &TensorType) -> Result<Lent> {
    let array = Array::of(object, name, false)?;
    check_type(&array, name, ty)?;
    match array.check_row_major(name) {
        Ok(()) => Ok(Lent::Dense(array)),
        Err(_) => {
            // SAFETY: it is held. Nobody may write to it meanwhile, as callers are told.
            let copy = unsafe { array.view().gather() };
            Ok(Lent::Copied(array, copy))
        }
    }
}

fn check_type(array: &Array, name: &str, ty: &TensorType) -> Result<()> {
    let view = array.view();
    match view.is_of(ty) {
        true => Ok(()),
        false if view.element != ty.element() => {
            Err(Error::Type(format!("`{name}`: expected {ty}, found {}", view.ty()?)))
        }
        false => Err(Error::Value(format!("`{name}`: expected {ty}, found {}", view.ty()?))),
    }
}

/// A new array of NumPy.
fn empty<'py>(py: Python<'py>, name: &str, ty: &TensorType) -> Result<Bound<'py, PyAny>> {
    let numpy = py
        .import("numpy")
        .map_err(|_| Error::Type(format!("output `{name}`: without NumPy, give an array for it in `out`")))?;
    let dtype = match ty.element() {
        ElementType::F32 => numpy.getattr("float32")?,
        ElementType::F64 => numpy.getattr("float64")?,
        ElementType::F16 => numpy.getattr("float16")?,
        ElementType::Bool => numpy.getattr("bool_")?,
        ElementType::I8 => numpy.getattr("int8")?,
        ElementType::I16 => numpy.getattr("int16")?,
        ElementType::I32 => numpy.getattr("int32")?,
        ElementType::I64 => numpy.getattr("int64")?,
        ElementType::U8 => numpy.getattr("uint8")?,
        ElementType::U16 => numpy.getattr("uint16")?,
        ElementType::U32 => numpy.getattr("uint32")?,
        ElementType::U64 => numpy.getattr("uint64")?,
        ElementType::Bf16 => {
            return Err(Error::Unsupported(format!(
                "output `{name}`: NumPy has no bf16, give an array for it in `out`"
            )));
        }
    };
    Ok(numpy.call_method1("empty", (PyTuple::new(py, ty.shape())?, dtype))?)
}

fn described((name, ty): (&str, &TensorType)) -> (String, String, Vec<u64>) {
    (name.into(), ty.element().to_string(), ty.shape().to_vec())
}

impl Source {
    fn open(path: &Path, mmap: bool) -> Result<Self> {
        if let Some(architecture) = path.to_str().and_then(|name| name.parse::<Architecture>().ok())
            && !path.exists()
        {
            return Ok(Source::BuiltIn(architecture));
        }
        if path.is_dir() && !path.join("model.onnx").exists() {
            return Ok(Source::Folder(Arc::new(Pretrained::open(path).map_err(ModelError::from)?), path.into()));
        }
        let file = if path.is_dir() { path.join("model.onnx") } else { path.to_owned() };
        if !file.exists() {
            let missing = format!("{}: there is no such file, and no built-in network of this name", file.display());
            return Err(pyo3::exceptions::PyFileNotFoundError::new_err(missing).into());
        }
        // SAFETY: the caller says so by `mmap`: the documentation asks for it.
        let model = if mmap { unsafe { Model::map_onnx(&file) } } else { Model::from_onnx(&file) };
        Ok(Source::Onnx(model?, path.into()))
    }

    fn bind(&self, sizes: &Sizes) -> Result<Concrete, ModelError> {
        let options = ArchOptions { batch: sizes.batch.unwrap_or(1), seq: sizes.seq };
        match self {
            Source::BuiltIn(architecture) => Concrete::from_architecture(*architecture, &options),
            Source::Folder(pretrained, _) => Concrete::from_pretrained(pretrained, &options),
            Source::Onnx(model, _) => {
                let mut bindings = Bindings::new();
                for (name, size) in &sizes.dims {
                    bindings = bindings.dim(name, *size);
                }
                for (name, shape) in &sizes.shapes {
                    bindings = bindings.shape(name, shape);
                }
                if let Some(batch) = sizes.batch {
                    bindings = bindings.batch(batch);
                }
                if let Some(seq) = sizes.seq {
                    bindings = bindings.sequence(seq);
                }
                model.clone().bind(&bindings)
            }
        }
    }
}

//! Whole networks.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::kiln_jit::WeightsPack;
use bytes::Bytes;
use kiln_ir::func::{ElementType, Tensor, TensorType};
use kiln_model::arch::{ArchOptions, Architecture};
use kiln_model::pretrained::Pretrained;
use kiln_model::{Bindings, Bound, CompileOptions, Model, ModelError, Network};

use crate::error::{Error, free, guard, kiln_status};
use crate::pointers::{Growing, Out, array, exclusive, fill, path, reference, text};
use crate::runtime::kiln_runtime;
use crate::strings::c_string;
use crate::tensor::{bytes_of, kiln_dtype, kiln_tensor, kiln_tensor_mut, overlap};

/// The sizes that a network is compiled for, and how it is loaded. What is not set is as the file says. Used by one thread at a time.
#[derive(Clone, Default)]
pub struct kiln_network_options {
    batch: Option<u64>,
    sequence: Option<u64>,
    dims: BTreeMap<String, u64>,
    shapes: BTreeMap<String, Vec<u64>>,
    values: BTreeMap<String, Tensor>,
    is_mapped: bool,
    weights: Option<PathBuf>,
}

/// A compiled network with its weights, for fixed sizes.
#[derive(Clone)]
pub struct kiln_network(Arc<Compiled>);

struct Compiled {
    network: Network,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
}

/// An input or an output, as C is told of it.
struct Value {
    name: CString,
    ty: TensorType,
}

/// Facts about an input or an output of a network.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_value_info {
    /// The size of this struct, which the caller sets.
    pub struct_size: usize,
    /// Its name. Valid as long as a handle to the network.
    pub name: *const c_char,
    /// The type of its elements.
    pub dtype: kiln_dtype,
    /// The number of its elements; 0 if one of its dimensions is 0.
    pub elements: usize,
    /// Its size in bytes.
    pub bytes: usize,
    /// The number of its dimensions; 0 of a scalar.
    pub rank: usize,
    /// Its dimensions, outermost first. Valid as long as a handle to the network.
    pub shape: *const u64,
}

// SAFETY: C's layout, its size first.
unsafe impl Growing for kiln_value_info {
    const FIRST: usize = 56;
}

/// Facts about a network.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_network_info {
    /// The size of this struct, which the caller sets.
    pub struct_size: usize,
    /// Inputs, which `kiln_network_input` describes.
    pub inputs: usize,
    /// Outputs, which `kiln_network_output` describes.
    pub outputs: usize,
    /// Steps of a call.
    pub steps: usize,
    /// Kernels that it runs, each counted once.
    pub kernels: usize,
    /// Memory for all values of a call, in bytes. Each of several calls at once has as much; it is kept for the next ones.
    pub arena_bytes: usize,
    /// Weights as kernels read them, in bytes.
    pub packed_bytes: usize,
    /// Constants that are read as they are, in bytes.
    pub constant_bytes: usize,
    /// Machine code, in bytes.
    pub code_bytes: usize,
    /// Weights that are packed.
    pub packed_weights: usize,
    /// Of these, weights that came from the file of `kiln_network_options_set_weights`.
    pub loaded_weights: usize,
}

// SAFETY: C's layout, its size first.
unsafe impl Growing for kiln_network_info {
    const FIRST: usize = 88;
}

/// Where a network comes from.
enum Source {
    Onnx(Model),
    Folder(Pretrained),
    BuiltIn(Architecture),
}

impl Source {
    /// An ONNX file, or a folder.
    fn open(path: &Path, options: &kiln_network_options) -> Result<Self, Error> {
        let file = match path.is_dir() {
            true if !path.join("model.onnx").exists() && Pretrained::is_folder(path) => {
                return Ok(Source::Folder(Pretrained::open(path).map_err(ModelError::from)?));
            }
            true => path.join("model.onnx"),
            false => path.to_owned(),
        };
        let model = match options.is_mapped {
            // SAFETY: the caller says so, by `kiln_network_options_set_mapped`.
            true => unsafe { Model::map_onnx(&file) },
            false => Model::from_onnx(&file),
        };
        model.map(Source::Onnx).map_err(|e| match e {
            // It names the file already.
            ModelError::Onnx(kiln_model::OnnxError::File { .. }) => e.into(),
            e => Error::from(e).at(file.display()),
        })
    }

    fn bind(self, options: &kiln_network_options) -> Result<Bound, Error> {
        Ok(match self {
            Source::Onnx(model) => model.bind(&options.bindings())?,
            Source::Folder(pretrained) => Bound::from_pretrained(&pretrained, &options.sizes()?)?,
            Source::BuiltIn(architecture) => Bound::from_architecture(architecture, &options.sizes()?)?,
        })
    }
}

impl kiln_network_options {
    /// Of a network whose dimensions have no names.
    fn sizes(&self) -> Result<ArchOptions, Error> {
        let named = self.dims.keys().chain(self.shapes.keys()).chain(self.values.keys());
        if let Some(name) = named.into_iter().next() {
            let why =
                format!("`{name}` is set: only ONNX files have dimensions, shapes and values that are set by name");
            return Err(Error::argument("options", why));
        }
        Ok(ArchOptions { batch: self.batch.unwrap_or(1), seq: self.sequence })
    }

    /// Of an ONNX file.
    fn bindings(&self) -> Bindings {
        let mut all = Bindings::new();
        if let Some(batch) = self.batch {
            all = all.batch(batch);
        }
        if let Some(sequence) = self.sequence {
            all = all.sequence(sequence);
        }
        all = self.dims.iter().fold(all, |all, (name, size)| all.dim(name, *size));
        all = self.shapes.iter().fold(all, |all, (input, shape)| all.shape(input, shape));
        self.values.iter().fold(all, |all, (input, value)| all.value(input, value.clone()))
    }
}

impl kiln_network {
    fn new(source: Source, runtime: &kiln_runtime, options: &kiln_network_options) -> Result<Self, Error> {
        let weights = match &options.weights {
            Some(path) => Some(
                WeightsPack::open(path)
                    .map_err(|e| Error::new(kiln_status::KILN_FILE, format!("{}: {e}", path.display())))?,
            ),
            None => None,
        };
        let compile = CompileOptions { weights: weights.as_ref(), ..CompileOptions::default() };
        let network = source.bind(options)?.compile_with(&runtime.runtime, &compile)?;
        let value = |(name, ty): (&str, &TensorType)| Value { name: c_string(name), ty: ty.clone() };
        let (inputs, outputs) = (network.inputs().map(value).collect(), network.outputs().map(value).collect());
        Ok(kiln_network(Arc::new(Compiled { network, inputs, outputs })))
    }
}

impl Value {
    /// Describes one of `all`.
    ///
    /// # Safety
    /// That of [`fill`].
    unsafe fn describe(all: &[Value], index: usize, what: &str, info: *mut kiln_value_info) -> Result<(), Error> {
        let Some(Value { name, ty }) = all.get(index) else {
            return Err(Error::argument("index", format!("{index}: the network has {} {what}", all.len())));
        };
        let facts = kiln_value_info {
            struct_size: 0,
            name: name.as_ptr(),
            dtype: ty.element().into(),
            elements: ty.elements() as usize,
            bytes: ty.bytes() as usize,
            rank: ty.rank(),
            shape: ty.shape().as_ptr(),
        };
        // SAFETY: as the caller says.
        unsafe { fill(info, "info", facts) }
    }

    /// The bytes of a tensor that C passes for it.
    fn check(&self, data: *const c_void, dtype: u32, elements: usize, name: &str) -> Result<Lent, Error> {
        let fail = |why: String| {
            let value = self.name.to_string_lossy();
            Error::argument(name, format!("{why}; `{value}` is {}", self.ty.brief()))
        };
        let expected = kiln_dtype::from(self.ty.element());
        if dtype != expected as u32 {
            return Err(fail(format!("dtype {dtype}: expected {expected:?}, which is {}", expected as u32)));
        }
        if elements as u64 != self.ty.elements() {
            return Err(fail(format!("{elements} elements: expected {}", self.ty.elements())));
        }
        // Memory of no bytes may have any address.
        if elements == 0 {
            return Ok((std::ptr::dangling(), 0));
        }
        Ok((data, bytes_of(data, self.ty.element(), elements).map_err(fail)?))
    }
}

/// Memory of a tensor: where it begins, and its bytes.
type Lent = (*const c_void, usize);

/// Fails unless there are as many tensors as values.
fn check_count(found: usize, values: &[Value], name: &str) -> Result<(), Error> {
    match values.len() {
        expected if expected == found => Ok(()),
        expected => Err(Error::argument(name, format!("{found} tensors: the network has {expected} {name}"))),
    }
}

/// Makes options of which none is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_create(options: *mut *mut kiln_network_options) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let out = unsafe { Out::new(options, "options")? };
        out.give(kiln_network_options::default());
        Ok(())
    })
}

/// Frees options. Networks made with them are not concerned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_free(options: *mut kiln_network_options) {
    // SAFETY: the header's rules.
    unsafe { free(options) }
}

/// # Safety
/// `options` is null or a handle that no other thread uses.
unsafe fn set(
    options: *mut kiln_network_options,
    change: impl FnOnce(&mut kiln_network_options) -> Result<(), Error>,
) -> kiln_status {
    guard(|| {
        // SAFETY: as the caller says.
        change(unsafe { exclusive(options, "options")? })
    })
}

/// Images or sequences at once. In ONNX files, the size of open dimensions whose name has "batch" in it, and of first dimensions without
/// a name of their own. Unless set, 1 of networks that are no ONNX file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_set_batch(options: *mut kiln_network_options, size: u64) -> kiln_status {
    let change = |options: &mut kiln_network_options| {
        options.batch = Some(size);
        Ok(())
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// Tokens of each sequence. In ONNX files, the size of open dimensions whose name has "seq" in it, and of second dimensions of matrices
/// of tokens without a name of their own. Unless set, 128, or the most that the network takes, of networks that are no ONNX file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_set_sequence(
    options: *mut kiln_network_options,
    length: u64,
) -> kiln_status {
    let change = |options: &mut kiln_network_options| {
        options.sequence = Some(length);
        Ok(())
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// The size of a dimension that an ONNX file leaves open, by the name that it has there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_set_dim(
    options: *mut kiln_network_options,
    name: *const c_char,
    size: u64,
) -> kiln_status {
    let change = |options: &mut kiln_network_options| {
        // SAFETY: the header's rules.
        options.dims.insert(unsafe { text(name, "name")? }.into(), size);
        Ok(())
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// The shape of an input of an ONNX file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_set_shape(
    options: *mut kiln_network_options,
    input: *const c_char,
    shape: *const u64,
    rank: usize,
) -> kiln_status {
    let change = |options: &mut kiln_network_options| {
        // SAFETY: the header's rules.
        let (input, shape) = unsafe { (text(input, "input")?, array(shape, rank, "shape")?) };
        options.shapes.insert(input.into(), shape.to_vec());
        Ok(())
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// The elements that an input of an ONNX file will have, for networks that compute shapes from them. They are copied. The input remains
/// one: calls pass the same elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_set_value(
    options: *mut kiln_network_options,
    input: *const c_char,
    value: *const kiln_tensor,
    shape: *const u64,
    rank: usize,
) -> kiln_status {
    let change = |options: &mut kiln_network_options| {
        // SAFETY: the header's rules.
        let (input, tensor) = unsafe { (text(input, "input")?, reference(value, "value")?) };
        // SAFETY: the header's rules.
        let shape = unsafe { array(shape, rank, "shape")? };
        let element = ElementType::all().find(|element| kiln_dtype::from(*element) as u32 == tensor.dtype);
        let element =
            element.ok_or_else(|| Error::argument("value", format!("dtype {}: no `kiln_dtype`", tensor.dtype)))?;
        let ty = TensorType::new(element, shape).map_err(|e| Error::argument("shape", e))?;
        let (data, bytes) = Value { name: c_string(input), ty: ty.clone() }.check(
            tensor.data,
            tensor.dtype,
            tensor.elements,
            "value",
        )?;
        // SAFETY: not null, and as long as the caller says, who lets nobody write it.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) };
        let value = Tensor::new(ty, Bytes::copy_from_slice(bytes)).map_err(|e| Error::argument("value", e))?;
        options.values.insert(input.into(), value);
        Ok(())
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// If not 0, ONNX files and those with weights beside them are mapped: nothing of them is copied, and what is never used is never read. As
/// long as the network is there, it is undefined behaviour if somebody writes to one of the files or cuts it off. Unless set, 0: files are
/// read into memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_set_mapped(
    options: *mut kiln_network_options,
    mapped: i32,
) -> kiln_status {
    let change = |options: &mut kiln_network_options| {
        options.is_mapped = mapped != 0;
        Ok(())
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// A file of `kiln_network_write_weights`, or of `kiln model pack`, with weights that are packed already. Those that it does not have are
/// packed. It is looked at when a network is made: one that cannot be read is `KILN_FILE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_options_set_weights(
    options: *mut kiln_network_options,
    file: *const c_char,
) -> kiln_status {
    let change = |options: &mut kiln_network_options| {
        // SAFETY: the header's rules.
        options.weights = Some(unsafe { path(file, "file")? }.into());
        Ok(())
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// # Safety
/// The header's rules, for the pointers; `network` is where the handle goes.
unsafe fn create(
    runtime: *const kiln_runtime,
    options: *const kiln_network_options,
    network: *mut *mut kiln_network,
    source: impl FnOnce(&kiln_network_options) -> Result<Source, Error>,
) -> kiln_status {
    guard(|| {
        // SAFETY: as the caller says.
        let (out, runtime) = unsafe { (Out::new(network, "network")?, reference(runtime, "runtime")?) };
        let unset = kiln_network_options::default();
        let options = match options.is_null() {
            true => &unset,
            // SAFETY: as the caller says.
            false => unsafe { reference(options, "options")? },
        };
        out.give(kiln_network::new(source(options)?, runtime, options)?);
        Ok(())
    })
}

/// Compiles a network of an ONNX file; or of a folder with a `model.onnx`, or with a `config.json` and a `model.safetensors` as Hugging
/// Face lays them out. `options` may be NULL: none is set. Arithmetic, threads and limits are those of the runtime.
///
/// Nothing in a file is trusted: one that is malformed is `KILN_INVALID_NETWORK`, one that needs what Kiln does not have
/// `KILN_UNSUPPORTED`, and one that leaves sizes open `KILN_INVALID_ARGUMENT` with a message that names them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_open(
    runtime: *const kiln_runtime,
    file: *const c_char,
    options: *const kiln_network_options,
    network: *mut *mut kiln_network,
) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { create(runtime, options, network, |options| Source::open(path(file, "file")?, options)) }
}

/// Compiles a network of the bytes of an ONNX file, which are copied. Weights are in the file itself. Else as `kiln_network_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_parse(
    runtime: *const kiln_runtime,
    bytes: *const c_void,
    size: usize,
    options: *const kiln_network_options,
    network: *mut *mut kiln_network,
) -> kiln_status {
    let source = |_: &kiln_network_options| {
        // SAFETY: the header's rules.
        let bytes = unsafe { array(bytes.cast::<u8>(), size, "bytes")? };
        Ok(Source::Onnx(Model::from_bytes(Bytes::copy_from_slice(bytes))?))
    };
    // SAFETY: the header's rules.
    unsafe { create(runtime, options, network, source) }
}

/// Compiles a built-in network: "resnet50", "bert", "distilbert", or another that `kiln model bench --help` names. Its weights are
/// pseudo-random, the same each time. Else as `kiln_network_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_built_in(
    runtime: *const kiln_runtime,
    name: *const c_char,
    options: *const kiln_network_options,
    network: *mut *mut kiln_network,
) -> kiln_status {
    let source = |_: &kiln_network_options| {
        // SAFETY: the header's rules.
        let name = unsafe { text(name, "name")? };
        Ok(Source::BuiltIn(name.parse().map_err(|e| Error::argument("name", e))?))
    };
    // SAFETY: the header's rules.
    unsafe { create(runtime, options, network, source) }
}

/// Another handle to the same network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_clone(
    network: *const kiln_network,
    clone: *mut *mut kiln_network,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (out, network) = unsafe { (Out::new(clone, "clone")?, reference(network, "network")?) };
        out.give(network.clone());
        Ok(())
    })
}

/// Frees a handle. The network goes with the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_free(network: *mut kiln_network) {
    // SAFETY: the header's rules.
    unsafe { free(network) }
}

/// Describes a network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_describe(
    network: *const kiln_network,
    info: *mut kiln_network_info,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let Compiled { network, inputs, outputs } = unsafe { &*reference(network, "network")?.0 };
        let (memory, (packed_weights, loaded_weights)) = (network.memory(), network.packed_weights());
        let facts = kiln_network_info {
            struct_size: 0,
            inputs: inputs.len(),
            outputs: outputs.len(),
            steps: network.steps().len(),
            kernels: network.kernels().len(),
            arena_bytes: memory.arena,
            packed_bytes: memory.packed,
            constant_bytes: memory.constants,
            code_bytes: memory.code,
            packed_weights,
            loaded_weights,
        };
        // SAFETY: the header's rules.
        unsafe { fill(info, "info", facts) }
    })
}

/// Describes the input at a place, from 0, in calling order.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_input(
    network: *const kiln_network,
    index: usize,
    info: *mut kiln_value_info,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        unsafe { Value::describe(&reference(network, "network")?.0.inputs, index, "inputs", info) }
    })
}

/// Describes the output at a place, from 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_output(
    network: *const kiln_network,
    index: usize,
    info: *mut kiln_value_info,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        unsafe { Value::describe(&reference(network, "network")?.0.outputs, index, "outputs", info) }
    })
}

/// Computes the outputs, where the caller wants them. There are as many tensors as the network has inputs and outputs, in their order.
/// Types, numbers of elements, alignment and overlap of outputs with all else are checked before anything is written. After any other
/// failure outputs may be written in part.
///
/// Several threads may run a network at once: each call has memory of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_run(
    network: *const kiln_network,
    inputs: *const kiln_tensor,
    input_count: usize,
    outputs: *const kiln_tensor_mut,
    output_count: usize,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let compiled = unsafe { &*reference(network, "network")?.0 };
        check_count(input_count, &compiled.inputs, "inputs")?;
        check_count(output_count, &compiled.outputs, "outputs")?;
        // SAFETY: the header's rules.
        let inputs = unsafe { array(inputs, input_count, "inputs")? };
        // SAFETY: the header's rules.
        let outputs = unsafe { array(outputs, output_count, "outputs")? };
        let mut read = Vec::<Lent>::with_capacity(input_count);
        for (at, (tensor, value)) in inputs.iter().zip(&compiled.inputs).enumerate() {
            read.push(value.check(tensor.data, tensor.dtype, tensor.elements, &format!("inputs[{at}]"))?);
        }
        let mut written = Vec::<Lent>::with_capacity(output_count);
        for (at, (tensor, value)) in outputs.iter().zip(&compiled.outputs).enumerate() {
            let lent = value.check(tensor.data, tensor.dtype, tensor.elements, &format!("outputs[{at}]"))?;
            if let Some(other) = read.iter().position(|other| overlap(lent, *other)) {
                return Err(Error::argument(format_args!("outputs[{at}]"), format!("overlaps inputs[{other}]")));
            }
            if let Some(other) = written.iter().position(|other| overlap(lent, *other)) {
                return Err(Error::argument(format_args!("outputs[{at}]"), format!("overlaps outputs[{other}]")));
            }
            written.push(lent);
        }
        // SAFETY: not null, aligned, and as long as the caller says, who lets nobody write it.
        let read =
            read.into_iter().map(|(data, bytes)| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) });
        // SAFETY: not null, aligned, and as long as the caller says, who lets nobody else use it; nothing else of the call overlaps it.
        let write =
            |(data, bytes): Lent| unsafe { std::slice::from_raw_parts_mut(data.cast_mut().cast::<u8>(), bytes) };
        let (read, mut written) = (read.collect::<Vec<_>>(), written.into_iter().map(write).collect::<Vec<_>>());
        Ok(compiled.network.run_into(&read, &mut written)?)
    })
}

/// Writes the packed weights to a file for `kiln_network_options_set_weights`. The file is complete or not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_network_write_weights(network: *const kiln_network, file: *const c_char) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (network, file) = unsafe { (reference(network, "network")?, path(file, "file")?) };
        let written = network.0.network.write_weights(file);
        written.map_err(|e| Error::new(kiln_status::KILN_FILE, format!("{}: {e}", file.display())))
    })
}

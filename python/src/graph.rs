//! A function whose weights are looked up in each call.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use kiln_ir::Func;
use kiln_ir::func::{Order, TensorType};
use kiln_jit::MathMode;
use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyDict, PyList, PyTuple};
use smallvec::SmallVec;

use crate::counters;
use crate::error::{Error, Result, guarded};
use crate::instance::{Instance, Parts, Weight};
use crate::runtimes::{self, Which, lock};
use crate::torch::Torch;
use crate::view::{Dims, Lie, View, lie};

/// Instances that a graph keeps; the one that was used least lately goes first.
const INSTANCES: usize = 64;

/// A function of tensors, given as Kiln's text, whose arguments at the positions `static` are weights.
///
/// Weights are looked up in each call by object, address and version. For weights that come for the first time, or were changed, the
/// function is compiled with them as constants; of equal ones nothing is made twice. It keeps no module alive.
///
/// With `release`, the memory of weights that are packed is given back: their tensors have no elements from then on, and this graph alone
/// can be called with them.
///
/// `fpmath` is "f32" (or "strict"), "bf16" or "any". `output_strides` has strides in elements for each result, `None` for row-major.
#[pyclass(frozen, module = "kiln._kiln", weakref)]
pub struct Graph {
    func: Func,
    weights: Vec<usize>,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    fpmath: MathMode,
    /// True if the originals of packed weights are given back.
    release: bool,
    instances: Arc<Instances>,
    /// Held while an instance is compiled, so that nobody compiles the same.
    compiling: Mutex<()>,
}

/// Instances, those that were used last in front.
type Instances = Mutex<Vec<Arc<Instance>>>;

/// An argument that is no weight.
struct Input {
    at: usize,
    ty: TensorType,
}

/// A result.
struct Output {
    ty: TensorType,
    /// The order of its axes in memory, if it is dense.
    order: Option<Order>,
    is_dense: bool,
    shape: Dims,
    strides: Dims,
    shape_tuple: Py<PyTuple>,
    strides_tuple: Py<PyTuple>,
}

/// The tensors of a call: those of a list or a tuple, which nobody changes meanwhile.
struct Items<'py>(Bound<'py, PyTuple>);

impl<'py> Items<'py> {
    fn of(object: &Bound<'py, PyAny>, what: &str) -> Result<Self> {
        if let Ok(list) = object.cast::<PyList>() {
            return Ok(Items(list.to_tuple()));
        }
        match object.cast::<PyTuple>() {
            Ok(tuple) => Ok(Items(tuple.clone())),
            Err(_) => {
                Err(Error::Type(format!("{what}: expected a list or a tuple, found {}", object.get_type().name()?)))
            }
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, at: usize) -> Result<Bound<'py, PyAny>> {
        Ok(self.0.get_item(at)?)
    }

    /// The object at a position that is there, which is not counted as used.
    fn borrow(&self, at: usize) -> Borrowed<'_, 'py, PyAny> {
        self.0.get_borrowed_item(at).expect("the number of tensors was checked")
    }
}

#[pymethods]
impl Graph {
    #[new]
    #[pyo3(signature = (text, r#static = vec![], fpmath = "f32", output_strides = None, release = false))]
    fn new(
        py: Python<'_>,
        text: &str,
        r#static: Vec<usize>,
        fpmath: &str,
        output_strides: Option<Vec<Option<Vec<i64>>>>,
        release: bool,
    ) -> PyResult<Self> {
        guarded(|| Ok(Graph { release, ..Self::parse(py, text, r#static, fpmath, output_strides)? }))
    }

    /// The results for these tensors, which are new tensors with the strides promised.
    fn __call__<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            let torch = Torch::get(py)?;
            let new =
                |output: &Output| torch.empty(py, output.ty.element(), &output.shape_tuple, &output.strides_tuple);
            let outputs: Vec<_> = self.outputs.iter().map(new).collect::<Result<_>>()?;
            let outputs = PyList::new(py, outputs)?;
            self.call(py, inputs, outputs.as_any())?;
            Ok(outputs)
        })
    }

    /// Computes the results into tensors that are there, with the strides promised.
    fn run(&self, py: Python<'_>, inputs: &Bound<'_, PyAny>, outputs: &Bound<'_, PyAny>) -> PyResult<()> {
        guarded(|| self.call(py, inputs, outputs))
    }

    /// The steps of the network that was used last, as dictionaries: `text`, `layer`, `kind` ("kernel", "native", "control" or
    /// "interpreter"), `problem` (of a kernel) and `bytes` of the result. Empty before the first call.
    fn steps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            let list = PyList::empty(py);
            let Some(instance) = lock(&self.instances).first().cloned() else { return Ok(list) };
            for step in instance.network.steps() {
                list.append(crate::report::step(py, &step)?)?;
            }
            Ok(list)
        })
    }

    /// Bytes that the network that was used last takes: `arena`, `peak`, `packed`, `constants` and `code`. `None` before the first
    /// call.
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        guarded(|| {
            let instance = lock(&self.instances).first().cloned();
            instance.map(|instance| crate::report::memory(py, &instance.network.memory())).transpose()
        })
    }

    /// The number of its networks for weights that are alive.
    #[getter]
    fn instances(&self) -> usize {
        lock(&self.instances).len()
    }

    /// Forgets what was made for weights. The next call makes it again.
    fn clear(&self) {
        let gone = std::mem::take(&mut *lock(&self.instances));
        drop(gone);
    }

    /// The text of the function.
    #[getter]
    fn text(&self) -> String {
        self.func.to_string()
    }

    fn __repr__(&self) -> String {
        let (weights, inputs, outputs) = (self.weights.len(), self.inputs.len(), self.outputs.len());
        format!("<kiln._kiln.Graph {}: {weights} weights, {inputs} inputs, {outputs} outputs>", self.func.name())
    }
}

impl Graph {
    fn parse(
        py: Python<'_>,
        text: &str,
        weights: Vec<usize>,
        fpmath: &str,
        strides: Option<Vec<Option<Vec<i64>>>>,
    ) -> Result<Self> {
        let func: Func = text.parse()?;
        let fpmath = math_mode(fpmath)?;
        let count = func.arguments().count();
        let mut is_weight = vec![false; count];
        for at in &weights {
            let slot = is_weight.get_mut(*at);
            let slot = slot.ok_or_else(|| Error::Value(format!("static={at}: the function has {count} arguments")))?;
            if std::mem::replace(slot, true) {
                return Err(Error::Value(format!("static={at}: it is named twice")));
            }
        }
        let inputs = func.arguments().enumerate().filter(|(at, _)| !is_weight[*at]);
        let inputs: Vec<Input> = inputs.map(|(at, (_, value))| Input { at, ty: value.ty.clone() }).collect();
        let results = func.results().len();
        let strides = strides.unwrap_or_else(|| vec![None; results]);
        if strides.len() != results {
            return Err(Error::Value(format!("strides of {} outputs: the function has {results}", strides.len())));
        }
        let outputs =
            func.results().iter().zip(strides).map(|(id, strides)| Output::new(py, &func.value(*id).ty, strides));
        let outputs = outputs.collect::<Result<_>>()?;
        Ok(Graph {
            func,
            weights,
            inputs,
            outputs,
            fpmath,
            release: false,
            instances: Arc::default(),
            compiling: Mutex::new(()),
        })
    }

    fn call(&self, py: Python<'_>, inputs: &Bound<'_, PyAny>, outputs: &Bound<'_, PyAny>) -> Result<()> {
        counters::CALLS.add();
        let torch = Torch::get(py)?;
        let inputs = Items::of(inputs, "inputs")?;
        let outputs = Items::of(outputs, "outputs")?;
        let expected = self.weights.len() + self.inputs.len();
        if inputs.len() != expected {
            return Err(Error::Value(format!("{} inputs: the graph takes {expected}", inputs.len())));
        }
        if outputs.len() != self.outputs.len() {
            return Err(Error::Value(format!("{} outputs: the graph has {}", outputs.len(), self.outputs.len())));
        }
        // What the caller lends lives as long as this call.
        let mut kept: SmallVec<[Bound<'_, PyAny>; 8]> = SmallVec::new();
        let mut given: SmallVec<[View; 4]> = SmallVec::new();
        let mut orders: SmallVec<[Option<Order>; 4]> = SmallVec::new();
        let mut copies: SmallVec<[Option<Vec<u8>>; 4]> = SmallVec::new();
        for input in &self.inputs {
            let tensor = inputs.get(input.at)?;
            let view = torch.view(&tensor)?;
            if !view.is_of(&input.ty) {
                let found = view.ty()?;
                return Err(Error::Value(format!("input {}: expected {}, found {found}", input.at, input.ty)));
            }
            let (order, copy) = match view.lie() {
                Lie::RowMajor => (None, None),
                Lie::Dense(order) => (Some(order), None),
                Lie::Scattered => {
                    counters::COPIES.add();
                    // SAFETY: the tensor is borrowed. Nobody may write to it meanwhile, as callers are told.
                    (None, Some(unsafe { view.gather() }))
                }
            };
            kept.push(tensor);
            given.push(view);
            orders.push(order);
            copies.push(copy);
        }
        let mut wanted: SmallVec<[View; 4]> = SmallVec::new();
        for (at, output) in self.outputs.iter().enumerate() {
            let tensor = outputs.get(at)?;
            let view = torch.view(&tensor)?;
            output.check(at, &view)?;
            if given.iter().chain(&wanted).any(|other| view.overlaps(other)) {
                return Err(Error::Value(format!("output {at} shares memory with an input or another output")));
            }
            kept.push(tensor);
            wanted.push(view);
        }
        let which = Which { fpmath: self.fpmath, threads: runtimes::threads()? };
        let instance = match self.find(py, torch, which, &inputs, &orders)? {
            Some(instance) => instance,
            None => self.make(py, torch, which, &inputs, &orders)?,
        };
        runtimes::after_fork()?;
        let tensors = Tensors { given: &given, copies: &copies, wanted: &wanted };
        py.detach(|| tensors.run(&instance, &self.outputs))
    }

    /// Where the instance for these objects is, whether their elements were changed or not.
    fn position(
        &self,
        all: &[Arc<Instance>],
        which: Which,
        inputs: &Items<'_>,
        orders: &[Option<Order>],
    ) -> Option<usize> {
        let object = |n: usize| inputs.borrow(self.weights[n]).as_ptr().addr();
        all.iter().position(|instance| instance.takes(orders) && instance.is_of(which, object))
    }

    /// The instance for these weights, if there is one.
    fn find<'py>(
        &self,
        py: Python<'py>,
        torch: &Torch,
        which: Which,
        inputs: &Items<'py>,
        orders: &[Option<Order>],
    ) -> Result<Option<Arc<Instance>>> {
        let found = {
            let mut all = lock(&self.instances);
            self.position(&all, which, inputs, orders).map(|at| {
                all[..=at].rotate_right(1);
                all[0].clone()
            })
        };
        let Some(instance) = found else { return Ok(None) };
        Ok(instance.is_current(py, torch, |n| inputs.borrow(self.weights[n]))?.then_some(instance))
    }

    /// Makes the instance for these weights, or waits for who does.
    fn make<'py>(
        &self,
        py: Python<'py>,
        torch: &Torch,
        which: Which,
        inputs: &Items<'py>,
        orders: &[Option<Order>],
    ) -> Result<Arc<Instance>> {
        let _compiling = self.compiling.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = self.find(py, torch, which, inputs, orders)? {
            return Ok(instance);
        }
        let mut weights = Vec::with_capacity(self.weights.len());
        for (at, argument) in self.weights.iter().map(|at| (*at, inputs.get(*at))) {
            let tensor = argument?;
            let ty = &self.func.value(self.func.arguments().nth(at).expect("it was checked").0).ty;
            let found = torch.view(&tensor)?;
            if !found.is_of(ty) {
                return Err(Error::Value(format!("input {at}: expected {ty}, found {}", found.ty()?)));
            }
            weights.push(Weight::new(torch, &tensor)?);
        }
        let parts = Parts { weights, inputs: orders.to_vec(), which };
        let told = forget_dead(&self.instances);
        let results: Vec<Option<Order>> = self.outputs.iter().map(|output| output.order.clone()).collect();
        let needed: Vec<_> = parts.weights.iter().map(Weight::needed).collect();
        let mut instance = py.detach(|| Instance::compile(&self.func, &self.weights, &results, parts, told))?;
        if self.release {
            instance.release(&needed, |n| inputs.get(self.weights[n]))?;
        }
        let instance = Arc::new(instance);
        let gone = {
            let mut all = lock(&self.instances);
            // The one for what the same objects were before.
            let old = self.position(&all, which, inputs, orders).map(|at| all.remove(at));
            all.insert(0, instance.clone());
            let more = all.len().min(INSTANCES);
            (old, all.split_off(more))
        };
        drop(gone);
        Ok(instance)
    }
}

/// Forgets instances whose weights are gone, when it is called. It may come in the middle of anything.
fn forget_dead(instances: &Arc<Instances>) -> Box<dyn Fn() + Send + Sync> {
    let instances: Weak<Instances> = Arc::downgrade(instances);
    Box::new(move || {
        let Some(instances) = instances.upgrade() else { return };
        // Whoever has the lock is in the middle of a look-up, perhaps this very thread: a later call forgets them.
        let Ok(mut all) = instances.try_lock() else { return };
        let (gone, alive) = std::mem::take(&mut *all).into_iter().partition::<Vec<_>, _>(|i| i.is_over());
        *all = alive;
        drop(all);
        drop(gone);
    })
}

/// The memory of a call.
struct Tensors<'a> {
    given: &'a [View],
    /// Those that are scattered, row-major.
    copies: &'a [Option<Vec<u8>>],
    wanted: &'a [View],
}

// SAFETY: the addresses are used in `run` alone, while its caller keeps their owners. Any thread may read and write there.
unsafe impl Sync for Tensors<'_> {}
// SAFETY: as above.
unsafe impl Send for Tensors<'_> {}

impl Tensors<'_> {
    fn run(&self, instance: &Instance, outputs: &[Output]) -> Result<()> {
        let given = self.given.iter().zip(self.copies).map(|(view, copy)| match copy {
            Some(copy) => &copy[..],
            // SAFETY: it is dense, or there was a copy. Its owner is kept by the caller, who does not write it meanwhile, as with
            // torch's own operators.
            None => unsafe { view.dense() },
        });
        let given: SmallVec<[&[u8]; 8]> = given.collect();
        let mut apart: SmallVec<[Vec<u8>; 4]> = outputs
            .iter()
            .zip(self.wanted)
            .map(|(output, view)| if output.is_dense { vec![] } else { vec![0; view.bytes()] })
            .collect();
        let mut wanted: SmallVec<[&mut [u8]; 4]> = SmallVec::new();
        for ((output, view), apart) in outputs.iter().zip(self.wanted).zip(&mut apart) {
            wanted.push(match output.is_dense {
                // SAFETY: it is dense, and its owner is kept by the caller, who made it or lends it for this.
                true => unsafe { view.dense_mut() },
                false => apart,
            });
        }
        instance.network.run_into(&given, &mut wanted)?;
        drop(wanted);
        for ((_, view), apart) in
            outputs.iter().zip(self.wanted).zip(&apart).filter(|((output, _), _)| !output.is_dense)
        {
            counters::COPIES.add();
            // SAFETY: as above.
            unsafe { view.scatter(apart) };
        }
        Ok(())
    }
}

impl Output {
    fn new(py: Python<'_>, ty: &TensorType, strides: Option<Vec<i64>>) -> Result<Self> {
        let shape: Dims = ty.shape().iter().map(|d| *d as i64).collect();
        let strides = strides.map_or_else(|| crate::dlpack::row_major(&shape), Dims::from_vec);
        if strides.len() != shape.len() || strides.iter().any(|s| *s < 0) {
            return Err(Error::Value(format!(
                "strides {strides:?} of an output {ty}: expected one, not negative, for each axis"
            )));
        }
        let (order, is_dense) = match lie(&shape, &strides) {
            Lie::RowMajor => (None, true),
            Lie::Dense(order) => (Some(order), true),
            Lie::Scattered => (None, false),
        };
        let shape_tuple = PyTuple::new(py, &shape)?.unbind();
        let strides_tuple = PyTuple::new(py, &strides)?.unbind();
        Ok(Output { ty: ty.clone(), order, is_dense, shape, strides, shape_tuple, strides_tuple })
    }

    fn check(&self, at: usize, view: &View) -> Result<()> {
        if !view.is_of(&self.ty) {
            return Err(Error::Value(format!("output {at}: expected {}, found {}", self.ty, view.ty()?)));
        }
        // Along an axis of one element, and in a tensor without any, strides say nothing.
        let is_promised = |axis: usize| view.shape[axis] == 1 || view.strides[axis] == self.strides[axis];
        if !view.shape.contains(&0) && !(0..self.shape.len()).all(is_promised) {
            return Err(Error::Value(format!(
                "output {at}: expected the strides {:?} that were promised, found {:?}",
                self.strides, view.strides
            )));
        }
        Ok(())
    }
}

/// The arithmetic of this name.
pub fn math_mode(name: &str) -> Result<MathMode> {
    let wrong = || Error::Value(format!("fpmath={name:?}: expected \"f32\", \"strict\", \"bf16\" or \"any\""));
    if name == "f32" { Ok(MathMode::default()) } else { name.parse().map_err(|_| wrong()) }
}

//! A graph with its weights, compiled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use kiln_ir::Func;
use kiln_ir::func::{Order, Tensor};
use kiln_model::{Bound as Network, CompileOptions, Network as Compiled};
use pyo3::Borrowed;
use pyo3::prelude::*;

use crate::counters;
use crate::error::Result;
use crate::runtimes::{self, Which};
use crate::torch::Torch;
use crate::view::Lie;
use crate::weights::{Key, Lent, Source, User};

/// A network for the weights of one module.
pub struct Instance {
    /// The network.
    pub network: Compiled,
    which: Which,
    weights: Vec<(Arc<Source>, Key)>,
    /// The layouts of arguments that are no weights.
    inputs: Vec<Option<Order>>,
    life: Arc<Life>,
}

/// The state of the weights of an instance, and whom to tell when they are gone.
struct Life {
    is_over: AtomicBool,
    told: Box<dyn Fn() + Send + Sync>,
}

impl User for Life {
    fn weights_died(&self) {
        if !self.is_over.swap(true, Ordering::AcqRel) {
            (self.told)();
        }
    }
}

/// The parts of an instance, which its caller has read from Python.
pub struct Parts {
    /// The weights, by position among the weights.
    pub weights: Vec<Weight>,
    /// The layouts of arguments that are no weights.
    pub inputs: Vec<Option<Order>>,
    /// Which runtime has its kernels.
    pub which: Which,
}

/// One of the weights.
pub struct Weight {
    source: Arc<Source>,
    key: Key,
    order: Option<Order>,
    data: Bytes,
    needed: Weak<()>,
}

impl Weight {
    /// Tells, once an instance is made of it, whether that reads it.
    pub fn needed(&self) -> Weak<()> {
        self.needed.clone()
    }

    /// Borrows a tensor of torch.
    pub fn new(torch: &Torch, tensor: &Bound<'_, PyAny>) -> Result<Self> {
        let view = torch.view(tensor)?;
        let key = Key { data: view.data.addr(), version: torch.version(tensor)? };
        let source = Source::of(tensor, key)?;
        // A tensor of its own keeps the storage, and not the object: that may die, or get another storage.
        let owner = tensor.call_method0(pyo3::intern!(tensor.py(), "detach"))?.unbind();
        let needed = Arc::new(());
        let still = Arc::downgrade(&needed);
        let borrowed = |bytes| Bytes::from_owner(Lent { owner, data: view.data, bytes, needed });
        let (order, data) = match view.lie() {
            Lie::RowMajor => (None, borrowed(view.bytes())),
            Lie::Dense(order) => (Some(order), borrowed(view.bytes())),
            Lie::Scattered => {
                counters::COPIES.add();
                // SAFETY: the tensor is borrowed. Nobody may write to it meanwhile, as callers are told.
                (None, Bytes::from(unsafe { view.gather() }))
            }
        };
        Ok(Weight { source, key, order, data, needed: still })
    }
}

impl Instance {
    /// Compiles a function, of whose arguments those at `weights` are weights. Results lie as `results` says.
    pub fn compile(
        func: &Func,
        weights: &[usize],
        results: &[Option<Order>],
        parts: Parts,
        told: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Self> {
        let runtime = runtimes::shared(parts.which)?;
        let mut orders: Vec<Option<Order>> = vec![None; func.arguments().count()];
        let mut is_weight = vec![None; orders.len()];
        weights.iter().enumerate().for_each(|(n, at)| is_weight[*at] = Some(n));
        let mut inputs = parts.inputs.iter();
        for (order, weight) in orders.iter_mut().zip(&is_weight) {
            *order = match weight {
                Some(n) => parts.weights[*n].order.clone(),
                None => inputs.next().cloned().flatten(),
            };
        }
        let laid = if orders.iter().chain(results).any(Option::is_some) {
            &func.ordered(|at| orders[at].clone(), |at| results.get(at).cloned().flatten())?
        } else {
            func
        };
        let numbers: HashMap<(usize, usize), u64> =
            parts.weights.iter().map(|w| ((w.data.as_ptr().addr(), w.data.len()), w.source.number(w.key))).collect();
        let (mut known, mut data) = (vec![], vec![]);
        for weight in parts.weights {
            known.push((weight.source, weight.key));
            data.push(Some(weight.data));
        }
        let types: Vec<_> = laid.arguments().map(|(_, value)| value.ty.clone()).collect();
        let mut at = 0;
        let bound = laid.with_constants(|_| {
            at += 1;
            // Its length was checked with its type.
            Tensor::new(types[at - 1].clone(), data[is_weight[at - 1]?].take()?).ok()
        })?;
        let identify = |tensor: &Tensor| numbers.get(&(tensor.data().as_ptr().addr(), tensor.data().len())).copied();
        let options = CompileOptions { identify: Some(&identify), ..CompileOptions::default() };
        let network = Network::from_func(bound).compile_with(&runtime, &options)?;
        counters::INSTANCES.add();
        let life = Arc::new(Life { is_over: AtomicBool::new(false), told });
        for (source, _) in &known {
            let user: Weak<Life> = Arc::downgrade(&life);
            source.tell(user);
        }
        // One that died meanwhile told nobody.
        if known.iter().any(|(source, _)| source.is_dead()) {
            life.is_over.store(true, Ordering::Release);
        }
        Ok(Instance { network, which: parts.which, weights: known, inputs: parts.inputs, life })
    }

    /// True if it is for the objects that `object` gives by position among the weights.
    pub fn is_of(&self, which: Which, object: impl Fn(usize) -> usize) -> bool {
        self.which == which
            && !self.is_over()
            && self.weights.iter().enumerate().all(|(n, (source, _))| source.object() == object(n))
    }

    /// True if inputs lie as it expects.
    pub fn takes(&self, inputs: &[Option<Order>]) -> bool {
        self.inputs == inputs
    }

    /// True if the elements of its weights are those that it was made with. The tensors are those of [`is_of`](Self::is_of).
    pub fn is_current<'a, 'py: 'a>(
        &self,
        py: Python<'py>,
        torch: &Torch,
        tensor: impl Fn(usize) -> Borrowed<'a, 'py, PyAny>,
    ) -> Result<bool> {
        torch.are_current(py, self.weights.iter().enumerate().map(|(n, (_, key))| (tensor(n), *key)))
    }

    /// Gives back the memory of weights that are packed and not read any more, but of none that shares it with one that is. The tensors
    /// are those that it was made of, and keep their shapes.
    pub fn release<'py>(
        &mut self,
        needed: &[Weak<()>],
        tensor: impl Fn(usize) -> Result<Bound<'py, PyAny>>,
    ) -> Result<()> {
        let storage = |n: usize| -> Result<(Bound<'py, PyAny>, usize)> {
            let storage = tensor(n)?.call_method0("untyped_storage")?;
            let data = storage.call_method0("data_ptr")?.extract()?;
            Ok((storage, data))
        };
        let (mut kept, mut gone) = (vec![], vec![]);
        for (n, needed) in needed.iter().enumerate() {
            match needed.strong_count() {
                0 => gone.push((n, storage(n)?)),
                _ => kept.push(storage(n)?.1),
            }
        }
        for (n, (storage, data)) in gone {
            if kept.contains(&data) || !storage.call_method0("resizable")?.is_truthy()? {
                continue;
            }
            storage.call_method1("resize_", (0,))?;
            // Nothing is at no address.
            self.weights[n].1.data = 0;
            counters::RELEASED.add();
        }
        Ok(())
    }

    /// True if some of its weights are gone.
    pub fn is_over(&self) -> bool {
        self.life.is_over.load(Ordering::Acquire)
    }
}

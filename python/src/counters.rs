//! Counters of the work so far, for tests and reports.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{runtimes, weights};

/// A number that only grows.
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Calls of graphs.
pub static CALLS: Counter = Counter(AtomicU64::new(0));
/// Instances that were made for weights.
pub static INSTANCES: Counter = Counter(AtomicU64::new(0));
/// Inputs and outputs that could not be used where they lie.
pub static COPIES: Counter = Counter(AtomicU64::new(0));

/// Weights of torch that were given back.
pub static RELEASED: Counter = Counter(AtomicU64::new(0));

/// Counters of this process since it began. `packed_weights` counts how often weights were packed, `packed_bytes` is what packed weights
/// take now, `kernels` counts kernels that were compiled, `instances` counts networks that were compiled for some weights, `calls` counts
/// calls of graphs, `copies` counts inputs and outputs that could not be used where they lie, `released` counts weights whose originals were
/// given back, and `sources` is the number of tensors that are alive and were used as weights.
#[pyfunction]
pub fn counters(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let (packings, packed_bytes, kernels) = runtimes::totals();
    let all = PyDict::new(py);
    all.set_item("packed_weights", packings)?;
    all.set_item("packed_bytes", packed_bytes)?;
    all.set_item("kernels", kernels)?;
    for (name, counter) in [("instances", &INSTANCES), ("calls", &CALLS), ("copies", &COPIES), ("released", &RELEASED)]
    {
        all.set_item(name, counter.0.load(Ordering::Relaxed))?;
    }
    all.set_item("sources", weights::sources())?;
    Ok(all)
}

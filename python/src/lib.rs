//! `kiln._kiln`: what the Python package is made of. The package itself, with its documentation, is in `python/kiln`.
//!
//! - `graph`, `instance`, `weights`: functions whose weights are looked up in each call, for torch.
//! - `torch`, `dlpack`, `view`: tensors of others where they lie.
//! - `runtime`, `kernel`, `network`, `profile`, `array`: what works without torch, on arrays of any library.
//! - `runtimes`: the runtimes that they share, with threads that are begun again after a fork.
//! - `error`: failures as exceptions; a panic is one, too.

mod array;
mod counters;
mod dlpack;
mod error;
mod graph;
mod instance;
mod kernel;
mod network;
mod profile;
mod report;
mod runtime;
mod runtimes;
mod torch;
mod view;
mod weights;

use pyo3::prelude::*;

use error::guarded;

/// Divides calls of graphs among so many threads from now on.
#[pyfunction]
fn set_num_threads(threads: usize) -> PyResult<()> {
    guarded(|| runtimes::set_threads(threads))
}

/// Threads that calls of graphs are divided among.
#[pyfunction]
fn get_num_threads() -> PyResult<usize> {
    guarded(runtimes::threads)
}

#[pymodule(gil_used = false)]
fn _kiln(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Unsupported", py.get_type::<error::Unsupported>())?;
    module.add("InternalError", py.get_type::<error::InternalError>())?;
    module.add_class::<graph::Graph>()?;
    module.add_class::<runtime::Runtime>()?;
    module.add_class::<kernel::Kernel>()?;
    module.add_class::<kernel::Weights>()?;
    module.add_class::<network::Network>()?;
    module.add_class::<profile::Profile>()?;
    module.add_function(wrap_pyfunction!(runtime::compile_problem, module)?)?;
    module.add_function(wrap_pyfunction!(set_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(get_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(counters::counters, module)?)?;
    Ok(())
}

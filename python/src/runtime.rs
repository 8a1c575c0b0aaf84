//! `kiln.Runtime`: a target, a kernel cache and threads.

use kiln_jit::Runtime as Inner;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::guarded;
use crate::graph::math_mode;
use crate::kernel::Kernel;
use crate::runtimes::{self, Which};

/// A kernel cache with threads of its own.
///
/// `threads` is how many threads calls are divided among (as many as the process may use, if it is not given), `fpmath` the arithmetic of
/// f32 problems that name none ("f32", "bf16" or "any"), `packed_limit` the most bytes of packed weights, `cache_capacity` the most kernels
/// that are kept.
#[pyclass(frozen, module = "kiln")]
pub struct Runtime(pub Inner);

#[pymethods]
impl Runtime {
    #[new]
    #[pyo3(signature = (threads = None, *, fpmath = "f32", packed_limit = None, cache_capacity = None))]
    fn new(
        py: Python<'_>,
        threads: Option<usize>,
        fpmath: &str,
        packed_limit: Option<usize>,
        cache_capacity: Option<usize>,
    ) -> PyResult<Self> {
        guarded(|| {
            let mut builder = Inner::builder().fpmath(math_mode(fpmath)?);
            if let Some(threads) = threads {
                builder = builder.threads(threads);
            }
            if let Some(limit) = packed_limit {
                builder = builder.packed_limit(limit);
            }
            if let Some(capacity) = cache_capacity {
                builder = builder.cache_capacity(capacity);
            }
            Ok(Runtime(py.detach(|| builder.build())?))
        })
    }

    /// The kernel of a problem, compiled now or found in the cache.
    #[pyo3(signature = (problem, *, constant_weights = false))]
    fn compile_problem(&self, py: Python<'_>, problem: &str, constant_weights: bool) -> PyResult<Kernel> {
        guarded(|| Kernel::compile(py, &self.0, problem, constant_weights))
    }

    /// Threads that calls are divided among.
    #[getter]
    fn threads(&self) -> usize {
        self.0.threads()
    }

    /// The target that kernels are compiled for.
    #[getter]
    fn target(&self) -> String {
        self.0.target().to_string()
    }

    /// Counters: `hits`, `misses`, `compilations`, `packings`, `packed_bytes` and `code_bytes`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.0.stats();
        let all = PyDict::new(py);
        all.set_item("hits", stats.kernels.hits)?;
        all.set_item("misses", stats.kernels.misses)?;
        all.set_item("compilations", stats.kernels.compilations)?;
        all.set_item("packings", stats.packings)?;
        all.set_item("packed_bytes", stats.packed_bytes)?;
        Ok(all)
    }

    fn __repr__(&self) -> String {
        format!("<kiln.Runtime {}: {} threads>", self.0.target(), self.0.threads())
    }
}

/// The runtime that is given, or that of this process.
pub fn given(
    runtime: Option<&Bound<'_, Runtime>>,
    fpmath: Option<&str>,
    threads: Option<usize>,
) -> crate::error::Result<Inner> {
    match runtime {
        Some(_) if fpmath.is_some() || threads.is_some() => Err(crate::error::Error::Value(
            "give a runtime, or fpmath and threads, which are the runtime's, but not both".into(),
        )),
        Some(runtime) => Ok(runtime.get().0.clone()),
        None => {
            let fpmath = math_mode(fpmath.unwrap_or("f32"))?;
            let threads = threads.map_or_else(runtimes::threads, runtimes::checked)?;
            runtimes::shared(Which { fpmath, threads })
        }
    }
}

/// The kernel of a problem such as "ip f32 mb128ic768oc3072 +bias+gelu_erf", compiled now or found in the cache of `runtime`, by default
/// that of this process. With `constant_weights` it may want its weights packed: see `Kernel.pack`.
#[pyfunction]
#[pyo3(signature = (problem, *, runtime = None, constant_weights = false))]
pub fn compile_problem(
    py: Python<'_>,
    problem: &str,
    runtime: Option<&Bound<'_, Runtime>>,
    constant_weights: bool,
) -> PyResult<Kernel> {
    guarded(|| Kernel::compile(py, &given(runtime, None, None)?, problem, constant_weights))
}

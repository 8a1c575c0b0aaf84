//! The runtime: a target, a kernel cache and threads.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::Equivalent;
use kiln_compiler::{Options, Target};
use kiln_ir::{DType, MathMode, Problem};

use crate::cache::{Cache, CacheStats, Capacity};
use crate::code_memory::{CodePool, CodeStats};
use crate::cpu;
use crate::error::RuntimeError;
use crate::kernel::{Kernel, Shared};
use crate::scratch::{Retain, ScratchPool, ScratchStats};
use crate::threads::Threads;

/// Entries the kernel cache keeps unless told otherwise; oneDNN's default as well.
const DEFAULT_CAPACITY: usize = 1024;
/// Scratch memory kept between calls.
const SCRATCH: Retain = Retain { buffers: 64, bytes: 256 << 20 };

/// Compiles problems once and keeps their kernels. Independent of any other runtime in the process; shared by threads.
pub struct Runtime {
    target: Target,
    fpmath: MathMode,
    cache: Cache<Key, Kernel, RuntimeError>,
    shared: Arc<Shared>,
}

/// What a kernel is cached under. The target is the runtime's, the same for all entries. Thread count, values and pointers
/// are not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    problem: Problem,
    options: Options,
}

/// [`Key`] by reference, so that a hit clones nothing.
struct KeyRef<'a> {
    problem: &'a Problem,
    options: &'a Options,
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // In the order of `Key`'s fields, as its derived hash.
        self.problem.hash(state);
        self.options.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.problem == key.problem && *self.options == key.options
    }
}

/// Counters of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The kernel cache: hits, misses, evictions, bytes, compile time.
    pub kernels: CacheStats,
    /// Executable memory.
    pub code: CodeStats,
    /// Scratch memory kept for calls.
    pub scratch: ScratchStats,
    /// Bytes of [`PackedWeights`](crate::PackedWeights) that kernels of this runtime made and that are alive.
    pub packed_bytes: usize,
}

/// Settings of a [`Runtime`]. What is not set comes from the environment, then from a default.
#[derive(Clone, Debug, Default)]
pub struct RuntimeBuilder {
    target: Option<Target>,
    entries: Option<usize>,
    bytes: Option<usize>,
    threads: Option<usize>,
    fpmath: Option<MathMode>,
}

impl RuntimeBuilder {
    /// Compile for `target` instead of what is detected, which `KILN_MAX_CPU_ISA` limits. The machine must be able to run
    /// it; the variable does not apply.
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Kernels the cache keeps; 0 disables it. From the environment: `KILN_CACHE_CAPACITY`,
    /// `ONEDNN_PRIMITIVE_CACHE_CAPACITY` or `LRU_CACHE_CAPACITY`; else 1024.
    pub fn cache_capacity(mut self, entries: usize) -> Self {
        self.entries = Some(entries);
        self
    }

    /// Bytes of executable memory that cached kernels may occupy; unlimited unless set.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Threads that large problems are divided among, at least 1. From the environment: `OMP_NUM_THREADS`; else as many as
    /// the process may use.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The arithmetic of problems with f32 source that do not ask for one: a default, so a problem's own `fpmath` wins. A
    /// problem that says `fpmath=strict` is one that does not ask. From the environment: `KILN_FPMATH_MODE`,
    /// `ONEDNN_DEFAULT_FPMATH_MODE` or `DNNL_DEFAULT_FPMATH_MODE`; else strict. Accepted, without effect, on a target that
    /// has no BF16 instructions.
    pub fn fpmath(mut self, mode: MathMode) -> Self {
        self.fpmath = Some(mode);
        self
    }

    /// Checks the settings and makes the runtime.
    pub fn build(self) -> Result<Runtime, RuntimeError> {
        let host = cpu::detect()?;
        let target = match self.target {
            Some(t) => {
                cpu::supports(&host, &t)?;
                t
            }
            None => match variable("KILN_MAX_CPU_ISA") {
                Some(limit) => cpu::limit(&host, &limit)?,
                None => host,
            },
        };
        let capacity = |set: Option<usize>| match set {
            Some(n) => Ok(n),
            None => number(&["KILN_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"], 0)
                .map(|n| n.unwrap_or(DEFAULT_CAPACITY)),
        };
        let threads = match self.threads {
            Some(n) => n,
            None => number(&["OMP_NUM_THREADS"], 1)?
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        };
        let fpmath = match self.fpmath {
            Some(mode) => mode,
            None => math_mode(&["KILN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])?,
        };
        if fpmath.allows_bf16() && !target.bf16 {
            tracing::info!(%target, %fpmath, "fpmath has no effect: the target has no BF16 instructions");
        }
        let shared = Shared {
            code: CodePool::new()?,
            scratch: ScratchPool::new(SCRATCH),
            threads: Threads::new(threads)?,
            packed: Arc::new(AtomicUsize::new(0)),
        };
        let capacity = Capacity::entries(capacity(self.entries)?);
        let capacity = Capacity { bytes: self.bytes.unwrap_or(capacity.bytes), ..capacity };
        Ok(Runtime { target, fpmath, cache: Cache::new(capacity), shared: Arc::new(shared) })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.trim().is_empty())
}

/// The first of `names` that is set, as a number of at least `least`.
fn number(names: &[&'static str], least: usize) -> Result<Option<usize>, RuntimeError> {
    for &name in names {
        if let Some(value) = variable(name) {
            // A list, as OpenMP allows for nested regions, begins with the outermost.
            return match value.split(',').next().unwrap_or_default().trim().parse() {
                Ok(n) if n >= least => Ok(Some(n)),
                _ => {
                    let expected = if least == 0 { "a number of kernels" } else { "a number of threads, at least 1" };
                    Err(RuntimeError::Environment { name, value, expected })
                }
            };
        }
    }
    Ok(None)
}

/// The first of `names` that is set, as a math mode; strict without any.
fn math_mode(names: &[&'static str]) -> Result<MathMode, RuntimeError> {
    let set = names.iter().find_map(|&name| variable(name).map(|value| (name, value)));
    let Some((name, value)) = set else { return Ok(MathMode::Strict) };
    let expected = "strict, bf16 or any";
    value.trim().parse().map_err(|_| RuntimeError::Environment { name, value, expected })
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtime(@{}, {:?})", self.target, self.stats())
    }
}

impl Runtime {
    /// A runtime with settings.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// What kernels are compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Threads that large problems are divided among.
    pub fn threads(&self) -> usize {
        self.shared.threads.count()
    }

    /// The arithmetic of f32 problems that do not ask for one.
    pub fn fpmath(&self) -> MathMode {
        self.fpmath
    }

    /// The kernel of a problem: cached, or compiled now. Threads that ask for the same problem at once share one
    /// compilation. The kernel's own [problem](Kernel::problem) has the runtime's [`fpmath`](Self::fpmath) where that applies.
    pub fn kernel(&self, problem: &Problem) -> Result<Arc<Kernel>, RuntimeError> {
        static DEFAULT: Options = Options { schedule: None, constant_weights: false };
        self.kernel_with(problem, &DEFAULT)
    }

    /// [`kernel`](Self::kernel) with compiler options, which are part of what it is cached under.
    pub fn kernel_with(&self, problem: &Problem, options: &Options) -> Result<Arc<Kernel>, RuntimeError> {
        let problem = &*self.with_default_math(problem);
        if let Some(kernel) = self.cache.get(&KeyRef { problem, options }) {
            return Ok(kernel);
        }
        let key = Key { problem: problem.clone(), options: options.clone() };
        let make = || Kernel::new(problem, &self.target, options, self.shared.clone());
        self.cache.get_or_try_insert_with(&key, Kernel::resident_bytes, make)
    }

    fn with_default_math<'a>(&self, problem: &'a Problem) -> Cow<'a, Problem> {
        let asks = problem.math() != MathMode::Strict || problem.dtypes().src != DType::F32;
        if asks || self.fpmath == MathMode::Strict {
            return Cow::Borrowed(problem);
        }
        Cow::Owned(problem.with_math(self.fpmath))
    }

    /// Counters, each part read at one moment.
    pub fn stats(&self) -> Stats {
        Stats {
            kernels: self.cache.stats(),
            code: self.shared.code.stats(),
            scratch: self.shared.scratch.stats(),
            packed_bytes: self.shared.packed.load(Ordering::Relaxed),
        }
    }

    /// Forgets all kernels and frees scratch memory; what is in use stays alive with its users.
    pub fn clear(&self) {
        self.cache.clear();
        self.shared.scratch.clear();
    }
}

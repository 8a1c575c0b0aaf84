//! Kiln's runtime: kernels compiled for this machine, cached, and called safely.
//!
//! ```
//! use kiln_jit::{Args, Problem, Runtime};
//!
//! let runtime = Runtime::builder().build()?;
//! let problem: Problem = "matmul f32 2x3:3x4 +bias+relu".parse()?;
//! let kernel = runtime.kernel(&problem)?; // compiled
//!
//! let lhs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
//! let rhs = [1.0; 12];
//! let bias = [0.0, 1.0, -7.0, -20.0];
//! let mut dst = [0.0; 8];
//! kernel.run(Args::new(&lhs, &rhs, &mut dst).bias(&bias))?;
//! assert_eq!(dst, [6.0, 7.0, 0.0, 0.0, 15.0, 16.0, 8.0, 0.0]);
//!
//! runtime.kernel(&problem)?; // found in the cache
//! assert_eq!((runtime.stats().kernels.hits, runtime.stats().kernels.compilations), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Weights that stay the same over many calls are prepared once. Most kernels then read them in an order of their own:
//!
//! ```
//! use kiln_jit::{Args, Options, Problem, Runtime};
//!
//! let runtime = Runtime::builder().build()?;
//! let linear: Problem = "ip f32 mb2ic3oc4".parse()?; // weights are oc x ic
//! let kernel = runtime.kernel_with(&linear, &Options { constant_weights: true, ..Options::default() })?;
//! let weights = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
//! let weights = kernel.prepare_weights(&weights)?;
//! let (src, mut dst) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0; 8]);
//! kernel.run(Args::new(&src, &weights, &mut dst))?;
//! assert_eq!(dst, [1.0, 2.0, 3.0, 6.0, 4.0, 5.0, 6.0, 15.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The types that the API takes and returns come with it: problems, operands and targets, and the errors of problems and of compilation,
//! so that a program matches them without depending on other crates of Kiln. The rest of those is in [`ir`] and [`compiler`].
//!
//! ```
//! use kiln_jit::{CompileError, Operand, Problem, ProblemError, Role, Runtime, RuntimeError};
//!
//! let e = "matmul f32 2x3:3x4 beta=1 beta=0".parse::<Problem>().unwrap_err();
//! assert!(matches!(&e, ProblemError::Repeated { name, .. } if name == "beta"));
//!
//! let runtime = Runtime::builder().build()?;
//! let problem: Problem = "matmul f32 2x100000000:100000000x2 wtag=ba".parse()?;
//! match runtime.kernel(&problem) {
//!     Err(RuntimeError::Compile(e)) => match &*e {
//!         CompileError::Unsupported { what, .. } => println!("compute `{problem}` otherwise: {what}"),
//!         other => println!("{other}"),
//!     },
//!     other => drop(other?),
//! }
//! let names = |o: &Operand| (o.role == Role::Rhs).then(|| o.name.clone());
//! assert_eq!(problem.operands().iter().find_map(names).as_deref(), Some("rhs"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Environment
//!
//! Read when a runtime is built; settings of its builder win.
//!
//! | variable | meaning |
//! |---|---|
//! | `KILN_MAX_CPU_ISA` | the most that a detected target may use: `advanced_simd`, `sve_128`, `sve_256`, `sve_512`, `avx2`, `avx512_core`, `default` |
//! | `KILN_CACHE_CAPACITY`, else `ONEDNN_PRIMITIVE_CACHE_CAPACITY`, else `LRU_CACHE_CAPACITY` | kernels the cache keeps; 0 disables it |
//! | `KILN_CACHE_BYTES` | bytes of executable memory that cached kernels may occupy |
//! | `KILN_CACHE_DIR` | a directory in which compiled kernels are kept for other processes: one of the user's own, see [below](#trust) |
//! | `KILN_NUM_THREADS`, else `OMP_NUM_THREADS`, else `RAYON_NUM_THREADS` | threads that large problems are divided among, from 1 to 1024; of a list in `OMP_NUM_THREADS`, the first number |
//! | `KILN_NUM_STREAMS` | [calls that are divided at once](RuntimeBuilder::streams), on threads of their own: no more than 1024 threads in all |
//! | `KILN_SPIN` | microseconds for which an [idle thread looks for work](RuntimeBuilder::spin) before it sleeps; 0 for none |
//! | `KILN_FPMATH_MODE`, else `ONEDNN_DEFAULT_FPMATH_MODE`, else `DNNL_DEFAULT_FPMATH_MODE` | `strict`, `bf16` or `any`: the arithmetic of problems with f32 source that name none |
//! | `KILN_VERBOSE`, else `ONEDNN_VERBOSE`, else `DNNL_VERBOSE` | `none`, `error`, `warn`, `profile_create`, `profile_exec`, `profile`, `dispatch`, `all`, or several, separated by commas: what lines are written about |
//! | `KILN_JIT_DUMP`, else `ONEDNN_JIT_DUMP`, else `DNNL_JIT_DUMP` | `1` or a directory: where code and listings of kernels are written |
//! | `KILN_JIT_PROFILE`, else `ONEDNN_JIT_PROFILE`, else `DNNL_JIT_PROFILE` | 2: a perf map, 4: a jitdump (below `JITDUMPDIR`, else `HOME`), 6: both |
//! | `KILN_STRICT_SETTINGS` | 1: settings that cannot be followed are errors, and not just [notices](Notice) |
//!
//! # Trust
//!
//! Safe code executes what this process compiled, and what the user's own runtimes compiled before, but nothing else. A file with
//! code is executed in two cases:
//!
//! - The program says that it trusts the file or the directory, in an `unsafe` block: [`RuntimeBuilder::pack`] and
//!   [`RuntimeBuilder::cache_dir`]. A pack is a program, like a shared library. Checksums find accidents; they do not tell who made it.
//! - The user says so, by `KILN_CACHE_DIR`. As with `LD_LIBRARY_PATH`, whoever sets the environment of a process decides what it
//!   executes; safe code cannot set it. But a variable is easily set to a directory of others. So the directory must be the user's
//!   alone: it belongs to the effective user, nobody else may write to it, it is no symbolic link, and nobody but root and the user
//!   can put another in its place. It is opened once and checked as it is opened; a directory that does not pass is not used, and a
//!   [`Notice`] says what to change. Kernels in it are sealed with a secret key, which only runtimes of the user can read: a file
//!   that anything else put there is not executed, be it written by [`pack::write`].

mod args;
mod background;
mod builder;
mod code_memory;
pub mod cpu;
mod division;
mod dump;
mod environment;
mod error;
pub mod family;
mod kernel;
mod key;
mod lock;
mod notice;
mod notices;
mod numa;
pub mod pack;
pub mod probe;
mod profile;
mod runtime;
mod scratch;
#[cfg(doctest)]
mod soundness;
mod threads;
mod verbose;
#[cfg(feature = "ndarray")]
pub mod views;
mod weights;

pub use args::{Args, Input, Output, Pointers, PreparedWeights, Raw, RawWeights};
pub use builder::{RuntimeBuilder, default_fpmath, default_threads, environment_threads};
pub use code_memory::{CodeMemoryError, CodeStats};
pub use division::Division;
pub use error::RuntimeError;
pub use family::{Family, FamilyOptions, FamilyStats};
pub use half::{bf16, f16};
pub use kernel::{Entry, Kernel};
pub use kiln_compiler as compiler;
pub use kiln_compiler::package::{Facts, PackageError};
pub use kiln_compiler::packed::PackedLayout;
pub use kiln_compiler::schedule::{Schedule, ScheduleError};
pub use kiln_compiler::target::{Feature, TargetError};
pub use kiln_compiler::{CompileError, Options, Package, Target};
pub use kiln_ir as ir;
pub use kiln_ir::epilogue::{EpilogueError, UnknownPostOp};
pub use kiln_ir::layout::Tag;
pub use kiln_ir::op::{Convolution, InnerProduct, Matmul, convolution::Spatial};
pub use kiln_ir::problem::Builder as ProblemBuilder;
pub use kiln_ir::{DType, DTypes, Epilogue, MathMode, Op, Operand, PostOp, Problem, ProblemError, Role};
pub use kiln_memo::CacheStats;
pub use notice::Notice;
pub use pack::{CacheDirError, Pack, PackError, WeightsPack};
pub use runtime::{PackStatus, Progress, Runtime, Stats};
pub use scratch::{ScratchError, ScratchStats};
pub use threads::{Executor, MAX_THREADS};
pub use weights::{PackedWeights, WeightsId};

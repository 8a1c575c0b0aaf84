//! Kiln's runtime: kernels compiled for this machine, cached, and called safely.
//!
//! ```
//! use kiln_runtime::{Args, Problem, Runtime};
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
//! # Environment
//!
//! Read when a runtime is built; settings of its builder win.
//!
//! | variable | meaning |
//! |---|---|
//! | `KILN_MAX_CPU_ISA` | the most that a detected target may use: `advanced_simd`, `sve_128`, `sve_256`, `sve_512`, `avx2`, `default` |
//! | `KILN_CACHE_CAPACITY`, else `ONEDNN_PRIMITIVE_CACHE_CAPACITY`, else `LRU_CACHE_CAPACITY` | kernels the cache keeps; 0 disables it |
//! | `OMP_NUM_THREADS` | threads that large problems are divided among |

mod args;
mod cache;
mod code_memory;
pub mod cpu;
mod error;
mod kernel;
pub mod probe;
mod runtime;
mod scratch;
mod threads;

pub use args::Args;
pub use cache::CacheStats;
pub use code_memory::{CodeMemoryError, CodeStats};
pub use error::RuntimeError;
pub use kernel::{Entry, Kernel};
pub use kiln_compiler::{Options, Target};
pub use kiln_ir::Problem;
pub use runtime::{Runtime, RuntimeBuilder, Stats};
pub use scratch::{ScratchError, ScratchStats};

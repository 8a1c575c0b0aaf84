//! Kiln compiles matrix products, inner products and convolutions, with the operations that follow them, to machine code for exactly
//! their sizes, and runs that code: AVX2 and AVX-512 on x86-64, NEON, SVE and BF16 instructions on AArch64.
//!
//! This crate is what a program depends on. It has the stable names of Kiln's crates, and nothing of its own.
//!
//! # A kernel
//!
//! ```
//! use kiln::{Args, Problem, Runtime};
//!
//! // One for the whole program: it has the threads and a cache of kernels. A clone is the same runtime.
//! let runtime = Runtime::builder().build()?;
//!
//! // A matrix product of 2x3 by 3x4, then a bias, then relu. All that one kernel computes is in this text.
//! let problem: Problem = "matmul f32 2x3:3x4 +bias+relu".parse()?;
//! let kernel = runtime.kernel(&problem)?; // compiled now; found in the cache from the second time on
//!
//! let lhs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
//! let rhs = [1.0; 12];
//! let bias = [0.0, 1.0, -7.0, -20.0];
//! let mut dst = [0.0; 8];
//! kernel.run(Args::new(&lhs, &rhs, &mut dst).bias(&bias))?;
//! assert_eq!(dst, [6.0, 7.0, 0.0, 0.0, 15.0, 16.0, 8.0, 0.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Problem`] says how problems are written. [`Runtime::family`] is for sizes that change from call to call, [`Options`] for weights
//! that stay the same, and [`RuntimeBuilder`] for threads, memory limits and files with kernels.
//!
//! # A network
//!
//! With the feature `models` there are whole networks, in the module `models`, and with `onnx` those in ONNX files:
//!
#![cfg_attr(feature = "onnx", doc = "```no_run")]
#![cfg_attr(not(feature = "onnx"), doc = "```ignore")]
//! use kiln::Runtime;
//! use kiln::models::Tensor;
//! use kiln::onnx::{Bindings, Model};
//!
//! let runtime = Runtime::builder().build()?;
//! let network = Model::from_onnx("resnet50.onnx")?.bind(&Bindings::new().dim("batch", 1))?.compile(&runtime)?;
//! let image = Tensor::from_elements([1, 3, 224, 224], vec![0.5f32; 3 * 224 * 224])?;
//! let results = network.run(&[image])?;
//! println!("{}", results[0].ty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `models` | whole networks: built-in architectures, and folders as Hugging Face lays them out |
//! | `onnx` | `models`, and networks in ONNX files |
//! | `ndarray` | arguments from views of the crate `ndarray` 0.17, in the module `views` |
//!
//! None is on unless a program asks for it.
//!
//! # Stability
//!
//! The names that are documented here change as Cargo's rules for versions say. The crates behind it ([`kiln_jit`], `kiln_model` and others) have
//! more names, for tools that look into the stages of the compiler: these may change in any version.
//!
//! # Environment, trust
//!
//! A runtime reads variables such as `KILN_NUM_THREADS` and `KILN_CACHE_DIR`: the [table](kiln_jit#environment) lists them. Safe code
//! executes what this process compiled, and files only as [Trust](kiln_jit#trust) says.

#![forbid(unsafe_code)]

// Problems: what is computed.
pub use kiln_jit::{
    Convolution, DType, DTypes, Epilogue, EpilogueError, InnerProduct, MathMode, Matmul, Op, Operand, PostOp, Problem,
    ProblemBuilder, ProblemError, Role, Spatial, Tag, UnknownPostOp, bf16, f16,
};

// Kernels: how it is computed, and calls.
pub use kiln_jit::{
    Args, CompileError, Entry, Family, FamilyOptions, FamilyStats, Input, Kernel, Options, Output, PackedLayout,
    PackedWeights, Pointers, PreparedWeights, Raw, RawWeights, Schedule, ScheduleError, Target, TargetError, WeightsId,
};

// The runtime: threads, memory, files.
pub use kiln_jit::{
    CacheDirError, CacheStats, CodeMemoryError, CodeStats, Executor, MAX_THREADS, Notice, Pack, PackError, PackStatus,
    PackageError, Progress, Runtime, RuntimeBuilder, RuntimeError, ScratchError, ScratchStats, Stats, WeightsPack,
};

/// The processor that the program runs on.
pub mod cpu {
    pub use kiln_jit::cpu::{CannotRun, CpuError, LimitError, Missing, detect};
}

/// Files with kernels and packed weights, made before a program runs.
pub mod pack {
    pub use kiln_jit::Package;
    pub use kiln_jit::pack::{Contents, write, write_bundle, write_weights};
}

/// Arguments from views of the crate `ndarray`, and the problems of given views.
#[cfg(feature = "ndarray")]
pub mod views {
    pub use kiln_jit::views::{Element, matmul, with_strides};
}

#[cfg(feature = "models")]
pub mod models;
#[cfg(feature = "onnx")]
pub mod onnx;

/// The examples of README.md, which are those of a program with all features.
#[cfg(all(doctest, feature = "onnx"))]
#[doc = include_str!("../README.md")]
struct Readme;

//! Kiln's intermediate representations: what is to be computed, from tensors down to loops.
//!
//! No instruction set, no processor and no `unsafe` in here. One small product through the crate:
//!
//! ```
//! use kiln_ir::rewrite::{TileLoop, fuse_loops, split_tails, tensorize, tile};
//! use kiln_ir::{Func, LoopNest, Problem, contraction, fuse};
//!
//! // The tensor program, and the one kernel it fuses to.
//! let func: Func = "func @layer(%x: f32[5x4], %w: f32[4x3]) -> f32[5x3] {
//!     %0 = matmul %x, %w
//!     %1 = relu %0
//!     return %1
//! }".parse()?;
//! let problem: Problem = fuse::fuse_single(&func)?.problem;
//! assert_eq!(problem.to_string(), "matmul f32 5x4:4x3 +relu");
//!
//! // Its loops: naive, then in register tiles of 2x3, the last of which has one row.
//! let naive = contraction::naive(&problem);
//! let tiled = tile(fuse_loops(naive)?, 0, &[TileLoop::new("m", 2)], false)?;
//! let nest = tensorize(split_tails(tiled)?)?;
//! nest.verify()?;
//! assert_eq!(nest.to_string().parse::<LoopNest>()?.to_string(), nest.to_string());
//!
//! // A nest means what its interpreter does.
//! let (mut x, mut w, mut y) = ([1.0; 20], [-1.0, 0.5, 2.0].repeat(4), [f32::NAN; 15]);
//! nest.interpret(&mut [&mut x, &mut w, &mut y])?;
//! assert_eq!(y, *[0.0, 2.0, 8.0].repeat(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod contraction;
pub mod dtype;
pub mod elements;
pub mod epilogue;
pub mod func;
pub mod fuse;
pub mod layout;
pub mod nest;
pub mod op;
pub mod pass;
pub mod problem;
pub mod reference;
pub mod rewrite;
pub mod strides;
pub mod text;
pub mod window;

/// A hash of this crate's sources: part of the version of the compiler that is made of them.
pub const SOURCES: &str = env!("KILN_IR_SOURCES");

pub use contraction::Contraction;
pub use dtype::DType;
pub use epilogue::{Epilogue, PostOp};
pub use func::Func;
pub use nest::LoopNest;
pub use problem::{DTypes, MathMode, Op, Operand, Problem, ProblemError, Role};
pub use reference::{Reference, Sums};
pub use strides::{Layout, Strides};
pub use window::Window;

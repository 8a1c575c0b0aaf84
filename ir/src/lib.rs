//! Kiln's intermediate representations.

#![forbid(unsafe_code)]

pub mod dtype;
pub mod epilogue;
pub mod func;
pub mod fuse;
pub mod nest;
pub mod op;
pub mod problem;
pub mod rewrite;
pub mod text;

pub use dtype::DType;
pub use epilogue::{Epilogue, PostOp};
pub use func::Func;
pub use nest::LoopNest;
pub use problem::{Op, Operand, Problem, ProblemError, Role};

//! The harness of Kiln's integration tests: guarded memory, canaries in registers, data with a known answer, and lists of
//! problems.
//!
//! A kernel is executed by [`Checker`], which puts each operand between two inaccessible pages, calls the machine code
//! through [`canary::call`], and compares with references that share no code with Kiln.

pub mod canary;
mod checker;
pub mod data;
pub mod fault;
pub mod fuzz;
pub mod graph;
pub mod guarded;
pub mod shapes;
pub mod strides;
pub mod targets;

pub use checker::{Checker, failures};

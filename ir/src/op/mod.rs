//! Operations: one file each, with the shape rule, the index maps and the scalar reference.

pub mod matmul;

pub use matmul::Matmul;

use crate::nest::LoopNest;
use crate::problem::{Op, Problem};

/// The naive loop nest of a problem.
pub fn build(problem: &Problem) -> LoopNest {
    match problem.op() {
        Op::Matmul(shape) => matmul::build(problem, shape),
    }
}

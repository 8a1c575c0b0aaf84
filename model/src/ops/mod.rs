//! Operations that are no contractions: plain vectorised code, divided among threads where that pays.
//!
//! Every operation is a plan, made once for its shapes, that runs any number of times without allocating. Tensors are dense and
//! row-major. Operands and result are slices of one arena; where an operation may work in place, an operand that is the
//! destination is not passed but named.

mod blocks;
mod columns;
mod elementwise;
mod gather;
mod grid_sample;
mod indexed;
mod lanes;
mod movement;
mod norm;
mod parallel;
mod pool;
mod recurrent;
mod reduce;
mod simd;
mod softmax;
mod strided;
#[cfg(test)]
mod testing;
mod top_k;
pub mod vector_math;

pub use columns::ColumnsToImage;
pub use elementwise::{Elementwise, ElementwiseError, Input, Op, Source, Step};
pub use gather::{Gather, IndexOutOfRange, Indices};
pub use grid_sample::GridSample;
pub use indexed::{GatherAt, Scatter};
pub use movement::{Broadcast, Concat, Pad, Slice, Transpose};
pub use norm::{LayerNorm, RmsNorm};
pub use parallel::{Parallel, Serial};
pub use pool::{Pool, Windows};
pub use recurrent::{GruCell, LstmCell};
pub use reduce::Reduce;
pub use softmax::{LogSoftmax, Softmax};
pub use strided::StridedCopy;
pub use top_k::TopK;

pub(crate) use elementwise::cost as elementwise_cost;
pub(crate) use parallel::{EXP, pieces};

/// Shapes or settings that a plan cannot be made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {what}")]
pub struct ShapeError {
    /// The operation.
    pub op: &'static str,
    /// The fault, and what is expected.
    pub what: String,
}

impl ShapeError {
    fn new(op: &'static str, what: impl Into<String>) -> Self {
        Self { op, what: what.into() }
    }
}

/// The number of elements of a shape; `None` if it does not fit.
fn elements(shape: &[usize]) -> Option<usize> {
    // Zeros do not make the others harmless: strides are products of them.
    shape.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))?;
    Some(shape.iter().product())
}

/// Elements between neighbours along each dimension of a dense row-major tensor.
fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}

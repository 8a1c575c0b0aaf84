//! The errors that the check of a plan finds.

use super::memory::ALIGN;

/// A plan that would compute something else than its network, or reach outside of its memory. It is not run; that it was made is
/// a fault of Kiln.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error, a fault of Kiln's: the plan of memory is wrong at step {step} (`{layer}`): {fault}")]
pub struct PlanError {
    /// The position of the step; one more than the last where results are given back.
    pub step: usize,
    /// The name of the value that the step computes, or that is given back.
    pub layer: String,
    /// The fault.
    pub fault: PlanFault,
}

/// The fault of a step of a plan. Operands are counted from 0; a result that is given back is operand 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFault {
    /// No step computes a value that is no part of its operand.
    #[error("nothing computes `{value}`, which is not a part of its operand")]
    NotComputed {
        /// The value's name.
        value: String,
    },
    /// A step reads a value's bytes at another length.
    #[error("operand {operand} has {expected} bytes, {found} are read")]
    Length {
        /// Which operand.
        operand: usize,
        /// Bytes of its type.
        expected: usize,
        /// Bytes that are read.
        found: usize,
    },
    /// A result's buffer has another size than the result.
    #[error("the result has {expected} bytes, its buffer {found}")]
    Buffer {
        /// Bytes of the result's type.
        expected: usize,
        /// Bytes of its buffer.
        found: usize,
    },
    /// Bytes that are not in the buffer, argument or constant they should be in.
    #[error("operand {operand} ends at byte {end} of a buffer, argument or constant of {bytes} bytes")]
    OutOfBounds {
        /// Which operand.
        operand: usize,
        /// The end of what is read.
        end: usize,
        /// Where the memory ends.
        bytes: usize,
    },
    /// A buffer that is not in the arena, or not where vectors are aligned.
    #[error(
        "the result lies at bytes {start} to {end} of an arena of {bytes}: expected a place in it that {ALIGN} divides"
    )]
    Placement {
        /// Its first byte.
        start: usize,
        /// The end of it.
        end: usize,
        /// Bytes of the arena.
        bytes: usize,
    },
    /// Elements at an address that is no multiple of their size.
    #[error("operand {operand} lies at byte {offset}, which its elements' size does not divide")]
    Alignment {
        /// Which operand.
        operand: usize,
        /// Where it lies.
        offset: usize,
    },
    /// Bytes that are those of another value.
    #[error("operand {operand} is read where `{value}` is not")]
    Elsewhere {
        /// Which operand.
        operand: usize,
        /// The value that should be read.
        value: String,
    },
    /// Bytes that nothing has written yet.
    #[error("operand {operand}, `{value}`, is read before it is written")]
    NotWritten {
        /// Which operand.
        operand: usize,
        /// The value that should be read.
        value: String,
    },
    /// Bytes that another step has written over.
    #[error("operand {operand}, `{value}`, was written over by step {by}")]
    WrittenOver {
        /// Which operand.
        operand: usize,
        /// The value that should be read.
        value: String,
        /// The step that did it.
        by: usize,
    },
    /// The result is written where an operand is being read.
    #[error("the result is written over operand {operand}, which the step does not allow")]
    InPlace {
        /// Which operand.
        operand: usize,
    },
    /// The scratch memory of a step is where its operands or its results are.
    #[error("the step works where an operand or the result is")]
    Scratch,
    /// A constant whose elements the plan does not have, or has others.
    #[error("operand {operand} is a constant that the plan does not have")]
    ConstantMissing {
        /// Which operand.
        operand: usize,
    },
}

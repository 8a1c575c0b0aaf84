//! What can be wrong with a problem.

use super::{MAX_ELEMENTS, OPS};
use crate::dtype::UnknownDType;
use crate::epilogue::{EpilogueError, UnknownPostOp};

/// A problem that is malformed. Always the caller's to mend; the message says how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// Not enough words.
    #[error(
        "`{text}` lacks its {missing}: expected `OP DTYPES DESCRIPTOR [ATTRIBUTE...] [+POSTOP...]`, for example `{EXAMPLE}`"
    )]
    Incomplete {
        /// What was given.
        text: String,
        /// The first thing missing.
        missing: &'static str,
    },
    /// The first word is not an operation.
    #[error("unknown operation `{0}`: expected {OPS}")]
    UnknownOp(String),
    /// The second word is not an element type.
    #[error(transparent)]
    UnknownDType(#[from] UnknownDType),
    /// Mixed element types.
    #[error(
        "dtypes `{0}` are not supported together: expected f32, bf16, bf16:bf16:f32, f32:bf16:f32, f16, f16:f16:f32, f32:f16:f32, s8:s8:s32 or u8:s8:s32"
    )]
    MixedDTypes(String),
    /// The shape cannot be read.
    #[error("bad descriptor `{word}`: {why}")]
    Descriptor {
        /// The whole descriptor.
        word: String,
        /// What is wrong with it.
        why: String,
    },
    /// Columns of lhs differ from rows of rhs.
    #[error("inner dimensions of `{word}` differ: lhs has K={lhs}, rhs has K={rhs}")]
    Inner {
        /// K of the left operand.
        lhs: u64,
        /// K of the right operand.
        rhs: u64,
        /// The descriptor.
        word: String,
    },
    /// A dimension is zero.
    #[error("{0} is zero: every dimension must be at least 1")]
    ZeroDim(String),
    /// A tensor or the work is beyond what addresses can hold.
    #[error("{what} is too large: a tensor may have at most {MAX_ELEMENTS} elements")]
    TooLarge {
        /// Which quantity.
        what: String,
    },
    /// Something is said twice: an attribute, a dimension of a descriptor, or one of the first three words.
    #[error("`{name}` is given twice, the second time in `{word}`: expected it once")]
    Repeated {
        /// What is said twice, such as `stag`, `beta`, `ic` or `dtypes`.
        name: String,
        /// The word that says it again.
        word: String,
    },
    /// A word after the descriptor is unknown.
    #[error("unknown word `{word}`: expected {expected}")]
    UnknownWord {
        /// The word.
        word: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A word is no post-op.
    #[error(transparent)]
    UnknownPostOp(#[from] UnknownPostOp),
    /// A tag is no order of the operand's dimensions, or one that no kernel takes.
    #[error("{name}={tag}: {why}")]
    Tag {
        /// `stag`, `wtag` or `dtag`.
        name: &'static str,
        /// Its value.
        tag: String,
        /// What is wrong with it.
        why: String,
    },
    /// Strides that the operand cannot have, or that no kernel takes.
    #[error("strides of {name}, `{strides}`: {why}")]
    Strides {
        /// `lhs`, `rhs` or `dst`.
        name: &'static str,
        /// As they were given.
        strides: String,
        /// What is wrong with them.
        why: String,
    },
    /// A post-op's mask names a dimension that the result does not have.
    #[error("`+{op}` names dimension `{dim}`, and the result has {rank} dimensions, `a` to `{last}`")]
    Mask {
        /// The post-op.
        op: String,
        /// The dimension.
        dim: char,
        /// Dimensions of the result.
        rank: usize,
        /// The last of them.
        last: char,
    },
    /// A post-op's tensor has dimensions that no kernel broadcasts.
    #[error("`+{op}`: {why}")]
    Broadcast {
        /// The post-op.
        op: String,
        /// What is wrong with it.
        why: String,
    },
    /// Integers that no kernel multiplies, or whose sums can be too large.
    #[error("dtypes `{dtypes}`: {why}")]
    Integers {
        /// The element types.
        dtypes: String,
        /// What is wrong with them here.
        why: String,
    },
    /// The post-ops do not form a chain that kernels apply.
    #[error(transparent)]
    Epilogue(#[from] EpilogueError),
}

const EXAMPLE: &str = "matmul f32 128x768:768x3072 +bias+relu";

//! The epilogue: a chain of post-ops applied to the result while it is in registers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One element-wise operation on the result `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostOp {
    /// `c[m, n] + bias[n]`.
    Bias,
    /// `max(c, 0)`; NaN stays NaN.
    Relu,
}

impl PostOp {
    /// Every post-op, in the order a chain may hold them.
    pub const ALL: &'static [PostOp] = &[PostOp::Bias, PostOp::Relu];

    /// The meaning on one element; `operand` is the element of the tensor the post-op reads, if it reads one.
    pub fn apply_f32(self, c: f32, operand: f32) -> f32 {
        match self {
            PostOp::Bias => c + operand,
            PostOp::Relu if c.is_nan() => c,
            PostOp::Relu => c.max(0.0),
        }
    }

    /// [`apply_f32`](Self::apply_f32) in double precision, for references.
    pub fn apply_f64(self, c: f64, operand: f64) -> f64 {
        match self {
            PostOp::Bias => c + operand,
            PostOp::Relu if c.is_nan() => c,
            PostOp::Relu => c.max(0.0),
        }
    }

    /// The word in problem strings.
    pub fn name(self) -> &'static str {
        match self {
            PostOp::Bias => "bias",
            PostOp::Relu => "relu",
        }
    }

    /// Whether it reads a tensor of one element per column.
    pub fn reads_column_vector(self) -> bool {
        matches!(self, PostOp::Bias)
    }
}

impl fmt::Display for PostOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A chain of post-ops: at most one `bias`, then at most one `relu`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<PostOp>", into = "Vec<PostOp>")]
pub struct Epilogue(Vec<PostOp>);

/// A chain that is not `[bias][relu]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("post-op `{found}` cannot follow `{after}`: expected at most one `bias`, then at most one `relu`")]
pub struct EpilogueError {
    /// The offending post-op.
    pub found: PostOp,
    /// The one before it.
    pub after: PostOp,
}

impl Epilogue {
    /// A chain from its post-ops in order.
    pub fn new(ops: impl IntoIterator<Item = PostOp>) -> Result<Self, EpilogueError> {
        let ops: Vec<_> = ops.into_iter().collect();
        match ops.windows(2).find(|w| w[0] >= w[1]) {
            Some(w) => Err(EpilogueError { found: w[1], after: w[0] }),
            None => Ok(Self(ops)),
        }
    }

    /// The post-ops in the order they apply.
    pub fn ops(&self) -> &[PostOp] {
        &self.0
    }

    /// Whether the chain reads a bias vector.
    pub fn has_bias(&self) -> bool {
        self.0.contains(&PostOp::Bias)
    }
}

impl TryFrom<Vec<PostOp>> for Epilogue {
    type Error = EpilogueError;

    fn try_from(ops: Vec<PostOp>) -> Result<Self, EpilogueError> {
        Self::new(ops)
    }
}

impl From<Epilogue> for Vec<PostOp> {
    fn from(epilogue: Epilogue) -> Self {
        epilogue.0
    }
}

impl fmt::Display for Epilogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|op| write!(f, "+{op}"))
    }
}

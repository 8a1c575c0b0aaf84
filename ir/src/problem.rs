//! Problems: one kernel's worth of work, with everything concrete.
//!
//! A [`Problem`] has one canonical string that names it everywhere, and [`FromStr`] and [`Display`](fmt::Display)
//! round-trip it:
//!
//! ```text
//! OP DTYPES DESCRIPTOR [+POSTOP...]        matmul f32 128x768:768x3072 +bias+relu
//! ```
//!
//! DTYPES is one type for source, weights and destination, or `src:weights:dst`. The layout tags `stag=`, `wtag=`,
//! `dtag=`, `beta=` and `fpmath=` are accepted with their default values, which the canonical form leaves out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dtype::{DType, UnknownDType};
use crate::epilogue::{Epilogue, EpilogueError, PostOp};
use crate::op::{Matmul, matmul};

/// The memory order of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `ab`: rows are contiguous.
    #[default]
    RowMajor,
}

/// Which arithmetic may stand in for the problem's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MathMode {
    /// f32 is multiplied and accumulated in f32; only the order of additions is free.
    #[default]
    Strict,
}

/// The operation and its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Matrix product.
    Matmul(Matmul),
}

/// A tensor that a kernel is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Left operand, `MxK`.
    Lhs,
    /// Right operand, `KxN`.
    Rhs,
    /// One element per column of the result.
    Bias,
    /// The result, `MxN`; overwritten.
    Dst,
}

impl Role {
    /// The name in messages, files and listings.
    pub fn name(self) -> &'static str {
        match self {
            Role::Lhs => "lhs",
            Role::Rhs => "rhs",
            Role::Bias => "bias",
            Role::Dst => "dst",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kernel argument: role, type and row-major shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// What it is.
    pub role: Role,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
}

impl Operand {
    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether it has no element; never true of a problem's operand.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An operation on concrete shapes with its epilogue. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    op: Op,
    dtype: DType,
    layout: Layout,
    math: MathMode,
    epilogue: Epilogue,
}

/// A problem that is malformed. Always the caller's to mend; the message says how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemError {
    /// Not enough words.
    #[error("`{text}` lacks its {missing}: expected `OP DTYPES DESCRIPTOR [+POSTOP...]`, for example `{EXAMPLE}`")]
    Incomplete {
        /// What was given.
        text: String,
        /// The first thing missing.
        missing: &'static str,
    },
    /// The first word is not an operation.
    #[error("unknown operation `{0}`: expected matmul")]
    UnknownOp(String),
    /// The second word is not an element type.
    #[error(transparent)]
    UnknownDType(#[from] UnknownDType),
    /// Mixed element types.
    #[error("dtypes `{0}` are not supported together: expected f32")]
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
    #[error("dimension {0} is zero: every dimension must be at least 1")]
    ZeroDim(&'static str),
    /// A tensor or the work is beyond what addresses can hold.
    #[error("{what} is too large: a tensor may have at most {MAX_ELEMENTS} elements")]
    TooLarge {
        /// Which quantity.
        what: String,
    },
    /// A word after the descriptor is unknown.
    #[error("unknown word `{word}`: expected {expected}")]
    UnknownWord {
        /// The word.
        word: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The post-ops do not form a chain that kernels apply.
    #[error(transparent)]
    Epilogue(#[from] EpilogueError),
}

const EXAMPLE: &str = "matmul f32 128x768:768x3072 +bias+relu";

/// The most elements a tensor may have: byte offsets then fit in 35 bits, far inside every address computation.
pub const MAX_ELEMENTS: u64 = 1 << 33;

impl Problem {
    /// A matrix product of `m x k` by `k x n` in f32, without an epilogue.
    pub fn matmul(m: u64, k: u64, n: u64) -> Builder {
        Builder { op: Op::Matmul(Matmul { m, k, n }), dtype: DType::F32, post: vec![] }
    }

    /// The operation and its shape.
    pub fn op(&self) -> Op {
        self.op
    }

    /// The element type of all operands.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The arithmetic asked for.
    pub fn math(&self) -> MathMode {
        self.math
    }

    /// The memory order of all matrices.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The post-ops.
    pub fn epilogue(&self) -> &Epilogue {
        &self.epilogue
    }

    /// Multiply-adds of the contraction.
    pub fn macs(&self) -> u64 {
        match self.op {
            Op::Matmul(s) => s.macs(),
        }
    }

    /// Floating-point operations as benchmarks count them: two per multiply-add, post-ops not counted.
    pub fn flops(&self) -> u64 {
        2 * self.macs()
    }

    /// The tensors a kernel is called with, in argument order: lhs, rhs, bias if there is one, dst.
    pub fn operands(&self) -> Vec<Operand> {
        let Op::Matmul(Matmul { m, k, n }) = self.op;
        let operand = |role, shape| Operand { role, dtype: self.dtype, shape };
        let mut all = vec![operand(Role::Lhs, vec![m, k]), operand(Role::Rhs, vec![k, n])];
        if self.epilogue.has_bias() {
            all.push(operand(Role::Bias, vec![n]));
        }
        all.push(operand(Role::Dst, vec![m, n]));
        all
    }

    /// The result in double precision, epilogue included. `bias` is empty for a problem without one.
    ///
    /// # Panics
    /// If a slice is not as long as [`operands`](Self::operands) says.
    pub fn reference_f64(&self, lhs: &[f32], rhs: &[f32], bias: &[f32]) -> Vec<f64> {
        let Op::Matmul(shape) = self.op;
        let mut dst = matmul::reference_f64(shape, lhs, rhs);
        for row in dst.chunks_exact_mut(shape.n as usize) {
            for op in self.epilogue.ops() {
                for (j, c) in row.iter_mut().enumerate() {
                    let operand = if op.reads_column_vector() { f64::from(bias[j]) } else { 0.0 };
                    *c = op.apply_f64(*c, operand);
                }
            }
        }
        dst
    }

    fn validate(self) -> Result<Self, ProblemError> {
        let Op::Matmul(Matmul { m, k, n }) = self.op;
        for (name, d) in [("M", m), ("K", k), ("N", n)] {
            if d == 0 {
                return Err(ProblemError::ZeroDim(name));
            }
        }
        for (name, a, b) in [("lhs", m, k), ("rhs", k, n), ("dst", m, n)] {
            if a.checked_mul(b).is_none_or(|e| e > MAX_ELEMENTS) {
                return Err(ProblemError::TooLarge { what: format!("{name} of {a}x{b}") });
            }
        }
        if (m * k).checked_mul(n).and_then(|macs| macs.checked_mul(2)).is_none() {
            return Err(ProblemError::TooLarge { what: format!("the work of {m}x{k}:{k}x{n}") });
        }
        Ok(self)
    }
}

/// Makes a [`Problem`] step by step.
#[derive(Clone, Debug)]
pub struct Builder {
    op: Op,
    dtype: DType,
    post: Vec<PostOp>,
}

impl Builder {
    /// Appends a per-column bias.
    pub fn bias(mut self) -> Self {
        self.post.push(PostOp::Bias);
        self
    }

    /// Appends `max(c, 0)`.
    pub fn relu(mut self) -> Self {
        self.post.push(PostOp::Relu);
        self
    }

    /// Appends post-ops in order.
    pub fn epilogue(mut self, ops: impl IntoIterator<Item = PostOp>) -> Self {
        self.post.extend(ops);
        self
    }

    /// Checks the whole and makes the problem.
    pub fn build(self) -> Result<Problem, ProblemError> {
        Problem {
            op: self.op,
            dtype: self.dtype,
            layout: Layout::default(),
            math: MathMode::default(),
            epilogue: Epilogue::new(self.post)?,
        }
        .validate()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Op::Matmul(shape) = self.op;
        write!(f, "matmul {} {shape}", self.dtype)?;
        if !self.epilogue.ops().is_empty() {
            write!(f, " {}", self.epilogue)?;
        }
        Ok(())
    }
}

impl FromStr for Problem {
    type Err = ProblemError;

    fn from_str(s: &str) -> Result<Self, ProblemError> {
        let mut words = s.split_whitespace();
        let mut next = |missing| words.next().ok_or(ProblemError::Incomplete { text: s.trim().into(), missing });
        match next("operation")? {
            "matmul" => {}
            other => return Err(ProblemError::UnknownOp(other.into())),
        }
        let dtype = dtypes(next("dtypes")?)?;
        let op = Op::Matmul(Matmul::parse(next("descriptor")?)?);
        let mut post = vec![];
        for word in words {
            match word.strip_prefix('+') {
                Some(chain) => {
                    for name in chain.split('+') {
                        post.push(post_op(name)?);
                    }
                }
                None => default_attribute(word)?,
            }
        }
        Builder { op, dtype, post }.build()
    }
}

fn dtypes(word: &str) -> Result<DType, ProblemError> {
    let all = word.split(':').map(DType::from_str).collect::<Result<Vec<_>, _>>()?;
    match all[..] {
        [one] => Ok(one),
        [src, weights, dst] if src == weights && weights == dst => Ok(src),
        _ => Err(ProblemError::MixedDTypes(word.into())),
    }
}

fn post_op(name: &str) -> Result<PostOp, ProblemError> {
    PostOp::ALL
        .iter()
        .copied()
        .find(|op| op.name() == name)
        .ok_or_else(|| ProblemError::UnknownWord { word: format!("+{name}"), expected: "+bias or +relu" })
}

/// Accepts the attributes whose only value is the default.
fn default_attribute(word: &str) -> Result<(), ProblemError> {
    match word {
        "stag=ab" | "wtag=ab" | "dtag=ab" | "fpmath=strict" | "beta=0" => Ok(()),
        _ => Err(ProblemError::UnknownWord {
            word: word.into(),
            expected: "stag=ab, wtag=ab, dtag=ab, beta=0, fpmath=strict, or post-ops such as +bias+relu",
        }),
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Problem {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn err(s: &str) -> String {
        s.parse::<Problem>().unwrap_err().to_string()
    }

    #[test]
    fn canonical_string() {
        for (text, canonical) in [
            ("matmul f32 2x3:3x4", "matmul f32 2x3:3x4"),
            ("  matmul  f32:f32:f32 128x768:768x3072 +bias +relu ", "matmul f32 128x768:768x3072 +bias+relu"),
            ("matmul f32 2x3:3x4 stag=ab fpmath=strict +relu", "matmul f32 2x3:3x4 +relu"),
        ] {
            assert_eq!(text.parse::<Problem>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn errors_name_the_word_and_what_is_accepted() {
        assert!(err("").contains("operation"));
        assert!(err("matmul f32").contains("descriptor"));
        assert!(err("gemm f32 2x3:3x4").contains("`gemm`") && err("gemm f32 2x3:3x4").contains("matmul"));
        assert!(err("matmul f33 2x3:3x4").contains("`f33`"));
        assert!(err("matmul f32:f32 2x3:3x4").contains("f32:f32"));
        assert!(err("matmul f32 2x3").contains("MxK:KxN"));
        assert!(err("matmul f32 2x3x4:3x4").contains("3 dimension"));
        assert!(err("matmul f32 2x-3:3x4").contains("`-3`"));
        assert!(err("matmul f32 2x3:4x4").contains("K=3"));
        assert!(err("matmul f32 0x3:3x4").contains("M is zero"));
        assert!(err("matmul f32 99999999999999999999x3:3x4").contains("too large"));
        assert!(err("matmul f32 4294967296x4294967296:4294967296x1").contains("too large"));
        assert!(err("matmul f32 2x3:3x4 +gelu").contains("`+gelu`"));
        assert!(err("matmul f32 2x3:3x4 +relu+bias").contains("cannot follow"));
        assert!(err("matmul f32 2x3:3x4 +relu+relu").contains("cannot follow"));
        assert!(err("matmul f32 2x3:3x4 wtag=ba").contains("`wtag=ba`"));
    }

    pub(crate) fn problems() -> impl Strategy<Value = Problem> {
        (1u64..5000, 1u64..5000, 1u64..5000, any::<bool>(), any::<bool>()).prop_map(|(m, k, n, bias, relu)| {
            let b = Problem::matmul(m, k, n);
            let b = if bias { b.bias() } else { b };
            (if relu { b.relu() } else { b }).build().unwrap()
        })
    }

    proptest! {
        #[test]
        fn round_trips(p in problems()) {
            prop_assert_eq!(&p.to_string().parse::<Problem>().unwrap(), &p);
            let json = serde_json::to_string(&p).unwrap();
            prop_assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), p);
        }

        #[test]
        fn any_text_is_parsed_or_refused(s in "(matmul )?(f32 )?[0-9x: +a-z=]{0,40}") {
            if let Ok(p) = s.parse::<Problem>() {
                prop_assert_eq!(p.to_string().parse::<Problem>().unwrap(), p);
            }
        }
    }
}

//! Problems: one kernel's worth of work, with everything concrete.
//!
//! A [`Problem`] has one canonical string that names it everywhere, and [`FromStr`] and [`Display`](fmt::Display)
//! round-trip it:
//!
//! ```text
//! OP DTYPES DESCRIPTOR [stag=T] [wtag=T] [dtag=T] [beta=0|1] [fpmath=strict|bf16|any] [+POSTOP...]
//!
//! matmul f32 128x768:768x3072 +bias+relu
//! matmul bf16:bf16:f32 12x128x64:12x64x128 wtag=acb +scale:0.125
//! ip f32 mb128ic768oc3072 fpmath=bf16 +bias+gelu_erf
//! conv f32 mb1ic64ih56oc64kh3ph1 +bias+relu
//! ```
//!
//! DTYPES is one type for source, weights and destination, or `src:weights:dst`. Tags give the order of dimensions in memory
//! ([`layout`](crate::layout)). Defaults are left out of the canonical form: plain tags, `beta=0`, `fpmath=strict`. With
//! `beta=1` the result is added to what `dst` holds; with `beta=0`, `dst` is not read. A convolution's source and destination
//! are `axb`, channels innermost, unless a tag says `abx`; there are no other orders for them, and weights are plain.
//!
//! Operands of post-ops are dense tensors of the dimensions their mask names, in the order that `dtag` has them in memory.
//! Biases are f32, the operands of `add` and `mul` have the type of `dst`.

mod builder;
mod text;
mod validate;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dtype::{DType, UnknownDType};
use crate::epilogue::{Epilogue, EpilogueError, PostOp, UnknownPostOp};
use crate::layout::Tag;
use crate::op::{Axes, Convolution, InnerProduct, Matmul};

pub use builder::Builder;

/// Which arithmetic may stand in for the problem's own: a permission, as oneDNN's fpmath mode is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MathMode {
    /// f32 is multiplied and accumulated in f32; only the order of additions is free.
    #[default]
    Strict,
    /// f32 operands may be rounded to bf16, to nearest even, before they are multiplied. Sums are f32.
    Bf16,
    /// Whatever is fastest on the target.
    Any,
}

impl MathMode {
    /// Every mode with its word.
    pub const ALL: &'static [(&'static str, MathMode)] =
        &[("strict", MathMode::Strict), ("bf16", MathMode::Bf16), ("any", MathMode::Any)];

    /// Whether operands may be rounded to bf16.
    pub fn allows_bf16(self) -> bool {
        self != MathMode::Strict
    }
}

impl fmt::Display for MathMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MathMode::ALL.iter().find(|(_, m)| m == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for MathMode {
    type Err = String;

    /// In either case.
    fn from_str(s: &str) -> Result<Self, String> {
        let word = s.to_ascii_lowercase();
        let found = MathMode::ALL.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode);
        found.ok_or_else(|| format!("unknown math mode `{s}`: expected strict, bf16 or any"))
    }
}

/// The operation and its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Matrix product.
    Matmul(Matmul),
    /// Inner product.
    InnerProduct(InnerProduct),
    /// Convolution.
    Convolution(Convolution),
}

/// Dispatch to the operation's own file: an operation is a line here and one in `parse`.
macro_rules! per_op {
    ($op:expr, $shape:ident => $body:expr) => {
        match $op {
            Op::Matmul($shape) => $body,
            Op::InnerProduct($shape) => $body,
            Op::Convolution($shape) => $body,
        }
    };
}

/// The words of operations.
pub const NAMES: [&str; 3] = ["matmul", "ip", "conv"];
/// The same for messages.
pub const OPS: &str = "matmul, ip or conv";

impl Op {
    /// The word in problem strings.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Matmul(_) => "matmul",
            Op::InnerProduct(_) => "ip",
            Op::Convolution(_) => "conv",
        }
    }

    /// The shape as benchdnn writes it.
    fn descriptor(&self) -> &dyn fmt::Display {
        per_op!(self, s => s)
    }

    fn parse(name: &str, descriptor: &str) -> Result<Self, ProblemError> {
        match name {
            "matmul" => Matmul::parse(descriptor).map(Op::Matmul),
            "ip" => InnerProduct::parse(descriptor).map(Op::InnerProduct),
            "conv" => Convolution::parse(descriptor).map(Op::Convolution),
            other => Err(ProblemError::UnknownOp(other.into())),
        }
    }

    /// The shape of an operand; that of the result for operands of post-ops.
    pub fn shape(&self, role: Role) -> Vec<u64> {
        per_op!(self, s => s.shape(role))
    }

    /// The axes of an operand.
    pub fn axes(&self, role: Role) -> Axes {
        per_op!(self, s => s.axes(role))
    }

    /// The order in memory of an operand whose tag is not given.
    pub fn tag(&self, role: Role) -> Tag {
        let rank = self.shape(role).len();
        let channels_last = matches!(self, Op::Convolution(_)) && role != Role::Rhs;
        channels_last.then(|| Tag::parse("axb", rank)).flatten().unwrap_or(Tag::plain(rank))
    }
}

/// A tensor that a kernel is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Left operand, the source.
    Lhs,
    /// Right operand, the weights.
    Rhs,
    /// The tensor of the n-th post-op that reads one.
    Post(u8),
    /// The result.
    Dst,
}

/// A kernel argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// What it is.
    pub role: Role,
    /// The name in messages, files and listings: `lhs`, `rhs`, `bias`, `add`, `mul2`, `dst`.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions, in the operation's order.
    pub shape: Vec<u64>,
    /// Their order in memory.
    pub tag: Tag,
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

    /// Elements between neighbours along each dimension.
    pub fn strides(&self) -> Vec<u64> {
        self.tag.strides(&self.shape)
    }

    /// The dimensions in the order of memory, outermost first: the shape of the array that holds it.
    pub fn memory_shape(&self) -> Vec<u64> {
        self.tag.order().map(|d| self.shape[d]).collect()
    }
}

/// Element types of source, weights and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DTypes {
    /// Of lhs.
    pub src: DType,
    /// Of rhs.
    pub weights: DType,
    /// Of dst.
    pub dst: DType,
}

impl DTypes {
    /// The combinations there are kernels for.
    pub const ALL: &'static [DTypes] = &[
        DTypes { src: DType::F32, weights: DType::F32, dst: DType::F32 },
        DTypes { src: DType::Bf16, weights: DType::Bf16, dst: DType::F32 },
        DTypes { src: DType::Bf16, weights: DType::Bf16, dst: DType::Bf16 },
        DTypes { src: DType::F32, weights: DType::Bf16, dst: DType::F32 },
    ];

    /// The same type for all three.
    pub fn all(dtype: DType) -> Self {
        Self { src: dtype, weights: dtype, dst: dtype }
    }
}

impl From<DType> for DTypes {
    fn from(dtype: DType) -> Self {
        Self::all(dtype)
    }
}

impl fmt::Display for DTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DTypes { src, weights, dst } = self;
        if src == weights && weights == dst { src.fmt(f) } else { write!(f, "{src}:{weights}:{dst}") }
    }
}

impl FromStr for DTypes {
    type Err = ProblemError;

    fn from_str(word: &str) -> Result<Self, ProblemError> {
        let all = word.split(':').map(DType::from_str).collect::<Result<Vec<_>, _>>()?;
        let found = match all[..] {
            [one] => Some(DTypes::all(one)),
            [src, weights, dst] => Some(DTypes { src, weights, dst }),
            _ => None,
        };
        found.filter(|d| DTypes::ALL.contains(d)).ok_or_else(|| ProblemError::MixedDTypes(word.into()))
    }
}

/// An operation on concrete shapes with its epilogue. See the [module](self). A clone shares the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    shared: Arc<Definition>,
    math: MathMode,
}

/// All of a problem but its math mode.
#[derive(Debug, PartialEq, Eq)]
struct Definition {
    /// Of the fields below, and compared before them: kernels are looked up by problem at each call.
    hash: u64,
    op: Op,
    dtypes: DTypes,
    /// Of lhs, rhs and dst.
    tags: [Tag; 3],
    accumulate: bool,
    epilogue: Epilogue,
}

impl Hash for Problem {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint(self.math));
    }
}

/// A problem that is malformed. Always the caller's to mend; the message says how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    #[error("dtypes `{0}` are not supported together: expected f32, bf16, bf16:bf16:f32 or f32:bf16:f32")]
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
    /// The post-ops do not form a chain that kernels apply.
    #[error(transparent)]
    Epilogue(#[from] EpilogueError),
}

const EXAMPLE: &str = "matmul f32 128x768:768x3072 +bias+relu";

/// The most elements a tensor may have: byte offsets then fit in 35 bits, far inside every address computation.
pub const MAX_ELEMENTS: u64 = 1 << 33;

/// The roles that have a tag, with its name.
const TAGGED: [(Role, &str); 3] = [(Role::Lhs, "stag"), (Role::Rhs, "wtag"), (Role::Dst, "dtag")];

impl Problem {
    /// A matrix product of `m x k` by `k x n` in f32, without an epilogue.
    pub fn matmul(m: u64, k: u64, n: u64) -> Builder {
        Builder::new(Op::Matmul(Matmul::new(m, k, n)))
    }

    /// An inner product in f32, without an epilogue: weights are `oc x ic`.
    pub fn inner_product(mb: u64, ic: u64, oc: u64) -> Builder {
        Builder::new(Op::InnerProduct(InnerProduct::new(mb, ic, oc)))
    }

    /// A convolution in f32, channels last, without an epilogue.
    pub fn convolution(shape: Convolution) -> Builder {
        Builder::new(Op::Convolution(shape))
    }

    /// The operation and its shape.
    pub fn op(&self) -> Op {
        self.shared.op
    }

    /// The element types of source, weights and destination.
    pub fn dtypes(&self) -> DTypes {
        self.shared.dtypes
    }

    /// The arithmetic asked for.
    pub fn math(&self) -> MathMode {
        self.math
    }

    /// The same problem with other arithmetic allowed.
    pub fn with_math(&self, math: MathMode) -> Self {
        Self { shared: self.shared.clone(), math }
    }

    /// Whether the two are the same but for their math modes.
    #[inline]
    pub fn is_but_for_math(&self, other: &Problem) -> bool {
        self.shared == other.shared
    }

    /// A hash of the problem with `math` in place of its own mode: that of `self.with_math(math)`, and as its [`Hash`]. Made
    /// when the problem is, so it costs nothing. Not the same in every version of Kiln.
    #[inline]
    pub fn fingerprint(&self, math: MathMode) -> u64 {
        self.shared.hash ^ (math as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The order of dimensions in memory of lhs, rhs or dst.
    pub fn tag(&self, role: Role) -> Tag {
        let at = TAGGED.iter().position(|(r, _)| *r == role).unwrap_or(2);
        self.shared.tags[at]
    }

    /// Whether the result is added to what `dst` holds.
    pub fn accumulates(&self) -> bool {
        self.shared.accumulate
    }

    /// The post-ops.
    pub fn epilogue(&self) -> &Epilogue {
        &self.shared.epilogue
    }

    /// The axes of an operand as dimensions of its shape.
    pub fn axes(&self, role: Role) -> Axes {
        match role {
            Role::Post(n) => {
                // Dimensions of the operand are those of the result that its mask names, renumbered.
                let all = self.shared.op.axes(Role::Dst);
                let has = self.post_dims(n);
                let place = |d: usize| has.iter().position(|h| *h == d);
                let own = |dims: &[usize]| dims.iter().filter_map(|d| place(*d)).collect();
                Axes {
                    batch: all.batch.iter().map(|d| d.and_then(place)).collect(),
                    row: own(&all.row),
                    col: own(&all.col),
                }
            }
            _ => self.shared.op.axes(role),
        }
    }

    /// The dimensions of the result that the tensor of the n-th post-op with one has.
    pub fn post_dims(&self, n: u8) -> Vec<usize> {
        let Axes { row, col, .. } = self.shared.op.axes(Role::Dst);
        match self.shared.epilogue.operands().nth(n.into()) {
            Some(PostOp::Bias) => col,
            Some(PostOp::BiasRow) => row,
            Some(PostOp::BiasMask(mask) | PostOp::Add(mask) | PostOp::Mul(mask)) => mask.dims().collect(),
            _ => vec![],
        }
    }

    /// Extents of the batch axes; groups and images of a convolution.
    pub fn batch(&self) -> Vec<u64> {
        if let Op::Convolution(shape) = self.shared.op {
            return shape.batch().into();
        }
        let shape = self.shared.op.shape(Role::Dst);
        self.shared.op.axes(Role::Dst).batch.iter().map(|d| d.map_or(1, |d| shape[d])).collect()
    }

    /// M, N and K; of a convolution the pixels of an image of the result, and output channels and products in a sum of a group.
    pub fn extents(&self) -> [u64; 3] {
        if let Op::Convolution(shape) = self.shared.op {
            return shape.extents();
        }
        let extent = |role, dims: &dyn Fn(&Axes) -> Vec<usize>| {
            let shape = self.shared.op.shape(role);
            dims(&self.shared.op.axes(role)).iter().map(|d| shape[*d]).product::<u64>()
        };
        [
            extent(Role::Dst, &|a| a.row.clone()),
            extent(Role::Dst, &|a| a.col.clone()),
            extent(Role::Lhs, &|a| a.col.clone()),
        ]
    }

    /// Multiply-adds of the contraction, a convolution's with padding included.
    pub fn macs(&self) -> u64 {
        self.batch().iter().chain(&self.extents()).product()
    }

    /// Floating-point operations as benchmarks count them: two per multiply-add, post-ops not counted.
    pub fn flops(&self) -> u64 {
        2 * self.macs()
    }

    /// The tensors a kernel is called with, in argument order: lhs, rhs, those of post-ops in their order, dst.
    pub fn operands(&self) -> Vec<Operand> {
        let DTypes { src, weights, dst } = self.shared.dtypes;
        let factor = |role, name: &str, dtype| Operand {
            role,
            name: name.into(),
            dtype,
            shape: self.shared.op.shape(role),
            tag: self.tag(role),
        };
        let mut all = vec![factor(Role::Lhs, "lhs", src), factor(Role::Rhs, "rhs", weights)];
        let result = self.shared.op.shape(Role::Dst);
        for (n, op) in (0..).zip(self.shared.epilogue.operands()) {
            let dims = self.post_dims(n);
            let before =
                all.iter().filter(|o| o.name.trim_end_matches(|c: char| c.is_ascii_digit()) == op.name()).count();
            let name = if before == 0 { op.name().into() } else { format!("{}{}", op.name(), before + 1) };
            let order: String = self.shared.tags[2]
                .order()
                .filter_map(|d| dims.iter().position(|h| *h == d))
                .map(|d| char::from(b'a' + d as u8))
                .collect();
            all.push(Operand {
                role: Role::Post(n),
                name,
                dtype: if op.is_bias() { DType::F32 } else { dst },
                shape: dims.iter().map(|d| result[*d]).collect(),
                tag: Tag::parse(&order, dims.len()).unwrap_or(Tag::plain(dims.len())),
            });
        }
        all.push(factor(Role::Dst, "dst", dst));
        all
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
            ("matmul f32 2x3:3x4 stag=ab fpmath=strict beta=0 +relu", "matmul f32 2x3:3x4 +relu"),
            (
                "matmul bf16:bf16:f32 12x8x4:1x4x9 wtag=acb +scale:0.125",
                "matmul bf16:bf16:f32 12x8x4:1x4x9 wtag=acb +scale:0.125",
            ),
            ("ip f32 ic3oc4 fpmath=BF16 beta=1 +bias+add:ab", "ip f32 mb2ic3oc4 beta=1 fpmath=bf16 +bias+add:ab"),
            ("matmul f32 12x128x64:12x64x128_n\"QK\"", "matmul f32 12x128x64:12x64x128"),
            ("ip bf16 mb1_ic512_ih7_oc1000 stag=abx", "ip bf16 mb1ic512ih7oc1000"),
            (
                "conv f32 mb1_ic64_ih56_oc64_kh3_ph1 stag=axb dtag=acdb +bias+add:abcd+relu",
                "conv f32 mb1ic64ih56oc64kh3ph1 +bias+add:abcd+relu",
            ),
            ("conv bf16 ic8iw9oc8kw3 dtag=abx stag=abc", "conv bf16 mb2ic8iw9oc8kw3 stag=abx dtag=abx"),
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
        assert!(err("matmul bf16:f32:f32 2x3:3x4").contains("not supported together"));
        assert!(err("matmul f32 2x3").contains("MxK:KxN"));
        assert!(err("matmul f32 2x3x4:3x4").contains("expected as many"));
        assert!(err("matmul f32 1x1x1x1x1x2x3:1x1x1x1x1x3x4").contains("7 dimension"));
        assert!(err("matmul f32 2x-3:3x4").contains("`-3`"));
        assert!(err("matmul f32 2x3:4x4").contains("K=3"));
        assert!(err("matmul f32 2x5x3:3x3x4").contains("do not broadcast"));
        assert!(err("matmul f32 0x3:3x4").contains("is zero"));
        assert!(err("matmul f32 0x5x3:0x3x4").contains("is zero"));
        assert!(err("matmul f32 99999999999999999999x3:3x4").contains("too large"));
        assert!(err("matmul f32 4294967296x4294967296:4294967296x1").contains("too large"));
        assert!(err("matmul f32 2x3:3x4 +gelu").contains("`+gelu`"));
        assert!(err("matmul f32 2x3:3x4 +add:abc").contains("dimension `c`"));
        assert!(err("matmul f32 2x3:3x4 wtag=bc").contains("wtag=bc"));
        assert!(err("matmul f32 2x3x4:2x4x5 dtag=bca").contains("batch dimension is innermost"));
        assert!(err("matmul f32 2x3:3x4 beta=2").contains("beta=0 or 1"));
        assert!(err("ip f32 mb2ic3ih4oc5 stag=axb").contains("summed over"));
        assert!(err("conv f32 ic3ih4oc5kh3 stag=bacd").contains("`axb`"));
        assert!(err("conv f32 ic3ih4oc5kh3 dtag=adcb").contains("`axb`"));
        assert!(err("conv f32 ic3ih4oc5kh3 wtag=bacd").contains("plain order"));
        assert!(err("conv f32 ic3ih4oc5kh3 +bias:row").contains("no rows"));
        assert!(err("conv f32 ic3ih4oc5kh3 +add:abc").contains("spatial dimensions `cd`"));
        assert!(err("conv f32 ic3ih4oc5kh3 +add:abcde").contains("dimension `e`"));
        assert!(err("conv f32 mb9999999ic9999999ih9999oc5kh3").contains("too large"));
    }

    #[test]
    fn operands_are_named_shaped_and_typed() {
        let p: Problem = "matmul bf16 5x2x3:5x3x4 dtag=acb +bias+add:abc+bias:row+mul:b".parse().unwrap();
        let all: Vec<_> =
            p.operands().iter().map(|o| (o.name.clone(), o.dtype, o.shape.clone(), o.strides())).collect();
        let expected = [
            ("lhs", DType::Bf16, vec![5, 2, 3], vec![6, 3, 1]),
            ("rhs", DType::Bf16, vec![5, 3, 4], vec![12, 4, 1]),
            ("bias", DType::F32, vec![4], vec![1]),
            ("add", DType::Bf16, vec![5, 2, 4], vec![8, 1, 2]),
            ("bias2", DType::F32, vec![2], vec![1]),
            ("mul", DType::Bf16, vec![2], vec![1]),
            ("dst", DType::Bf16, vec![5, 2, 4], vec![8, 1, 2]),
        ];
        assert_eq!(all, expected.map(|(n, d, s, t)| (n.to_owned(), d, s, t)));
    }

    pub(crate) fn problems() -> impl Strategy<Value = Problem> {
        let word = |words: &'static [&'static str]| prop::sample::select(words);
        (
            (1u64..500, 1u64..500, 1u64..500, 1u64..20),
            word(&["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32"]),
            word(&["", " stag=ba", " wtag=ba", " dtag=ba", " stag=ba wtag=ba beta=1"]),
            word(&["", " fpmath=bf16", " fpmath=any"]),
            word(&["", " +bias", " +bias+relu", " +mul:ab+bias:row+gelu_erf", " +scale:0.5+clamp:-1:2+add:b"]),
            any::<bool>(),
        )
            .prop_map(|((m, k, n, b), dtypes, tags, math, post, batched)| {
                let text = if batched {
                    format!("matmul {dtypes} {b}x{m}x{k}:1x{k}x{n}{}{math}{post}", tags.replace("ba", "acb"))
                } else {
                    format!("matmul {dtypes} {m}x{k}:{k}x{n}{tags}{math}{post}")
                };
                text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
            })
    }

    proptest! {
        #[test]
        fn round_trips(p in problems()) {
            prop_assert_eq!(&p.to_string().parse::<Problem>().unwrap(), &p);
            let json = serde_json::to_string(&p).unwrap();
            prop_assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), p);
        }
    }
}

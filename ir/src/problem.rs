//! Problems: one kernel's worth of work, with everything concrete. [`Problem`] has the grammar of their texts.

mod builder;
mod error;
mod math;
mod operand;
mod text;
mod validate;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::epilogue::{Epilogue, PostOp};
use crate::layout::Tag;
use crate::op::{Axes, Convolution, InnerProduct, Matmul};
use crate::strides::Layout;

pub use builder::Builder;
pub use error::ProblemError;
pub use math::MathMode;
pub use operand::{Operand, Role};

pub use crate::strides::MAX_ELEMENTS;

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

    /// The order in memory of an operand whose layout is not given.
    pub fn tag(&self, role: Role) -> Tag {
        let rank = self.shape(role).len();
        let channels_last = matches!(self, Op::Convolution(_)) && role != Role::Rhs;
        channels_last.then(|| Tag::parse("axb", rank)).flatten().unwrap_or(Tag::plain(rank))
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
        DTypes { src: DType::F16, weights: DType::F16, dst: DType::F32 },
        DTypes { src: DType::F16, weights: DType::F16, dst: DType::F16 },
        DTypes { src: DType::F32, weights: DType::F16, dst: DType::F32 },
        DTypes { src: DType::S8, weights: DType::S8, dst: DType::S32 },
        DTypes { src: DType::U8, weights: DType::S8, dst: DType::S32 },
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

/// What one kernel computes: an operation on concrete shapes, types and layouts, and the post-ops that follow it. A clone shares the
/// definition.
///
/// A problem is written as a text, or [built](Builder), and one canonical text names it everywhere: in caches, logs and on the command
/// line. Parsing what is printed gives the same problem. Debug prints the text too.
///
/// ```
/// use kiln_ir::{DType, MathMode, Problem};
///
/// let problem: Problem = "matmul bf16 2x3:3x4 +bias+relu".parse()?;
/// let built = Problem::matmul(2, 3, 4).dtypes(DType::Bf16).bias().relu().build()?;
/// assert_eq!(problem, built);
/// let names: Vec<String> = problem.operands().into_iter().map(|o| format!("{} {:?}", o.name, o.shape)).collect();
/// assert_eq!(names, ["lhs [2, 3]", "rhs [3, 4]", "bias [4]", "dst [2, 4]"]);
///
/// let e = "matmul f32 2x3:4x4".parse::<Problem>().unwrap_err();
/// assert!(e.to_string().contains("K=3"), "{e}");
/// # Ok::<(), kiln_ir::ProblemError>(())
/// ```
///
/// # Grammar
///
/// ```text
/// OP DTYPES DESCRIPTOR [stag=T] [wtag=T] [dtag=T] [strides=S:S:S] [beta=0|1] [fpmath=strict|bf16|any] [+POSTOP...]
///
/// matmul f32 128x768:768x3072 +bias+relu
/// matmul bf16:bf16:f32 12x128x64:12x64x128 wtag=acb +scale:0.125
/// matmul f32 128x768:768x3072 strides=1024x1::4096x1 +bias
/// ip f32 mb128ic768oc3072 fpmath=bf16 +bias+gelu_erf
/// conv f32 mb1ic64ih56oc64kh3ph1 +bias+relu
/// ```
///
/// | word | meaning |
/// |---|---|
/// | OP | `matmul`, a product of matrices; `ip`, an inner product, whose weights are as PyTorch's `Linear` stores them; `conv`, a convolution, whose weights are as PyTorch stores them |
/// | DTYPES | `f32`, `bf16` or `f16`, one for all, or those of source, weights and result: `bf16:bf16:f32`, `f32:bf16:f32`, `f16:f16:f32`, `f32:f16:f32`, whose sums are f32; `s8:s8:s32` or `u8:s8:s32`, whose sums are s32, in `matmul` and `ip` without post-ops |
/// | DESCRIPTOR of `matmul` | `MxK:KxN`, with batch dimensions in front: `12x128x64:1x64x128`. A batch of 1 is the same for all of the other side |
/// | of `ip` | batch `mb` (2 unless given), input and output channels `ic` and `oc`, and `id`, `ih`, `iw` where the source has spatial dimensions |
/// | of `conv` | the same, groups `g`, and along depth, height and width (`d`, `h`, `w`) the input `i`, kernel `k`, stride `s`, padding `p`, output `o` and dilation `d`, which is 0 of a dense kernel: `ih56kh3sh2ph1`. Of the three, the first that is given says how many there are, and one of which nothing is given is like the one before it, so `ih56kh3` is 56x56 by 3x3 |
/// | `stag`, `wtag`, `dtag` | the [order of dimensions](Tag) in memory of source, weights and result: `ba` is a transposed matrix. Source and result of a convolution are channels last (`axb`) unless a tag says otherwise; `abx` is channels first |
/// | `strides` | elements from one neighbour to the next along each dimension of source, weights and result; a part left empty is dense |
/// | `beta` | 1: the result is added to what its memory holds; 0, the default: that is not read |
/// | `fpmath` | the arithmetic allowed: `bf16` lets f32 factors be rounded to bf16, `any` is the same for now, `strict` does not. Where a factor is f16, products are f32 whatever this says |
/// | POSTOP | what is done with the result, in order: the [list](PostOp), such as `+bias`, `+relu`, `+gelu_erf`, `+scale:0.5`, `+add:ab` with a tensor of dimensions `a` and `b` of the result |
///
/// Defaults are left out of the canonical text. Nothing may be said twice.
///
/// Strides are as benchdnn has them. Where a tensor has gaps, they are neither read nor written. Strides of a dense tensor are its tag in
/// the canonical text. Elements of a source may overlap. The source of a convolution may have any order, its result one in which the
/// pixels of an image follow one another, and its weights are plain.
///
/// A problem without `fpmath` leaves the arithmetic to the default of the runtime that compiles it, and is compiled as strict
/// where there is none. One that says `fpmath=strict` is another problem, with a text and a hash of its own: no default
/// changes it.
///
/// Tensors of post-ops are dense and have the dimensions that their mask names, in the order that `dtag` has them in memory.
/// Biases are f32, the tensors of `add` and `mul` have the type of the result.
///
/// # Errors
/// [`ProblemError`] names the word of the text that is wrong and what is accepted there.
#[derive(Clone, PartialEq, Eq)]
pub struct Problem {
    shared: Arc<Definition>,
    fpmath: Option<MathMode>,
}

/// All of a problem but its math mode.
#[derive(PartialEq, Eq)]
struct Definition {
    /// Of the fields below, and compared before them: kernels are looked up by problem at each call.
    hash: u64,
    op: Op,
    dtypes: DTypes,
    /// Of lhs, rhs and dst.
    layouts: [Layout; 3],
    accumulate: bool,
    epilogue: Epilogue,
}

impl Hash for Problem {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint(self.fpmath));
    }
}

/// The roles that have a layout, with the name of their tag and their own.
const LAID_OUT: [(Role, &str, &str); 3] =
    [(Role::Lhs, "stag", "lhs"), (Role::Rhs, "wtag", "rhs"), (Role::Dst, "dtag", "dst")];

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

    /// The arithmetic that the problem names; `None` if it names none and takes the default of whoever compiles it.
    pub fn fpmath(&self) -> Option<MathMode> {
        self.fpmath
    }

    /// The arithmetic that a kernel of this very problem may use: the one it names, else strict.
    pub fn math(&self) -> MathMode {
        self.fpmath.unwrap_or_default()
    }

    /// What the problem names once a default has been applied to it. Only a problem with f32 source that names no arithmetic
    /// takes the default. A default of strict stays unnamed, because that is what naming none means to the compiler.
    #[inline]
    pub fn fpmath_or(&self, default: MathMode) -> Option<MathMode> {
        let takes_default = self.fpmath.is_none() && self.shared.dtypes.src == DType::F32;
        if takes_default && default != MathMode::Strict { Some(default) } else { self.fpmath }
    }

    /// The same problem naming other arithmetic, or none.
    pub fn with_fpmath(&self, fpmath: Option<MathMode>) -> Self {
        Self { shared: self.shared.clone(), fpmath }
    }

    /// Whether the two are the same but for the arithmetic they name.
    #[inline]
    pub fn eq_ignoring_fpmath(&self, other: &Problem) -> bool {
        self.shared == other.shared
    }

    /// A hash of the problem with `fpmath` in place of what it names: that of `self.with_fpmath(fpmath)`, and as its [`Hash`].
    /// Made when the problem is, so it costs nothing. Not the same in every version of Kiln.
    #[inline]
    pub fn fingerprint(&self, fpmath: Option<MathMode>) -> u64 {
        let number = fpmath.map_or(0, |mode| 1 + mode as u64);
        self.shared.hash ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Where the elements of lhs, rhs or dst are.
    pub fn layout(&self, role: Role) -> Layout {
        let at = LAID_OUT.iter().position(|(r, ..)| *r == role).unwrap_or(2);
        self.shared.layouts[at]
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
            layout: self.layout(role),
        };
        let mut all = vec![factor(Role::Lhs, "lhs", src), factor(Role::Rhs, "rhs", weights)];
        let result = self.shared.op.shape(Role::Dst);
        for (n, op) in (0..).zip(self.shared.epilogue.operands()) {
            let dims = self.post_dims(n);
            let before =
                all.iter().filter(|o| o.name.trim_end_matches(|c: char| c.is_ascii_digit()) == op.name()).count();
            let name = if before == 0 { op.name().into() } else { format!("{}{}", op.name(), before + 1) };
            let order: String = self.shared.layouts[2]
                .tag()
                .order()
                .filter_map(|d| dims.iter().position(|h| *h == d))
                .map(|d| char::from(b'a' + d as u8))
                .collect();
            all.push(Operand {
                role: Role::Post(n),
                name,
                dtype: if op.is_bias() { DType::F32 } else { dst },
                shape: dims.iter().map(|d| result[*d]).collect(),
                layout: Layout::dense(Tag::parse(&order, dims.len()).unwrap_or(Tag::plain(dims.len()))),
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
            ("matmul f32 2x3:3x4 stag=ab beta=0 +relu", "matmul f32 2x3:3x4 +relu"),
            ("matmul f32 2x3:3x4 stag=ab fpmath=STRICT beta=0 +relu", "matmul f32 2x3:3x4 fpmath=strict +relu"),
            (
                "matmul bf16:bf16:f32 12x8x4:1x4x9 wtag=acb +scale:0.125",
                "matmul bf16:bf16:f32 12x8x4:1x4x9 wtag=acb +scale:0.125",
            ),
            ("ip f32 ic3oc4 fpmath=BF16 beta=1 +bias+add:ab", "ip f32 mb2ic3oc4 beta=1 fpmath=bf16 +bias+add:ab"),
            ("matmul f32 12x128x64:12x64x128_n\"QK\"", "matmul f32 12x128x64:12x64x128"),
            ("matmul f32 2x3:3x4:2x4", "matmul f32 2x3:3x4"),
            ("matmul f32 2x3:3x4 strides=", "matmul f32 2x3:3x4"),
            ("matmul f32 2x3:3x4 strides=::", "matmul f32 2x3:3x4"),
            ("matmul f32 2x3:3x4 strides=3x1:4x1:4x1", "matmul f32 2x3:3x4"),
            ("matmul f32 2x3:3x4 strides=1x2", "matmul f32 2x3:3x4 stag=ba"),
            ("matmul f32 2x3:3x4 strides=8x1 beta=1 wtag=ba", "matmul f32 2x3:3x4 wtag=ba strides=8x1:: beta=1"),
            ("matmul f32 3x2x4:3x4x6 strides=8x4x1:24x6x1:21x7x1", "matmul f32 3x2x4:3x4x6 strides=::21x7x1"),
            ("matmul f32 1x3:3x4 strides=9x1:1x1:7x2", "matmul f32 1x3:3x4 strides=:1x1:8x2"),
            ("ip f32 mb2ic3ih2oc4 strides=20x4x2x1:12x4x2x1:9x1", "ip f32 mb2ic3ih2oc4 strides=20x4x2x1::9x1"),
            ("conv f32 mb2ic3ih5oc4kh3 strides=75x1x15x3:27x9x3x1:36x1x12x4", "conv f32 mb2ic3ih5oc4kh3"),
            ("conv f32 mb2ic3ih5oc4kh3 strides=75x25x5x1", "conv f32 mb2ic3ih5oc4kh3 stag=abx"),
            (
                "conv f32 mb2ic3ih5oc4kh3 strides=500x1x100x8::90x1x30x10",
                "conv f32 mb2ic3ih5oc4kh3 strides=500x1x100x8::90x1x30x10",
            ),
            ("ip bf16 mb1_ic512_ih7_oc1000 stag=abx", "ip bf16 mb1ic512ih7oc1000"),
            (
                "conv f32 mb1_ic64_ih56_oc64_kh3_ph1 stag=axb dtag=acdb +bias+add:abcd+relu",
                "conv f32 mb1ic64ih56oc64kh3ph1 +bias+add:abcd+relu",
            ),
            ("conv bf16 ic8iw9oc8kw3 dtag=abx stag=abc", "conv bf16 mb2ic8iw9oc8kw3 stag=abx dtag=abx"),
            ("conv f32 ic3ih4oc5kh3 stag=dcba dtag=bacd", "conv f32 mb2ic3ih4oc5kh3 stag=dcba dtag=bacd"),
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
        assert!(err("matmul s8 2x3:3x4").contains("s8:s8:s32"));
        assert!(err("matmul s8:s8:s32 2x3:3x4 +relu").contains("no post-ops"));
        assert!(err("ip u8:s8:s32 mb2ic3oc4 beta=1").contains("beta=1"));
        assert!(err("conv s8:s8:s32 ic3iw4oc5kw2").contains("not in `conv`"));
        assert!(err("matmul s8:s8:s32 1x131072:131072x1").contains("at most 131071"));
        assert!(err("matmul u8:s8:s32 1x65794:65794x1").contains("at most 65793"));
        assert_eq!("matmul u8:s8:s32 1x65793:65793x1".parse::<Problem>().unwrap().extents(), [1, 1, 65793]);
        assert!(err("matmul f32 2x3").contains("MxK:KxN"));
        assert!(err("matmul f32 2x3x4:3x4").contains("expected as many"));
        assert!(err("matmul f32 2x3:3x4:2x5").contains("is 2x4"));
        assert!(err("matmul f32 2x3:3x4:2x4:2x4").contains("`4:2`"));
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
        assert!(err("conv f32 ic3ih4iw2oc5kh3kw1 dtag=badc").contains("evenly apart"));
        assert!(err("conv f32 ic3ih4oc5kh3 dtag=adcb").contains("`axb`"));
        assert!(err("conv f32 ic3ih4oc5kh3 wtag=bacd").contains("plain order"));
        assert!(err("conv f32 ic3ih4oc5kh3 +bias:row").contains("no rows"));
        assert!(err("conv f32 ic3ih4oc5kh3 +add:abc").contains("spatial dimensions `cd`"));
        assert!(err("conv f32 ic3ih4oc5kh3 +add:abcde").contains("dimension `e`"));
        assert!(err("conv f32 mb9999999ic9999999ih9999oc5kh3").contains("too large"));
        assert!(err("matmul f32 f32 2x3:3x4").contains("`dtypes` is given twice"));
        assert!(err("matmul f32 2x3:3x4 2x3:3x4").contains("`descriptor` is given twice"));
        assert!(err("matmul f32 matmul 2x3:3x4").contains("`operation` is given twice"));
        assert!(err("matmul f32 2x3:3x4 beta=1 +relu beta=0").contains("`beta` is given twice"));
        assert!(err("matmul f32 2x3:3x4 stag=ab stag=ba").contains("`stag` is given twice"));
        assert!(err("ip f32 ic3oc4ic3").contains("`ic` is given twice"));
        assert!(err("conv f32 ic3ih4oc5kh3_kh3").contains("`kh` is given twice"));
        assert!(err("matmul f32 2x3:3x4 +scale:2:2").contains("`+scale:2:2`"));
        assert!(err("matmul f32 2x3:3x4 +add:aab").contains("`+add:aab`"));
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

    #[test]
    fn naming_no_arithmetic_is_not_naming_strict() {
        let parse = |text: &str| text.parse::<Problem>().unwrap();
        let (unsaid, strict) = (parse("matmul f32 2x3:3x4 +relu"), parse("matmul f32 2x3:3x4 fpmath=strict +relu"));
        assert_ne!(unsaid, strict);
        assert_ne!(unsaid.fingerprint(unsaid.fpmath()), strict.fingerprint(strict.fpmath()));
        assert_eq!((unsaid.math(), strict.math()), (MathMode::Strict, MathMode::Strict));
        assert_eq!((unsaid.fpmath(), strict.fpmath()), (None, Some(MathMode::Strict)));
        assert_eq!(unsaid.fpmath_or(MathMode::Bf16), Some(MathMode::Bf16));
        assert_eq!(unsaid.fpmath_or(MathMode::Strict), None);
        assert_eq!(strict.fpmath_or(MathMode::Bf16), Some(MathMode::Strict));
        assert_eq!(parse("matmul bf16 2x3:3x4").fpmath_or(MathMode::Any), None, "nothing is rounded");
        assert_eq!(parse("matmul f32:bf16:f32 2x3:3x4").fpmath_or(MathMode::Any), Some(MathMode::Any));
        assert_eq!(Problem::matmul(2, 3, 4).relu().math(MathMode::Strict).build().unwrap(), strict);
        assert_eq!(Problem::matmul(2, 3, 4).relu().build().unwrap(), unsaid);
    }

    pub(crate) fn problems() -> impl Strategy<Value = Problem> {
        let word = |words: &'static [&'static str]| prop::sample::select(words);
        (
            (1u64..500, 1u64..500, 1u64..500, 1u64..20),
            word(&["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32"]),
            word(&[
                "",
                " stag=ba",
                " wtag=ba",
                " dtag=ba",
                " stag=ba wtag=ba beta=1",
                " strides=LHSx1::",
                " wtag=ba strides=::DSTx1",
            ]),
            word(&["", " fpmath=strict", " fpmath=bf16", " fpmath=any"]),
            word(&["", " +bias", " +bias+relu", " +mul:ab+bias:row+gelu_erf", " +scale:0.5+clamp:-1:2+add:b"]),
            any::<bool>(),
        )
            .prop_map(|((m, k, n, b), dtypes, tags, math, post, batched)| {
                let pitches = |tags: &str, lhs: String, dst: String| tags.replace("LHS", &lhs).replace("DST", &dst);
                let text = if batched {
                    let tags = pitches(tags, format!("{}x{}", 999 * m, k + 2), format!("{}x{}", 999 * m, n + 3));
                    format!("matmul {dtypes} {b}x{m}x{k}:1x{k}x{n}{}{math}{post}", tags.replace("ba", "acb"))
                } else {
                    let tags = pitches(tags, (k + 2).to_string(), (n + 3).to_string());
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

        /// Whatever is said once is refused when said again, at any place behind the descriptor, in the same words or others.
        #[test]
        fn whatever_is_said_twice_is_refused(p in problems(), at in any::<prop::sample::Index>(), other in any::<bool>()) {
            // Everything that a text can say, defaults too.
            let mut said = p.to_string();
            for (key, default) in [("beta", "0"), ("fpmath", "strict"), ("strides", "::")] {
                if !said.contains(key) {
                    said += &format!(" {key}={default}");
                }
            }
            for (role, name, _) in LAID_OUT {
                let has_strides = p.layout(role).gaps().is_some();
                if !said.contains(name) && !has_strides {
                    said += &format!(" {name}=abx");
                }
            }
            prop_assert!(said.parse::<Problem>().is_ok(), "{said}");
            let words: Vec<&str> = said.split(' ').collect();
            for (place, word) in words.iter().enumerate().filter(|(_, word)| !word.starts_with('+')) {
                let (name, again) = match (place, word.split_once('=')) {
                    (0, _) => ("operation", (*word).to_owned()),
                    (1, _) => ("dtypes", if other { "f32".into() } else { (*word).to_owned() }),
                    (2, _) => ("descriptor", (*word).to_owned()),
                    (_, Some((key, _))) if other => (key, format!("{key}=anything")),
                    (_, Some((key, _))) => (key, (*word).to_owned()),
                    (_, None) => unreachable!("an attribute has a value"),
                };
                // Not before what it repeats.
                let first = if place < 3 { 3 } else { place + 1 };
                let mut twice = words.clone();
                twice.insert(first + at.index(words.len() - first + 1), &again);
                let e = twice.join(" ").parse::<Problem>().unwrap_err();
                prop_assert!(matches!(&e, ProblemError::Repeated { name: n, .. } if n == name), "{twice:?}: {e}");
                prop_assert!(e.to_string().contains(name), "{e}");
            }
        }
    }
}

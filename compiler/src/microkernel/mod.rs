//! The micro-kernel: a small vector program as data.
//!
//! A [`MicroKernel`] computes one register tile: it zeroes or loads accumulators, runs over K, applies the epilogue and
//! stores. It is straight-line code with loops of constant trip counts. The builder assigns its registers within the unit's
//! budget: by a plan of each form, and for post-ops by [`program::assign`]. Emitters translate one operation at a time, and
//! allocate only what an operation does not name: addresses and scratch registers.
//!
//! Memory is reached only through [`Param`]s, the pointers the micro-kernel is called with. Every address is
//! `param + offset + trip * step` with constants, and every parameter says which [`Region`] behind its pointer may be
//! touched, so that [`verify`](MicroKernel::verify) can prove that each access stays inside.

pub mod accuracy;
pub mod approx;
pub mod bf16;
pub mod build;
pub mod check;
pub mod counts;
pub mod interp;
mod operands;
pub mod parse;
pub mod print;
pub mod program;
pub mod verify;

use std::sync::Arc;

use kiln_ir::DType;

use crate::target::VectorIsa;

/// A vector register, `v0..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct V(pub u8);

/// Index into [`MicroKernel::params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct P(pub u8);

/// The allowed use of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Loads only.
    Read,
    /// Stores only.
    Write,
    /// Loads and stores.
    ReadWrite,
}

/// The bytes behind a pointer that may be touched: `rows` runs of `row_bytes`, `row_stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// Number of runs.
    pub rows: u64,
    /// Bytes of each run.
    pub row_bytes: u64,
    /// Bytes from the start of one run to the start of the next.
    pub row_stride: u64,
}

/// A pointer argument. Parameters are passed in order in the platform's C convention.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// `lhs`, `rhs`, `dst`, `bias`: a name for people.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Reads, writes or both.
    pub access: Access,
    /// The bytes that may be touched.
    pub region: Region,
}

/// `param + offset + trip * step`, in bytes; `trip` counts iterations of the enclosing loop from 0 (outside: `step` is 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addr {
    /// The pointer.
    pub param: P,
    /// Constant byte offset.
    pub offset: i64,
    /// Bytes added per iteration of the enclosing loop.
    pub step: i64,
}

/// A lanewise operation of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`, correctly rounded.
    Div,
    /// The greater; NaN if either is NaN. Of +0 and -0 either.
    Max,
    /// The smaller; NaN if either is NaN. Of +0 and -0 either.
    Min,
    /// `a + b` on the bits as 32-bit integers, wrapping.
    IAdd,
    /// `a - b` on the bits as 32-bit integers, wrapping.
    ISub,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
}

impl Binary {
    /// Every operation with its word in texts.
    pub const ALL: &'static [(&'static str, Binary)] = &[
        ("add", Binary::Add),
        ("sub", Binary::Sub),
        ("mul", Binary::Mul),
        ("div", Binary::Div),
        ("max", Binary::Max),
        ("min", Binary::Min),
        ("iadd", Binary::IAdd),
        ("isub", Binary::ISub),
        ("and", Binary::And),
        ("or", Binary::Or),
        ("xor", Binary::Xor),
    ];
}

/// A lanewise operation of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    /// The operand.
    Move,
    /// The square root, correctly rounded; NaN below zero.
    Sqrt,
    /// Without the sign bit.
    Abs,
}

impl Unary {
    /// Every operation with its word in texts.
    pub const ALL: &'static [(&'static str, Unary)] =
        &[("move", Unary::Move), ("sqrt", Unary::Sqrt), ("abs", Unary::Abs)];
}

/// A lanewise shift of the bits as 32-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shift {
    /// To the left, zeros from the right.
    Left,
    /// To the right, copies of the sign bit from the left.
    RightSigned,
}

impl Shift {
    /// Every shift with its word in texts.
    pub const ALL: &'static [(&'static str, Shift)] = &[("shl", Shift::Left), ("sra", Shift::RightSigned)];
}

/// A permutation of the elements of two registers, by elements of `bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permute {
    /// The elements of the low halves of both, alternating: `a0 b0 a1 b1 ..`.
    ZipLow,
    /// The elements of the high halves of both, alternating.
    ZipHigh,
    /// The even elements of `a`, then those of `b`.
    UzpEven,
    /// The odd elements of `a`, then those of `b`.
    UzpOdd,
    /// The even elements of both, alternating: `a0 b0 a2 b2 ..`.
    TrnEven,
    /// The odd elements of both, alternating.
    TrnOdd,
}

impl Permute {
    /// Every permutation with its word in texts.
    pub const ALL: &'static [(&'static str, Permute)] = &[
        ("zip1", Permute::ZipLow),
        ("zip2", Permute::ZipHigh),
        ("uzp1", Permute::UzpEven),
        ("uzp2", Permute::UzpOdd),
        ("trn1", Permute::TrnEven),
        ("trn2", Permute::TrnOdd),
    ];
}

/// A vector operation. A register is `lanes` words of 32 bits. Words are f32 unless a variant says otherwise; loads from
/// a bf16 parameter widen and stores to one round (to nearest, ties to even; NaN stays NaN), so that arithmetic is f32
/// whatever memory holds. Where a variant says bf16, a word holds two: the first in the low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `d = 0` in all lanes.
    Zero {
        /// Written.
        d: V,
    },
    /// `d = bits` in all lanes.
    Const {
        /// Written.
        d: V,
        /// The word.
        bits: u32,
    },
    /// `d[0..lanes] = src[..]`, the other lanes 0. `lanes` is between 1 and the vector length.
    Load {
        /// Written.
        d: V,
        /// Source.
        src: Addr,
        /// Elements.
        lanes: u16,
    },
    /// `d[l] = src[l % 4]` for `l % 4 < count`, 0 elsewhere: up to 4 scalars, repeated in each 128 bits of the register.
    LoadLanes {
        /// Written.
        d: V,
        /// Source.
        src: Addr,
        /// Scalars read, 1..=4.
        count: u8,
    },
    /// `d[..] = src[0]`.
    Broadcast {
        /// Written.
        d: V,
        /// Source.
        src: Addr,
    },
    /// `dst[..] = s[0..lanes]`. Exactly `lanes` elements are written.
    Store {
        /// Read.
        s: V,
        /// Destination.
        dst: Addr,
        /// Elements.
        lanes: u16,
    },
    /// `elements` bf16 (up to two a lane) as they are in memory, the rest of the register 0. Bf16 parameters only.
    LoadRaw {
        /// Written.
        d: V,
        /// Source.
        src: Addr,
        /// Elements.
        elements: u16,
    },
    /// `elements` bf16 (up to 8) as they are in memory, zeros behind them, repeated in each 128 bits of the register. Bf16
    /// parameters only.
    LoadRawQuad {
        /// Written.
        d: V,
        /// Source.
        src: Addr,
        /// Elements, 1..=8.
        elements: u16,
    },
    /// The first `elements` bf16 (up to two a lane) of the register as they are. Bf16 parameters only.
    StoreRaw {
        /// Read.
        s: V,
        /// Destination.
        dst: Addr,
        /// Elements.
        elements: u16,
    },
    /// `d = d + a * b`, fused.
    Fma {
        /// Accumulator.
        d: V,
        /// Factor.
        a: V,
        /// Factor.
        b: V,
    },
    /// `d[l] = d[l] + a[l] * b[l / 4 * 4 + lane]`, fused: multiply-add by element.
    FmaLane {
        /// Accumulator.
        d: V,
        /// Vector factor.
        a: V,
        /// Register of repeated scalars.
        b: V,
        /// The index of the scalar, 0 to 3.
        lane: u8,
    },
    /// `d = f(a, b)`, lane by lane.
    Binary {
        /// Operation.
        f: Binary,
        /// Written.
        d: V,
        /// First operand.
        a: V,
        /// Second operand.
        b: V,
    },
    /// `d = f(a)`, lane by lane.
    Unary {
        /// Operation.
        f: Unary,
        /// Written.
        d: V,
        /// Operand.
        a: V,
    },
    /// `d = a` shifted by `by` bits, lane by lane.
    Shift {
        /// Destination.
        f: Shift,
        /// Written.
        d: V,
        /// Operand.
        a: V,
        /// Bits, 1..=31.
        by: u8,
    },
    /// `d = [a0 + a1, a2 + a3, .., b0 + b1, b2 + b3, ..]`. `d` may be `a` or `b`.
    PairAdd {
        /// Written.
        d: V,
        /// First half.
        a: V,
        /// Second half.
        b: V,
    },
    /// BFMMLA: in each 128 bits, `a` holds a 2x4 matrix of bf16 by rows, `b` a 4x2 one by columns, and their product is added
    /// to the 2x2 matrix of f32 by rows in `d`. Rounds as the architecture says without FEAT_EBF16.
    Mmla {
        /// Accumulator.
        d: V,
        /// 2x4.
        a: V,
        /// 4x2.
        b: V,
    },
    /// BFDOT: `d[l] += a[2 l] * b[2 l] + a[2 l + 1] * b[2 l + 1]`, bf16 factors. Rounds as the architecture says without
    /// FEAT_EBF16.
    Dot2 {
        /// Accumulator.
        d: V,
        /// Factors.
        a: V,
        /// Factors.
        b: V,
    },
    /// BFDOT by element: as [`Dot2`](Op::Dot2) with word `lane` of the same 128 bits of `b` in place of word `l`.
    Dot2Lane {
        /// Accumulator.
        d: V,
        /// Factors.
        a: V,
        /// Register of repeated pairs.
        b: V,
        /// The index of the pair, 0 to 3.
        lane: u8,
    },
    /// The f32 of `a`, then those of `b`, rounded to bf16: `d` holds `2 * lanes` of them. `d` is neither `a` nor `b`;
    /// `t` is overwritten and differs from all.
    Narrow {
        /// Written.
        d: V,
        /// First half.
        a: V,
        /// Second half.
        b: V,
        /// Overwritten.
        t: V,
    },
    /// The f32 of `a` and `b`, alternating, rounded to bf16: word `l` of `d` is `(a[l], b[l])`. `d` is neither `a` nor `b`;
    /// `t` is overwritten and differs from all.
    NarrowPairs {
        /// Written.
        d: V,
        /// Low halves of words.
        a: V,
        /// High halves of words.
        b: V,
        /// Overwritten.
        t: V,
    },
    /// A permutation by elements of 16, 32 or 64 bits. `d` may be `a` or `b`.
    Permute {
        /// Permutation.
        f: Permute,
        /// Bits of an element.
        bits: u8,
        /// Written.
        d: V,
        /// First operand.
        a: V,
        /// Second operand.
        b: V,
    },
}

/// An operation and the reason it exists, which becomes the comment in listings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inst {
    /// The operation.
    pub op: Op,
    /// Why, in the problem's terms: `c[2, 8..16]`, `lhs[3, k..k+4]`, `relu`. Shared, as many operations have the same.
    pub why: Arc<str>,
}

/// A piece of a micro-kernel's body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// One operation, executed once.
    Inst(Inst),
    /// A loop. `trips >= 1`; bodies do not nest.
    Loop {
        /// Iterations.
        trips: u64,
        /// The range it runs over, for people: `k in 0..512 step 4`.
        why: String,
        /// The body.
        body: Vec<Inst>,
    },
}

impl Stmt {
    /// Its operations: one, or those of a trip.
    pub fn insts(&self) -> &[Inst] {
        match self {
            Stmt::Inst(inst) => std::slice::from_ref(inst),
            Stmt::Loop { body, .. } => body,
        }
    }
}

/// A vector program. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MicroKernel {
    /// Symbol, unique in its artifact: `uk_6x16_k512`.
    pub name: String,
    /// Instruction set it is written for.
    pub isa: VectorIsa,
    /// Lanes of a register: words of 32 bits.
    pub lanes: u32,
    /// Registers `v0..v(registers - 1)` may be used.
    pub registers: u8,
    /// Pointer arguments.
    pub params: Vec<Param>,
    /// The program.
    pub body: Vec<Stmt>,
}

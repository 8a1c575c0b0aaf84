//! The micro-kernel: a small vector program as data.
//!
//! A [`MicroKernel`] computes one register tile: it zeroes or loads accumulators, runs over K, applies the epilogue and
//! stores. It is straight-line code with loops of constant trip counts; registers are named by the builder within the
//! target's budget, so emitters translate one operation at a time and no allocator runs.
//!
//! Memory is reached only through [`Param`]s, the pointers the micro-kernel is called with. Every address is
//! `param + offset + trip * step` with constants, and every parameter says which [`Region`] behind its pointer may be
//! touched, so that [`verify`](MicroKernel::verify) can prove that each access stays inside.

pub mod build;
pub mod check;
pub mod counts;
pub mod interp;
mod operands;
pub mod parse;
pub mod print;
pub mod verify;

use kiln_ir::DType;

use crate::target::VectorIsa;

/// A vector register, `v0..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct V(pub u8);

/// Index into [`MicroKernel::params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct P(pub u8);

/// What a parameter may be used for.
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
    /// What may be touched.
    pub region: Region,
}

/// `param + offset + trip * step`, in bytes; `trip` counts iterations of the enclosing loop from 0 (outside: `step` is 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addr {
    /// Which pointer.
    pub param: P,
    /// Constant byte offset.
    pub offset: i64,
    /// Bytes added per iteration of the enclosing loop.
    pub step: i64,
}

/// A vector operation. Lanes are f32 unless a variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `d = 0` in all lanes.
    Zero {
        /// Written.
        d: V,
    },
    /// `d[0..lanes] = src[..]`, the other lanes 0. `lanes` is between 1 and the vector length.
    Load {
        /// Written.
        d: V,
        /// Where from.
        src: Addr,
        /// Elements.
        lanes: u16,
    },
    /// `d[l] = src[l % 4]` for `l % 4 < count`, 0 elsewhere: up to 4 scalars, repeated in each 128 bits of the register.
    LoadLanes {
        /// Written.
        d: V,
        /// Where from.
        src: Addr,
        /// Scalars read, 1..=4.
        count: u8,
    },
    /// `d[..] = src[0]`.
    Broadcast {
        /// Written.
        d: V,
        /// Where from.
        src: Addr,
    },
    /// `dst[..] = s[0..lanes]`. Exactly `lanes` elements are written.
    Store {
        /// Read.
        s: V,
        /// Where to.
        dst: Addr,
        /// Elements.
        lanes: u16,
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
        /// Which of the 4 scalars.
        lane: u8,
    },
    /// `d = a + b`.
    Add {
        /// Written.
        d: V,
        /// Term.
        a: V,
        /// Term.
        b: V,
    },
    /// `d = max(a, b)`, NaN if either is NaN.
    Max {
        /// Written.
        d: V,
        /// First.
        a: V,
        /// Second.
        b: V,
    },
}

/// An operation and the reason it exists, which becomes the comment in listings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inst {
    /// The operation.
    pub op: Op,
    /// Why, in the problem's terms: `c[2, 8..16]`, `lhs[3, k..k+4]`, `relu`.
    pub why: String,
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
        /// What it runs over, for people: `k in 0..512 step 4`.
        why: String,
        /// The body.
        body: Vec<Inst>,
    },
}

/// A vector program. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MicroKernel {
    /// Symbol, unique in its artifact: `uk_6x16_k512`.
    pub name: String,
    /// Instruction set it is written for.
    pub isa: VectorIsa,
    /// f32 lanes of a register.
    pub lanes: u32,
    /// Registers `v0..v(registers - 1)` may be used.
    pub registers: u8,
    /// Pointer arguments.
    pub params: Vec<Param>,
    /// The program.
    pub body: Vec<Stmt>,
}

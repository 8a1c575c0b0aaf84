//! The micro-kernel: a small vector program as data.
//!
//! A [`MicroKernel`] computes one register tile: it zeroes or loads accumulators, runs over K, applies the epilogue and
//! stores. It is straight-line code with loops of constant trip counts.
//!
//! [Builders](build) write it with as many registers as there are values: each register is written by one operation, its definition,
//! and after that only added to. [`assign`](mod@assign) then replaces the values by the registers of a vector unit, and [`check_assignment`]
//! proves that the result does the same. Emitters translate one operation at a time; of vector registers, they use those that the
//! operation names and its [`Temps`].
//!
//! Memory is reached only through [`Param`]s, the pointers the micro-kernel is called with. Every address is
//! `param + offset + trip * step` with constants, and every parameter says which [`Region`] behind its pointer may be
//! touched, so that [`verify`](MicroKernel::verify) can prove that each access stays inside.

pub mod accuracy;
pub mod approx;
pub mod assign;
pub mod bf16;
pub mod build;
pub mod check;
pub mod counts;
pub mod interp;
pub mod op;
pub mod parse;
mod pieces;
pub mod print;
pub mod program;
mod temps;
pub mod verify;
mod words;

use std::sync::Arc;

use kiln_ir::DType;

pub use assign::{assign, check_assignment};
pub use op::{Binary, Factors, Op, Permute, Shift, Touched, Unary};
pub use temps::Temps;

use crate::target::VectorIsa;

/// A vector register, `v0..`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct V(pub u32);

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

/// An operation and the reason it exists, which becomes the comment in listings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inst {
    /// The operation.
    pub op: Op,
    /// The registers that it overwrites besides its result.
    pub temps: Temps,
    /// Why, in the problem's terms: `c[2, 8..16]`, `lhs[3, k..k+4]`, `relu`. Shared, as many operations have the same.
    pub why: Arc<str>,
}

impl Inst {
    /// An operation without temporary registers, and its reason.
    pub fn new(op: Op, why: impl Into<Arc<str>>) -> Self {
        Self { op, temps: Temps::NONE, why: why.into() }
    }

    /// Its text, with parameters named as in `params`.
    pub fn display<'a>(&'a self, params: &'a [Param]) -> impl std::fmt::Display + 'a {
        print::InstText { inst: self, params }
    }
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

impl MicroKernel {
    /// The type of what is behind an address, if its parameter exists.
    pub fn dtype(&self, addr: Addr) -> Option<DType> {
        Some(self.params.get(usize::from(addr.param.0))?.dtype)
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
    pub registers: u32,
    /// Pointer arguments.
    pub params: Vec<Param>,
    /// The program.
    pub body: Vec<Stmt>,
}

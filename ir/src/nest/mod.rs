//! Loop nests: loops with constant extents over statements on buffers with constant strides.
//!
//! A [`LoopNest`] is what a problem becomes before there are vectors. [`op`](crate::op) builds the naive one;
//! [`rewrite`](crate::rewrite) turns it, nest to nest, into the tiled and packed form that the compiler emits as a driver
//! around micro-kernels. Its meaning is its [interpreter](LoopNest::interpret): every rewrite keeps it, up to the order
//! of additions.
//!
//! Loops run from 0 in steps; an inner extent may be `min(tile, rest)` until tails are split. Indices are affine in the
//! loop variables. Text form ([`Display`](std::fmt::Display) and [`FromStr`](std::str::FromStr)):
//!
//! ```text
//! nest "matmul f32 13x31:31x17" {
//!   in lhs f32 [13, 31] strides [31, 1]
//!   in rhs f32 [31, 17] strides [17, 1]
//!   out dst f32 [13, 17] strides [17, 1]
//!   for m in 0..13 {
//!     for n in 0..17 {
//!       dst[m, n] = 0
//!       for k in 0..31 {
//!         dst[m, n] += lhs[m, k] * rhs[k, n]
//!       }
//!     }
//!   }
//! }
//! ```

mod affine;
mod interp;
mod parse;
mod print;
mod tasks;
mod verify;

pub use affine::{Affine, Var};
pub use interp::InterpError;
pub use parse::NestParseError;
pub use tasks::Division;
pub use verify::VerifyError;

use crate::dtype::DType;
use crate::epilogue::PostOp;

/// Index into [`LoopNest::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u16);

/// Where a buffer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferKind {
    /// A read-only argument.
    In,
    /// An argument that is written; never read before it is written.
    Out,
    /// An argument that is read and written.
    InOut,
    /// Temporary memory of a call, which all threads see; undefined at entry. What tasks before a [`Stmt::Barrier`] write is there for
    /// tasks behind it.
    Shared,
    /// Temporary memory; undefined at entry, each thread's own.
    Scratch,
}

/// One dimension of a buffer, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dim {
    /// Indices run below this.
    pub extent: u64,
    /// Elements from one index to the next.
    pub stride: u64,
}

/// A tensor argument or temporary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Unique name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Argument or temporary.
    pub kind: BufferKind,
    /// Dimensions, outermost first.
    pub dims: Vec<Dim>,
    /// How many indices of the last dimension but one are neighbours in memory: 1, or as many steps of K as an instruction
    /// takes at once, and then the strides of the last two dimensions are those at multiples of it.
    pub interleave: u64,
}

impl Buffer {
    /// Elements from the first to one past the last addressed; `u64::MAX` where that is beyond what verifies.
    pub fn len(&self) -> u64 {
        let last: Vec<u64> = self.dims.iter().map(|d| d.extent.saturating_sub(1)).collect();
        // Where groups of neighbours end inside the buffer, its last group is whole.
        let rest = self.last_interleaved().map_or(0, |i| self.interleave - 1 - last[i] % self.interleave);
        self.offset(&last).saturating_add(rest).saturating_add(1)
    }

    /// The element at `index`, one index per dimension; `u64::MAX` where that is beyond what verifies.
    pub fn offset(&self, index: &[u64]) -> u64 {
        let grouped = self.last_interleaved();
        index.iter().zip(&self.dims).enumerate().fold(0u64, |sum, (at, (i, d))| {
            let inside = if grouped == Some(at) { i % self.interleave } else { 0 };
            sum.saturating_add((i - inside).saturating_mul(d.stride)).saturating_add(inside)
        })
    }

    /// Which dimension has neighbours in groups.
    pub fn last_interleaved(&self) -> Option<usize> {
        (self.interleave > 1).then(|| self.dims.len().checked_sub(2)).flatten()
    }

    /// Never true: a buffer has at least one element.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// An element of a buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// Which buffer.
    pub buffer: BufferId,
    /// One index per dimension.
    pub index: Vec<Affine>,
}

/// How far a loop or copy goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Always the same.
    Const(u64),
    /// `min(tile, rest)`, where `rest` shrinks with outer loop variables.
    Min {
        /// The full extent.
        tile: u64,
        /// What is left of the axis.
        rest: Affine,
    },
}

/// `for var in 0..extent step step`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loop {
    /// The variable; no enclosing loop has the same.
    pub var: Var,
    /// End, exclusive.
    pub extent: Extent,
    /// Increment, at least 1.
    pub step: u64,
    /// Iterations are independent and may run on different threads. [`Division`] says what a task is.
    pub parallel: bool,
    /// Executed in order.
    pub body: Vec<Stmt>,
}

/// How a tile's accumulators start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Init {
    /// From zero; `dst` is not read.
    Zero,
    /// From `dst`.
    Load,
}

/// A matrix operand of a [`Tile`]: its first element and the strides of the tile's two axes on it, in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// First element.
    pub at: Access,
    /// Elements between rows.
    pub row: u64,
    /// Elements between columns.
    pub col: u64,
}

/// A register tile: `dst[i, j] = post(init + sum over p of lhs[i, p] * rhs[p, j])`, one micro-kernel call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// The number of the statement among the tiles and copies of the nest, in the order they are written down: see
    /// [`LoopNest::number_calls`].
    pub number: u32,
    /// Rows.
    pub m: u64,
    /// Columns.
    pub n: u64,
    /// Length of the sum.
    pub k: u64,
    /// `m x n`.
    pub dst: Matrix,
    /// `m x k`.
    pub lhs: Matrix,
    /// `k x n`.
    pub rhs: Matrix,
    /// How sums start.
    pub init: Init,
    /// Post-ops, each with the tensor it reads: strides are 0 along axes that the tensor lacks.
    pub post: Vec<(PostOp, Option<Matrix>)>,
    /// How rows find the elements of lhs, if not by a stride.
    pub window: Option<Box<TileWindow>>,
}

/// The rows of a tile that are pixels of a window: `dst[i, j]` sums over the runs that have row `i`, and over `p` below the
/// run's length, `lhs[rows[i] + run.lhs + p] * rhs[run.rhs + p, j]`. The step of `p` in lhs is its stride along columns; in an
/// interleaved panel, that of the panel's K.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileWindow {
    /// Elements from lhs's first to each row's.
    pub rows: Vec<i64>,
    /// Steps of K that are evenly apart in lhs, ascending in rhs.
    pub runs: Vec<Run>,
    /// lhs has a column for each of the tile's, and steps of K have no place of their own: `lhs[rows[i] + run.lhs, j]`, and
    /// runs are one step long.
    pub columns: bool,
}

/// Steps of K of a [`TileWindow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Elements from a row's first to the run's.
    pub lhs: i64,
    /// First step in rhs.
    pub rhs: u64,
    /// Steps.
    pub len: u64,
    /// The rows that have them, as bits, row 0 the lowest.
    pub rows: u64,
}

/// The most rows a tile with a window may have.
pub const MAX_WINDOW_ROWS: u64 = 64;

/// A copy of part of a factor into a panel: `dst[p, w] = src[p, w]` for `p` below `k` and `w` below `width`, converted to
/// the panel's type. What lies between `k` and the next multiple of the panel's interleave, and between `width` and
/// `pitch`, becomes 0 in an interleaved panel and stays as it is in another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pack {
    /// The number of the statement, as a [`Tile`] has one.
    pub number: u32,
    /// The first element of the panel, whose last two dimensions are K and the width, with the strides along them.
    pub dst: Matrix,
    /// The first element, with the strides along K and along the width.
    pub src: Matrix,
    /// Steps of K.
    pub k: Extent,
    /// Rows of lhs or columns of rhs.
    pub width: Extent,
    /// Width of the panel.
    pub pitch: u64,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// Repetition.
    Loop(Loop),
    /// Executed when `var == value`.
    If {
        /// A variable in scope.
        var: Var,
        /// Compared with.
        value: u64,
        /// Executed in order.
        body: Vec<Stmt>,
    },
    /// Executed when `0 <= index < extent`.
    Inside {
        /// What is compared.
        index: Affine,
        /// Limit.
        extent: u64,
        /// Executed in order.
        body: Vec<Stmt>,
    },
    /// Executed with variables that are the digits of `index`, the last one fastest.
    Delinearize {
        /// What has digits: at least 0, and less than the product of their extents.
        index: Affine,
        /// The digits, each with its extent.
        into: Vec<(Var, u64)>,
        /// Executed in order.
        body: Vec<Stmt>,
    },
    /// `dst = 0`.
    Zero {
        /// Written.
        dst: Access,
    },
    /// `dst += lhs * rhs`, fused multiply-add.
    MulAdd {
        /// Read and written.
        dst: Access,
        /// Factor.
        lhs: Access,
        /// Factor.
        rhs: Access,
    },
    /// `dst = op(dst, operand)`.
    Post {
        /// The post-op.
        op: PostOp,
        /// Read and written.
        dst: Access,
        /// The element of the tensor the post-op reads, if it reads one.
        operand: Option<Access>,
    },
    /// All tasks before it are done before one behind it begins. Only at the top of a nest.
    Barrier,
    /// A copy into a panel.
    Pack(Box<Pack>),
    /// A micro-kernel call.
    Tile(Box<Tile>),
}

/// A loop nest. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoopNest {
    /// The problem it computes, as text.
    pub problem: String,
    /// Arguments in argument order, then shared memory and scratch.
    pub buffers: Vec<Buffer>,
    /// Names of the variables; [`Var`] indexes it.
    pub vars: Vec<String>,
    /// Executed in order.
    pub body: Vec<Stmt>,
}

impl LoopNest {
    /// The buffer called `name`.
    pub fn buffer(&self, name: &str) -> Option<BufferId> {
        self.buffers.iter().position(|b| b.name == name).map(|i| BufferId(i as u16))
    }

    /// The variable called `name`, made if there is none.
    pub fn var(&mut self, name: &str) -> Var {
        Self::named(&mut self.vars, name)
    }

    /// The same where a nest's other parts are borrowed.
    pub(crate) fn named(vars: &mut Vec<String>, name: &str) -> Var {
        let i = vars.iter().position(|v| v == name).unwrap_or_else(|| {
            vars.push(name.to_owned());
            vars.len() - 1
        });
        Var(i as u16)
    }

    /// Numbers tiles and copies in the order they are written down.
    pub fn number_calls(&mut self) {
        fn walk(body: &mut [Stmt], next: &mut u32) {
            for s in body {
                let number = match s {
                    Stmt::Loop(l) => {
                        walk(&mut l.body, next);
                        continue;
                    }
                    Stmt::Tile(t) => &mut t.number,
                    Stmt::Pack(p) => &mut p.number,
                    _ => continue,
                };
                *number = *next;
                *next += 1;
            }
        }
        walk(&mut self.body, &mut 0);
    }

    /// The nest with its tiles and copies [numbered](Self::number_calls).
    pub fn numbered(mut self) -> Self {
        self.number_calls();
        self
    }
}

impl Stmt {
    /// The statement inside of another one, which has a body.
    pub(crate) fn inside_of(self, mut around: Stmt) -> Stmt {
        if let Some(body) = around.body_mut() {
            body.push(self);
        }
        around
    }

    /// The statements in it.
    pub fn body_mut(&mut self) -> Option<&mut Vec<Stmt>> {
        match self {
            Stmt::Loop(Loop { body, .. })
            | Stmt::If { body, .. }
            | Stmt::Inside { body, .. }
            | Stmt::Delinearize { body, .. } => Some(body),
            Stmt::Barrier
            | Stmt::Zero { .. }
            | Stmt::MulAdd { .. }
            | Stmt::Post { .. }
            | Stmt::Pack(_)
            | Stmt::Tile(_) => None,
        }
    }

    /// The statements in it; none in one that has no body.
    pub fn body(&self) -> &[Stmt] {
        match self {
            Stmt::Loop(Loop { body, .. })
            | Stmt::If { body, .. }
            | Stmt::Inside { body, .. }
            | Stmt::Delinearize { body, .. } => body,
            Stmt::Barrier
            | Stmt::Zero { .. }
            | Stmt::MulAdd { .. }
            | Stmt::Post { .. }
            | Stmt::Pack(_)
            | Stmt::Tile(_) => &[],
        }
    }

    /// Calls `f` on every affine expression of this statement and those in it.
    pub fn for_each_affine(&mut self, f: &mut impl FnMut(&mut Affine)) {
        fn access(a: &mut Access, f: &mut impl FnMut(&mut Affine)) {
            a.index.iter_mut().for_each(f);
        }
        fn extent(e: &mut Extent, f: &mut impl FnMut(&mut Affine)) {
            if let Extent::Min { rest, .. } = e {
                f(rest);
            }
        }
        match self {
            Stmt::Loop(l) => {
                extent(&mut l.extent, f);
                l.body.iter_mut().for_each(|s| s.for_each_affine(f));
            }
            Stmt::If { body, .. } => body.iter_mut().for_each(|s| s.for_each_affine(f)),
            Stmt::Inside { index, body, .. } | Stmt::Delinearize { index, body, .. } => {
                f(index);
                body.iter_mut().for_each(|s| s.for_each_affine(f));
            }
            Stmt::Barrier => {}
            Stmt::Zero { dst } => access(dst, f),
            Stmt::MulAdd { dst, lhs, rhs } => [dst, lhs, rhs].into_iter().for_each(|a| access(a, f)),
            Stmt::Post { dst, operand, .. } => {
                access(dst, f);
                operand.iter_mut().for_each(|a| access(a, f));
            }
            Stmt::Pack(p) => {
                access(&mut p.dst.at, f);
                access(&mut p.src.at, f);
                extent(&mut p.k, f);
                extent(&mut p.width, f);
            }
            Stmt::Tile(t) => {
                [&mut t.dst.at, &mut t.lhs.at, &mut t.rhs.at].into_iter().for_each(|a| access(a, f));
                t.post.iter_mut().flat_map(|(_, m)| m).for_each(|m| access(&mut m.at, f));
            }
        }
    }
}

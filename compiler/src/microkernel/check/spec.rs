//! Specifications of micro-kernels: the tile or the copy of a nest, in bytes from its pointers.

use kiln_ir::nest::{Extent, Init, LoopNest, Matrix, Pack, Tile};
use kiln_ir::{DType, PostOp};

use super::super::{MicroKernel, P};
use crate::schedule::Form;

/// The order in which the products of a tile are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Products {
    /// One fused multiply-add after another, K ascending, from the old value on if there is one.
    Steps,
    /// A fused multiply-add for each step in the lane that is the step modulo the number of lanes, K ascending; then the lanes
    /// are added up in pairs, the sums of pairs in pairs, and so on, and the old value is added.
    Lanes,
    /// As `Lanes`, with two steps of bf16 in a product: BFDOT.
    PairsInLanes,
    /// So many steps of narrow factors in a product, one product after another, from the old value on if there is one: four of BFMMLA.
    Blocks(u64),
}

impl Products {
    /// Steps of K that one product takes.
    pub(super) fn steps(self) -> u64 {
        match self {
            Products::Steps | Products::Lanes => 1,
            Products::PairsInLanes => 2,
            Products::Blocks(steps) => steps,
        }
    }
}

/// The places of a factor's elements along K: step `p` is `p / group * stride + p % group * size` bytes from step 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Steps {
    /// Steps that are neighbours in memory: 1, or as many as a product takes in panels.
    pub group: u64,
    /// Bytes from one group to the next.
    pub stride: u64,
}

/// Steps of K that some rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepRun {
    /// Bytes from a row's start to the first of these steps.
    pub lhs: i64,
    /// The first step in the right factor.
    pub first: u64,
    /// Number of steps.
    pub len: u64,
    /// The rows that have them, as bits; where all rows do, rows beyond 64 do too.
    pub rows: u64,
}

impl StepRun {
    pub(super) fn has(&self, row: u64) -> bool {
        self.rows == u64::MAX || self.rows.checked_shr(row as u32).is_some_and(|bits| bits & 1 == 1)
    }
}

/// The left factor: row `i` at step `p` of a run is at byte `rows[i] + run.lhs` plus what [`Steps`] say of `p`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lhs {
    /// Its pointer.
    pub param: P,
    /// Its type in memory.
    pub dtype: DType,
    /// Bytes from the pointer to each row's start.
    pub rows: Vec<i64>,
    /// The steps of K, in the order in which they are added.
    pub runs: Vec<StepRun>,
    /// The distances of the steps of a run.
    pub steps: Steps,
    /// Bytes from one column to the next: not 0 where each column has a channel of its own.
    pub column: u64,
}

/// The right factor: step `p` of column `j` is `j * column` bytes from where [`Steps`] say that step `p` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rhs {
    /// Its pointer.
    pub param: P,
    /// Its type in memory.
    pub dtype: DType,
    /// The distances of the steps. Steps of a group that belong to no run are zero.
    pub steps: Steps,
    /// Bytes from one column to the next.
    pub column: u64,
}

/// A tensor of the result's rows and columns: element `(i, j)` is at byte `i * row + j * column`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tensor {
    /// Its pointer.
    pub param: P,
    /// Its type in memory.
    pub dtype: DType,
    /// Bytes from one row to the next.
    pub row: u64,
    /// Bytes from one column to the next.
    pub column: u64,
}

/// When the old value of the result is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Old {
    /// Never: the result is overwritten.
    Never,
    /// Before the products, which are added to it.
    Before,
    /// After the products.
    After,
}

/// The tile that a micro-kernel computes: `dst[i, j] = post(old + sum over the steps that row i has of lhs * rhs)`, rounded to
/// the result's type. No two parameters overlap in memory, but that an operand of a post-op may be the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileSpec {
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub columns: u64,
    /// The left factor.
    pub lhs: Lhs,
    /// The right factor.
    pub rhs: Rhs,
    /// The order in which products are added up.
    pub products: Products,
    /// The point at which the old value is added, if it is.
    pub old: Old,
    /// Post-ops in order, each with the tensor that it reads.
    pub post: Vec<(PostOp, Option<Tensor>)>,
    /// The result.
    pub dst: Tensor,
}

/// The copy that a micro-kernel makes: `dst[p, w] = src[p, w]` for `p` below `k` and `w` below `width`, converted to the type of
/// `dst`. In a panel of groups, the rest of the last group and of `pitch` columns becomes 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopySpec {
    /// Steps of K.
    pub k: u64,
    /// Rows of lhs or columns of rhs.
    pub width: u64,
    /// Columns of the panel.
    pub pitch: u64,
    /// The source: its rows are steps of K.
    pub src: Tensor,
    /// The pointer of the destination.
    pub dst: P,
    /// The type of the destination.
    pub dtype: DType,
    /// The distances of the steps of K there.
    pub steps: Steps,
    /// Bytes from one column to the next there.
    pub column: u64,
}

fn buffer<'a>(nest: &'a LoopNest, m: &Matrix) -> &'a kiln_ir::nest::Buffer {
    &nest.buffers[usize::from(m.at.buffer.0)]
}

fn dtype(nest: &LoopNest, m: &Matrix) -> DType {
    buffer(nest, m).dtype
}

fn size(dtype: DType) -> u64 {
    dtype.bytes() as u64
}

fn tensor(nest: &LoopNest, m: &Matrix, param: P) -> Tensor {
    let dtype = dtype(nest, m);
    Tensor { param, dtype, row: m.row * size(dtype), column: m.col * size(dtype) }
}

/// Steps of K, or groups of them, that are `stride` elements apart for each step.
fn steps(group: u64, stride: u64, dtype: DType) -> Steps {
    Steps { group, stride: group * stride * size(dtype) }
}

impl TileSpec {
    /// The specification of the micro-kernel that computes `tile` of `nest` in this form. Its parameters are both factors, the tensors of post-ops,
    /// the memory for sums if there is any, and the result.
    pub fn of(nest: &LoopNest, tile: &Tile, form: Form, bf16_unit: bool) -> Self {
        let (lhs, rhs) = (buffer(nest, &tile.lhs), buffer(nest, &tile.rhs));
        let lhs_bytes = size(lhs.dtype);
        let lhs_steps = match lhs.interleave {
            1 => steps(1, tile.lhs.col, lhs.dtype),
            // A panel has K first, as rhs has.
            group => steps(group, tile.lhs.row, lhs.dtype),
        };
        let signed = |elements: i64| elements * lhs_bytes as i64;
        let (rows, runs, lhs_steps, column) = match &tile.window {
            None => {
                let row = if lhs.interleave == 1 { tile.lhs.row } else { tile.lhs.col };
                let rows = (0..tile.m).map(|i| (i * row * lhs_bytes) as i64).collect();
                (rows, vec![StepRun { lhs: 0, first: 0, len: tile.k, rows: u64::MAX }], lhs_steps, 0)
            }
            Some(w) => {
                let run =
                    |r: &kiln_ir::nest::Run| StepRun { lhs: signed(r.lhs), first: r.rhs, len: r.len, rows: r.rows };
                let rows = w.rows.iter().map(|r| signed(*r)).collect();
                let runs = w.runs.iter().map(run).collect();
                match w.columns {
                    true => (rows, runs, Steps { group: 1, stride: 0 }, tile.lhs.col * lhs_bytes),
                    false => (rows, runs, lhs_steps, 0),
                }
            }
        };
        let mut next = 2;
        let mut param = || {
            next += 1;
            P(next - 1)
        };
        let post = tile.post.iter().map(|(op, m)| (*op, m.as_ref().map(|m| tensor(nest, m, param())))).collect();
        let products = match form {
            Form::Outer | Form::Depthwise => Products::Steps,
            Form::Dot if bf16_unit && [lhs.dtype, rhs.dtype] == [DType::Bf16; 2] => Products::PairsInLanes,
            Form::Dot => Products::Lanes,
            Form::Mmla | Form::MmlaBytes | Form::Quads | Form::Pairs => Products::Blocks(form.k_group()),
        };
        let old = match (tile.init, form) {
            (Init::Zero, _) => Old::Never,
            (Init::Load, Form::Dot) => Old::After,
            (Init::Load, _) => Old::Before,
        };
        TileSpec {
            rows: tile.m,
            columns: tile.n,
            lhs: Lhs { param: P(0), dtype: lhs.dtype, rows, runs, steps: lhs_steps, column },
            rhs: Rhs {
                param: P(1),
                dtype: rhs.dtype,
                steps: steps(rhs.interleave, tile.rhs.row, rhs.dtype),
                column: tile.rhs.col * size(rhs.dtype),
            },
            products,
            old,
            post,
            dst: tensor(nest, &tile.dst, param()),
        }
    }

    /// True if factors that are f32 in memory are rounded to bf16.
    pub fn rounds_factors(&self) -> bool {
        matches!(self.products, Products::PairsInLanes | Products::Blocks(_))
            && [self.lhs.dtype, self.rhs.dtype].contains(&DType::F32)
    }

    /// Why no micro-kernel with these parameters can be this tile.
    pub(super) fn check(&self, mk: &MicroKernel) -> Result<(), &'static str> {
        let Self { rows, columns, lhs, rhs, dst, .. } = self;
        let tensors = self.post.iter().filter_map(|(_, t)| t.as_ref()).map(|t| (t.param, t.dtype));
        let mut params: Vec<(P, DType)> = tensors.collect();
        params.extend([(lhs.param, lhs.dtype), (rhs.param, rhs.dtype), (dst.param, dst.dtype)]);
        check_params(mk, &params)?;
        ensure(*rows >= 1 && *columns >= 1, "without rows or columns")?;
        ensure(lhs.rows.len() as u64 == *rows, "each row has a start")?;
        ensure(rows.checked_mul(*columns).is_some_and(|n| n <= MAX_ELEMENTS), "too many elements")?;
        ensure(dst.column == size(dst.dtype), "the columns of the result are neighbours")?;
        ensure(*rows == 1 || dst.row >= columns.saturating_mul(dst.column), "the rows of the result overlap")?;
        let steps = [(lhs.steps, lhs.dtype), (rhs.steps, rhs.dtype)];
        ensure(steps.iter().all(|(s, _)| s.group >= 1), "steps in groups of none")?;
        let product = self.products.steps();
        let is_short = lhs.runs.iter().all(|r| r.len <= 1);
        let neighbours = |(s, dtype): &(Steps, DType)| s.group % product == 0 || s.stride == s.group * size(*dtype);
        ensure(is_short || steps.iter().all(neighbours), "steps of a product that are no neighbours")?;
        let in_groups = |r: &StepRun| r.first.is_multiple_of(rhs.steps.group);
        ensure(lhs.runs.iter().all(in_groups), "steps of a run that begin inside a group")?;
        let operands = self.post.iter().all(|(op, t)| op.has_operand() == t.is_some());
        ensure(operands, "a post-op without the tensor that it reads")
    }
}

impl CopySpec {
    /// The specification of the micro-kernel that makes `copy` of `nest`; `None` if its extents vary.
    pub fn of(nest: &LoopNest, copy: &Pack) -> Option<Self> {
        let (Extent::Const(k), Extent::Const(width)) = (&copy.k, &copy.width) else { return None };
        let dst = buffer(nest, &copy.dst);
        Some(CopySpec {
            k: *k,
            width: *width,
            pitch: copy.pitch,
            src: tensor(nest, &copy.src, P(0)),
            dst: P(1),
            dtype: dst.dtype,
            steps: steps(dst.interleave, copy.dst.row, dst.dtype),
            column: copy.dst.col * size(dst.dtype),
        })
    }

    /// Steps and columns that are written: in a panel of groups, to the end of both.
    pub(super) fn written(&self) -> (u64, u64) {
        match self.steps.group {
            1 => (self.k, self.width),
            group => (self.k.next_multiple_of(group), self.pitch),
        }
    }

    pub(super) fn check(&self, mk: &MicroKernel) -> Result<(), &'static str> {
        check_params(mk, &[(self.src.param, self.src.dtype), (self.dst, self.dtype)])?;
        ensure(self.k >= 1 && self.width >= 1 && self.pitch >= self.width, "without steps or columns")?;
        ensure(self.steps.group >= 1, "steps in groups of none")?;
        let (steps, columns) = self.written();
        ensure(steps.checked_mul(columns).is_some_and(|n| n <= MAX_COPIED), "too many elements")
    }
}

/// The largest tile that is checked, in elements: far more than registers hold.
const MAX_ELEMENTS: u64 = 1 << 20;
/// The largest copy that is checked, in elements.
const MAX_COPIED: u64 = 1 << 28;

impl Steps {
    /// Bytes from step 0 to step `p`.
    pub(super) fn byte(&self, p: u64, dtype: DType) -> i128 {
        i128::from(p / self.group) * i128::from(self.stride) + i128::from(p % self.group * size(dtype))
    }
}

fn ensure(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

/// That parameters exist, have these types, and are different ones.
fn check_params(mk: &MicroKernel, params: &[(P, DType)]) -> Result<(), &'static str> {
    let has = |(p, dtype): &(P, DType)| mk.params.get(usize::from(p.0)).is_some_and(|param| param.dtype == *dtype);
    ensure(params.iter().all(has), "a parameter does not exist or is of another type")?;
    let differ = params.iter().enumerate().all(|(n, p)| params[n + 1..].iter().all(|q| q.0 != p.0));
    ensure(differ, "two operands are one parameter")
}

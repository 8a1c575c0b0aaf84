//! An independent proof that a micro-kernel computes its register tile.
//!
//! [`check_tile`] executes a micro-kernel on symbolic values: a register holds not numbers but what they stand for, such
//! as "`lhs` from byte 64 on, 4 scalars" or "row 2, columns 8 to 15, summed up to k = 31". An operation whose operands
//! stand for anything but what the tile asks for next is refused, and at the end every element must have been stored
//! once. So a register overwritten while its value was needed, a wrong lane, a skipped step or a wrong offset cannot go
//! unnoticed, whatever built the micro-kernel: this module knows nothing of builders, interpreter or verifier, and
//! trusts none of them. The idea is that of regalloc2's `checker.rs`.
//!
//! Memory safety is [`verify`](MicroKernel::verify)'s part: loads of what is not needed are not judged here.

mod values;

use super::{Binary, Inst, MicroKernel, Op, P, Stmt, V};
use kiln_ir::DType;
use values::{Loaded, Sum, Value};

/// What a micro-kernel must compute. With `k` ascending in steps of one, in fused multiply-adds:
///
/// `dst[i, j] = relu((accumulate ? dst[i, j] : 0) + sum over k of lhs[i, k] * rhs[k, j] + bias[j])`
///
/// where `i < mr`, `j < nr`, and `bias` and `relu` are left out unless asked for. With `accumulate` the sum may start
/// from `dst`, or from 0 with `dst` added before the bias. Elements are f32, strides are in bytes, and no two parameters
/// overlap in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TileSpec {
    /// Rows.
    pub mr: u64,
    /// Columns.
    pub nr: u64,
    /// Steps of the sum, at least 1.
    pub k: u64,
    /// Left factor.
    pub lhs: LhsSpec,
    /// Right factor.
    pub rhs: RhsSpec,
    /// Result.
    pub dst: DstSpec,
    /// Add to what `dst` holds instead of overwriting it.
    pub accumulate: bool,
    /// One addend per column, contiguous.
    pub bias: Option<P>,
    /// Negative results become 0.
    pub relu: bool,
}

/// Where `lhs[i, k]` is: at byte `i * row_stride + k * k_stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LhsSpec {
    /// The pointer.
    pub param: P,
    /// Bytes from one row to the next.
    pub row_stride: u64,
    /// Bytes from one k to the next.
    pub k_stride: u64,
}

/// Where `rhs[k, j]` is: at byte `k * k_stride + 4 * j`. What follows the last column may be read but means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RhsSpec {
    /// The pointer.
    pub param: P,
    /// Bytes from one k to the next.
    pub k_stride: u64,
}

/// Where `dst[i, j]` is: at byte `i * row_stride + 4 * j`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DstSpec {
    /// The pointer.
    pub param: P,
    /// Bytes from one row to the next.
    pub row_stride: u64,
}

/// Why a micro-kernel is not, or cannot be shown to be, the tile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The specification describes no tile of this micro-kernel.
    #[error("no tile: {0}")]
    Spec(&'static str),
    /// An operation does something the tile does not ask for.
    #[error("`{op}` in trip {trip}: {fault}")]
    Op {
        /// The operation as it prints.
        op: String,
        /// Trip of its loop, 0 outside of loops.
        trip: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A loop has more trips than the tile has multiply-adds of one element.
    #[error("a loop of {0} trips has nothing to do in most of them")]
    LoopTooLong(u64),
    /// An element of the result is missing.
    #[error("dst[{row}, {col}] is not stored")]
    NotStored {
        /// Its row.
        row: u64,
        /// Its column.
        col: u64,
    },
}

/// What is wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A register, a lane or a number of elements does not exist.
    #[error("a register, lane or number of elements does not exist")]
    Malformed,
    /// A register is read that holds nothing.
    #[error("{0} holds nothing yet")]
    Unset(V),
    /// The factors are not a scalar of `lhs` and a vector of `rhs`.
    #[error("the factors are not a scalar of lhs and a vector of rhs")]
    NotAProduct,
    /// What is added to is no sum of this tile.
    #[error("the accumulator holds no sum of this tile")]
    NotASum,
    /// A sum starts with an element that is not at k = 0 of a row and a column of the tile.
    #[error("a sum starts with byte {0}, which is in the tile's first step in no row or column")]
    Start(i128),
    /// A sum is added to although it is complete.
    #[error("the sum of dst[{row}, {col}..] already has all steps")]
    TooManySteps {
        /// Row of the sum.
        row: u64,
        /// First column of the sum.
        col: u64,
    },
    /// An operand is not the element that comes next.
    #[error("dst[{row}, {col}..] needs byte {expected} at k = {k}, not byte {found}")]
    WrongElement {
        /// Row of the sum.
        row: u64,
        /// First column of the sum.
        col: u64,
        /// Steps done.
        k: u64,
        /// Byte of the operand's parameter that comes next.
        expected: i128,
        /// Byte the operand was loaded from.
        found: i128,
    },
    /// An addition or maximum that the tile does not ask for, or not yet.
    #[error("the tile does not ask for this here")]
    NotThisEpilogue,
    /// A sum is stored before everything was added and applied.
    #[error("dst[{row}, {col}..] is stored after {k} steps, or without its old value, bias or relu")]
    Incomplete {
        /// Row of the sum.
        row: u64,
        /// First column of the sum.
        col: u64,
        /// Steps done.
        k: u64,
    },
    /// A store that is not to `dst`.
    #[error("the store is not to dst")]
    NotDst,
    /// A store writes more columns than the sum or the tile has.
    #[error("{stored} elements from column {col} on are stored, {meaningful} of them mean something")]
    Meaningless {
        /// First column.
        col: u64,
        /// Elements stored.
        stored: u64,
        /// Leading elements that belong to the tile.
        meaningful: u64,
    },
    /// An element is stored again.
    #[error("dst[{row}, {col}] is stored twice")]
    Twice {
        /// Its row.
        row: u64,
        /// Its column.
        col: u64,
    },
}

/// Largest tile checked, in elements: far more than registers hold, and little enough to keep a flag for each.
const MAX_ELEMENTS: u64 = 1 << 20;

/// Proves that `mk` computes `spec`, in time proportional to the operations it executes. The proof is sound, not
/// complete: orders of operations other than those [`TileSpec`] allows are refused even if they compute the same.
pub fn check_tile(mk: &MicroKernel, spec: &TileSpec) -> Result<(), CheckError> {
    check_spec(mk, spec).map_err(CheckError::Spec)?;
    let elements = spec.mr * spec.nr;
    let mut checker = Checker { mk, spec, values: [Value::Unset; 256], stored: vec![false; elements as usize] };
    for stmt in &mk.body {
        match stmt {
            Stmt::Inst(inst) => checker.inst(inst, 0)?,
            Stmt::Loop { trips, .. } if *trips > elements.saturating_mul(spec.k) => {
                return Err(CheckError::LoopTooLong(*trips));
            }
            Stmt::Loop { trips, body, .. } => {
                for trip in 0..*trips {
                    body.iter().try_for_each(|inst| checker.inst(inst, trip))?;
                }
            }
        }
    }
    match checker.stored.iter().position(|stored| !stored) {
        Some(i) => Err(CheckError::NotStored { row: i as u64 / spec.nr, col: i as u64 % spec.nr }),
        None => Ok(()),
    }
}

/// That bytes of the tile fit `i64`, different elements of `dst` are at different bytes, and so are rows of `lhs`.
fn check_spec(mk: &MicroKernel, spec: &TileSpec) -> Result<(), &'static str> {
    let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
    let TileSpec { mr, nr, k, lhs, rhs, dst, bias, .. } = *spec;
    let params = || [Some(lhs.param), Some(rhs.param), Some(dst.param), bias].into_iter().flatten();
    let is_f32 = |p: P| mk.params.get(usize::from(p.0)).is_some_and(|param| param.dtype == DType::F32);
    ensure(params().all(is_f32), "a parameter does not exist or is not f32")?;
    ensure(params().enumerate().all(|(i, p)| params().skip(i + 1).all(|q| p != q)), "two operands are one parameter")?;
    ensure(mr >= 1 && nr >= 1 && k >= 1, "without rows, columns or steps")?;
    ensure(mr.checked_mul(nr).is_some_and(|n| n <= MAX_ELEMENTS), "too many elements")?;
    let extents = [(mr, lhs.row_stride), (k, lhs.k_stride), (k, rhs.k_stride), (mr, dst.row_stride)];
    let fits = |(n, stride): (u64, u64)| n.checked_mul(stride).is_some_and(|bytes| bytes <= i64::MAX as u64);
    ensure(extents.into_iter().all(fits), "an operand of more than 2^63 bytes")?;
    ensure(mr == 1 || lhs.row_stride > 0, "the rows of lhs are one")?;
    ensure(mr == 1 || dst.row_stride >= 4 * nr, "the rows of dst overlap")
}

struct Checker<'a> {
    mk: &'a MicroKernel,
    spec: &'a TileSpec,
    /// What each register stands for.
    values: [Value; 256],
    /// By `row * nr + col`: whether the element was stored.
    stored: Vec<bool>,
}

impl Checker<'_> {
    fn inst(&mut self, inst: &Inst, trip: u64) -> Result<(), CheckError> {
        self.execute(&inst.op, trip).map_err(|fault| CheckError::Op {
            op: inst.op.display(&self.mk.params).to_string(),
            trip,
            fault,
        })
    }

    fn execute(&mut self, op: &Op, trip: u64) -> Result<(), Fault> {
        let byte = |offset: i64, step: i64| i128::from(offset) + i128::from(trip) * i128::from(step);
        let spec = self.spec;
        let (d, value) = match *op {
            Op::Zero { d } | Op::Const { d, bits: 0 } => (d, Value::Zero),
            Op::Load { d, src, lanes } => {
                self.exist(lanes >= 1 && u32::from(lanes) <= self.mk.lanes)?;
                (d, self.load(Loaded { param: src.param, byte: byte(src.offset, src.step) }, lanes, Value::Vector))
            }
            Op::LoadLanes { d, src, count } => {
                self.exist((1..=4).contains(&count))?;
                (d, self.load(Loaded { param: src.param, byte: byte(src.offset, src.step) }, count.into(), Value::Quad))
            }
            Op::Broadcast { d, src } => {
                let splat = |loaded, _| Value::Splat(loaded);
                (d, self.load(Loaded { param: src.param, byte: byte(src.offset, src.step) }, 1, splat))
            }
            Op::Store { s, dst, lanes } => {
                self.exist(lanes >= 1 && u32::from(lanes) <= self.mk.lanes)?;
                let to = Loaded { param: dst.param, byte: byte(dst.offset, dst.step) };
                return self.store(self.get(s)?, to, lanes.into());
            }
            Op::Fma { d, a, b } => {
                let (a, b) = (self.get(a)?, self.get(b)?);
                let product = spec.product(a, b.splat()).or_else(|| spec.product(b, a.splat()));
                (d, spec.multiply_add(self.get(d)?, product.ok_or(Fault::NotAProduct)?)?)
            }
            Op::FmaLane { d, a, b, lane } => {
                self.exist(lane < 4)?;
                let scalar = self.get(b)?.lane(lane, self.mk.lanes);
                let product = spec.product(self.get(a)?, scalar).ok_or(Fault::NotAProduct)?;
                (d, spec.multiply_add(self.get(d)?, product)?)
            }
            Op::Binary { f: Binary::Add, d, a, b } => (d, spec.add(self.get(a)?, self.get(b)?)?),
            Op::Binary { f: Binary::Max, d, a, b } => (d, spec.max(self.get(a)?, self.get(b)?)?),
            // Not of tiles with bias and relu at most: what else there is has its own tests.
            _ => return Err(Fault::NotThisEpilogue),
        };
        self.exist(d.0 < self.mk.registers)?;
        self.values[usize::from(d.0)] = value;
        Ok(())
    }

    fn exist(&self, exists: bool) -> Result<(), Fault> {
        if exists { Ok(()) } else { Err(Fault::Malformed) }
    }

    fn get(&self, v: V) -> Result<Value, Fault> {
        self.exist(v.0 < self.mk.registers)?;
        match self.values[usize::from(v.0)] {
            Value::Unset => Err(Fault::Unset(v)),
            value => Ok(value),
        }
    }

    /// The value of `elements` elements loaded from `from`, which stand for the old ones unless some were stored.
    fn load(&self, from: Loaded, elements: u16, value: fn(Loaded, u16) -> Value) -> Value {
        let is_new = |l| {
            let element = self.spec.dst_element(from.byte + 4 * i128::from(l));
            element.is_some_and(|(row, col)| self.stored[(row * self.spec.nr + col) as usize])
        };
        if from.param == self.spec.dst.param && (0..elements).any(is_new) {
            return Value::New;
        }
        value(from, elements)
    }

    fn store(&mut self, value: Value, to: Loaded, elements: u64) -> Result<(), Fault> {
        let spec = self.spec;
        let Value::Sum(sum) = value else { return Err(Fault::NotASum) };
        let Sum { row, col, lanes, k, .. } = sum;
        if to.param != spec.dst.param {
            return Err(Fault::NotDst);
        }
        if !spec.is_complete(&sum) {
            return Err(Fault::Incomplete { row, col, k });
        }
        sum.expect(spec.dst_byte(row, col), to.byte)?;
        let meaningful = u64::from(lanes).min(spec.nr - col);
        if elements > meaningful {
            return Err(Fault::Meaningless { col, stored: elements, meaningful });
        }
        for col in col..col + elements {
            let stored = &mut self.stored[(row * spec.nr + col) as usize];
            if std::mem::replace(stored, true) {
                return Err(Fault::Twice { row, col });
            }
        }
        Ok(())
    }
}

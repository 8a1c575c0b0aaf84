//! An independent proof that a micro-kernel computes its tile, or makes its copy.
//!
//! [`check_tile`] and [`check_copy`] execute a micro-kernel on symbolic words: a lane holds not a number but what it stands for,
//! such as "`lhs` at byte 64", "two bf16 rounded from `src`", or "the old value plus the products of 31 steps". What is stored
//! must be what the tile asks for in that place, and each element must be stored once. So a register overwritten while its
//! value was needed, a wrong lane, a skipped step, a wrong offset, an operation of a post-op out of place, or a sum in another
//! order cannot go unnoticed, whatever built the micro-kernel: this module knows nothing of builders, interpreter or
//! verifier, and trusts none of them. The idea is that of regalloc2's `checker.rs`. What the statement of a nest asks for
//! is in [`TileSpec`] and [`CopySpec`]; what a post-op is, all share: [`Program`].
//!
//! [`check_nest`] does so for every tile and copy of a nest, and counts what it saw. With the feature `checked`, which tests
//! turn on, [`compile`](crate::compile) does it with all that it makes.
//!
//! Memory safety is [`verify`](MicroKernel::verify)'s part: loads of what is not needed are not judged here.

mod machine;
mod nest;
mod spec;
mod value;

pub use nest::{NestCheckError, Spec, Tally, check_nest, specs};
pub use spec::{CopySpec, Lhs, Old, Products, Rhs, StepRun, Steps, Tensor, TileSpec};

use std::collections::HashMap;

use kiln_ir::DType;
use rustc_hash::FxBuildHasher;

use super::program::Program;
use super::{Binary, Inst, MicroKernel, Stmt, V};
use machine::{Groups, Machine, Roles, Store, Stored};
use value::{Byte, Element, Factor, Half, Word};

/// Why a micro-kernel is not, or cannot be shown to be, what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The specification describes nothing that this micro-kernel could be.
    #[error("not to be specified so: {0}")]
    Spec(&'static str),
    /// The micro-kernel is of registers that there are not.
    #[error("registers of {0} lanes")]
    Lanes(u32),
    /// It executes more operations than anything of its size has a use for.
    #[error("more than {MAX_OPERATIONS} operations are executed")]
    TooLong,
    /// An operation does something that is not asked for.
    #[error("`{op}` in trip {trip}: {fault}")]
    Op {
        /// The operation as it prints.
        op: String,
        /// Trip of its loop, 0 outside of loops.
        trip: u64,
        /// The fault.
        fault: Fault,
    },
    /// An element of the result is missing.
    #[error("element ({row}, {col}) of the result is not stored")]
    NotStored {
        /// Its row; of a copy, its step of K.
        row: u64,
        /// Its column.
        col: u64,
    },
}

/// A fault of an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A register, a lane, a parameter or a number of elements does not exist.
    #[error("a register, lane, parameter or number of elements does not exist")]
    Malformed,
    /// A register is read that holds nothing.
    #[error("{0} holds nothing")]
    Unset(V),
    /// A slot is read before it is written.
    #[error("nothing was kept in the slot that this reads")]
    NotStored,
    /// A word that is f32 is used as two bf16, or the reverse.
    #[error("a word that is no pair of bf16 is used as one, or the reverse")]
    Halves,
    /// The bf16 that are multiplied are not neighbours of one factor and of the other.
    #[error("the factors are not neighbours along K")]
    NotAProduct,
    /// A store to another place than an element of the result.
    #[error("byte {byte} of parameter {param} is no element of the result")]
    NotTheResult {
        /// The parameter's number.
        param: u8,
        /// The byte in it.
        byte: u64,
    },
    /// An element is stored again.
    #[error("element ({row}, {col}) of the result is stored twice")]
    Twice {
        /// Its row; of a copy, its step of K.
        row: u64,
        /// Its column.
        col: u64,
    },
    /// Another value than the element should have is stored.
    #[error("element ({row}, {col}) of the result becomes {found} instead of {expected}")]
    Wrong {
        /// Its row; of a copy, its step of K.
        row: u64,
        /// Its column.
        col: u64,
        /// The value that is stored.
        found: String,
        /// The value that it should have.
        expected: String,
    },
}

/// The most operations that are executed.
const MAX_OPERATIONS: u64 = 1 << 28;
/// Levels of a term that messages show.
const SHOWN: u32 = 6;

/// Proves that `mk` computes `spec`, in time proportional to the operations it executes. The proof is sound, but that
/// products of zeros count as nothing, which they are not to an old value of -0, or to a denormal one in the arithmetic of bf16. It is not
/// complete: other orders of operations are refused even if they compute the same.
pub fn check_tile(mk: &MicroKernel, spec: &TileSpec) -> Result<(), CheckError> {
    spec.check(mk).map_err(CheckError::Spec)?;
    let roles = Roles { lhs: spec.lhs.param, rhs: spec.rhs.param, groups: groups(spec) };
    let mut tile = TileCheck {
        spec,
        lanes: u64::from(mk.lanes),
        program: Program::of(&spec.post.iter().map(|(op, _)| *op).collect::<Vec<_>>()),
        stored: vec![false; (spec.rows * spec.columns) as usize],
    };
    run(mk, Some(roles), |machine, store| tile.store(machine, store))?;
    match tile.stored.iter().position(|stored| !stored) {
        Some(n) => Err(CheckError::NotStored { row: n as u64 / spec.columns, col: n as u64 % spec.columns }),
        None => Ok(()),
    }
}

/// Proves that `mk` makes the copy `spec`, as [`check_tile`] does.
pub fn check_copy(mk: &MicroKernel, spec: &CopySpec) -> Result<(), CheckError> {
    spec.check(mk).map_err(CheckError::Spec)?;
    let (steps, columns) = spec.written();
    // By byte of the destination: the element that belongs there, until it is stored.
    let mut expected: HashMap<u64, (u64, u64), FxBuildHasher> = HashMap::default();
    for p in 0..steps {
        for w in 0..columns {
            let byte = spec.steps.byte(p, spec.dtype) + i128::from(w) * i128::from(spec.column);
            let byte = u64::try_from(byte).map_err(|_| CheckError::Spec("a destination of more than 2^64 bytes"))?;
            if expected.insert(byte, (p, w)).is_some() {
                return Err(CheckError::Spec("elements of the destination overlap"));
            }
        }
    }
    let mut stored = vec![false; (steps * columns) as usize];
    run(mk, None, |machine, store| {
        let Store { param, byte, value } = store;
        let found = expected.get(&byte).filter(|_| param == spec.dst);
        let (row, col) = *found.ok_or(Fault::NotTheResult { param: param.0, byte })?;
        if std::mem::replace(&mut stored[(row * columns + col) as usize], true) {
            return Err(Fault::Twice { row, col });
        }
        let from = i128::from(row) * i128::from(spec.src.row) + i128::from(col) * i128::from(spec.src.column);
        let word = match row < spec.k && col < spec.width {
            true => Word::Element(Element::new(spec.src.param, from).ok_or(Fault::Malformed)?),
            false => Word::Bits(0),
        };
        expect(machine, value, word, spec.dtype, (row, col))
    })?;
    match stored.iter().position(|stored| !stored) {
        Some(n) => Err(CheckError::NotStored { row: n as u64 / columns, col: n as u64 % columns }),
        None => Ok(()),
    }
}

/// Executes the micro-kernel and gives each stored element to `store`. Of a loop whose trips all do the same, further on in
/// memory, the first four are executed and the last: see [`Machine::skip`].
fn run<'a>(
    mk: &'a MicroKernel,
    roles: Option<Roles>,
    mut store: impl FnMut(&mut Machine<'a>, Store) -> Result<(), Fault>,
) -> Result<(), CheckError> {
    if mk.registers > super::verify::MAX_REGISTERS {
        return Err(CheckError::Spec("there are too many registers"));
    }
    if mk.lanes == 0 || !mk.lanes.is_multiple_of(4) || mk.lanes > super::verify::MAX_LANES {
        return Err(CheckError::Lanes(mk.lanes));
    }
    let operations = mk.body.iter().map(|s| match s {
        Stmt::Inst(_) => 1,
        Stmt::Loop { trips, body, .. } => trips.saturating_mul(body.len().max(1) as u64),
    });
    if operations.fold(0, u64::saturating_add) > MAX_OPERATIONS {
        return Err(CheckError::TooLong);
    }
    let mut machine = Machine::new(mk, roles);
    let mut stores = vec![];
    let mut execute = |machine: &mut Machine<'a>, body: &[Inst], trip: u64| {
        body.iter().try_for_each(|inst| {
            stores.clear();
            let outcome = machine.execute(inst, trip, &mut stores);
            let outcome = outcome.and_then(|()| stores.iter().try_for_each(|s| store(machine, *s)));
            let op = || inst.display(&mk.params).to_string();
            outcome.map_err(|fault| CheckError::Op { op: op(), trip, fault })
        })
    };
    for stmt in &mk.body {
        let Stmt::Loop { trips, body, .. } = stmt else {
            execute(&mut machine, stmt.insts(), 0)?;
            continue;
        };
        let mut trip = 0;
        let mut before = [vec![], vec![]];
        while trip < *trips {
            execute(&mut machine, body, trip)?;
            trip += 1;
            if trip == 4 && trip + 1 < *trips && machine.skip(body, &before, trip, *trips) {
                trip = *trips - 1;
            } else if trip < 4 {
                before.swap(0, 1);
                machine.registers().clone_into(&mut before[1]);
            }
        }
    }
    Ok(())
}

/// The groups of steps of the right factor, if it has some.
fn groups(spec: &TileSpec) -> Option<Groups> {
    let steps = spec.rhs.steps;
    if steps.group == 1 || steps.stride == 0 {
        return None;
    }
    let end = spec.lhs.runs.iter().map(|r| r.first + r.len).max().unwrap_or(0);
    let mut exist = vec![false; end as usize];
    spec.lhs.runs.iter().for_each(|r| exist[r.first as usize..(r.first + r.len) as usize].fill(true));
    Some(Groups { stride: steps.stride, group: steps.group, size: spec.rhs.dtype.bytes() as u64, steps: exist })
}

/// That `value`, stored in an element of type `dtype`, is `word`.
fn expect(machine: &mut Machine<'_>, value: Stored, word: Word, dtype: DType, at: (u64, u64)) -> Result<(), Fault> {
    let (row, col) = at;
    match (value, dtype.bytes()) {
        (Stored::Word(found), 4) => {
            let (found, expected) = (machine.terms.of(found), machine.terms.of(word));
            (found == expected).then_some(()).ok_or_else(|| {
                let [found, expected] = [found, expected].map(|t| machine.show(Half::Of(t)));
                Fault::Wrong { row, col, found, expected }
            })
        }
        (Stored::Byte(found), 1) => {
            let expected = match word {
                Word::Element(e) => Byte::Element(e),
                Word::Bits(0) => Byte::Zero,
                _ => return Err(Fault::Malformed),
            };
            (found == expected).then_some(()).ok_or_else(|| {
                let [found, expected] = [found, expected].map(|b| machine.show_byte(b));
                Fault::Wrong { row, col, found, expected }
            })
        }
        (Stored::Half(found), 2) => {
            let expected = machine.rounded(word, dtype)?;
            (found == expected).then_some(()).ok_or_else(|| {
                let [found, expected] = [found, expected].map(|h| machine.show(h));
                Fault::Wrong { row, col, found, expected }
            })
        }
        _ => Err(Fault::Malformed),
    }
}

/// A tile whose elements are judged as they are stored.
struct TileCheck<'a> {
    spec: &'a TileSpec,
    lanes: u64,
    program: Program,
    /// By `row * columns + column`: true if the element was stored.
    stored: Vec<bool>,
}

impl TileCheck<'_> {
    fn store(&mut self, machine: &mut Machine<'_>, Store { param, byte, value }: Store) -> Result<(), Fault> {
        let dst = &self.spec.dst;
        let row = if self.spec.rows == 1 { 0 } else { byte / dst.row };
        let in_row = byte - row * dst.row;
        let col = in_row / dst.column;
        let is_element = in_row.is_multiple_of(dst.column) && row < self.spec.rows && col < self.spec.columns;
        if param != dst.param || !is_element {
            return Err(Fault::NotTheResult { param: param.0, byte });
        }
        if std::mem::replace(&mut self.stored[(row * self.spec.columns + col) as usize], true) {
            return Err(Fault::Twice { row, col });
        }
        let word = self.element(machine, row, col)?;
        expect(machine, value, word, dst.dtype, (row, col))
    }

    /// The value that element `(row, col)` of the result has to have.
    fn element(&self, machine: &mut Machine<'_>, row: u64, col: u64) -> Result<Word, Fault> {
        let spec = self.spec;
        let of = |t: &Tensor| {
            let byte = i128::from(row) * i128::from(t.row) + i128::from(col) * i128::from(t.column);
            Element::new(t.param, byte).map(Word::Element).ok_or(Fault::Malformed)
        };
        let old = of(&spec.dst)?;
        let start = if spec.old == Old::Before { old } else { Word::Bits(0) };
        let mut sum = match spec.products {
            Products::Steps | Products::Blocks(_) => self.sums(machine, start, (row, col), 1)?[0],
            Products::Lanes | Products::PairsInLanes => {
                let mut lanes = self.sums(machine, start, (row, col), self.lanes)?;
                while lanes.len() > 1 {
                    let pairs = lanes.as_chunks().0.iter();
                    lanes = pairs.map(|[a, b]| Word::Term(machine.terms.binary(Binary::Add, *a, *b))).collect();
                }
                lanes[0]
            }
        };
        if spec.old == Old::After {
            sum = Word::Term(machine.terms.binary(Binary::Add, sum, old));
        }
        let operands = spec.post.iter().filter_map(|(_, t)| t.as_ref()).map(of).collect::<Result<Vec<_>, _>>()?;
        machine.post_ops(&self.program, sum, &operands)
    }

    /// The sums of element `(row, col)` in so many lanes, to which products are dealt in turn.
    fn sums(
        &self,
        machine: &mut Machine<'_>,
        start: Word,
        (row, col): (u64, u64),
        lanes: u64,
    ) -> Result<Vec<Word>, Fault> {
        let TileSpec { lhs, rhs, products, .. } = self.spec;
        // Steps of a product.
        let size = products.steps();
        let factor = |element: Element, steps: u64, dtype: DType| match products {
            Products::Steps | Products::Lanes => Factor::scalar(element),
            Products::PairsInLanes | Products::Blocks(_) => Factor::block(element, steps, dtype == DType::F32),
        };
        let mut sums = vec![start; lanes as usize];
        for run in lhs.runs.iter().filter(|r| r.has(row)) {
            let at = |p: u64| {
                let start = i128::from(lhs.rows[row as usize]) + i128::from(run.lhs);
                let left = start + lhs.steps.byte(p, lhs.dtype) + i128::from(col) * i128::from(lhs.column);
                let right = rhs.steps.byte(run.first + p, rhs.dtype) + i128::from(col) * i128::from(rhs.column);
                let steps = size.min(run.len - p);
                let left = Element::new(lhs.param, left).ok_or(Fault::Malformed)?;
                let right = Element::new(rhs.param, right).ok_or(Fault::Malformed)?;
                Ok([factor(left, steps, lhs.dtype), factor(right, steps, rhs.dtype)])
            };
            // The whole products of a lane are `lanes` apart, and so evenly apart in both factors.
            let whole = run.len / size;
            for (lane, sum) in (0..lanes).zip(&mut sums) {
                let count = whole.saturating_sub(lane).div_ceil(lanes);
                if count == 0 {
                    continue;
                }
                let first = at(lane * size)?;
                let step = if count > 1 { Factor::distance(first, at((lane + lanes) * size)?) } else { [0, 0] };
                *sum = machine.terms.add_products(*sum, first, step, count);
            }
            if !run.len.is_multiple_of(size) {
                let sum = &mut sums[(whole % lanes) as usize];
                *sum = machine.terms.add_product(*sum, at(whole * size)?);
            }
        }
        Ok(sums)
    }
}

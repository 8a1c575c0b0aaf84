//! Chains of operations element by element, in one pass: blocks of elements go through all steps while they are in cache.

use std::ops::Range;

use kiln_ir::func::{Binary, Unary};

use super::blocks::{self, Block};
use super::parallel::{EXP, Parallel, split};
use super::{elements, row_major};

/// The operation of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Of one input.
    Unary(Unary),
    /// Of two.
    Binary(Binary),
    /// Of three: the second where the first, a comparison's result or such, is true, else the third.
    Where,
}

/// The operand of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// An operand, by its position.
    Operand(usize),
    /// The result of an earlier step, by its position.
    Step(usize),
}

/// One operation of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The operation.
    pub op: Op,
    /// Its inputs, as many as it takes.
    pub inputs: Vec<Input>,
}

/// Where an operand's elements are.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In memory of its own.
    Memory(&'a [f32]),
    /// In the destination, which the operand has the shape of.
    Dst,
}

/// A chain that no plan can be made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElementwiseError {
    /// There is nothing to compute.
    #[error("a chain needs at least one step")]
    Empty,
    /// A shape does not stretch to that of the result.
    #[error("operand {operand} has shape {found:?}, which does not broadcast to the result's {expected:?}")]
    Shape {
        /// Which operand.
        operand: usize,
        /// Its shape.
        found: Vec<usize>,
        /// That of the result.
        expected: Vec<usize>,
    },
    /// A step reads what is not there, too much or too little.
    #[error("step {step} reads {found:?}: expected {expected} operand(s) or results of earlier steps")]
    Inputs {
        /// Which step.
        step: usize,
        /// The operands that it reads.
        found: Vec<Input>,
        /// The number of operands that it takes.
        expected: usize,
    },
    /// Numbers where booleans are taken, or the other way round.
    #[error("step {step} takes or gives booleans where the others have numbers, or the reverse")]
    Booleans {
        /// Which step.
        step: usize,
    },
    /// An operation on integers.
    #[error("step {step} is on integers: all elements are f32")]
    Integers {
        /// Which step.
        step: usize,
    },
    /// More results are needed at once than there is room for.
    #[error("the chain keeps more than {MOST_SLOTS} blocks at once: split it")]
    TooManyLive,
}

/// Elements of a block, and blocks that are kept at once: together they fit the first-level cache.
const BLOCK: usize = 512;
const MOST_SLOTS: usize = 12;

/// From this inner extent on, blocks end with rows, so that operands that broadcast need not be copied.
const WHOLE_ROWS: usize = 64;

/// Where a step finds an input.
#[derive(Clone, Copy, Debug)]
enum At {
    Operand(usize),
    Slot(usize),
}

/// The layout of an operand with respect to the result.
#[derive(Clone, Debug)]
enum Walk {
    /// Element for element.
    Same,
    /// One element for all.
    Scalar,
    /// By these strides; where a block is not in one piece, it is put together in a slot.
    Strided { strides: Vec<usize>, slot: usize },
}

#[derive(Clone, Debug)]
struct Planned {
    op: Op,
    inputs: [At; 3],
    /// Where the result goes; `None` for the destination.
    slot: Option<usize>,
}

/// The plan of a chain of operations. All elements are f32; booleans occur between steps alone.
#[derive(Clone, Debug)]
pub struct Elementwise {
    /// Of the result, neighbouring dimensions made one where no operand tells them apart.
    dims: Vec<usize>,
    walks: Vec<Walk>,
    lengths: Vec<usize>,
    steps: Vec<Planned>,
    slots: usize,
    cost: usize,
}

impl Elementwise {
    /// A plan for a result of this shape, which the operands' shapes stretch to as NumPy broadcasts. The last step's result is
    /// the result.
    pub fn new(shape: &[usize], operands: &[&[usize]], steps: Vec<Step>) -> Result<Self, ElementwiseError> {
        let lengths = operands.iter().map(|o| o.iter().product()).collect();
        let (dims, strides) = collapse(shape, operands)?;
        let mut slots = 0;
        let walks: Vec<Walk> = strides
            .into_iter()
            .map(|strides| {
                if strides == row_major(&dims) {
                    Walk::Same
                } else if strides.iter().all(|s| *s == 0) {
                    Walk::Scalar
                } else {
                    slots += 1;
                    Walk::Strided { strides, slot: slots - 1 }
                }
            })
            .collect();
        check(operands.len(), &steps)?;
        let (steps, slots) = assign(steps, slots)?;
        let cost = steps.iter().map(|s| cost(&s.op)).sum();
        Ok(Self { dims, walks, lengths, steps, slots, cost })
    }

    /// Computes the result.
    ///
    /// # Panics
    /// If an operand or the destination has not the length of its shape, or a source is the destination that has another shape.
    pub fn run(&self, parallel: &dyn Parallel, operands: &[Source<'_>], dst: &mut [f32]) {
        assert_eq!(dst.len(), self.dims.iter().product::<usize>(), "the destination has the result's shape");
        assert_eq!(operands.len(), self.walks.len(), "one source per operand");
        for ((source, length), walk) in operands.iter().zip(&self.lengths).zip(&self.walks) {
            match source {
                Source::Memory(x) => assert_eq!(x.len(), *length, "an operand has its shape"),
                Source::Dst => assert!(
                    matches!(walk, Walk::Same) || *length == dst.len(),
                    "only an operand of the result's shape is the destination"
                ),
            }
        }
        split(parallel, dst, 1, self.cost, &|range, part| match self.slots {
            0 => self.part::<0>(operands, range, part),
            1..=2 => self.part::<2>(operands, range, part),
            _ => self.part::<MOST_SLOTS>(operands, range, part),
        });
    }

    fn part<const SLOTS: usize>(&self, operands: &[Source<'_>], range: Range<usize>, dst: &mut [f32]) {
        let mut slots = [[0.0; BLOCK]; SLOTS];
        // Only a step that reads the destination that it writes needs a copy.
        let mut own = [0.0; BLOCK];
        let own_is_read = operands.iter().any(|s| matches!(s, Source::Dst));
        let inner = self.dims.last().copied().unwrap_or(1);
        let whole_rows = inner >= WHOLE_ROWS && self.walks.iter().any(|w| matches!(w, Walk::Strided { .. }));
        let mut start = range.start;
        while start < range.end {
            let row_end = if whole_rows { (start / inner + 1) * inner } else { usize::MAX };
            let end = range.end.min(start + BLOCK).min(row_end);
            let block = &mut dst[start - range.start..end - range.start];
            let n = block.len();
            if own_is_read {
                own[..n].copy_from_slice(block);
            }
            for (walk, source) in self.walks.iter().zip(operands) {
                if let (Walk::Strided { strides, slot }, Source::Memory(x)) = (walk, source)
                    && !(whole_rows && matches!(strides.last(), Some(0 | 1)))
                {
                    self.gather(x, strides, start, &mut slots[*slot][..n]);
                }
            }
            for step in &self.steps {
                let (before, target, after): (&[_], &mut [f32], &[_]) = match step.slot {
                    None => (&slots, &mut *block, &[]),
                    Some(slot) => {
                        let (before, rest) = slots.split_at_mut(slot);
                        let (target, after) = rest.split_first_mut().expect("slots are counted");
                        (before, &mut target[..n], after)
                    }
                };
                let slot = |at: usize| match at.checked_sub(before.len() + 1) {
                    Some(at) if step.slot.is_some() => &after[at][..n],
                    _ => &before[at][..n],
                };
                let read = |at: At| match at {
                    At::Slot(at) => Block::Each(slot(at)),
                    At::Operand(o) => match (&self.walks[o], operands[o]) {
                        (_, Source::Dst) => Block::Each(&own[..n]),
                        (Walk::Same, Source::Memory(x)) => Block::Each(&x[start..end]),
                        (Walk::Scalar, Source::Memory(x)) => Block::All(x[0]),
                        (Walk::Strided { strides, .. }, Source::Memory(x)) => match strides.last() {
                            Some(1) if whole_rows => {
                                let at = self.offset(strides, start);
                                Block::Each(&x[at..at + n])
                            }
                            Some(0) if whole_rows => Block::All(x[self.offset(strides, start)]),
                            _ => Block::Each(slot(self.slot_of(o))),
                        },
                    },
                };
                let [a, b, c] = step.inputs;
                match &step.op {
                    Op::Unary(op) => match read(a) {
                        Block::Each(x) => blocks::unary(op, x, target),
                        Block::All(x) => {
                            let mut one = [0.0];
                            blocks::unary(op, &[x], &mut one);
                            target.fill(one[0]);
                        }
                    },
                    Op::Binary(op) => blocks::binary(op, read(a), read(b), target),
                    Op::Where => blocks::select(read(a), read(b), read(c), target),
                }
            }
            start = end;
        }
    }

    fn slot_of(&self, operand: usize) -> usize {
        match self.walks[operand] {
            Walk::Strided { slot, .. } => slot,
            _ => unreachable!("others are read where they are"),
        }
    }

    /// Where the operand of these strides has the element for one of the result.
    fn offset(&self, strides: &[usize], mut index: usize) -> usize {
        let mut offset = 0;
        for (dim, stride) in self.dims.iter().zip(strides).rev() {
            offset += index % dim * stride;
            index /= dim;
        }
        offset
    }

    /// Puts an operand's elements for the result's from `start` on in one piece.
    fn gather(&self, x: &[f32], strides: &[usize], start: usize, block: &mut [f32]) {
        let (Some(inner), Some(&stride)) = (self.dims.last(), strides.last()) else { return };
        let mut at = start;
        let mut rest = block;
        while !rest.is_empty() {
            let n = (inner - at % inner).min(rest.len());
            let (row, next) = rest.split_at_mut(n);
            let offset = self.offset(strides, at);
            match stride {
                0 => row.fill(x[offset]),
                1 => row.copy_from_slice(&x[offset..offset + n]),
                _ => row.iter_mut().enumerate().for_each(|(i, v)| *v = x[offset + i * stride]),
            }
            at += n;
            rest = next;
        }
    }
}

/// The result's dimensions and each operand's strides, dimensions made one where that is the same.
fn collapse(shape: &[usize], operands: &[&[usize]]) -> Result<(Vec<usize>, Vec<Vec<usize>>), ElementwiseError> {
    let mut all = Vec::with_capacity(operands.len());
    for (operand, found) in operands.iter().enumerate() {
        let fits = |from: usize| found.iter().zip(&shape[from..]).all(|(a, b)| a == b || *a == 1);
        match shape.len().checked_sub(found.len()) {
            Some(from) if fits(from) && elements(shape).is_some() => {
                let mut strides = vec![0; from];
                strides.extend(row_major(found).into_iter().zip(*found).map(|(s, d)| if *d == 1 { 0 } else { s }));
                all.push(strides);
            }
            _ => {
                return Err(ElementwiseError::Shape { operand, found: found.to_vec(), expected: shape.to_vec() });
            }
        }
    }
    let mut dims: Vec<usize> = vec![];
    let mut strides: Vec<Vec<usize>> = vec![vec![]; all.len()];
    for (d, &n) in shape.iter().enumerate() {
        if n == 1 {
            continue;
        }
        let merges = !dims.is_empty() && strides.iter().zip(&all).all(|(s, a)| s[s.len() - 1] == a[d] * n);
        if merges {
            *dims.last_mut().expect("there is one") *= n;
        } else {
            dims.push(n);
        }
        for (s, a) in strides.iter_mut().zip(&all) {
            match s.last_mut() {
                Some(last) if merges => *last = a[d],
                _ => s.push(a[d]),
            }
        }
    }
    Ok((dims, strides))
}

/// True if steps read what there is, and booleans where such are taken.
fn check(operands: usize, steps: &[Step]) -> Result<(), ElementwiseError> {
    let mut booleans: Vec<bool> = vec![];
    for (s, step) in steps.iter().enumerate() {
        let expected = match step.op {
            Op::Unary(_) => 1,
            Op::Binary(_) => 2,
            Op::Where => 3,
        };
        let there = |input: &Input| match *input {
            Input::Operand(o) => o < operands,
            Input::Step(earlier) => earlier < s,
        };
        if step.inputs.len() != expected || !step.inputs.iter().all(there) {
            return Err(ElementwiseError::Inputs { step: s, found: step.inputs.clone(), expected });
        }
        if let Op::Unary(Unary::BitNot {})
        | Op::Binary(
            Binary::BitAnd {} | Binary::BitOr {} | Binary::BitXor {} | Binary::ShiftLeft {} | Binary::ShiftRight {},
        ) = &step.op
        {
            return Err(ElementwiseError::Integers { step: s });
        }
        let is = |i: usize| matches!(step.inputs[i], Input::Step(earlier) if booleans[earlier]);
        use Binary::*;
        let (fits, result) = match &step.op {
            Op::Unary(Unary::Not {}) => (is(0), true),
            Op::Unary(_) => (!is(0), false),
            Op::Binary(And {} | Or {} | Xor {}) => (is(0) && is(1), true),
            Op::Binary(Equal {}) => (is(0) == is(1), true),
            Op::Binary(Less {} | LessOrEqual {} | Greater {} | GreaterOrEqual {}) => (!is(0) && !is(1), true),
            Op::Binary(_) => (!is(0) && !is(1), false),
            Op::Where => (is(0) && is(1) == is(2), is(1)),
        };
        if !fits || (result && s + 1 == steps.len()) {
            return Err(ElementwiseError::Booleans { step: s });
        }
        booleans.push(result);
    }
    if steps.is_empty() { Err(ElementwiseError::Empty) } else { Ok(()) }
}

/// A slot for each result that a later step reads, free again after the last one; slots below `taken` are operands'.
fn assign(steps: Vec<Step>, taken: usize) -> Result<(Vec<Planned>, usize), ElementwiseError> {
    let mut last_read = vec![0; steps.len()];
    for (s, step) in steps.iter().enumerate() {
        for input in &step.inputs {
            if let Input::Step(earlier) = input {
                last_read[*earlier] = s;
            }
        }
    }
    // Of each slot, the last step that reads what is in it.
    let mut busy_until = vec![usize::MAX; taken];
    let mut slot_of = vec![0; steps.len()];
    let count = steps.len();
    let mut planned = Vec::with_capacity(count);
    for (s, step) in steps.into_iter().enumerate() {
        let mut inputs = [At::Operand(0); 3];
        for (at, input) in inputs.iter_mut().zip(&step.inputs) {
            *at = match *input {
                Input::Operand(o) => At::Operand(o),
                Input::Step(earlier) => At::Slot(slot_of[earlier]),
            };
        }
        let slot = (s + 1 < count).then(|| {
            // A step's inputs are busy until it has read them.
            let slot = busy_until.iter().position(|until| *until < s).unwrap_or(busy_until.len());
            if slot == busy_until.len() {
                busy_until.push(0);
            }
            busy_until[slot] = last_read[s].max(s);
            slot_of[s] = slot;
            slot
        });
        planned.push(Planned { op: step.op, inputs, slot });
    }
    if busy_until.len() > MOST_SLOTS { Err(ElementwiseError::TooManyLive) } else { Ok((planned, busy_until.len())) }
}

/// An operation's work, in cheap ones.
pub(crate) fn cost(op: &Op) -> usize {
    use Unary::*;
    match op {
        Op::Unary(
            Exp {}
            | Log {}
            | Erf {}
            | Tanh {}
            | Sin {}
            | Cos {}
            | Tan {}
            | Asin {}
            | Acos {}
            | Atan {}
            | Sinh {}
            | Cosh {}
            | Asinh {}
            | Acosh {}
            | Atanh {}
            | Sigmoid {}
            | Elu { .. }
            | Selu { .. }
            | Celu { .. }
            | Softplus {}
            | GeluErf {}
            | GeluTanh {}
            | Silu {}
            | Mish {},
        )
        | Op::Binary(Binary::Pow {} | Binary::Rem {}) => EXP,
        _ => 1,
    }
}

#[cfg(test)]
mod tests;

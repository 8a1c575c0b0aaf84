//! Checks that a plan computes what its values say, whatever the planner thought.
//!
//! The arena is followed step by step: each range of bytes has the step whose result is there. What a value is and where its bytes
//! must be is derived again from the values: a result of a step, an argument, a constant, or a part of one of these. A step may
//! read an operand only where the bytes of that value are, whole and not written over since. So a view beyond its buffer, a read
//! of memory that was given to another buffer, buffers that overlap while both are needed, or a result written over an operand
//! that is read later are all found, at the step that would compute with the wrong bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use kiln_ir::func::{Control, Def, Structured, TensorOp, TensorType, Value, ValueId};

use super::control;
use super::error::{PlanError, PlanFault};
use super::memory::ALIGN;
use super::planner::result_bytes;
use super::run::Plan;
use super::step::{Home, Place, Step};

/// The step whose result is in memory that another worked in: none.
const NO_STEP: usize = usize::MAX;

/// The memory that a value's bytes are a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// The caller's, by the position of the argument.
    Argument(usize),
    /// A constant, by its position among them.
    Constant(usize),
    /// The result of a step.
    Step(usize),
}

/// Bytes that a value must have: from `offset` on in its root.
#[derive(Clone, Copy, Debug)]
struct Origin {
    root: Root,
    offset: usize,
}

/// Fails unless each step of a plan of these values, and each result, reads the bytes that its operands are.
pub(super) fn verify(plan: &Plan, values: &[Value], results: &[ValueId]) -> Result<(), PlanError> {
    let mut verifier =
        Verifier { plan, values, origins: Vec::with_capacity(values.len()), memory: WrittenRanges::default() };
    let (mut arguments, mut constants, mut steps) = (0, 0, 0);
    for (at, value) in values.iter().enumerate() {
        let next = |count: &mut usize| std::mem::replace(count, *count + 1);
        let origin = match &value.def {
            Def::Argument => Origin { root: Root::Argument(next(&mut arguments)), offset: 0 },
            Def::Constant(_) => Origin { root: Root::Constant(next(&mut constants)), offset: 0 },
            Def::Result { op, operands } => {
                let fail = |fault| PlanError { step: steps, layer: value.label(), fault };
                match plan.steps.get(steps).filter(|step| step.value == at) {
                    Some(step) => {
                        let bytes = result_bytes(values, op, operands, &value.ty);
                        verifier.step(steps, step, operands, bytes).map_err(fail)?;
                        Origin { root: Root::Step(next(&mut steps)), offset: 0 }
                    }
                    None => verifier
                        .part(op, operands, &value.ty)
                        .ok_or_else(|| fail(PlanFault::NotComputed { value: value.label() }))?,
                }
            }
        };
        verifier.origins.push(origin);
    }
    for (position, id) in results.iter().enumerate() {
        let value = &values[id.index()];
        let outcome = match plan.results.get(position) {
            Some((_, place)) => verifier.read(0, *id, place).map(drop),
            None => Err(PlanFault::NotComputed { value: value.label() }),
        };
        outcome.map_err(|fault| PlanError { step: steps, layer: value.label(), fault })?;
    }
    Ok(())
}

struct Verifier<'a> {
    plan: &'a Plan,
    values: &'a [Value],
    /// Where the bytes of the values so far are.
    origins: Vec<Origin>,
    memory: WrittenRanges,
}

impl Verifier<'_> {
    /// Checks what a step reads and writes, and writes it.
    fn step(&mut self, at: usize, step: &Step, operands: &[ValueId], expected: usize) -> Result<(), PlanFault> {
        let output = self.own(step.output, expected)?;
        let scratch = match step.scratch {
            Some(buffer) => self.own(buffer, step.action.scratch_bytes())?,
            None if step.action.scratch_bytes() > 0 => {
                return Err(PlanFault::Buffer { expected: step.action.scratch_bytes(), found: 0 });
            }
            None => 0..0,
        };
        let is_apart =
            |a: &Range<usize>, b: &Range<usize>| a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start;
        if !is_apart(&output, &scratch) {
            return Err(PlanFault::Scratch);
        }
        for (operand, id) in operands.iter().enumerate() {
            let place = step
                .inputs
                .get(operand)
                .ok_or(PlanFault::Elsewhere { operand, value: self.values[id.index()].label() })?;
            // What the action has in a form of its own need not be there.
            if !step.action.reads(operand) && self.is_left_out(place) {
                continue;
            }
            let read = self.read(operand, *id, place)?;
            let is_in_place = step.in_place == Some(operand);
            if read.as_ref().is_some_and(|range| !is_apart(range, &scratch)) {
                return Err(PlanFault::Scratch);
            }
            let allowed = match read {
                Some(range) if is_in_place => range == output && step.action.in_place(operand),
                Some(range) => range.end <= output.start || output.end <= range.start,
                None => !is_in_place,
            };
            if !allowed {
                return Err(PlanFault::InPlace { operand });
            }
        }
        self.memory.write(output, at);
        self.memory.write(scratch, NO_STEP);
        Ok(())
    }

    /// The range of a buffer that a step writes, which must have so many bytes.
    fn own(&self, buffer: usize, expected: usize) -> Result<Range<usize>, PlanFault> {
        let range = self.buffer(buffer).unwrap_or_default();
        if range.len() != expected {
            return Err(PlanFault::Buffer { expected, found: range.len() });
        }
        if range.end > self.plan.placement.bytes || !range.start.is_multiple_of(ALIGN) {
            let Range { start, end } = range;
            return Err(PlanFault::Placement { start, end, bytes: self.plan.placement.bytes });
        }
        Ok(range)
    }

    /// True if a place is a constant's that the plan does not have.
    fn is_left_out(&self, place: &Place) -> bool {
        matches!(place.home, Home::Constant(at) if self.plan.constants.get(at).is_some_and(Option::is_none))
    }

    /// Where a buffer lies in the arena.
    fn buffer(&self, at: usize) -> Option<Range<usize>> {
        let (buffer, start) = (self.plan.buffers.get(at)?, *self.plan.placement.offsets.get(at)?);
        Some(start..start.checked_add(buffer.bytes)?)
    }

    /// Checks that a value's bytes are at a place. Gives their range in the arena, if they are in it.
    fn read(&self, operand: usize, id: ValueId, place: &Place) -> Result<Option<Range<usize>>, PlanFault> {
        let value = &self.values[id.index()];
        let (expected, found) = (value.ty.bytes() as usize, place.bytes);
        if expected != found {
            return Err(PlanFault::Length { operand, expected, found });
        }
        let elsewhere = || PlanFault::Elsewhere { operand, value: value.label() };
        let bytes = match place.home {
            Home::Argument(at) => self.plan.arguments.get(at).map(|ty| ty.bytes() as usize),
            Home::Constant(at) => match self.plan.constants.get(at) {
                Some(None) => return Err(PlanFault::ConstantMissing { operand }),
                constant => constant.and_then(Option::as_ref).map(|tensor| tensor.data().len()),
            },
            Home::Buffer(at) => self.buffer(at).map(|buffer| buffer.len()),
        };
        let bytes = bytes.ok_or_else(elsewhere)?;
        let end = place.offset.saturating_add(place.bytes);
        if end > bytes {
            return Err(PlanFault::OutOfBounds { operand, end, bytes });
        }
        if !place.offset.is_multiple_of(value.ty.element().bytes()) {
            return Err(PlanFault::Alignment { operand, offset: place.offset });
        }
        let in_arena = match place.home {
            Home::Buffer(at) => self.buffer(at).map(|buffer| buffer.start + place.offset..buffer.start + end),
            _ => None,
        };
        // No bytes are the same everywhere.
        if place.bytes == 0 {
            return Ok(in_arena);
        }
        let origin = self.origins[id.index()];
        match (origin.root, place.home) {
            (Root::Argument(a), Home::Argument(b)) | (Root::Constant(a), Home::Constant(b))
                if a == b && origin.offset == place.offset => {}
            (Root::Step(step), Home::Buffer(_)) => {
                let range = in_arena.clone().unwrap_or_default();
                let written = self.buffer(self.plan.steps[step].output).unwrap_or_default();
                if range.start != written.start + origin.offset {
                    return Err(elsewhere());
                }
                match self.memory.other(range, step) {
                    None => {}
                    Some(None) => return Err(PlanFault::NotWritten { operand, value: value.label() }),
                    Some(Some(by)) => return Err(PlanFault::WrittenOver { operand, value: value.label(), by }),
                }
            }
            _ => return Err(elsewhere()),
        }
        Ok(in_arena)
    }

    /// Where the bytes of a result are that needs no step: it is one part of its operand, in the operand's order.
    fn part(&self, op: &TensorOp, operands: &[ValueId], ty: &TensorType) -> Option<Origin> {
        let operand = operands.first()?.index();
        if let TensorOp::Control(Control::Output { index, .. }) = op {
            let origin = self.origins[operand];
            return Some(Origin {
                offset: origin.offset + control::output_offset(self.values, operands[0], *index),
                ..origin
            });
        }
        let TensorOp::Structured(op) = op else { return None };
        let (from, origin) = (self.values[operand].ty.shape(), self.origins[operand]);
        if ty.elements() == 0 {
            return Some(origin);
        }
        let is_all = ty.elements() == self.values[operand].ty.elements();
        let first = match op {
            Structured::Reshape { .. } | Structured::Broadcast { .. } if is_all => 0,
            // Axes of more than one element stay in their order.
            Structured::Transpose { perm } => {
                let moved = perm.iter().filter(|axis| from[**axis as usize] > 1);
                moved.is_sorted().then_some(0)?
            }
            // As many elements as there are places from the first to the last, and none before another.
            Structured::Slice { starts, steps, counts } => {
                let (mut first, mut last, mut inner) = (0i128, 0i128, 1i128);
                for axis in (0..from.len()).rev() {
                    let start = i128::from(starts[axis]) * inner;
                    let beyond = i128::from(counts[axis] - 1) * i128::from(steps[axis]) * inner;
                    if beyond < 0 {
                        return None;
                    }
                    (first, last) = (first + start, last + start + beyond);
                    inner *= i128::from(from[axis]);
                }
                (last - first + 1 == i128::from(ty.elements())).then(|| usize::try_from(first).ok()).flatten()?
            }
            _ => return None,
        };
        Some(Origin { offset: origin.offset + first * ty.element().bytes(), ..origin })
    }
}

/// Which step's result is where in the arena. Ranges do not overlap.
#[derive(Default)]
struct WrittenRanges(BTreeMap<usize, (usize, usize)>);

impl WrittenRanges {
    /// A step writes a range.
    fn write(&mut self, range: Range<usize>, step: usize) {
        let Range { start, end } = range;
        if start == end {
            return;
        }
        // What lies there is cut off or goes; what it has on either side stays.
        while let Some((&from, &(to, by))) = self.0.range(..end).next_back().filter(|(_, (to, _))| *to > start) {
            self.0.remove(&from);
            if from < start {
                self.0.insert(from, (start, by));
            }
            if to > end {
                self.0.insert(end, (to, by));
            }
        }
        self.0.insert(start, (end, step));
    }

    /// True if something else than a step's result is in a range that is not empty: nothing, or the result of another step.
    fn other(&self, range: Range<usize>, step: usize) -> Option<Option<usize>> {
        let mut at = range.start;
        while at < range.end {
            match self.0.range(..=at).next_back() {
                Some((_, (to, by))) if *to > at && *by == step => at = *to,
                Some((_, (to, by))) if *to > at => return Some(Some(*by)),
                _ => return Some(None),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;

//! Branches and loops as steps. What they run are plans of their own, made once; a trip of a loop allocates nothing.
//!
//! The results of such a step lie one after another in its buffer. The buffer that it works in holds the arena of the plan that
//! runs and, of a loop, its states twice: those of a trip are read while those of the next are written.

use std::ops::Range;

use kiln_ir::Func;
use kiln_ir::func::{Control, Def, TensorOp, TensorType, Value, ValueId};
use smallvec::SmallVec;

use super::action::{Action, Input};
use super::memory::ALIGN;
use super::run::Plan;
use super::threads::RuntimeThreads;
use crate::error::ModelError;

/// The bytes of what a plan is called with; hardly any has more.
type Arguments<'a> = SmallVec<[&'a [u8]; 24]>;

/// Places of tensors one after another, each aligned for vectors, and bytes of all.
fn one_after_another<'a>(types: impl IntoIterator<Item = &'a TensorType>) -> (Vec<Range<usize>>, usize) {
    let mut end = 0usize;
    let places = types.into_iter().map(|ty| {
        let start = end;
        end = (start + ty.bytes() as usize).next_multiple_of(ALIGN);
        start..start + ty.bytes() as usize
    });
    (places.collect(), end)
}

/// Where the results of an operation are in its buffer, and bytes of that.
pub(super) fn layout(values: &[Value], control: &Control, operands: &[ValueId]) -> (Vec<Range<usize>>, usize) {
    let types: Vec<&TensorType> = operands.iter().map(|o| &values[o.index()].ty).collect();
    one_after_another(&control.results(&types).expect("it was checked when it was added"))
}

/// The first byte of a result in the buffer of the operation that has it.
pub(super) fn output_offset(values: &[Value], of: ValueId, index: u64) -> usize {
    match &values[of.index()].def {
        Def::Result { op: TensorOp::Control(control), operands } => {
            layout(values, control, operands).0[index as usize].start
        }
        _ => unreachable!("only operations that run functions have several results"),
    }
}

/// An operation without the constants of what it runs, which are in plans.
pub(super) fn without_bodies(op: &TensorOp) -> TensorOp {
    let TensorOp::Control(control) = op else { return op.clone() };
    let empty = |body: &Func| -> Result<Func, kiln_ir::func::FuncError> {
        let mut builder = Func::builder(body.name());
        let ty = TensorType::new(kiln_ir::func::ElementType::Bool, []).expect("it is small");
        let argument = builder.arg("x", ty)?;
        builder.finish(argument)
    };
    control.map_bodies(empty).map_or_else(|_| op.clone(), TensorOp::Control)
}

/// The action of an operation on operands of these types. `plans` are those of the functions that it runs, in order.
pub(super) fn action(
    layer: &str,
    control: &Control,
    operands: &[&TensorType],
    mut plans: Vec<Plan>,
) -> Box<dyn Action> {
    let types = control.results(operands).expect("it was checked when it was added");
    let results = one_after_another(&types).0;
    let number = |n: u64| usize::try_from(n).expect("a number of operands, or of slices in memory");
    match control {
        Control::If { .. } => {
            let otherwise = plans.pop().expect("there are two");
            let then = plans.pop().expect("there are two");
            Box::new(If { branches: [otherwise, then], results })
        }
        Control::Scan { trips, states, backward, .. } => {
            let body = Body::new(plans.remove(0), &types[..number(*states)]);
            let read = backward.len() - (types.len() - number(*states));
            let backward = backward.iter().map(|flag| *flag == 1).collect();
            Box::new(Scan { body, trips: number(*trips), read, backward, results })
        }
        Control::While { .. } => {
            let body = Body::new(plans.remove(0), &types);
            Box::new(While { layer: layer.into(), body, results })
        }
        Control::Output { .. } => unreachable!("a result of another operation is a part of its buffer"),
    }
}

/// Bytes of an operand.
fn apart<'a>(input: &Input<'a>) -> &'a [u8] {
    input.expect("branches and loops do not write over operands")
}

/// One of two plans.
struct If {
    /// That for false, then that for true.
    branches: [Plan; 2],
    results: Vec<Range<usize>>,
}

impl Action for If {
    fn packed_bytes(&self) -> usize {
        self.branches.iter().map(Plan::packed_bytes).sum()
    }

    fn constant_bytes(&self) -> usize {
        self.branches.iter().map(Plan::constant_bytes).sum()
    }

    fn scratch_bytes(&self) -> usize {
        self.branches.iter().map(|plan| plan.placement.bytes).max().unwrap_or_default()
    }

    fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<(), ModelError> {
        let plan = &self.branches[usize::from(apart(&inputs[0])[0] != 0)];
        let arguments: Arguments<'_> = inputs[1..].iter().map(apart).collect();
        plan.run(threads, &arguments, scratch, &mut [], |_, _| {})?;
        for ((_, place), range) in plan.results.iter().zip(&self.results) {
            dst[range.clone()].copy_from_slice(plan.result(place, &arguments, scratch));
        }
        Ok(())
    }
}

/// The plan of a loop's function, and the states that go through it.
struct Body {
    plan: Plan,
    /// Where each state is among those of a trip.
    states: Vec<Range<usize>>,
    /// Bytes of the states of a trip.
    bytes: usize,
}

/// The memory that a loop works in.
struct Work<'a> {
    arena: &'a mut [u8],
    /// States of this trip.
    now: &'a mut [u8],
    /// States of the next.
    next: &'a mut [u8],
}

impl Body {
    fn new(plan: Plan, states: &[TensorType]) -> Self {
        let (states, bytes) = one_after_another(states);
        Body { plan, states, bytes }
    }

    fn arena_bytes(&self) -> usize {
        self.plan.placement.bytes.next_multiple_of(ALIGN)
    }

    fn scratch_bytes(&self) -> usize {
        self.arena_bytes() + 2 * self.bytes
    }

    /// The parts of the memory to work in, with the states before the first trip.
    fn start<'a>(&self, initial: &[Input<'_>], scratch: &'a mut [u8]) -> Work<'a> {
        let (arena, states) = scratch.split_at_mut(self.arena_bytes());
        let (now, next) = states.split_at_mut(self.bytes);
        for (range, state) in self.states.iter().zip(initial) {
            now[range.clone()].copy_from_slice(apart(state));
        }
        Work { arena, now, next }
    }

    /// Runs one trip with what it reads besides its number and the states. `take` gets each result in its order, but for the
    /// states, which are those of the next trip; the first of these is result number `first_state`.
    fn trip<'a>(
        &self,
        threads: &RuntimeThreads<'_>,
        work: &mut Work<'_>,
        number: i64,
        others: impl Iterator<Item = &'a [u8]>,
        first_state: usize,
        mut take: impl FnMut(usize, &[u8]),
    ) -> Result<(), ModelError> {
        let number = [number];
        {
            let now: &[u8] = work.now;
            let mut arguments: Arguments<'_> = SmallVec::new();
            arguments.push(bytemuck::cast_slice(&number));
            self.states.iter().for_each(|range| arguments.push(&now[range.clone()]));
            others.for_each(|other| arguments.push(other));
            self.plan.run(threads, &arguments, work.arena, &mut [], |_, _| {})?;
            for (at, (_, place)) in self.plan.results.iter().enumerate() {
                let result = self.plan.result(place, &arguments, work.arena);
                match at.checked_sub(first_state).and_then(|at| self.states.get(at)) {
                    Some(range) => work.next[range.clone()].copy_from_slice(result),
                    None => take(at, result),
                }
            }
        }
        std::mem::swap(&mut work.now, &mut work.next);
        Ok(())
    }

    /// Writes the states as results.
    fn finish(&self, work: &Work<'_>, results: &[Range<usize>], dst: &mut [u8]) {
        for (state, result) in self.states.iter().zip(results) {
            dst[result.clone()].copy_from_slice(&work.now[state.clone()]);
        }
    }
}

/// A loop of known length over slices.
struct Scan {
    body: Body,
    trips: usize,
    /// The number of operands that are read slice by slice.
    read: usize,
    /// For each tensor of slices, read and made, whether the last comes first.
    backward: Vec<bool>,
    results: Vec<Range<usize>>,
}

impl Action for Scan {
    fn packed_bytes(&self) -> usize {
        self.body.plan.packed_bytes()
    }

    fn constant_bytes(&self) -> usize {
        self.body.plan.constant_bytes()
    }

    fn scratch_bytes(&self) -> usize {
        self.body.scratch_bytes()
    }

    fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<(), ModelError> {
        let states = self.body.states.len();
        let (initial, others) = inputs.split_at(states);
        let (read, same) = others.split_at(self.read);
        let mut work = self.body.start(initial, scratch);
        for trip in 0..self.trips {
            let slice = |tensor: usize, bytes: usize| {
                let at = if self.backward[tensor] { self.trips - 1 - trip } else { trip };
                let bytes = bytes / self.trips;
                at * bytes..(at + 1) * bytes
            };
            let slices = read.iter().enumerate().map(|(at, input)| {
                let all = apart(input);
                &all[slice(at, all.len())]
            });
            self.body.trip(threads, &mut work, trip as i64, slices.chain(same.iter().map(apart)), 0, |at, made| {
                let all = &mut dst[self.results[at].clone()];
                let range = slice(self.read + at - states, all.len());
                all[range].copy_from_slice(made);
            })?;
        }
        self.body.finish(&work, &self.results, dst);
        Ok(())
    }
}

/// A loop that ends by itself.
struct While {
    layer: String,
    body: Body,
    results: Vec<Range<usize>>,
}

impl Action for While {
    fn packed_bytes(&self) -> usize {
        self.body.plan.packed_bytes()
    }

    fn constant_bytes(&self) -> usize {
        self.body.plan.constant_bytes()
    }

    fn scratch_bytes(&self) -> usize {
        self.body.scratch_bytes()
    }

    fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<(), ModelError> {
        let states = self.body.states.len();
        let limit = bytemuck::pod_read_unaligned::<i64>(apart(&inputs[0]));
        let mut goes_on = apart(&inputs[1])[0] != 0;
        let (initial, same) = inputs[2..].split_at(states);
        let mut work = self.body.start(initial, scratch);
        let mut trip = 0;
        while goes_on && trip < limit {
            if trip as u64 == Control::MOST_TRIPS {
                return Err(ModelError::Endless { layer: self.layer.clone(), trips: Control::MOST_TRIPS });
            }
            self.body.trip(threads, &mut work, trip, same.iter().map(apart), 1, |_, made| goes_on = made[0] != 0)?;
            trip += 1;
        }
        self.body.finish(&work, &self.results, dst);
        Ok(())
    }
}

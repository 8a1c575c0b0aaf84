//! A function as a list of steps: kernels, operations between them, and where in memory everything lies.

pub mod arena;
mod constants;
mod control;
mod families;
mod general;
mod kernels;
pub mod memory;
mod native;
mod planned;
mod threads;
mod verify;

use std::ops::Range;
use std::sync::Arc;

use kiln_ir::func::{Control, Def, Origins, Structured, Tensor, TensorOp, TensorType, Value, ValueId};
use kiln_ir::{Func, Problem};
use kiln_jit::{Kernel, Package, Runtime};

use crate::error::ModelError;
use arena::Arenas;
use memory::{Buffer, Placement};
use smallvec::SmallVec;

pub(crate) use families::{Families, Family};
pub use kernels::Progress;
pub(crate) use kernels::{KernelAction, Kernels, Known, NetworkWeights, pack};
pub(crate) use planned::Compiled;
pub(crate) use threads::RuntimeThreads;
pub use verify::{PlanError, PlanFault};

/// Memory that a value is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// The caller's, by the position of the argument.
    Argument(usize),
    /// A constant's.
    Constant(usize),
    /// A buffer of the arena.
    Buffer(usize),
}

/// Where a value's bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    home: Home,
    offset: usize,
    bytes: usize,
}

/// What a step reads: a value's bytes, or `None` where they lie in what it writes.
pub(crate) type Input<'a> = Option<&'a [u8]>;

/// How a step computes.
pub(crate) trait Action: Send + Sync {
    /// Whether the result may be written where this operand lies, which is as large.
    fn in_place(&self, _operand: usize) -> bool {
        false
    }

    /// Whether this operand is read; not what the action has in a form of its own.
    fn reads(&self, _operand: usize) -> bool {
        true
    }

    /// The kernel that it calls, if it does.
    fn kernel(&self) -> Option<&Arc<Kernel>> {
        None
    }

    /// The problem of that kernel, also where there is none to call.
    fn problem(&self) -> Option<&Problem> {
        self.kernel().map(|kernel| kernel.problem())
    }

    /// The code of that kernel where it is not loaded.
    fn package(&self) -> Option<&Arc<Package>> {
        None
    }

    /// Bytes of what it has in a form of its own.
    fn packed_bytes(&self) -> usize {
        0
    }

    /// Bytes of constants that it reads where they are.
    fn constant_bytes(&self) -> usize {
        0
    }

    /// Bytes of memory that it works in besides.
    fn scratch_bytes(&self) -> usize {
        0
    }

    /// Computes the result, with as much memory to work in as it asks for. Bytes are aligned to the elements of their types, and
    /// those of `scratch` for vectors.
    fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<(), ModelError>;
}

/// What kind of code computes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// A compiled kernel.
    Kernel,
    /// Vectorised code for this operation.
    Native,
    /// The steps of a branch or a loop, one after another.
    Control,
    /// The interpreter: an operation, or a type of elements, that networks seldom have.
    Interpreter,
}

/// One operation of a plan.
pub(crate) struct Step {
    /// The position of the value that it computes.
    value: usize,
    pub layer: String,
    pub origins: Origins,
    pub text: String,
    pub op: TensorOp,
    pub ty: TensorType,
    pub code: Code,
    inputs: Vec<Place>,
    output: usize,
    /// The buffer that it works in, if it does.
    scratch: Option<usize>,
    pub in_place: Option<usize>,
    pub action: Box<dyn Action>,
}

impl Step {
    /// Bytes of each operand.
    pub(crate) fn input_bytes(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().map(|place| place.bytes)
    }

    /// Whether an operand is a constant.
    pub(crate) fn is_constant(&self, operand: usize) -> bool {
        self.inputs.get(operand).is_some_and(|place| matches!(place.home, Home::Constant(_)))
    }
}

/// A function ready to run.
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    constants: Vec<Option<Tensor>>,
    buffers: Vec<Buffer>,
    pub placement: Placement,
    pub arguments: Vec<TensorType>,
    pub results: Vec<(TensorType, Place)>,
    /// Weights that were packed for it.
    pub weights: Vec<NetworkWeights>,
}

impl Plan {
    /// Plans a function whose kernels are there, with what is known of its weights.
    pub(crate) fn new(func: Func, runtime: &Runtime, kernels: &Kernels, known: Known<'_>) -> Result<Self, ModelError> {
        let results = func.results().to_vec();
        let texts = texts(&func);
        let mut values = func.into_values();
        let packed = kernels.pack(&mut values, &results, runtime, known)?;
        let is_packed = |at: usize| packed[at].is_some();
        constants::settle(&mut values, &results, &is_packed)?;
        let mut nested = vec![];
        let mut plan = Self::of(&values, texts, &results, &mut |at, asked| {
            let (control, operands) = match asked {
                Asked::Kernel { problem, constant } => {
                    let packed = packed[at].as_ref().map(|weights| weights.packed.clone());
                    return Ok(Box::new(kernels.action(&values[at].label(), problem, constant, packed)));
                }
                Asked::Control { control, operands } => (control, operands),
            };
            let bodies = control.bodies().map(|body| Plan::new((**body).clone(), runtime, kernels, known));
            let mut bodies = bodies.collect::<Result<Vec<_>, _>>()?;
            bodies.iter_mut().for_each(|plan| nested.append(&mut plan.weights));
            Ok(control::action(&values[at].label(), control, operands, bodies))
        })?;
        plan.weights = packed.into_iter().flatten().chain(nested).collect();
        Ok(plan)
    }

    /// Plans values in order, and verifies the plan. `make` makes the action of what the planner has none for.
    pub(crate) fn of(
        values: &[Value],
        texts: Vec<String>,
        results: &[ValueId],
        make: &mut Make<'_>,
    ) -> Result<Self, ModelError> {
        let mut planner = Planner::default();
        for (at, text) in texts.into_iter().enumerate() {
            planner.add(values, at, text, make)?;
        }
        let arguments = values.iter().filter(|v| v.def == Def::Argument).map(|v| v.ty.clone()).collect();
        let places = results.iter().map(|id| (values[id.index()].ty.clone(), planner.places[id.index()])).collect();
        let plan = planner.finish(arguments, places);
        verify::verify(&plan, values, results)?;
        Ok(plan)
    }

    /// Bytes of constants that are read where they are, beside packed weights.
    pub(crate) fn constant_bytes(&self) -> usize {
        let own: usize = self.constants.iter().flatten().map(|t| t.data().len()).sum();
        own + self.steps.iter().map(|s| s.action.constant_bytes()).sum::<usize>()
    }

    /// Bytes of packed weights.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.steps.iter().map(|s| s.action.packed_bytes()).sum()
    }

    /// The results for arguments of this plan's types. `told` is called before and after each step with its position.
    pub(crate) fn call(
        &self,
        runtime: &Runtime,
        given: &[Tensor],
        arenas: &Arenas,
        told: impl FnMut(usize, bool),
    ) -> Result<Vec<Tensor>, ModelError> {
        // Elements that are not aligned are copied.
        let copies: Vec<Option<Tensor>> = given.iter().map(realigned).collect();
        let arguments: Vec<&[u8]> =
            given.iter().zip(&copies).map(|(given, copy)| &copy.as_ref().unwrap_or(given).data()[..]).collect();
        let mut arena = arenas.take(self.placement.bytes)?;
        let outcome = self.run(&RuntimeThreads::new(runtime), &arguments, arena.bytes_mut(), &mut [], told);
        let copied = |(ty, place): &(TensorType, Place)| tensor(ty, self.result(place, &arguments, arena.bytes()));
        let results = outcome.map(|()| self.results.iter().map(copied).collect());
        arenas.give(arena);
        results
    }

    /// Does as [`call`](Self::call), from bytes where they are, into memory for the results. Both are as long as the types say.
    pub(crate) fn call_into(
        &self,
        runtime: &Runtime,
        given: &[&[u8]],
        results: &mut [&mut [u8]],
        arenas: &Arenas,
        told: impl FnMut(usize, bool),
    ) -> Result<(), ModelError> {
        let is_aligned = |bytes: &[u8], ty: &TensorType| bytes.as_ptr().addr().is_multiple_of(ty.element().bytes());
        let words = |(bytes, ty): (&&[u8], &TensorType)| {
            (!is_aligned(bytes, ty)).then(|| Words(bytemuck::pod_collect_to_vec::<u8, u64>(bytes)))
        };
        let copies: Vec<Option<Words>> = given.iter().zip(&self.arguments).map(words).collect();
        let arguments: SmallVec<[&[u8]; 8]> = given
            .iter()
            .zip(&copies)
            .map(|(given, copy)| copy.as_ref().map_or(*given, |copy| &copy.as_ref()[..given.len()]))
            .collect();
        let mut arena = arenas.take(self.placement.bytes)?;
        // The buffers that are results themselves lie where the caller wants these.
        let (mut direct, mut copied): (SmallVec<[Direct<'_>; 4]>, SmallVec<[_; 4]>) = Default::default();
        for ((ty, place), memory) in self.results.iter().zip(results.iter_mut()) {
            let buffer = match place.home {
                Home::Buffer(at) if place.offset == 0 && self.buffers[at].bytes == place.bytes => Some(at),
                _ => None,
            };
            match buffer.filter(|at| is_aligned(memory, ty) && direct.iter().all(|other| other.buffer != *at)) {
                Some(buffer) => direct.push(Direct { buffer, memory }),
                None => copied.push((place, memory)),
            }
        }
        let outcome = self.run(&RuntimeThreads::new(runtime), &arguments, arena.bytes_mut(), &mut direct, told);
        if outcome.is_ok() {
            for (place, memory) in copied {
                let outside = direct.iter().find(|direct| place.home == Home::Buffer(direct.buffer));
                memory.copy_from_slice(match outside {
                    Some(direct) => &direct.memory[place.offset..][..place.bytes],
                    None => self.result(place, &arguments, arena.bytes()),
                });
            }
        }
        arenas.give(arena);
        outcome
    }

    /// Runs the steps in an arena, which is aligned for vectors. Buffers that are `direct` lie in memory of the caller's instead.
    fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        arguments: &[&[u8]],
        arena: &mut [u8],
        direct: &mut [Direct<'_>],
        mut told: impl FnMut(usize, bool),
    ) -> Result<(), ModelError> {
        /// Most steps read no more, and their list is not allocated.
        const FEW: usize = 8;
        for (i, step) in self.steps.iter().enumerate() {
            told(i, false);
            let scratch = step.scratch.map_or(0..0, |buffer| self.range(buffer, 0, self.buffers[buffer].bytes));
            let (written, outside) = Direct::split(direct, step.output);
            let range = if written.is_some() { 0..0 } else { self.written(step) };
            let arena::Parts { read, output, scratch } = arena::parts(arena, range, scratch);
            let output = written.unwrap_or(output);
            let input = |(n, place): (usize, &Place)| {
                (step.in_place != Some(n)).then(|| match place.home {
                    Home::Argument(at) => &arguments[at][place.offset..][..place.bytes],
                    Home::Constant(at) => self.constant(at, place),
                    Home::Buffer(at) => match outside.get(at) {
                        Some(memory) => &memory[place.offset..][..place.bytes],
                        None => read.input(self.range(at, place.offset, place.bytes)),
                    },
                })
            };
            let (mut few, mut many) = ([None; FEW], vec![]);
            let inputs: &[Input<'_>] = if step.inputs.len() <= FEW {
                few.iter_mut().zip(step.inputs.iter().enumerate().map(input)).for_each(|(slot, input)| *slot = input);
                &few[..step.inputs.len()]
            } else {
                many.extend(step.inputs.iter().enumerate().map(input));
                &many
            };
            step.action.run(threads, inputs, output, scratch)?;
            threads.check()?;
            told(i, true);
        }
        Ok(())
    }

    /// A result's bytes after a run.
    fn result<'a>(&'a self, place: &Place, arguments: &[&'a [u8]], arena: &'a [u8]) -> &'a [u8] {
        match place.home {
            Home::Argument(at) => &arguments[at][place.offset..][..place.bytes],
            Home::Constant(at) => self.constant(at, place),
            Home::Buffer(at) => &arena[self.range(at, place.offset, place.bytes)],
        }
    }

    fn constant(&self, at: usize, place: &Place) -> &[u8] {
        match &self.constants[at] {
            Some(tensor) => &tensor.data()[place.offset..][..place.bytes],
            // Packed weights are the kernel's: it asks for nothing here.
            None => &[],
        }
    }

    /// Where a step writes in the arena.
    pub(crate) fn written(&self, step: &Step) -> Range<usize> {
        self.range(step.output, 0, self.buffers[step.output].bytes)
    }

    fn range(&self, buffer: usize, offset: usize, bytes: usize) -> Range<usize> {
        let start = self.placement.offsets[buffer] + offset;
        start..start + bytes
    }
}

/// A buffer that lies in memory of the caller's.
struct Direct<'a> {
    buffer: usize,
    memory: &'a mut [u8],
}

/// Buffers in memory of the caller's while one of them, or none, is written.
struct Outside<'a>([&'a [Direct<'a>]; 2]);

impl<'a> Direct<'a> {
    /// The memory of a buffer that is written, if it is one of these, and the others.
    fn split<'b>(all: &'b mut [Direct<'a>], written: usize) -> (Option<&'b mut [u8]>, Outside<'b>)
    where
        'a: 'b,
    {
        match all.iter().position(|direct| direct.buffer == written) {
            None => (None, Outside([all, &[]])),
            Some(at) => {
                let (before, rest) = all.split_at_mut(at);
                let (one, after) = rest.split_at_mut(1);
                (Some(&mut *one[0].memory), Outside([before, after]))
            }
        }
    }
}

impl Outside<'_> {
    /// The memory of a buffer, if it is one of these.
    fn get(&self, buffer: usize) -> Option<&[u8]> {
        let all = self.0.iter().copied().flatten();
        all.into_iter().find(|direct| direct.buffer == buffer).map(|direct| &*direct.memory)
    }
}

#[derive(Default)]
struct Planner {
    places: Vec<Place>,
    steps: Vec<Step>,
    /// Constants, and whether a step reads them where they are.
    constants: Vec<(Option<Tensor>, bool)>,
    buffers: Vec<Buffer>,
    arguments: usize,
}

impl Planner {
    /// Adds the value at a position.
    fn add(&mut self, values: &[Value], at: usize, text: String, make: &mut Make<'_>) -> Result<(), ModelError> {
        let value = &values[at];
        let bytes = value.ty.bytes() as usize;
        let place = match &value.def {
            Def::Argument => {
                self.arguments += 1;
                Place { home: Home::Argument(self.arguments - 1), offset: 0, bytes }
            }
            Def::Constant(_) => {
                self.constants.push((value.constant(), false));
                Place { home: Home::Constant(self.constants.len() - 1), offset: 0, bytes }
            }
            Def::Result { op, operands } => match self.view(values, op, operands, &value.ty) {
                Some(place) => place,
                None => {
                    let (action, code) = action(values, at, op, operands, make)?;
                    let inputs: Vec<Place> = operands.iter().map(|o| self.places[o.index()]).collect();
                    for (_, place) in inputs.iter().enumerate().filter(|(n, _)| action.reads(*n)) {
                        self.keep_constant(place);
                    }
                    let first = self.steps.len();
                    let scratch = Buffer { bytes: action.scratch_bytes(), first, last: first };
                    self.buffers.push(Buffer { bytes: result_bytes(values, op, operands, &value.ty), ..scratch });
                    let output = self.buffers.len() - 1;
                    let scratch = (scratch.bytes > 0).then(|| {
                        self.buffers.push(scratch);
                        output + 1
                    });
                    self.steps.push(Step {
                        value: at,
                        layer: value.label(),
                        origins: value.origins.clone(),
                        text,
                        op: control::without_bodies(op),
                        ty: value.ty.clone(),
                        code,
                        inputs,
                        output,
                        scratch,
                        in_place: None,
                        action,
                    });
                    Place { home: Home::Buffer(output), offset: 0, bytes }
                }
            },
        };
        self.places.push(place);
        Ok(())
    }

    fn keep_constant(&mut self, place: &Place) {
        if let Home::Constant(at) = place.home {
            self.constants[at].1 = true;
        }
    }

    /// The place of a value that is a part of its operand as it lies in memory.
    fn view(&self, values: &[Value], op: &TensorOp, operands: &[ValueId], ty: &TensorType) -> Option<Place> {
        let operand = operands.first()?.index();
        let offset = match op {
            TensorOp::Structured(op) => op.strided(&values[operand].ty)?.dense()? as usize * ty.element().bytes(),
            TensorOp::Control(Control::Output { index, .. }) => control::output_offset(values, operands[0], *index),
            _ => return None,
        };
        let from = self.places[operand];
        Some(Place { offset: from.offset + offset, bytes: ty.bytes() as usize, ..from })
    }

    fn finish(mut self, arguments: Vec<TensorType>, mut results: Vec<(TensorType, Place)>) -> Plan {
        for at in 0..self.steps.len() {
            for place in &self.steps[at].inputs {
                if let Home::Buffer(buffer) = place.home {
                    self.buffers[buffer].last = self.buffers[buffer].last.max(at);
                }
            }
        }
        for (_, place) in &results {
            match place.home {
                Home::Buffer(buffer) => self.buffers[buffer].last = self.steps.len(),
                Home::Constant(at) => self.constants[at].1 = true,
                Home::Argument(_) => {}
            }
        }
        self.share(&mut results);
        let placement = memory::place(&self.buffers);
        let constants = self
            .constants
            .into_iter()
            .map(|(tensor, is_read)| tensor.filter(|_| is_read).map(|tensor| realigned(&tensor).unwrap_or(tensor)));
        Plan {
            constants: constants.collect(),
            steps: self.steps,
            buffers: self.buffers,
            placement,
            arguments,
            results,
            weights: vec![],
        }
    }

    /// Writes results of steps that can over operands that nothing reads any more.
    fn share(&mut self, results: &mut [(TensorType, Place)]) {
        // The buffer that each has become one with.
        let mut home: Vec<usize> = (0..self.buffers.len()).collect();
        let mut gone = vec![false; self.buffers.len()];
        for at in 0..self.steps.len() {
            let step = &mut self.steps[at];
            for place in &mut step.inputs {
                if let Home::Buffer(buffer) = &mut place.home {
                    *buffer = home[*buffer];
                }
            }
            let bytes = self.buffers[step.output].bytes;
            let reads = |buffer: usize| step.inputs.iter().filter(|p| p.home == Home::Buffer(buffer)).count();
            let over = step.inputs.iter().enumerate().find_map(|(n, place)| {
                let Home::Buffer(buffer) = place.home else { return None };
                let whole = place.offset == 0 && place.bytes == bytes && self.buffers[buffer].bytes == bytes;
                let last = || self.buffers[buffer].last == at && reads(buffer) == 1;
                // All inputs are looked at last: there may be many.
                (whole && bytes > 0 && step.action.in_place(n) && last()).then_some((n, buffer))
            });
            if let Some((operand, buffer)) = over {
                self.buffers[buffer].last = self.buffers[step.output].last;
                home[step.output] = buffer;
                gone[step.output] = true;
                step.in_place = Some(operand);
                step.output = buffer;
            }
        }
        for (_, place) in results {
            if let Home::Buffer(buffer) = &mut place.home {
                *buffer = home[*buffer];
            }
        }
        // What became one with another takes no memory of its own.
        for (buffer, _) in self.buffers.iter_mut().zip(gone).filter(|(_, gone)| *gone) {
            buffer.bytes = 0;
        }
    }
}

/// The same elements at an address that they may be read from; `None` if they are at one.
pub(crate) fn realigned(given: &Tensor) -> Option<Tensor> {
    let is_aligned = (given.data().as_ptr() as usize).is_multiple_of(given.ty().element().bytes());
    (!is_aligned).then(|| tensor(given.ty(), given.data()))
}

/// A tensor with a copy of these bytes, aligned for its elements.
fn tensor(ty: &TensorType, data: &[u8]) -> Tensor {
    let words = bytemuck::pod_collect_to_vec::<u8, u64>(data);
    let bytes = bytes::Bytes::from_owner(Words(words)).slice(..data.len());
    Tensor::new(ty.clone(), bytes).expect("places are as long as their types say")
}

/// Memory that is aligned for every element.
struct Words(Vec<u64>);

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// What the planner needs an action of.
pub(crate) enum Asked<'a> {
    /// A kernel of a problem, with weights that are constant or not.
    Kernel { problem: &'a Problem, constant: bool },
    /// An operation that runs functions, with the types of its operands.
    Control { control: &'a Control, operands: &'a [&'a TensorType] },
}

/// Makes the action of the value at a position.
pub(crate) type Make<'a> = dyn FnMut(usize, Asked<'_>) -> Result<Box<dyn Action>, ModelError> + 'a;

/// Bytes of what an operation writes: of one with several results, all of them.
fn result_bytes(values: &[Value], op: &TensorOp, operands: &[ValueId], ty: &TensorType) -> usize {
    match op {
        TensorOp::Control(control) => control::layout(values, control, operands).1,
        _ => ty.bytes() as usize,
    }
}

/// The text of each value that is computed.
fn texts(func: &Func) -> Vec<String> {
    func.values().map(|(id, v)| if v.operands().is_empty() { String::new() } else { func.headline(id) }).collect()
}

/// The code of an operation.
fn action(
    values: &[Value],
    at: usize,
    op: &TensorOp,
    operands: &[ValueId],
    make: &mut Make<'_>,
) -> Result<(Box<dyn Action>, Code), ModelError> {
    let value = &values[at];
    let types: Vec<&TensorType> = operands.iter().map(|o| &values[o.index()].ty).collect();
    if let TensorOp::Structured(Structured::Kernel { problem }) = op {
        let constant = matches!(values[operands[1].index()].def, Def::Constant(_));
        return Ok((make(at, Asked::Kernel { problem, constant })?, Code::Kernel));
    }
    if let TensorOp::Control(control) = op {
        return Ok((make(at, Asked::Control { control, operands: &types })?, Code::Control));
    }
    if let Some(native) = native::action(&value.label(), op, &types, &value.ty) {
        return Ok((native, Code::Native));
    }
    Ok((Box::new(general::Interpreted::new(&value.label(), op, &types, &value.ty)), Code::Interpreter))
}

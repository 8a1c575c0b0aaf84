//! The planner: it gives each value a step or a place in another value, and each buffer the steps that need it.

use kiln_ir::Problem;
use kiln_ir::func::{Control, Def, Structured, Tensor, TensorOp, TensorType, Value, ValueId};

use super::action::{Action, Code};
use super::aligned::realigned;
use super::control;
use super::general::Interpreted;
use super::memory::{self, Buffer};
use super::native;
use super::run::Plan;
use super::step::{Home, Place, Step};
use crate::error::ModelError;

/// An operation that the planner asks the action of.
pub(crate) enum Asked<'a> {
    /// A kernel of a problem, with weights that are constant or not.
    Kernel { problem: &'a Problem, constant: bool },
    /// An operation that runs functions, with the types of its operands.
    Control { control: &'a Control, operands: &'a [&'a TensorType] },
}

/// Makes the action of the value at a position.
pub(crate) type Make<'a> = dyn FnMut(usize, Asked<'_>) -> Result<Box<dyn Action>, ModelError> + 'a;

/// A plan while it is made.
#[derive(Default)]
pub(super) struct Planner {
    pub(super) places: Vec<Place>,
    steps: Vec<Step>,
    /// Constants, and whether a step reads them where they are.
    constants: Vec<(Option<Tensor>, bool)>,
    buffers: Vec<Buffer>,
    arguments: usize,
}

impl Planner {
    /// Adds the value at a position.
    pub(super) fn add(
        &mut self,
        values: &[Value],
        at: usize,
        text: String,
        make: &mut Make<'_>,
    ) -> Result<(), ModelError> {
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

    pub(super) fn finish(mut self, arguments: Vec<TensorType>, mut results: Vec<(TensorType, Place)>) -> Plan {
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

/// Bytes of what an operation writes: of one with several results, all of them.
pub(super) fn result_bytes(values: &[Value], op: &TensorOp, operands: &[ValueId], ty: &TensorType) -> usize {
    match op {
        TensorOp::Control(control) => control::layout(values, control, operands).1,
        _ => ty.bytes() as usize,
    }
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
    Ok((Box::new(Interpreted::new(&value.label(), op, &types, &value.ty)), Code::Interpreter))
}

//! Operations that are no kernels: their cycles, and how they are divided.

use std::ops::Range;

use kiln_ir::func::{ReduceKind, Structured, TensorOp};
use kiln_jit::Target;
use kiln_jit::compiler::target::{Arch, VectorIsa};
use kiln_jit::compiler::work::{KINDS, Part};

use crate::network::StepInfo;
use crate::ops::{self, EXP, Op};
use crate::plan::Code;

/// Cycles per element: on AArch64 with four pipes of 128 bits, and on x86-64 with AVX2.
type PerElement = [f64; 2];

/// Of a softmax: 16.35 Mcycles for the 6 x 196,608 elements of DistilBERT on Neoverse V1, as llvm-mca models them; 110 us for as many
/// as one layer has, measured on an AMD EPYC at 3.5 GHz.
const SOFTMAX: PerElement = [14.0, 2.0];
/// Of a layer norm: 1.1 Mcycles for 13 x 98,304 elements, modelled; 28 us for one layer, measured.
const NORM: PerElement = [0.9, 1.0];
/// Of a pooling's window: 1.06 Mcycles for 200,704 windows of 9, modelled; the same is assumed on x86-64.
const POOLED: PerElement = [0.6, 0.6];
/// Of an operand that is reduced: 20 us for 100,352 elements, measured; the same is assumed on AArch64.
const REDUCED: PerElement = [0.7, 0.7];
/// Of a cheap operation on elements, whose operands come from the caches: 40 us for 98,304 elements, measured, with two operands from
/// behind the second-level cache. Half of it is assumed where loads are as many as four a cycle.
const CHEAP: PerElement = [0.7, 1.4];
/// Of an element that is moved: as an operation on it.
const MOVED: PerElement = CHEAP;
/// Of an exponential and the like: a softmax without its other passes, estimated.
const DEAR: PerElement = [10.0, 2.0];
/// Of the interpreter, estimated.
const INTERPRETED: PerElement = [50.0, 50.0];

/// An operation on a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Operation {
    /// Parts of the result that are not divided; 0 for what is not divided at all.
    units: usize,
    /// The elements of the result that one has.
    bytes: usize,
    /// The work of one, in cheap operations, as the operation's code has it.
    worth: usize,
    cycles: f64,
}

impl Operation {
    /// The operation of a step with operands of so many bytes, which are taken to be f32.
    pub(super) fn of(step: &StepInfo<'_>, operands: &[usize], target: &Target) -> Self {
        let shape: Vec<usize> = step.ty.shape().iter().map(|d| *d as usize).collect();
        let elements = step.ty.elements() as usize;
        let inner = |axis: u64| shape.iter().skip(axis as usize).product::<usize>().max(1);
        let first = operands.first().map_or(elements, |bytes| bytes / 4);
        let of = |units: usize, worth: usize, elements: usize, each: PerElement| {
            let cycles = elements as f64 * per_element(each, target);
            let bytes = 4 * (step.ty.elements() as usize).checked_div(units).unwrap_or(0);
            Self { units, bytes, worth, cycles }
        };
        if step.code == Code::Interpreter {
            return of(0, 0, elements, INTERPRETED);
        }
        match step.op {
            TensorOp::Structured(op) => match op {
                Structured::Softmax { axis } | Structured::MaskedSoftmax { axis } | Structured::LogSoftmax { axis } => {
                    let unit = inner(*axis);
                    of(elements / unit, unit * EXP, elements, SOFTMAX)
                }
                Structured::LayerNorm { axis, .. } | Structured::RmsNorm { axis, .. } => {
                    let unit = inner(*axis);
                    of(elements / unit, unit * 2, elements, NORM)
                }
                Structured::Pool { kernel, .. } => {
                    let taps = kernel.iter().product::<u64>() as usize;
                    let unit = shape.last().copied().unwrap_or(1).max(1);
                    of(elements / unit, unit * taps, elements * taps, POOLED)
                }
                Structured::Reduce { kind, axes, keep } => {
                    let (units, worth) =
                        reduce(*kind, axes, *keep, &shape, first / elements.max(1)).unwrap_or((elements, 1));
                    of(units, worth, first, REDUCED)
                }
                Structured::LstmCell { .. } | Structured::GruCell { .. } => {
                    let unit = shape.last().copied().unwrap_or(1).max(1);
                    of(elements / unit, unit * 5 * EXP, 5 * elements, DEAR)
                }
                Structured::ScatterElements { .. } | Structured::ScatterNd { .. } => of(0, 0, elements, MOVED),
                Structured::Gather { .. } => {
                    let unit = shape.last().copied().unwrap_or(1).max(1);
                    of(elements / unit, unit.div_ceil(4), elements, MOVED)
                }
                _ => {
                    let unit = shape.iter().skip(1).product::<usize>().max(1);
                    of(elements / unit, unit, elements, MOVED)
                }
            },
            TensorOp::Unary(op) => elementwise(&Op::Unary(op.clone()), elements, of),
            TensorOp::Binary(op) => elementwise(&Op::Binary(op.clone()), elements, of),
            TensorOp::Control(_) => of(0, 0, elements, MOVED),
        }
    }

    /// An operation of equal units, for tests.
    #[cfg(test)]
    pub(super) fn equal(units: usize, worth: usize, cycles: f64) -> Self {
        Self { units, bytes: 64, worth, cycles }
    }

    pub(super) fn cycles(&self) -> f64 {
        self.cycles
    }

    fn pieces(&self, threads: usize) -> Option<(usize, usize)> {
        ops::pieces(self.units, self.bytes, self.worth, threads)
    }

    /// The pieces that it is divided into for so many threads.
    pub(super) fn tasks(&self, threads: usize) -> u64 {
        self.pieces(threads).map_or(1, |(_, count)| count as u64)
    }

    /// Some of these pieces, of which the last one may be smaller.
    pub(super) fn part(&self, threads: usize, tasks: Range<u64>) -> Part {
        let Some((each, _)) = self.pieces(threads) else {
            return Part { cycles: self.cycles, ..Part::default() };
        };
        let unit = |task: u64| (task as usize * each).min(self.units);
        let share = (unit(tasks.end) - unit(tasks.start)) as f64 / self.units as f64;
        Part { cycles: self.cycles * share, copies: 0.0, bytes: [0.0; KINDS] }
    }
}

/// Bytes that a step reads of operands of so many: what selects elements reads no more than it writes.
pub(super) fn read_bytes(step: &StepInfo<'_>, operands: &[usize]) -> usize {
    match step.op {
        TensorOp::Structured(
            Structured::Gather { .. }
            | Structured::GatherElements { .. }
            | Structured::GatherNd { .. }
            | Structured::Slice { .. },
        ) => step.ty.bytes() as usize,
        _ => operands.iter().sum(),
    }
}

fn elementwise(op: &Op, elements: usize, of: impl Fn(usize, usize, usize, PerElement) -> Operation) -> Operation {
    let worth = ops::elementwise_cost(op);
    of(elements, worth, elements, if worth == 1 { CHEAP } else { DEAR })
}

/// The units of a reduction with this result, of which each element is made of `count`, and the work of one. `None` without elements.
fn reduce(kind: ReduceKind, axes: &[u64], keep: bool, result: &[usize], count: usize) -> Option<(usize, usize)> {
    let mut axes: Vec<usize> = axes.iter().map(|a| *a as usize).collect();
    axes.sort_unstable();
    let mut shape = result.to_vec();
    for axis in axes.iter().filter(|_| !keep) {
        shape.insert(*axis, 1);
    }
    // Neighbouring axes count as one, and only all of them together are known.
    *shape.get_mut(*axes.first()?)? = count;
    ops::Reduce::new(kind, &shape, &axes).ok().map(|plan| plan.units())
}

/// Cycles per element on a target.
fn per_element([a64, x64]: PerElement, target: &Target) -> f64 {
    /// Elements a cycle of four pipes of 128 bits.
    const LANES: f64 = 16.0;
    match target.arch {
        Arch::X86_64 => x64,
        // The code is compiled for NEON, which all have, whatever kernels use.
        Arch::Aarch64 => a64 * target.unit(VectorIsa::Neon).map_or(1.0, |u| LANES / f64::from(u.lanes * u.fma_pipes)),
    }
}

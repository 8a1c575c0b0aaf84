//! A step that is predicted: its work and the bytes that it reads.

use std::ops::Range;
use std::sync::Arc;

use kiln_jit::Division;
use kiln_jit::compiler::schedule::Schedule;
use kiln_jit::compiler::work::{KINDS, Work};

use super::operation::Operation;
use super::simulate::{Spent, simulate};

/// The work of a step that is divided among threads.
pub(super) enum Tasks {
    Kernel(Arc<Work>, Schedule),
    Operation(Operation),
}

/// A step that is predicted.
pub(super) struct ModelledStep {
    pub(super) layer: String,
    pub(super) operation: String,
    pub(super) tasks: Tasks,
    pub(super) reads: Reads,
}

impl Tasks {
    /// Cycles on one thread.
    pub(super) fn cycles(&self) -> f64 {
        match self {
            Tasks::Kernel(work, _) => work.cycles(),
            Tasks::Operation(operation) => operation.cycles(),
        }
    }

    /// The time and traffic that so many threads on so many cores spend on each phase, one after the other. No more threads compute than there are cores.
    pub(super) fn phases(&self, threads: usize, cores: usize) -> Vec<Phase> {
        let (members, threads) = (threads, threads.min(cores));
        match self {
            Tasks::Kernel(work, schedule) => {
                let phase = |(at, tasks): (usize, u64)| {
                    let cycles = work.part(at, 0..tasks).cycles;
                    let division = Division::new(schedule, tasks, cycles, threads);
                    let part = &mut |parts: Range<u64>| work.part(at, division.tasks(parts));
                    let spent = simulate(division.parts, division.threads, part);
                    let members = spent.threads.max(Division::new(schedule, tasks, cycles, members).threads);
                    Phase { cycles, most: division.threads, members, spent }
                };
                work.phases().enumerate().map(phase).collect()
            }
            Tasks::Operation(operation) => {
                let tasks = operation.tasks(threads);
                let most = if tasks == 1 { 1 } else { threads };
                let part = &mut |range: Range<u64>| operation.part(threads, range);
                let spent = simulate(tasks, most, part);
                let pieces = usize::try_from(operation.tasks(members)).unwrap_or(members);
                let members = spent.threads.max(pieces.min(members));
                vec![Phase { cycles: operation.cycles(), most, members, spent }]
            }
        }
    }
}

/// Tasks of a step that threads do at once.
pub(super) struct Phase {
    /// Cycles on one thread.
    pub(super) cycles: f64,
    /// Threads that it is worth, no more than cores.
    pub(super) most: usize,
    /// Threads that begin and end it, perhaps more than cores.
    pub(super) members: usize,
    pub(super) spent: Spent,
}

/// Bytes that all threads together read or write in all phases, as in [`Spent`].
pub(super) fn bytes(phases: &[Phase]) -> [f64; KINDS] {
    std::array::from_fn(|kind| phases.iter().map(|phase| phase.spent.bytes[kind]).sum())
}

/// The bytes that a step reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reads {
    /// Bytes that are the same in each call.
    pub(super) weights: f64,
    /// Bytes that other steps computed.
    pub(super) activations: f64,
    /// Bytes that it writes.
    pub(super) result: f64,
    /// The right operand is an activation.
    pub(super) is_of_two: bool,
}

impl Reads {
    pub(super) fn kernel(work: &Work, is_constant: bool) -> Self {
        let [source, weights, result] = work.operands().map(|bytes| bytes as f64);
        match is_constant {
            true => Reads { weights, activations: source, result, is_of_two: false },
            false => Reads { weights: 0.0, activations: source + weights, result, is_of_two: true },
        }
    }

    pub(super) fn operation(operands: usize, result: usize) -> Self {
        Reads { weights: 0.0, activations: operands as f64, result: result as f64, is_of_two: false }
    }
}

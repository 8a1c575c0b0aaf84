//! Predictions of the speed-up of a network, or of one kernel, on threads of a machine that need not be there.
//!
//! This is a model and measures nothing. Of each step, it adds up:
//!
//! - the tasks of its kernel with what the cost model predicts for each ([`Work`]), given to threads as the runtime gives them
//!   (`simulate`);
//! - for other operations, cycles from a table, divided as their code divides them (`operation`);
//! - what it takes to begin and end a step on several threads, or each of its phases if tasks share copies ([`FORK_JOIN_US`], [`FORK_JOIN_MEMBER_US`]);
//! - what the step waits for bytes that all threads together ask the last-level cache or memory of the [`Chip`] for (`traffic`), beyond
//!   what the cost model counts for each thread by itself;
//! - what happens between steps on one thread ([`STEP_US`]).
//!
//! Threads beyond the cores of the chip compute nothing more: they take turns with others, so a call takes as long as with a thread
//! for each core, and the longer beginning and ending of steps besides.
//!
//! It knows nothing of other programs, of threads of one core, of clocks that fall when more cores work, or of several sockets.
//!
//! ```no_run
//! use kiln_model::{Bound, PlanOptions, arch::{Architecture, ArchOptions}};
//!
//! let target = "neoverse-v1".parse()?;
//! let bert = Bound::from_architecture(Architecture::Bert, &ArchOptions::default())?;
//! let scaling = bert.plan_for(&target, &PlanOptions::default())?.scaling(&[1, 16, 64])?;
//! for row in &scaling.rows {
//!     println!("{} threads: {:.1} ms, {:.1} times as fast as one", row.threads, row.ms, row.speedup);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod error;
mod lost;
mod operation;
mod simulate;
mod step;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use kiln_jit::compiler::chip::Chip;
use kiln_jit::compiler::work::Work;
use kiln_jit::{MAX_THREADS, Package, Target};

use crate::network::steps;
use crate::plan::{Code, Plan};
pub use error::ScalingError;
pub use lost::{Limit, Lost};
use operation::Operation;
use step::{ModelledStep, Phase, Reads, Tasks, bytes};
use traffic::Traffic;

/// Microseconds that it takes two threads that are awake to begin and end a step: `cargo xtask figures --threads` measures 0.2 on x86-64. It
/// is a cache line to the member and one back.
pub const FORK_JOIN_US: f64 = 0.2;
/// Microseconds for each further member, since the calling thread looks at the seats of all. A cache line takes 30 to 60 ns from core
/// to core on Graviton2, 3 and 4 (Chips and Cheese, "Arm's Neoverse V2, in AWS's Graviton 4", 2024). Looks at several seats overlap, so
/// that a third to a half of that is assumed for each.
pub const FORK_JOIN_MEMBER_US: f64 = 0.02;
/// Microseconds on one thread from a step to the next, and for its call, whatever it computes. This is an assumption: some 800 cycles to
/// find operands, to check arguments and to call.
pub const STEP_US: f64 = 0.3;
/// The number of steps that a row names of those that lose most.
const WORST: usize = 5;

/// A prediction for several numbers of threads.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// The target that it is for.
    pub target: Target,
    /// The machine with the target's cores.
    pub chip: Chip,
    /// One for each number of threads, in the order they were asked for.
    pub rows: Vec<Row>,
    /// Steps of which nothing is known: branches and loops. They count no time.
    pub unknown: usize,
}

/// A prediction for one number of threads.
#[derive(Clone, Debug)]
pub struct Row {
    /// Threads.
    pub threads: usize,
    /// There are more of them than the chip has cores.
    pub more_than_cores: bool,
    /// Cycles of a call.
    pub cycles: f64,
    /// Milliseconds at the chip's clock.
    pub ms: f64,
    /// The speed relative to that on one thread.
    pub speedup: f64,
    /// The speed-up per thread.
    pub efficiency: f64,
    /// The cycles beyond those of one thread divided by the threads, by cause: those of all causes add up to that.
    pub lost: Lost,
    /// The steps that lose most, the first one most.
    pub worst: Vec<Worst>,
}

/// Steps that lose much: one, or several with the same operation whose names differ in numbers alone, such as those of equal layers.
#[derive(Clone, Debug)]
pub struct Worst {
    /// The name, as in [`StepInfo`](crate::StepInfo), with `*` for numbers in which those of several steps differ.
    pub layer: String,
    /// The problem of the kernel, else the statement of the first step.
    pub operation: String,
    /// The number of these steps.
    pub steps: usize,
    /// The cycles that all of them lose together.
    pub lost: Lost,
}

/// A step on so many threads.
struct Predicted {
    cycles: f64,
    lost: Lost,
}

impl ModelledStep {
    fn predict(&self, threads: usize, chip: &Chip, traffic: &Traffic) -> Predicted {
        let (all, of_step) = (self.tasks.cycles(), chip.cycles(STEP_US));
        if threads == 1 {
            return Predicted { cycles: all + of_step, lost: Lost::default() };
        }
        let (n, phases) = (threads as f64, self.tasks.phases(threads, chip.cores as usize));
        let span: f64 = phases.iter().map(|phase| phase.spent.span).sum();
        let bandwidth = (traffic.cycles(&self.reads, bytes(&phases), chip) - span).max(0.0);
        let mut lost = Lost { bandwidth, serial: of_step - of_step / n, ..Lost::default() };
        for Phase { cycles, most, members, spent } in phases {
            let most = most as f64;
            // Rounding may leave less than nothing.
            lost.imbalance += (spent.span - spent.cycles / most).max(0.0);
            lost.serial += cycles / most - cycles / n;
            lost.copies += ((spent.cycles - cycles) / most).max(0.0);
            if members > 1 {
                lost.barrier += chip.cycles(FORK_JOIN_US + FORK_JOIN_MEMBER_US * (members - 2) as f64);
            }
        }
        Predicted { cycles: of_step + span + lost.barrier + bandwidth, lost }
    }
}

/// A network, or one kernel, on a target, of which any number of threads can be asked.
pub struct Predictor {
    target: Target,
    chip: Chip,
    steps: Vec<ModelledStep>,
    unknown: usize,
    /// Cycles of a call on one thread.
    one: f64,
}

impl Predictor {
    /// Calls of one kernel, one after another.
    pub fn of_kernel(package: &Package) -> Result<Self, ScalingError> {
        let work = Arc::new(Work::of(package)?);
        let facts = package.facts();
        let reads = Reads::kernel(&work, facts.options.constant_weights);
        let operation = facts.problem.to_string();
        let tasks = Tasks::Kernel(work, facts.schedule.clone());
        Ok(Self::new(vec![ModelledStep { layer: operation.clone(), operation, tasks, reads }], 0, &facts.target))
    }

    /// The steps of a plan.
    pub(crate) fn of_plan(plan: &Plan, target: &Target) -> Result<Self, ScalingError> {
        let mut made: HashMap<*const Package, Arc<Work>> = HashMap::new();
        let (mut all, mut unknown) = (vec![], 0);
        for (info, step) in steps(plan).zip(&plan.steps) {
            let operands: Vec<usize> = step.input_bytes().collect();
            let (tasks, reads, operation) = match step.action.package() {
                Some(package) => {
                    let work = match made.get(&Arc::as_ptr(package)) {
                        Some(work) => work.clone(),
                        None => Arc::new(Work::of(package)?),
                    };
                    made.insert(Arc::as_ptr(package), work.clone());
                    let is_constant = package.packed_layout().is_some() || step.is_constant(1);
                    let reads = Reads::kernel(&work, is_constant);
                    (Tasks::Kernel(work, package.facts().schedule.clone()), reads, package.facts().problem.to_string())
                }
                None if info.code == Code::Control => {
                    unknown += 1;
                    continue;
                }
                None => {
                    let operation = Operation::of(&info, &operands, target);
                    let reads = Reads::operation(operation::read_bytes(&info, &operands), info.ty.bytes() as usize);
                    let text = info.text.split_once(" = ").map_or(info.op.name(), |(_, statement)| statement);
                    (Tasks::Operation(operation), reads, text.to_owned())
                }
            };
            all.push(ModelledStep { layer: info.layer.to_owned(), operation, tasks, reads });
        }
        Ok(Self::new(all, unknown, target))
    }

    /// Steps that share caches.
    fn new(steps: Vec<ModelledStep>, unknown: usize, target: &Target) -> Self {
        let chip = Chip::of(target);
        let mut predictor = Self { target: target.clone(), chip, steps, unknown, one: 0.0 };
        predictor.one = predictor.steps(1).iter().map(|step| step.cycles).sum();
        predictor
    }

    /// The target that it is for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The machine with the target's cores.
    pub fn chip(&self) -> &Chip {
        &self.chip
    }

    /// Steps of which nothing is known: branches and loops. They count no time.
    pub fn unknown(&self) -> usize {
        self.unknown
    }

    /// The prediction for so many threads.
    pub fn row(&self, threads: usize) -> Result<Row, ScalingError> {
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(ScalingError::Threads { threads });
        }
        let predicted = self.steps(threads);
        let (mut cycles, mut lost) = (0.0, Lost::default());
        for step in &predicted {
            cycles += step.cycles;
            lost += step.lost;
        }
        let speedup = self.one / cycles;
        Ok(Row {
            threads,
            more_than_cores: threads > self.chip.cores as usize,
            cycles,
            ms: self.chip.ms(cycles),
            speedup,
            efficiency: speedup / threads as f64,
            lost,
            worst: worst(self.steps.iter().zip(&predicted)),
        })
    }

    /// The prediction for several numbers of threads.
    pub fn scaling(&self, threads: &[usize]) -> Result<Scaling, ScalingError> {
        if threads.is_empty() {
            return Err(ScalingError::NoThreads);
        }
        let rows = threads.iter().map(|n| self.row(*n)).collect::<Result<_, _>>()?;
        Ok(Scaling { target: self.target.clone(), chip: self.chip, rows, unknown: self.unknown })
    }

    fn steps(&self, threads: usize) -> Vec<Predicted> {
        let traffic = Traffic::of(&self.steps, threads, &self.target, &self.chip);
        self.steps.iter().map(|step| step.predict(threads, &self.chip, &traffic)).collect()
    }
}

impl fmt::Debug for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Predictor({} steps @{})", self.steps.len(), self.target)
    }
}

/// Steps with the same operation whose names differ in numbers alone.
struct Group<'a> {
    /// The pieces of their name.
    layer: Vec<&'a str>,
    operation: &'a str,
    steps: usize,
    lost: Lost,
}

/// The steps that lose most, equal ones together.
fn worst<'a>(steps: impl Iterator<Item = (&'a ModelledStep, &'a Predicted)>) -> Vec<Worst> {
    let mut groups: Vec<Group<'_>> = vec![];
    let mut places: HashMap<[String; 2], usize> = HashMap::new();
    for (step, Predicted { lost, .. }) in steps.filter(|(_, predicted)| predicted.lost.total() > 0.0) {
        let place =
            *places.entry([without_numbers(&step.layer), without_values(&step.operation)]).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => {
                let both = group.layer.iter_mut().zip(pieces(&step.layer));
                both.filter(|(piece, other)| *piece != other).for_each(|(piece, _)| *piece = "*");
                group.steps += 1;
                group.lost += *lost;
            }
            None => {
                let (layer, operation) = (pieces(&step.layer).collect(), step.operation.as_str());
                groups.push(Group { layer, operation, steps: 1, lost: *lost });
            }
        }
    }
    groups.sort_by(|a, b| b.lost.total().total_cmp(&a.lost.total()));
    let worst = |Group { layer, operation, steps, lost }: Group<'_>| Worst {
        layer: layer.concat(),
        operation: operation.to_owned(),
        steps,
        lost,
    };
    groups.into_iter().take(WORST).map(worst).collect()
}

/// The numbers of a text, and what is between them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    // A digit is a whole character, so that pieces end where characters do.
    text.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()).scan(0, move |at, piece| {
        let begin = *at;
        *at += piece.len();
        Some(&text[begin..*at])
    })
}

fn without_numbers(text: &str) -> String {
    pieces(text).map(|piece| if piece.starts_with(|c: char| c.is_ascii_digit()) { "*" } else { piece }).collect()
}

/// An operation without the numbers of its values, which are those of places in a network: `%` for `%12`.
fn without_values(text: &str) -> String {
    let mut is_after_percent = false;
    let kept = pieces(text).filter(|piece| {
        let is_value = is_after_percent && piece.starts_with(|c: char| c.is_ascii_digit());
        is_after_percent = piece.ends_with('%');
        !is_value
    });
    kept.collect()
}

//! How far a network, or one kernel, is predicted to speed up on threads of a machine that need not be there.
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

mod operation;
mod simulate;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::HashMap;
use std::fmt;
use std::ops::{AddAssign, Range};
use std::sync::Arc;

use kiln_jit::compiler::chip::Chip;
use kiln_jit::compiler::schedule::Schedule;
use kiln_jit::compiler::work::{KINDS, Work};
use kiln_jit::{CompileError, Division, MAX_THREADS, Package, Target};

use crate::network::steps;
use crate::plan::{Code, Plan};
use operation::Operation;
use simulate::{Spent, simulate};
use traffic::{Reads, Traffic};

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
/// How many of the steps that lose most a row names.
const WORST: usize = 5;

/// Why several threads take longer than the time of one divided among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Threads that have nothing left to do wait for others.
    Imbalance,
    /// Beginning and ending steps.
    Barrier,
    /// The last-level cache or memory gives all threads together less than they ask for.
    Bandwidth,
    /// What one thread does alone, and work that is worth fewer threads than there are.
    Serial,
    /// Copies into panels that several threads make, each for itself.
    Copies,
}

impl Limit {
    /// Every cause, with its word.
    pub const ALL: &'static [Limit] =
        &[Limit::Imbalance, Limit::Barrier, Limit::Bandwidth, Limit::Serial, Limit::Copies];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Imbalance => "imbalance",
            Limit::Barrier => "barrier",
            Limit::Bandwidth => "bandwidth",
            Limit::Serial => "serial",
            Limit::Copies => "copies",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Cycles that are lost, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lost {
    /// See [`Limit::Imbalance`].
    pub imbalance: f64,
    /// See [`Limit::Barrier`].
    pub barrier: f64,
    /// See [`Limit::Bandwidth`].
    pub bandwidth: f64,
    /// See [`Limit::Serial`].
    pub serial: f64,
    /// See [`Limit::Copies`].
    pub copies: f64,
}

impl Lost {
    /// What is lost to one cause.
    pub fn to(&self, limit: Limit) -> f64 {
        match limit {
            Limit::Imbalance => self.imbalance,
            Limit::Barrier => self.barrier,
            Limit::Bandwidth => self.bandwidth,
            Limit::Serial => self.serial,
            Limit::Copies => self.copies,
        }
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        Limit::ALL.iter().map(|limit| self.to(*limit)).sum()
    }

    /// The cause that most is lost to.
    pub fn largest(&self) -> Limit {
        let more = |a: &&Limit, b: &&Limit| self.to(**a).total_cmp(&self.to(**b));
        *Limit::ALL.iter().max_by(more).expect("there are causes")
    }
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Lost) {
        self.imbalance += other.imbalance;
        self.barrier += other.barrier;
        self.bandwidth += other.bandwidth;
        self.serial += other.serial;
        self.copies += other.copies;
    }
}

/// A prediction for several numbers of threads.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// What it is for.
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
    /// Cycles of a call.
    pub cycles: f64,
    /// Milliseconds at the chip's clock.
    pub ms: f64,
    /// How many times as fast as on one thread.
    pub speedup: f64,
    /// The speed-up per thread.
    pub efficiency: f64,
    /// What makes it longer than the cycles of one thread divided by the threads: the cycles of all causes add up to that.
    pub lost: Lost,
    /// The steps that lose most, the first one most.
    pub worst: Vec<Worst>,
}

/// A step that loses much.
#[derive(Clone, Debug)]
pub struct Worst {
    /// Its name, as in [`StepInfo`](crate::StepInfo).
    pub layer: String,
    /// The problem of its kernel, else its statement.
    pub operation: String,
    /// What it loses.
    pub lost: Lost,
}

/// A prediction that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScalingError {
    /// No number of threads is given.
    #[error("expected one number of threads or more")]
    NoThreads,
    /// Too few threads, or too many.
    #[error("{threads} threads: expected a number from 1 to {MAX_THREADS}")]
    Threads {
        /// The number.
        threads: usize,
    },
    /// The kernel's loops cannot be followed.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// What is divided among threads.
enum Tasks {
    Kernel(Arc<Work>, Schedule),
    Operation(Operation),
}

/// A step that is predicted.
struct Step {
    layer: String,
    operation: String,
    tasks: Tasks,
    reads: Reads,
}

/// A step on so many threads.
struct Predicted {
    cycles: f64,
    lost: Lost,
}

impl Tasks {
    /// Cycles on one thread.
    fn cycles(&self) -> f64 {
        match self {
            Tasks::Kernel(work, _) => work.cycles(),
            Tasks::Operation(operation) => operation.cycles(),
        }
    }

    /// What so many threads spend on each phase, one after the other.
    fn phases(&self, threads: usize) -> Vec<Phase> {
        match self {
            Tasks::Kernel(work, schedule) => {
                let phase = |(at, tasks): (usize, u64)| {
                    let cycles = work.part(at, 0..tasks).cycles;
                    let division = Division::new(schedule, tasks, cycles, threads);
                    let part = &mut |parts: Range<u64>| work.part(at, division.tasks(parts));
                    Phase { cycles, most: division.threads, spent: simulate(division.parts, division.threads, part) }
                };
                work.phases().enumerate().map(phase).collect()
            }
            Tasks::Operation(operation) => {
                let tasks = operation.tasks(threads);
                let most = if tasks == 1 { 1 } else { threads };
                let part = &mut |range: Range<u64>| operation.part(threads, range);
                vec![Phase { cycles: operation.cycles(), most, spent: simulate(tasks, most, part) }]
            }
        }
    }
}

/// Tasks of a step that threads do at once.
struct Phase {
    /// Cycles on one thread.
    cycles: f64,
    /// Threads that it is worth.
    most: usize,
    spent: Spent,
}

/// Bytes that all threads together read or write in all phases, as in [`Spent`].
fn bytes(phases: &[Phase]) -> [f64; KINDS] {
    std::array::from_fn(|kind| phases.iter().map(|phase| phase.spent.bytes[kind]).sum())
}

impl Step {
    fn predict(&self, threads: usize, chip: &Chip, traffic: &Traffic) -> Predicted {
        let (all, of_step) = (self.tasks.cycles(), chip.cycles(STEP_US));
        if threads == 1 {
            return Predicted { cycles: all + of_step, lost: Lost::default() };
        }
        let (n, phases) = (threads as f64, self.tasks.phases(threads));
        let span: f64 = phases.iter().map(|phase| phase.spent.span).sum();
        let bandwidth = (traffic.cycles(&self.reads, bytes(&phases), chip) - span).max(0.0);
        let mut lost = Lost { bandwidth, serial: of_step - of_step / n, ..Lost::default() };
        for Phase { cycles, most, spent } in phases {
            let most = most as f64;
            // Rounding may leave less than nothing.
            lost.imbalance += (spent.span - spent.cycles / most).max(0.0);
            lost.serial += cycles / most - cycles / n;
            lost.copies += ((spent.cycles - cycles) / most).max(0.0);
            if spent.threads > 1 {
                lost.barrier += chip.cycles(FORK_JOIN_US + FORK_JOIN_MEMBER_US * (spent.threads - 2) as f64);
            }
        }
        Predicted { cycles: of_step + span + lost.barrier + bandwidth, lost }
    }
}

/// Predicts steps, which share caches.
fn predict(steps: &[Step], unknown: usize, target: &Target, threads: &[usize]) -> Result<Scaling, ScalingError> {
    if threads.is_empty() {
        return Err(ScalingError::NoThreads);
    }
    if let Some(wrong) = threads.iter().find(|n| !(1..=MAX_THREADS).contains(*n)) {
        return Err(ScalingError::Threads { threads: *wrong });
    }
    let chip = Chip::of(target);
    let one = predict_row(steps, 1, target, &chip, None);
    let rows = threads.iter().map(|n| predict_row(steps, *n, target, &chip, Some(one.cycles))).collect();
    Ok(Scaling { target: target.clone(), chip, rows, unknown })
}

fn predict_row(steps: &[Step], threads: usize, target: &Target, chip: &Chip, one: Option<f64>) -> Row {
    let traffic = Traffic::of(steps, threads, target, chip);
    let predicted: Vec<Predicted> = steps.iter().map(|step| step.predict(threads, chip, &traffic)).collect();
    let (mut cycles, mut lost) = (0.0, Lost::default());
    for step in &predicted {
        cycles += step.cycles;
        lost += step.lost;
    }
    let mut order: Vec<usize> = (0..steps.len()).filter(|at| predicted[*at].lost.total() > 0.0).collect();
    order.sort_by(|a, b| predicted[*b].lost.total().total_cmp(&predicted[*a].lost.total()));
    let worst = order.iter().take(WORST).map(|at| Worst {
        layer: steps[*at].layer.clone(),
        operation: steps[*at].operation.clone(),
        lost: predicted[*at].lost,
    });
    let speedup = one.unwrap_or(cycles) / cycles;
    Row {
        threads,
        cycles,
        ms: chip.ms(cycles),
        speedup,
        efficiency: speedup / threads as f64,
        lost,
        worst: worst.collect(),
    }
}

/// Predicts the steps of a plan.
pub(crate) fn of_plan(plan: &Plan, target: &Target, threads: &[usize]) -> Result<Scaling, ScalingError> {
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
        all.push(Step { layer: info.layer.to_owned(), operation, tasks, reads });
    }
    predict(&all, unknown, target, threads)
}

/// Predicts calls of one kernel, one after another.
pub fn of_kernel(package: &Package, threads: &[usize]) -> Result<Scaling, ScalingError> {
    let work = Arc::new(Work::of(package)?);
    let facts = package.facts();
    let reads = Reads::kernel(&work, facts.options.constant_weights);
    let operation = facts.problem.to_string();
    let step = Step { layer: operation.clone(), operation, tasks: Tasks::Kernel(work, facts.schedule.clone()), reads };
    predict(&[step], 0, &facts.target, threads)
}

//! What each task of a kernel costs: for models of several threads.
//!
//! [`Work`] follows the loops of a kernel's nest as its driver does. A tile costs what the cost model says of a tile of its size, so that
//! tasks at edges cost less. Copies that a thread makes when it enters a body are made again by each call for a part of the
//! body's tasks. All is in proportion, so that one call for all tasks costs what the cost model predicts.

use std::ops::Range;

use kiln_ir::nest::{Access, BufferKind, Division, Extent, LoopNest, Matrix, Stmt, Var};
use kiln_ir::{Contraction, Problem};

use crate::error::CompileError;
use crate::lower::lower;
use crate::package::Package;
use crate::schedule::{Schedule, cost};
use crate::target::Target;

/// Kinds of operands, by what becomes of them between calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The left operand.
    Source = 0,
    /// The right operand, packed or not.
    Weights = 1,
    /// The result.
    Result = 2,
}

/// How many [`Kind`]s there are.
pub const KINDS: usize = 3;

/// The cost of one call for a range of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// Cycles.
    pub cycles: f64,
    /// Those of them that make copies which other calls for tasks of the same body make as well.
    pub copies: f64,
    /// Bytes of operands that are read or written, by [`Kind`], each byte once.
    pub bytes: [f64; KINDS],
}

/// What the tasks of a kernel cost.
#[derive(Clone, Debug)]
pub struct Work {
    /// One after the other.
    phases: Vec<Body>,
    cycles: f64,
    /// Predicted cycles of one of the model's for tiles, and for copies.
    scales: [f64; 2],
    /// Bytes of one of the model's.
    bytes: [f64; KINDS],
    operands: [u64; KINDS],
}

/// A cost before it is brought to scale.
#[derive(Clone, Copy, Debug, Default)]
struct Raw {
    tiles: f64,
    copies: f64,
    /// Copies that calls for other tasks make again.
    again: f64,
    bytes: [f64; KINDS],
}

/// Statements that are executed one after the other.
#[derive(Clone, Debug)]
struct Body {
    tasks: u64,
    /// Of all tasks in one call.
    all: Raw,
    divided: Option<Divided>,
}

/// How tasks are parts of statements.
#[derive(Clone, Debug)]
struct Divided {
    /// What a call for any of the tasks does first.
    copies: Raw,
    /// The tasks of one loop follow those of the loop before it. Otherwise, a task is a part of each loop.
    is_in_turn: bool,
    loops: Vec<Repeated>,
}

/// A loop.
#[derive(Clone, Debug)]
struct Repeated {
    trips: u64,
    is_parallel: bool,
    body: Body,
    moves: Moves,
}

/// How statements get at operands of each kind.
#[derive(Clone, Debug, Default)]
struct Moves {
    /// Whether each iteration of the loop has elements of its own.
    with_iterations: [bool; KINDS],
    /// Constants of the first access. Statements of one body whose constants are equal are taken to have the same elements.
    first: [Option<Vec<i64>>; KINDS],
}

impl Raw {
    fn add(&mut self, other: &Raw) {
        self.tiles += other.tiles;
        self.copies += other.copies;
        self.again += other.again;
    }

    fn times(self, n: f64, moves: &Moves) -> Raw {
        let bytes = std::array::from_fn(|kind| self.bytes[kind] * if moves.with_iterations[kind] { n } else { 1.0 });
        Raw { tiles: self.tiles * n, copies: self.copies * n, again: self.again * n, bytes }
    }
}

/// Adds up bytes of statements one after the other.
#[derive(Default)]
struct Bytes<'a> {
    of_each: [Vec<Same<'a>>; KINDS],
}

/// The most bytes of statements whose elements are taken to be the same.
struct Same<'a> {
    first: Option<&'a [i64]>,
    most: f64,
}

impl<'a> Bytes<'a> {
    fn add(&mut self, bytes: [f64; KINDS], moves: &'a Moves) {
        for ((known, bytes), first) in self.of_each.iter_mut().zip(bytes).zip(&moves.first) {
            let first = first.as_deref();
            match known.iter_mut().find(|same| same.first == first) {
                Some(same) => same.most = same.most.max(bytes),
                None => known.push(Same { first, most: bytes }),
            }
        }
    }

    fn sum(&self) -> [f64; KINDS] {
        std::array::from_fn(|kind| self.of_each[kind].iter().map(|same| same.most).sum())
    }
}

impl Body {
    /// One call for tasks `low..high`.
    fn part(&self, low: u64, high: u64) -> Raw {
        if low >= high {
            return Raw::default();
        }
        match &self.divided {
            Some(divided) if high - low < self.tasks => divided.part(low, high),
            _ => self.all,
        }
    }
}

impl Divided {
    fn part(&self, low: u64, high: u64) -> Raw {
        let mut sum = self.copies;
        let mut bytes = Bytes::default();
        let mut first = 0;
        for l in &self.loops {
            let tasks = l.tasks();
            let range = match self.is_in_turn {
                true => low.max(first) - first..high.min(first + tasks).max(first) - first,
                false => low..high,
            };
            first += tasks;
            if range.start < range.end {
                let part = l.part(range);
                sum.add(&part);
                bytes.add(part.bytes, &l.moves);
            }
        }
        let bytes = bytes.sum();
        sum.bytes = std::array::from_fn(|kind| sum.bytes[kind] + bytes[kind]);
        sum
    }
}

impl Repeated {
    fn tasks(&self) -> u64 {
        self.body.tasks * if self.is_parallel { self.trips } else { 1 }
    }

    fn part(&self, tasks: Range<u64>) -> Raw {
        if !self.is_parallel {
            return self.body.part(tasks.start, tasks.end).times(self.trips as f64, &self.moves);
        }
        let each = self.body.tasks;
        let (first, last) = (tasks.start / each, (tasks.end - 1) / each);
        if first == last {
            return self.body.part(tasks.start - first * each, tasks.end - first * each);
        }
        // Parts of iterations at both ends, and whole ones between them.
        let ends = [self.body.part(tasks.start - first * each, each), self.body.part(0, tasks.end - last * each)];
        let between = (last - first - 1) as f64;
        let mut sum = self.body.all.times(between, &self.moves);
        for kind in 0..KINDS {
            let of_ends = ends[0].bytes[kind] + ends[1].bytes[kind];
            let all = self.body.all.bytes[kind];
            sum.bytes[kind] = match self.moves.with_iterations[kind] {
                true => all * between + of_ends,
                false if between > 0.0 => all,
                false => of_ends.min(all),
            };
        }
        ends.iter().for_each(|end| sum.add(end));
        sum
    }
}

/// The kind of a nest's buffer, of which so many are operands of the problem and further ones are regions of packed weights; `None` for
/// operands of post-ops and for scratch memory.
fn kind(nest: &LoopNest, operands: usize, buffer: usize) -> Option<Kind> {
    match nest.buffers[buffer].kind {
        BufferKind::Shared | BufferKind::Scratch => None,
        BufferKind::Out | BufferKind::InOut => Some(Kind::Result),
        BufferKind::In if buffer == 0 => Some(Kind::Source),
        BufferKind::In if buffer == 1 || buffer >= operands => Some(Kind::Weights),
        BufferKind::In => None,
    }
}

/// Follows a nest.
struct Builder<'a> {
    nest: &'a LoopNest,
    model: cost::Model<'a>,
    schedule: &'a Schedule,
    /// Operands of the problem. Regions of packed weights are behind them.
    operands: usize,
}

impl Builder<'_> {
    fn body(&self, body: &[Stmt]) -> Body {
        let division = Division::of(body);
        let is_part = |s: &Stmt| match (s, division) {
            (Stmt::Loop(l), Division::Loops(_)) => l.parallel,
            (Stmt::Loop(l), Division::Parts(_)) => Division::of(&l.body) != Division::None,
            _ => false,
        };
        let (parts, others): (Vec<&Stmt>, Vec<&Stmt>) = body.iter().partition(|s| is_part(s));
        let (mut copies, mut bytes) = (Raw::default(), Bytes::default());
        let others: Vec<(Raw, Moves)> = others.into_iter().map(|s| self.whole(s)).collect();
        for (raw, moves) in &others {
            copies.add(raw);
            bytes.add(raw.bytes, moves);
        }
        copies.bytes = bytes.sum();
        if parts.is_empty() {
            return Body { tasks: 1, all: copies, divided: None };
        }
        copies.again = copies.copies;
        let loops = parts.into_iter().filter_map(|s| {
            let Stmt::Loop(l) = s else { return None };
            let moves = self.moves(s, Some(l.var));
            Some(Repeated { trips: l.trips().unwrap_or(1), is_parallel: l.parallel, body: self.body(&l.body), moves })
        });
        let divided = Divided { copies, is_in_turn: matches!(division, Division::Loops(_)), loops: loops.collect() };
        let tasks = division.tasks();
        Body { tasks, all: divided.part(0, tasks), divided: Some(divided) }
    }

    /// A statement that no loop divides.
    fn whole(&self, s: &Stmt) -> (Raw, Moves) {
        let mut raw = Raw::default();
        match s {
            Stmt::Loop(l) => {
                let moves = self.moves(s, Some(l.var));
                let body = self.body(&l.body);
                return (body.all.times(l.trips().unwrap_or(1) as f64, &moves), moves);
            }
            Stmt::Tile(t) => {
                raw.tiles = self.model.tile(self.schedule, t).unwrap_or(0.0);
                self.count(&mut raw, &t.lhs, t.m * t.k);
                self.count(&mut raw, &t.rhs, t.n * t.k);
                self.count(&mut raw, &t.dst, t.m * t.n);
            }
            Stmt::Pack(p) => {
                let is_interleaved = self.nest.buffers[usize::from(p.dst.at.buffer.0)].interleave > 1;
                raw.copies = self.model.copy(p, is_interleaved);
                let elements = [&p.k, &p.width].map(|e| if let Extent::Const(n) = e { *n } else { 1 });
                self.count(&mut raw, &p.src, elements[0] * elements[1]);
            }
            _ => {}
        }
        (raw, self.moves(s, None))
    }

    fn count(&self, raw: &mut Raw, m: &Matrix, elements: u64) {
        if let Some(kind) = kind(self.nest, self.operands, m.at.buffer.0.into()) {
            raw.bytes[kind as usize] += elements as f64;
        }
    }

    fn moves(&self, s: &Stmt, var: Option<Var>) -> Moves {
        let mut moves = Moves::default();
        self.look(s, &mut |at| {
            let Some(kind) = kind(self.nest, self.operands, at.buffer.0.into()) else { return };
            let kind = kind as usize;
            moves.with_iterations[kind] |= var.is_some_and(|v| at.index.iter().any(|i| i.coefficient(v) != 0));
            moves.first[kind].get_or_insert_with(|| at.index.iter().map(|i| i.constant).collect());
        });
        moves
    }

    fn look(&self, s: &Stmt, told: &mut impl FnMut(&Access)) {
        match s {
            Stmt::Loop(l) => l.body.iter().for_each(|s| self.look(s, told)),
            Stmt::Tile(t) => [&t.lhs, &t.rhs, &t.dst].into_iter().for_each(|m| told(&m.at)),
            Stmt::Pack(p) => told(&p.src.at),
            _ => {}
        }
    }
}

impl Work {
    /// The work of a compiled kernel.
    pub fn of(package: &Package) -> Result<Work, CompileError> {
        let facts = package.facts();
        Self::new(&facts.problem, &facts.target, package.contraction(), &facts.schedule, facts.cycles)
    }

    fn new(
        problem: &Problem,
        target: &Target,
        c: &Contraction,
        schedule: &Schedule,
        cycles: f64,
    ) -> Result<Work, CompileError> {
        let unsupported = || CompileError::Unsupported {
            what: format!("the vector unit {}", schedule.isa),
            target: Box::new(target.clone()),
        };
        let model = cost::Model::of(c, target);
        let unit = target.unit(schedule.isa).ok_or_else(unsupported)?;
        let predicted = model.predict(schedule).ok_or_else(unsupported)?;
        let nest = lower(problem, c, schedule, unit, |_, _| {}).map_err(|e| CompileError::Internal {
            stage: "lower",
            problem: Box::new(problem.clone()),
            cause: e.into(),
        })?;
        let operands = c.arguments.len();
        let builder = Builder { nest: &nest, model, schedule, operands };
        let phases: Vec<Body> = nest.phases().map(|body| builder.body(body)).collect();
        let mut all = Raw::default();
        for phase in &phases {
            all.add(&phase.all);
            (0..KINDS).for_each(|kind| all.bytes[kind] += phase.all.bytes[kind]);
        }
        // What is predicted for copies that the nest does not have is part of the tiles.
        let copied = if all.copies > 0.0 { predicted.pack } else { 0.0 };
        let per = |cycles: f64, raw: f64| if raw > 0.0 { cycles / raw } else { 0.0 };
        let scale = cycles / predicted.cycles;
        let scales = [per((predicted.cycles - copied) * scale, all.tiles), per(copied * scale, all.copies)];
        let mut sizes = [0; KINDS];
        for (at, buffer) in nest.buffers.iter().enumerate() {
            if let Some(kind) = kind(&nest, operands, at) {
                sizes[kind as usize] += buffer.len() * buffer.dtype.bytes() as u64;
            }
        }
        let bytes = std::array::from_fn(|kind| per(sizes[kind] as f64, all.bytes[kind]));
        Ok(Work { phases, cycles, scales, bytes, operands: sizes })
    }

    /// The tasks of each phase: all of one are done before the next begins.
    pub fn phases(&self) -> impl ExactSizeIterator<Item = u64> {
        self.phases.iter().map(|body| body.tasks)
    }

    /// Predicted cycles of all tasks in one call.
    pub fn cycles(&self) -> f64 {
        self.cycles
    }

    /// Bytes of the operands by [`Kind`].
    pub fn operands(&self) -> [u64; KINDS] {
        self.operands
    }

    /// The cost of one call for a range of tasks of a phase, which are counted from 0. There is no phase beyond [`phases`](Self::phases).
    pub fn part(&self, phase: usize, tasks: Range<u64>) -> Part {
        let raw =
            self.phases.get(phase).map_or(Raw::default(), |body| body.part(tasks.start, tasks.end.min(body.tasks)));
        Part {
            cycles: raw.tiles * self.scales[0] + raw.copies * self.scales[1],
            copies: raw.again * self.scales[1],
            bytes: std::array::from_fn(|kind| raw.bytes[kind] * self.bytes[kind]),
        }
    }
}

//! Tasks: the pieces of a nest that threads share.
//!
//! Loops that are marked `parallel` divide a nest. Where such a loop's body is divided itself, each iteration is divided again, so that a
//! task is one iteration of an innermost one. Tasks are numbered in the order in which one thread executes them, and a thread gets a
//! range of numbers.
//!
//! A body is divided in one of two ways. Its parallel loops may follow one another: then their tasks do. Or it has serial loops with
//! parallel ones inside, as those over blocks of K: then all of these have the same tasks, and a task is the same part of each, one
//! after the other. All other statements of such a body are copies into scratch memory, which belongs to a thread: each thread that
//! executes some of the body's tasks makes them.
//!
//! Barriers cut a nest into phases, whose tasks are numbered one phase after the other.

use super::{Access, BufferKind, Extent, Loop, LoopNest, Stmt, VerifyError};

/// How a body is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Division {
    /// It is executed as a whole.
    None,
    /// So many tasks, those of its parallel loops.
    Loops(u64),
    /// So many tasks, each a part of every serial loop.
    Parts(u64),
}

impl Division {
    /// Of statements that are executed one after the other.
    pub fn of(body: &[Stmt]) -> Self {
        let mut division = Division::None;
        for s in body {
            let Stmt::Loop(l) = s else { continue };
            let inside = Division::of(&l.body);
            division = match (l.parallel, division, inside) {
                (true, Division::Loops(before), _) => Division::Loops(before.saturating_add(l.tasks())),
                (true, ..) => Division::Loops(l.tasks()),
                (false, Division::None, Division::Loops(n) | Division::Parts(n)) => Division::Parts(n),
                _ => division,
            };
        }
        division
    }

    /// Tasks: 1 for what is not divided.
    pub fn tasks(self) -> u64 {
        match self {
            Division::None => 1,
            Division::Loops(n) | Division::Parts(n) => n,
        }
    }
}

impl Loop {
    /// How often the body is executed; `None` where that depends on other loops.
    pub fn trips(&self) -> Option<u64> {
        match self.extent {
            Extent::Const(n) => Some(n.div_ceil(self.step.max(1))),
            Extent::Min { .. } => None,
        }
    }

    /// Tasks of all iterations of a loop that divides them.
    pub fn tasks(&self) -> u64 {
        self.trips().unwrap_or(1).saturating_mul(Division::of(&self.body).tasks())
    }
}

impl LoopNest {
    /// The statements between barriers. All tasks of a phase are done before the next one begins.
    pub fn phases(&self) -> impl Iterator<Item = &[Stmt]> {
        self.body.split(|s| matches!(s, Stmt::Barrier))
    }

    /// The number of tasks of each phase: 1 for one that no loop divides.
    pub fn phase_tasks(&self) -> Vec<u64> {
        self.phases().map(|body| Division::of(body).tasks()).collect()
    }

    /// The number of tasks of all phases.
    pub fn tasks(&self) -> u64 {
        self.phase_tasks().into_iter().fold(0, u64::saturating_add)
    }

    /// Checks, where tails are split, that tasks are all that there is to do but for copies into scratch memory, and that no task writes
    /// shared memory that another one of its phase uses.
    pub fn verify_tasks(&self) -> Result<(), VerifyError> {
        self.phases().try_for_each(|body| self.divides(body))?;
        let phases: Vec<Used> = self.phases().map(|body| Used::of(self, body)).collect();
        for (at, b) in self.buffers.iter().enumerate().filter(|(_, b)| b.kind == BufferKind::Shared) {
            let writes: Vec<usize> = (0..phases.len()).filter(|p| phases[*p].written[at]).collect();
            let first_read = (0..phases.len()).find(|p| phases[*p].read[at]);
            if writes.len() > 1 || first_read.is_some_and(|read| writes.first().is_none_or(|write| *write >= read)) {
                return Err(VerifyError::Shared(b.name.clone()));
            }
        }
        Ok(())
    }

    fn divides(&self, body: &[Stmt]) -> Result<(), VerifyError> {
        let division = Division::of(body);
        let is_part = |s: &Stmt| match (s, division) {
            (Stmt::Loop(l), Division::Loops(_)) => l.parallel,
            (Stmt::Loop(l), Division::Parts(n)) => {
                let inside = Division::of(&l.body);
                !l.parallel && inside != Division::None && inside.tasks() == n
            }
            (_, Division::None) => true,
            _ => false,
        };
        let first = body.iter().position(is_part);
        for (at, s) in body.iter().enumerate() {
            // Each thread executes what is not divided for itself, so that others must not see it. What a parallel loop needs is before
            // it.
            let is_before = matches!(division, Division::Parts(_)) || Some(at) < first;
            let is_legal = is_part(s) || (is_before && self.copies_for_itself(s));
            if !is_legal {
                return Err(VerifyError::Division);
            }
            match s {
                Stmt::Loop(l) if l.trips().is_none() && Division::of(&l.body) != Division::None => {
                    return Err(VerifyError::Division);
                }
                Stmt::Loop(l) => self.divides(&l.body)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a statement does nothing but copy into scratch memory.
    fn copies_for_itself(&self, s: &Stmt) -> bool {
        match s {
            Stmt::Pack(p) => self.buffers[usize::from(p.dst.at.buffer.0)].kind == BufferKind::Scratch,
            Stmt::Loop(l) => !l.parallel && l.body.iter().all(|s| self.copies_for_itself(s)),
            _ => false,
        }
    }
}

/// Buffers that statements use.
struct Used {
    written: Vec<bool>,
    read: Vec<bool>,
}

impl Used {
    fn of(nest: &LoopNest, body: &[Stmt]) -> Self {
        let none = vec![false; nest.buffers.len()];
        let mut used = Used { written: none.clone(), read: none };
        used.add(body);
        used
    }

    fn add(&mut self, body: &[Stmt]) {
        let mut write = |a: &Access| self.written[usize::from(a.buffer.0)] = true;
        for s in body {
            match s {
                Stmt::Zero { dst } | Stmt::MulAdd { dst, .. } | Stmt::Post { dst, .. } => write(dst),
                Stmt::Pack(p) => write(&p.dst.at),
                Stmt::Tile(t) => write(&t.dst.at),
                Stmt::Loop(_) | Stmt::If { .. } | Stmt::Inside { .. } | Stmt::Delinearize { .. } | Stmt::Barrier => {}
            }
        }
        let mut read = |a: &Access| self.read[usize::from(a.buffer.0)] = true;
        for s in body {
            match s {
                Stmt::MulAdd { lhs, rhs, .. } => [lhs, rhs].into_iter().for_each(&mut read),
                Stmt::Post { operand, .. } => operand.iter().for_each(&mut read),
                Stmt::Pack(p) => read(&p.src.at),
                Stmt::Tile(t) => {
                    [&t.lhs.at, &t.rhs.at].into_iter().for_each(&mut read);
                    t.post.iter().filter_map(|(_, m)| m.as_ref()).for_each(|m| read(&m.at));
                }
                Stmt::Zero { .. }
                | Stmt::Loop(_)
                | Stmt::If { .. }
                | Stmt::Inside { .. }
                | Stmt::Delinearize { .. }
                | Stmt::Barrier => {}
            }
        }
        for s in body {
            match s {
                Stmt::Loop(l) => self.add(&l.body),
                Stmt::If { body, .. } | Stmt::Inside { body, .. } | Stmt::Delinearize { body, .. } => self.add(body),
                _ => {}
            }
        }
    }
}

//! The interpreter: what a loop nest means.

use std::ops::Range;

use super::{
    Access, Affine, Buffer, BufferKind, Division, Extent, Init, LoopNest, Matrix, Pack, Stmt, Tile, TileWindow,
    VerifyError,
};
use crate::dtype::DType;

/// A nest that cannot be executed on the given arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpError {
    /// The nest is not well-formed.
    #[error(transparent)]
    Malformed(#[from] VerifyError),
    /// The number of slices differs from the number of argument buffers.
    #[error("{given} argument(s) given, the nest has {wanted}")]
    Arguments {
        /// Slices given.
        given: usize,
        /// Argument buffers.
        wanted: usize,
    },
    /// A slice is too short.
    #[error("argument `{name}` has {given} element(s), the nest addresses {wanted}")]
    Length {
        /// Buffer.
        name: String,
        /// Elements given.
        given: usize,
        /// Elements addressed.
        wanted: u64,
    },
    /// An index is outside its dimension.
    #[error("`{name}` is accessed at {index:?}, outside its extents")]
    OutOfBounds {
        /// Buffer.
        name: String,
        /// The evaluated indices.
        index: Vec<i64>,
    },
}

struct Machine<'a, 'b> {
    nest: &'a LoopNest,
    args: &'a mut [&'b mut [f32]],
    scratch: Vec<Vec<f32>>,
    vars: Vec<i64>,
}

impl LoopNest {
    /// Executes the nest in f32 on one slice per argument buffer, in order. Every multiply-add is fused. Scratch memory
    /// starts as NaN, so that reading it before writing it shows.
    pub fn interpret(&self, args: &mut [&mut [f32]]) -> Result<(), InterpError> {
        self.machine(args)?.run(&self.body)
    }

    /// Executes ranges of [tasks](Self::tasks) one after the other, each as a thread with scratch memory of its own: all tasks once, in
    /// any order within a phase and cut in any way, do the same as [`interpret`](Self::interpret). Tails are split before there are tasks.
    pub fn interpret_tasks(
        &self,
        args: &mut [&mut [f32]],
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<(), InterpError> {
        self.verify_tasks()?;
        let mut machine = self.machine(args)?;
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            machine.forget();
            let mut first = 0;
            for body in self.phases() {
                let end = first + Division::of(body).tasks();
                let part = range.start.clamp(first, end) - first..range.end.clamp(first, end) - first;
                if !part.is_empty() {
                    machine.tasks(body, part)?;
                }
                first = end;
            }
        }
        Ok(())
    }

    fn machine<'a, 'b>(&'a self, args: &'a mut [&'b mut [f32]]) -> Result<Machine<'a, 'b>, InterpError> {
        self.verify()?;
        let is_argument = |b: &&Buffer| !matches!(b.kind, BufferKind::Shared | BufferKind::Scratch);
        let wanted = self.buffers.iter().filter(is_argument).count();
        if args.len() != wanted {
            return Err(InterpError::Arguments { given: args.len(), wanted });
        }
        for (a, b) in args.iter().zip(&self.buffers) {
            if (a.len() as u64) < b.len() {
                return Err(InterpError::Length { name: b.name.clone(), given: a.len(), wanted: b.len() });
            }
        }
        let scratch = self.buffers[wanted..].iter().map(|b| vec![f32::NAN; b.len() as usize]).collect();
        Ok(Machine { nest: self, args, scratch, vars: vec![0; self.vars.len()] })
    }
}

impl Machine<'_, '_> {
    fn run(&mut self, body: &[Stmt]) -> Result<(), InterpError> {
        body.iter().try_for_each(|s| self.stmt(s))
    }

    /// Begins as another thread: what is in scratch memory is not there any more.
    fn forget(&mut self) {
        let kinds = self.nest.buffers[self.args.len()..].iter().map(|b| b.kind);
        let own = self.scratch.iter_mut().zip(kinds).filter(|(_, kind)| *kind == BufferKind::Scratch);
        own.for_each(|(memory, _)| memory.fill(f32::NAN));
    }

    /// A range of the tasks of a body.
    fn tasks(&mut self, body: &[Stmt], range: Range<u64>) -> Result<(), InterpError> {
        let division = Division::of(body);
        let mut first = 0;
        for s in body {
            match (s, division) {
                (Stmt::Loop(l), Division::Loops(_)) if l.parallel => {
                    let inside = Division::of(&l.body).tasks();
                    for i in 0..l.tasks() / inside {
                        let begin = range.start.clamp(first, first + inside) - first;
                        let end = range.end.clamp(first, first + inside) - first;
                        if begin < end {
                            self.vars[l.var.0 as usize] = (i * l.step) as i64;
                            self.tasks(&l.body, begin..end)?;
                        }
                        first += inside;
                    }
                }
                (Stmt::Loop(l), Division::Parts(_)) if Division::of(&l.body) != Division::None => {
                    for i in 0..l.trips().unwrap_or(1) {
                        self.vars[l.var.0 as usize] = (i * l.step) as i64;
                        self.tasks(&l.body, range.clone())?;
                    }
                }
                (s, _) => self.stmt(s)?,
            }
        }
        Ok(())
    }

    fn stmt(&mut self, s: &Stmt) -> Result<(), InterpError> {
        match s {
            Stmt::Loop(l) => {
                let end = self.extent(&l.extent);
                let mut i = 0;
                while i < end {
                    self.vars[l.var.0 as usize] = i as i64;
                    self.run(&l.body)?;
                    i += l.step;
                }
            }
            Stmt::If { var, value, body } => {
                if self.vars[var.0 as usize] == *value as i64 {
                    self.run(body)?;
                }
            }
            Stmt::Inside { index, extent, body } => {
                if (0..*extent as i64).contains(&self.value(index)) {
                    self.run(body)?;
                }
            }
            Stmt::Delinearize { index, into, body } => {
                let mut rest = self.value(index);
                for (var, extent) in into.iter().rev() {
                    self.vars[var.0 as usize] = rest % *extent as i64;
                    rest /= *extent as i64;
                }
                self.run(body)?;
            }
            Stmt::Barrier => {}
            Stmt::Zero { dst } => *self.at(dst)? = 0.0,
            Stmt::MulAdd { dst, lhs, rhs } => {
                let (a, b) = (*self.at(lhs)?, *self.at(rhs)?);
                let c = self.at(dst)?;
                *c = a.mul_add(b, *c);
            }
            Stmt::Post { op, dst, operand } => {
                let x = operand.as_ref().map_or(Ok(0.0), |a| self.at(a).copied())?;
                let c = self.at(dst)?;
                *c = op.apply_f32(*c, x);
            }
            Stmt::Pack(p) => self.pack(p)?,
            Stmt::Tile(t) => self.tile(t)?,
        }
        Ok(())
    }

    fn tile(&mut self, t: &Tile) -> Result<(), InterpError> {
        for i in 0..t.m {
            for j in 0..t.n {
                let mut c = match t.init {
                    Init::Zero => 0.0,
                    Init::Load => *self.element(&t.dst, i, j)?,
                };
                match &t.window {
                    Some(w) => c = self.window(t, w, (i, j), c)?,
                    None => c = self.sum(t, (i, j), c)?,
                }
                for (op, operand) in &t.post {
                    let x = operand.as_ref().map_or(Ok(0.0), |m| self.element(m, i, j).copied())?;
                    c = op.apply_f32(c, x);
                }
                let dtype = self.dtype(&t.dst.at);
                *self.element(&t.dst, i, j)? = dtype.round(c);
            }
        }
        Ok(())
    }

    fn sum(&mut self, t: &Tile, (i, j): (u64, u64), mut c: f32) -> Result<f32, InterpError> {
        for p in 0..t.k {
            // A panel has K first, as rhs has.
            let a = if self.is_panel(&t.lhs) { self.element(&t.lhs, p, i) } else { self.element(&t.lhs, i, p) };
            let (a, b) = (*a?, *self.element(&t.rhs, p, j)?);
            c = a.mul_add(b, c);
        }
        Ok(c)
    }

    fn window(&mut self, t: &Tile, w: &TileWindow, (i, j): (u64, u64), mut c: f32) -> Result<f32, InterpError> {
        let b = &self.nest.buffers[t.lhs.at.buffer.0 as usize];
        let first = b.offset(&self.index(&t.lhs.at)?) as i64 + w.rows[i as usize];
        let (group, len) = (b.interleave, b.len() as i64);
        for run in w.runs.iter().filter(|r| r.rows >> i & 1 == 1) {
            for p in 0..run.len {
                let step = match (w.columns, group) {
                    (true, _) => j * t.lhs.col,
                    (_, 1) => p * t.lhs.col,
                    (_, group) => p / group * group * t.lhs.row + p % group,
                };
                let at = first + run.lhs + step as i64;
                if at < 0 || at >= len {
                    let name = self.nest.buffers[t.lhs.at.buffer.0 as usize].name.clone();
                    return Err(InterpError::OutOfBounds { name, index: vec![at] });
                }
                let a = *self.memory(&t.lhs.at, at as usize);
                c = a.mul_add(*self.element(&t.rhs, run.rhs + p, j)?, c);
            }
        }
        Ok(c)
    }

    fn pack(&mut self, p: &Pack) -> Result<(), InterpError> {
        let interleave = self.nest.buffers[p.dst.at.buffer.0 as usize].interleave;
        let (k, width) = (self.extent(&p.k), self.extent(&p.width));
        let (steps, pitch) = if interleave > 1 { (k.next_multiple_of(interleave), p.pitch) } else { (k, width) };
        let dtype = self.dtype(&p.dst.at);
        for i in 0..steps {
            for w in 0..pitch {
                let v = if i < k && w < width { dtype.round(*self.element(&p.src, i, w)?) } else { 0.0 };
                *self.element(&p.dst, i, w)? = v;
            }
        }
        Ok(())
    }

    fn dtype(&self, a: &Access) -> DType {
        self.nest.buffers[a.buffer.0 as usize].dtype
    }

    /// Whether an operand is read from a panel, whose strides are its own.
    fn is_panel(&self, m: &Matrix) -> bool {
        self.nest.buffers[m.at.buffer.0 as usize].interleave > 1
    }

    fn value(&self, a: &Affine) -> i64 {
        a.eval(|v| self.vars[v.0 as usize])
    }

    fn extent(&self, e: &Extent) -> u64 {
        match e {
            Extent::Const(n) => *n,
            Extent::Min { tile, rest } => (*tile as i64).min(self.value(rest)).max(0) as u64,
        }
    }

    /// The indices of an access, checked.
    fn index(&self, access: &Access) -> Result<Vec<u64>, InterpError> {
        let b = &self.nest.buffers[access.buffer.0 as usize];
        let index: Vec<i64> = access.index.iter().map(|i| self.value(i)).collect();
        if index.iter().zip(&b.dims).any(|(&i, d)| i < 0 || i as u64 >= d.extent) {
            return Err(InterpError::OutOfBounds { name: b.name.clone(), index });
        }
        Ok(index.into_iter().map(|i| i as u64).collect())
    }

    /// The element at `access`.
    fn at(&mut self, access: &Access) -> Result<&mut f32, InterpError> {
        let offset = self.nest.buffers[access.buffer.0 as usize].offset(&self.index(access)?);
        Ok(self.memory(access, offset as usize))
    }

    /// Element `(row, col)` of an operand. The first is checked by index, the others against the buffer's length; those of a
    /// panel by its own last two dimensions.
    fn element(&mut self, m: &Matrix, row: u64, col: u64) -> Result<&mut f32, InterpError> {
        let mut index = self.index(&m.at)?;
        let b = &self.nest.buffers[m.at.buffer.0 as usize];
        let offset = if let Some(at) = b.last_interleaved() {
            index[at] += row;
            index[at + 1] += col;
            b.offset(&index)
        } else {
            b.offset(&index) + row * m.row + col * m.col
        };
        if offset >= b.len() {
            return Err(InterpError::OutOfBounds { name: b.name.clone(), index: vec![row as i64, col as i64] });
        }
        Ok(self.memory(&m.at, offset as usize))
    }

    fn memory(&mut self, access: &Access, offset: usize) -> &mut f32 {
        let i = access.buffer.0 as usize;
        match i.checked_sub(self.args.len()) {
            Some(s) => &mut self.scratch[s][offset],
            None => &mut self.args[i][offset],
        }
    }
}

//! The builder: from a register tile to its vector program, the same for every instruction set.
//!
//! A tile is computed in one of several [forms](crate::form). Each leaves the sums as vectors of a row's columns; [`epilogue`] applies the
//! post-ops and stores them. [`pack`] copies factors into panels. The programs that they make have a register for each value;
//! [`assign`](mod@super::assign) gives them those of a unit.

pub mod epilogue;
pub mod pack;
pub mod transpose;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use kiln_ir::DType;
use kiln_ir::nest::{Init, LoopNest, Matrix, Run, Tile, TileWindow};

use super::assign::{AssignError, AssignmentError};
use super::{Access, Addr, Inst, MicroKernel, Op, P, Param, Region, Stmt, V};
use crate::target::{Multiplier, VectorUnit};

/// A tile that does not fit in the registers: the schedule's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Too many accumulators and operands.
    #[error("a {m}x{n} tile needs {needed} registers, {isa} has {have}", isa = unit.isa, have = unit.registers)]
    Registers {
        /// Rows.
        m: u64,
        /// Columns.
        n: u64,
        /// Registers it takes.
        needed: u64,
        /// The vector unit.
        unit: VectorUnit,
    },
    /// No registers can be assigned.
    #[error(transparent)]
    Assign(#[from] AssignError),
    /// The registers that were assigned do not do what the program does.
    #[error("the assignment of registers is wrong: {0}")]
    Assignment(#[from] AssignmentError),
    /// Operands that lie in memory as the form cannot take them.
    #[error("{0}")]
    Layout(&'static str),
}

/// The choices for computing a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct How {
    /// Steps of K in the loop body, a multiple of what the form takes at once.
    pub unroll: u64,
    /// Whole vectors may be loaded from `rhs` even where the tile's columns end: it is a panel.
    pub padded: bool,
}

pub(crate) const LHS: P = P(0);
pub(crate) const RHS: P = P(1);

pub(crate) struct Builder<'a> {
    pub(crate) unit: &'a VectorUnit,
    pub(crate) nest: &'a LoopNest,
    pub(crate) tile: &'a Tile,
    pub(crate) how: How,
    /// Rows, vectors of a row, lanes.
    pub(crate) rows: u64,
    pub(crate) vectors: u64,
    pub(crate) lanes: u64,
    pub(crate) params: Vec<Param>,
    pub(crate) body: Vec<Stmt>,
    /// The columns of each vector, in words.
    pub(crate) columns: Vec<String>,
    /// The names of the sums: vector `j` of row `i` at `i * vectors + j`.
    pub(crate) sums: Vec<Arc<str>>,
    /// The names of what is read, which runs share: those of loops, and those of steps that are left.
    names: RefCell<[Names; 2]>,
    /// Once the sums are done: vector `j` of row `i` at `i * vectors + j`.
    pub(crate) results: Vec<V>,
    values: Values,
}

/// Numbers for new values.
#[derive(Default)]
pub(crate) struct Values(Cell<u32>);

impl Values {
    /// A value that no operation defines yet.
    pub fn next(&self) -> V {
        V(self.0.replace(self.0.get() + 1))
    }

    /// The number of values.
    pub fn count(&self) -> u32 {
        self.0.get()
    }
}

/// A region that is read or written: `rows` runs of `cols` elements, `stride` elements apart.
pub(super) fn region(rows: u64, cols: u64, stride: u64, bytes: u64) -> Region {
    // A single row has no stride; the region wants one that holds the row.
    Region { rows, row_bytes: cols * bytes, row_stride: if rows == 1 { cols * bytes } else { stride * bytes } }
}

/// The region of a matrix of two strides.
pub(super) fn matrix_region(rows: u64, cols: u64, m: &Matrix, bytes: u64) -> Region {
    match (m.row, m.col) {
        (row, 1) if row >= cols || rows == 1 => region(rows, cols, row, bytes),
        (1, col) if col >= rows || cols == 1 => region(cols, rows, col, bytes),
        (row, col) => region(1, (rows - 1) * row + (cols - 1) * col + 1, 0, bytes),
    }
}

impl<'a> Builder<'a> {
    /// A builder of `tile` in `nest`, which has nothing but its parameters.
    pub(crate) fn new(nest: &'a LoopNest, tile: &'a Tile, unit: &'a VectorUnit, how: How) -> Self {
        let lanes = u64::from(unit.lanes);
        let vectors = tile.n.div_ceil(lanes);
        let mut b = Builder {
            unit,
            nest,
            tile,
            how,
            rows: tile.m,
            vectors,
            lanes,
            params: vec![],
            body: vec![],
            columns: vec![],
            sums: vec![],
            names: RefCell::default(),
            results: vec![],
            values: Values::default(),
        };
        b.params = b.params();
        b.columns = (0..vectors).map(|j| b.columns_of(j)).collect();
        b.sums = (0..b.rows).flat_map(|i| (0..vectors).map(move |j| (i, j))).map(|(i, j)| b.sum_name(i, j)).collect();
        b
    }

    /// Applies the post-ops to the sums, and stores them.
    pub(crate) fn finish(mut self, name: String) -> Result<MicroKernel, BuildError> {
        self.epilogue();
        Ok(MicroKernel {
            name,
            isa: self.unit.isa,
            lanes: self.unit.lanes,
            registers: self.values.count(),
            params: self.params,
            body: self.body,
        })
    }
}

impl Builder<'_> {
    fn dtype(&self, m: &Matrix) -> DType {
        self.nest.buffers[m.at.buffer.0 as usize].dtype
    }

    /// True if a factor is a panel of groups of steps.
    pub(crate) fn is_interleaved(&self, m: &Matrix) -> bool {
        self.nest.buffers[m.at.buffer.0 as usize].interleave > 1
    }

    /// Steps of K that are neighbours in a factor.
    fn group(&self, m: &Matrix) -> u64 {
        self.nest.buffers[m.at.buffer.0 as usize].interleave
    }

    fn params(&self) -> Vec<Param> {
        let (t, lanes) = (self.tile, self.lanes);
        let param =
            |m: &Matrix, name: &str, access, region| Param { name: name.into(), dtype: self.dtype(m), access, region };
        let bytes = |m: &Matrix| self.dtype(m).bytes() as u64;
        let k = t.k.max(1);
        // A panel of groups of steps, each a run of so many times the width.
        let panel = |m: &Matrix, width: u64| {
            let group = self.group(m);
            region(k.div_ceil(group), group * width, group * m.row, bytes(m))
        };
        let lhs = if let Some(w) = &t.window {
            region(1, self.window_span(w), 0, bytes(&t.lhs))
        } else if self.is_interleaved(&t.lhs) {
            // Whole blocks of two rows have been filled up.
            panel(&t.lhs, if bytes(&t.lhs) * self.group(&t.lhs) == 8 { t.m.next_multiple_of(2) } else { t.m })
        } else {
            matrix_region(t.m, t.k, &t.lhs, bytes(&t.lhs))
        };
        let rhs = if self.is_interleaved(&t.rhs) {
            panel(&t.rhs, t.n.next_multiple_of(4 * lanes / (bytes(&t.rhs) * self.group(&t.rhs))))
        } else {
            let cols = if self.padded() { self.vectors * lanes } else { t.n };
            matrix_region(k, cols, &t.rhs, bytes(&t.rhs))
        };
        let mut all = vec![param(&t.lhs, "lhs", Access::Read, lhs), param(&t.rhs, "rhs", Access::Read, rhs)];
        for m in t.post.iter().filter_map(|(_, m)| m.as_ref()) {
            let rows = if m.row == 0 { 1 } else { t.m };
            let cols = if m.col == 0 { 1 } else { t.n };
            let name = &self.nest.buffers[m.at.buffer.0 as usize].name;
            all.push(param(m, name, Access::Read, region(rows, cols, m.row, bytes(m))));
        }
        let access = match t.init {
            Init::Zero => Access::Write,
            Init::Load => Access::ReadWrite,
        };
        all.push(param(&t.dst, "dst", access, region(t.m, t.n, t.dst.row, bytes(&t.dst))));
        all
    }

    /// Elements from the first of lhs to one past the last that the tile reads.
    fn window_span(&self, w: &TileWindow) -> u64 {
        let (l, groups) = (&self.tile.lhs, self.is_interleaved(&self.tile.lhs));
        let reach = |run: &Run, row: i64| {
            let steps = match (w.columns, groups) {
                (true, _) => (self.tile.n - 1) * l.col,
                (_, false) => (run.len - 1) * l.col,
                (_, true) => (run.len - 1) / self.group(l) * self.group(l) * l.row + self.group(l) - 1,
            };
            (row + run.lhs + 1).max(0) as u64 + steps
        };
        let rows = |run: &Run| (0..self.rows).filter(|i| has(run.rows, *i)).map(|i| w.rows[i as usize]).max();
        w.runs.iter().filter_map(|run| Some(reach(run, rows(run)?))).max().unwrap_or(1)
    }

    /// The steps of K in runs: one of all rows, or those of a window.
    pub(crate) fn runs(&self) -> Vec<Run> {
        match &self.tile.window {
            Some(w) => w.runs.clone(),
            None => vec![Run { lhs: 0, rhs: 0, len: self.tile.k, rows: u64::MAX }],
        }
    }

    /// The rows of a run: registers hold sums of fewer than 64.
    pub(crate) fn rows_of(&self, run: Run) -> impl Iterator<Item = u64> {
        (0..self.rows).filter(move |i| has(run.rows, *i))
    }

    /// Elements from the first of lhs to a run's first step of a row.
    pub(crate) fn row_start(&self, run: Run, row: u64) -> i64 {
        match &self.tile.window {
            Some(w) => w.rows[row as usize] + run.lhs,
            None => (row * self.tile.lhs.row) as i64,
        }
    }

    /// True if whole vectors of the right factor may be loaded.
    pub(crate) fn padded(&self) -> bool {
        self.how.padded && self.tile.rhs.row >= self.vectors * self.lanes
    }

    /// Lanes of vector `j` that are columns of the tile.
    pub(crate) fn valid(&self, j: u64) -> u16 {
        (self.tile.n - j * self.lanes).min(self.lanes) as u16
    }

    pub(crate) fn columns(&self, j: u64) -> &str {
        &self.columns[j as usize]
    }

    pub(crate) fn columns_of(&self, j: u64) -> String {
        let from = j * self.lanes;
        match self.valid(j) {
            1 => format!("{from}"),
            v => format!("{from}..{}", from + u64::from(v)),
        }
    }

    fn sum_name(&self, i: u64, j: u64) -> Arc<str> {
        format!("c[{i}, {}]", self.columns(j)).into()
    }

    /// The name of what is read in step `p` of those that begin with `from`.
    pub(crate) fn name(&self, in_loop: bool, from: u64, p: u64, factor: Factor) -> Arc<str> {
        let names = &mut self.names.borrow_mut()[usize::from(in_loop)];
        if names.from != from {
            *names = Names { from, texts: vec![] };
        }
        let at = match factor {
            Factor::Lhs(i) => i,
            Factor::Rhs(j) => self.rows + j,
        };
        let at = ((p - from) * (self.rows + self.vectors) + at) as usize;
        if names.texts.len() <= at {
            names.texts.resize(at + 1, None);
        }
        let text = || match factor {
            Factor::Lhs(i) => format!("lhs[{i}, {}]", step_name(in_loop, p)),
            Factor::Rhs(j) => format!("rhs[{}, {}]", step_name(in_loop, p), self.columns(j)),
        };
        names.texts[at].get_or_insert_with(|| text().into()).clone()
    }

    /// The sum in vector `j` of row `i`, in words.
    pub(crate) fn sum(&self, i: u64, j: u64) -> Arc<str> {
        self.sums[(i * self.vectors + j) as usize].clone()
    }

    pub(crate) fn push(&mut self, op: Op, why: impl Into<Arc<str>>) {
        self.body.push(Stmt::Inst(Inst::new(op, why)));
    }

    fn dst(&self) -> P {
        P(self.params.len() as u8 - 1)
    }

    pub(crate) fn dst_addr(&self, i: u64, j: u64) -> Addr {
        let bytes = self.params[usize::from(self.dst().0)].dtype.bytes() as u64;
        Addr { param: self.dst(), offset: (bytes * (i * self.tile.dst.row + j * self.lanes)) as i64, step: 0 }
    }

    /// The K loop of each run, of `unroll` steps an iteration, and the steps that are left, as `steps` makes them from a first
    /// step, a count, and the steps an iteration advances if in a loop.
    pub(crate) fn contract(&mut self, unroll: u64, steps: impl Fn(&Self, Run, u64, u64, Option<u64>) -> Vec<Inst>) {
        for run in self.runs() {
            let k = run.len;
            let trips = k / unroll;
            if trips > 1 {
                let body = steps(self, run, 0, unroll, Some(unroll));
                let first = run.rhs;
                let why = format!("k in {first}..{} step {unroll}", first + trips * unroll);
                self.body.push(Stmt::Loop { trips, why, body });
            }
            let done = if trips > 1 { trips * unroll } else { 0 };
            let rest = steps(self, run, done, k - done, None);
            self.body.extend(rest.into_iter().map(Stmt::Inst));
        }
    }

    /// A value that no operation defines yet.
    pub(crate) fn value(&self) -> V {
        self.values.next()
    }

    /// The sums of all rows as vectors of their columns, as they start: row by row.
    pub(crate) fn start_sums(&mut self) -> Vec<V> {
        let mut sums = vec![];
        for i in 0..self.rows {
            for j in 0..self.vectors {
                let d = self.value();
                let op = match self.tile.init {
                    Init::Zero => Op::Zero { d },
                    Init::Load => Op::Load { d, src: self.dst_addr(i, j), lanes: self.valid(j) },
                };
                self.push(op, self.sum(i, j));
                sums.push(d);
            }
        }
        sums
    }
}

/// An operand that an operation reads in a step of K.
#[derive(Clone, Copy)]
pub(crate) enum Factor {
    /// The scalar of row `i`.
    Lhs(u64),
    /// Vector `j`.
    Rhs(u64),
}

/// Names of what is read in steps from one on, row by row and then vector by vector.
#[derive(Default)]
struct Names {
    from: u64,
    texts: Vec<Option<Arc<str>>>,
}

/// True if a set of rows has one.
pub(crate) fn has(rows: u64, row: u64) -> bool {
    rows >> row & 1 == 1
}

/// A step of K in words: relative in a loop.
pub(crate) fn step_name(in_loop: bool, p: u64) -> String {
    match (in_loop, p) {
        (true, 0) => "k".to_owned(),
        (true, p) => format!("k+{p}"),
        (false, p) => format!("{p}"),
    }
}

/// The way in which the rows' scalars reach the products.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOperand {
    /// A register per row holds four steps of K.
    LanesAlongK,
    /// A register per four rows holds a step of K.
    LanesAlongM,
    /// A register holds one scalar.
    Broadcast,
}

impl RowOperand {
    /// That of a tile. Integers are not multiplied by element.
    pub(crate) fn of(unit: &VectorUnit, tile: &Tile, is_integer: bool) -> Self {
        let (lhs, rows, k) = (&tile.lhs, tile.m, tile.k);
        match unit.multiplier {
            _ if is_integer => RowOperand::Broadcast,
            Multiplier::Broadcast => RowOperand::Broadcast,
            Multiplier::Lane { .. } if lhs.col == 1 || k == 1 => RowOperand::LanesAlongK,
            Multiplier::Lane { .. } if tile.window.is_some() => RowOperand::Broadcast,
            Multiplier::Lane { .. } if lhs.row == 1 || rows == 1 => RowOperand::LanesAlongM,
            Multiplier::Lane { .. } => RowOperand::Broadcast,
        }
    }
}

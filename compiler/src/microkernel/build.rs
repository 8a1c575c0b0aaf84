//! The builder: from a register tile to its vector program, the same for every instruction set.
//!
//! Register plan, from `v0` up: the row operand's registers (one per row by element, one or two when broadcast), the
//! column operand's, then the accumulators. By-element instructions may reach only low registers, so the row operand comes
//! first. Column registers rotate, so that a load need not wait for the multiply-adds that read its register before.

use kiln_ir::PostOp;
use kiln_ir::nest::{BufferKind, Init, LoopNest, Matrix, Tile};

use super::{Access, Addr, Binary, Inst, MicroKernel, Op, P, Param, Region, Stmt, V};
use crate::target::{Multiplier, VectorUnit};

/// Scalars of the row operand that one register of repeated lanes holds.
const LANES: u64 = 4;

/// A tile that does not fit in the registers: the schedule's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {m}x{n} tile needs {needed} registers, {isa} has {have}", isa = unit.isa, have = unit.registers)]
pub struct BuildError {
    m: u64,
    n: u64,
    needed: u64,
    unit: VectorUnit,
}

/// How many registers a tile of `rows` by `vectors` takes, with one register per operand at least.
pub fn registers_needed(unit: &VectorUnit, rows: u64, vectors: u64) -> u64 {
    match unit.multiplier {
        Multiplier::Lane { .. } => rows * vectors + rows + 1,
        Multiplier::Broadcast => rows * vectors + vectors + 1,
    }
}

struct Builder<'a> {
    unit: &'a VectorUnit,
    tile: &'a Tile,
    /// Rows, vectors per row, lanes.
    rows: u64,
    vectors: u64,
    lanes: u64,
    /// Whole vectors may be loaded from `rhs` even where the tile's columns end.
    padded: bool,
    params: Vec<Param>,
    row_regs: u8,
    col_regs: u8,
    body: Vec<Stmt>,
}

const LHS: P = P(0);
const RHS: P = P(1);

/// Builds the micro-kernel of `tile` in `nest` for `unit`, with `unroll` steps of K in the loop body: at least 1, a multiple
/// of 4 where the unit multiplies by element.
pub fn build(
    name: String,
    nest: &LoopNest,
    tile: &Tile,
    unit: &VectorUnit,
    unroll: u64,
) -> Result<MicroKernel, BuildError> {
    let lanes = u64::from(unit.lanes);
    let vectors = tile.n.div_ceil(lanes);
    let needed = registers_needed(unit, tile.m, vectors);
    let budget = u64::from(unit.registers);
    let reachable = match unit.multiplier {
        Multiplier::Lane { max_reg } => tile.m <= u64::from(max_reg),
        Multiplier::Broadcast => true,
    };
    let rhs_kind = nest.buffers[tile.rhs.at.buffer.0 as usize].kind;
    let padded = rhs_kind == BufferKind::Scratch && tile.rhs.row >= vectors * lanes;
    if needed > budget || !reachable {
        return Err(BuildError { m: tile.m, n: tile.n, needed, unit: *unit });
    }
    // One register stays free for lane masks where there are spare ones.
    let spare = budget - tile.m * vectors;
    let (row_regs, col_regs) = match unit.multiplier {
        Multiplier::Lane { .. } => (tile.m, (spare - tile.m).min(vectors.max(2))),
        Multiplier::Broadcast => {
            let row_regs = if spare > vectors + 2 { 2 } else { 1 };
            (row_regs, vectors)
        }
    };
    let mut b = Builder {
        unit,
        tile,
        rows: tile.m,
        vectors,
        lanes,
        padded,
        params: params(nest, tile, padded.then_some(vectors * lanes)),
        row_regs: row_regs as u8,
        col_regs: col_regs as u8,
        body: vec![],
    };
    b.init();
    b.contract(unroll);
    b.epilogue();
    b.store();
    Ok(MicroKernel {
        name,
        isa: unit.isa,
        lanes: unit.lanes,
        registers: unit.registers,
        params: b.params,
        body: b.body,
    })
}

fn params(nest: &LoopNest, tile: &Tile, padded_columns: Option<u64>) -> Vec<Param> {
    let matrix = |name: &str, m: &Matrix, rows: u64, cols: u64, access| {
        let dtype = nest.buffers[m.at.buffer.0 as usize].dtype;
        let bytes = dtype.bytes() as u64;
        // A single row has no stride; the region wants one that holds the row.
        let row_stride = if rows == 1 { cols * bytes } else { m.row * bytes };
        Param { name: name.into(), dtype, access, region: Region { rows, row_bytes: cols * bytes, row_stride } }
    };
    let mut all = vec![
        matrix("lhs", &tile.lhs, tile.m, tile.k, Access::Read),
        matrix("rhs", &tile.rhs, tile.k, padded_columns.unwrap_or(tile.n), Access::Read),
    ];
    for (op, operand) in &tile.post {
        if let Some(at) = operand {
            let vector = Matrix { at: at.clone(), row: 0, col: 1 };
            all.push(matrix(op.name(), &vector, 1, tile.n, Access::Read));
        }
    }
    let access = match tile.init {
        Init::Zero => Access::Write,
        Init::Load => Access::ReadWrite,
    };
    all.push(matrix("dst", &tile.dst, tile.m, tile.n, access));
    all
}

impl Builder<'_> {
    fn acc(&self, i: u64, j: u64) -> V {
        V(self.row_regs + self.col_regs + (i * self.vectors + j) as u8)
    }

    fn row(&self, i: u64) -> V {
        V((i % u64::from(self.row_regs)) as u8)
    }

    /// Column registers in the order they are filled.
    fn col(&self, nth: u64) -> V {
        V(self.row_regs + (nth % u64::from(self.col_regs)) as u8)
    }

    /// Lanes of vector `j` that are columns of the tile.
    fn valid(&self, j: u64) -> u16 {
        (self.tile.n - j * self.lanes).min(self.lanes) as u16
    }

    fn columns(&self, j: u64) -> String {
        let from = j * self.lanes;
        match self.valid(j) {
            1 => format!("{from}"),
            v => format!("{from}..{}", from + u64::from(v)),
        }
    }

    fn push(&mut self, op: Op, why: impl Into<String>) {
        self.body.push(Stmt::Inst(Inst { op, why: why.into() }));
    }

    fn dst_addr(&self, i: u64, j: u64) -> Addr {
        let param = P(self.params.len() as u8 - 1);
        Addr { param, offset: 4 * (i * self.tile.dst.row + j * self.lanes) as i64, step: 0 }
    }

    fn init(&mut self) {
        for i in 0..self.rows {
            for j in 0..self.vectors {
                let d = self.acc(i, j);
                let op = match self.tile.init {
                    Init::Zero => Op::Zero { d },
                    Init::Load => Op::Load { d, src: self.dst_addr(i, j), lanes: self.valid(j) },
                };
                self.push(op, format!("c[{i}, {}]", self.columns(j)));
            }
        }
    }

    /// The K loop, then the steps that do not fill an iteration.
    fn contract(&mut self, unroll: u64) {
        let k = self.tile.k;
        let trips = k / unroll;
        if trips > 1 {
            let body = self.steps(0, unroll, Some(unroll));
            let why = format!("k in 0..{} step {unroll}", trips * unroll);
            self.body.push(Stmt::Loop { trips, why, body });
        }
        let done = if trips > 1 { trips * unroll } else { 0 };
        let rest = self.steps(done, k - done, None);
        self.body.extend(rest.into_iter().map(Stmt::Inst));
    }

    /// `count` steps of K from `from`; in a loop, `advance` steps are made per iteration.
    fn steps(&self, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let step = advance.unwrap_or(0);
        let mut out = vec![];
        let k = |p: u64| match (advance, p) {
            (Some(_), 0) => "k".to_owned(),
            (Some(_), p) => format!("k+{p}"),
            (None, p) => format!("{p}"),
        };
        let lhs = |i: u64, p: u64| Addr {
            param: LHS,
            offset: 4 * (i * self.tile.lhs.row + p * self.tile.lhs.col) as i64,
            step: 4 * (step * self.tile.lhs.col) as i64,
        };
        let rhs = |p: u64, j: u64| Addr {
            param: RHS,
            offset: 4 * (p * self.tile.rhs.row + j * self.lanes) as i64,
            step: 4 * (step * self.tile.rhs.row) as i64,
        };
        let mut loads = 0;
        let mut p = from;
        while p < from + count {
            let group = match self.unit.multiplier {
                Multiplier::Lane { .. } => (from + count - p).min(LANES),
                Multiplier::Broadcast => 1,
            };
            if let Multiplier::Lane { .. } = self.unit.multiplier {
                for i in 0..self.rows {
                    let op = Op::LoadLanes { d: self.row(i), src: lhs(i, p), count: group as u8 };
                    out.push(Inst { op, why: format!("lhs[{i}, {}..+{group}]", k(p)) });
                }
            }
            for q in p..p + group {
                let lane = (q - p) as u8;
                let load = |j: u64, nth: u64| {
                    let lanes = if self.padded { self.lanes as u16 } else { self.valid(j) };
                    let op = Op::Load { d: self.col(nth), src: rhs(q, j), lanes };
                    Inst { op, why: format!("rhs[{}, {}]", k(q), self.columns(j)) }
                };
                match self.unit.multiplier {
                    Multiplier::Lane { .. } => {
                        for j in 0..self.vectors {
                            out.push(load(j, loads));
                            let a = self.col(loads);
                            loads += 1;
                            for i in 0..self.rows {
                                let op = Op::FmaLane { d: self.acc(i, j), a, b: self.row(i), lane };
                                out.push(Inst { op, why: format!("c[{i}, {}]", self.columns(j)) });
                            }
                        }
                    }
                    Multiplier::Broadcast => {
                        out.extend((0..self.vectors).map(|j| load(j, j)));
                        for i in 0..self.rows {
                            let b = self.row(i);
                            let op = Op::Broadcast { d: b, src: lhs(i, q) };
                            out.push(Inst { op, why: format!("lhs[{i}, {}]", k(q)) });
                            for j in 0..self.vectors {
                                let op = Op::Fma { d: self.acc(i, j), a: self.col(j), b };
                                out.push(Inst { op, why: format!("c[{i}, {}]", self.columns(j)) });
                            }
                        }
                    }
                }
            }
            p += group;
        }
        out
    }

    fn epilogue(&mut self) {
        let tile = self.tile;
        let mut param = RHS.0;
        for (op, operand) in &tile.post {
            if operand.is_some() {
                param += 1;
            }
            match op {
                PostOp::Bias => self.bias(P(param)),
                PostOp::Relu => self.relu(),
            }
        }
    }

    /// The operand registers are free once the sums are done.
    fn bias(&mut self, param: P) {
        for j in 0..self.vectors {
            let b = V((j % u64::from(self.row_regs + self.col_regs)) as u8);
            let src = Addr { param, offset: 4 * (j * self.lanes) as i64, step: 0 };
            self.push(Op::Load { d: b, src, lanes: self.valid(j) }, format!("bias[{}]", self.columns(j)));
            for i in 0..self.rows {
                let d = self.acc(i, j);
                self.push(Op::Binary { f: Binary::Add, d, a: d, b }, format!("c[{i}, {}] + bias", self.columns(j)));
            }
        }
    }

    fn relu(&mut self) {
        let zero = V(0);
        self.push(Op::Zero { d: zero }, "relu");
        for i in 0..self.rows {
            for j in 0..self.vectors {
                let d = self.acc(i, j);
                self.push(Op::Binary { f: Binary::Max, d, a: d, b: zero }, format!("relu c[{i}, {}]", self.columns(j)));
            }
        }
    }

    fn store(&mut self) {
        for i in 0..self.rows {
            for j in 0..self.vectors {
                let op = Op::Store { s: self.acc(i, j), dst: self.dst_addr(i, j), lanes: self.valid(j) };
                self.push(op, format!("dst[{i}, {}]", self.columns(j)));
            }
        }
    }
}

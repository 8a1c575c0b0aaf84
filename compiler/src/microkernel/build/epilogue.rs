//! Post-ops on the sums while they are in registers, and the stores.
//!
//! The chain is one [`Program`] on a vector, applied to each vector of the tile. Where registers allow, its constants are
//! loaded once for all vectors, and so are the tensors that all rows share. Where the sums leave too few registers, or so
//! few that constants would be loaded for each vector anew, the sums are spilled first and taken up one vector at a time,
//! with all registers free for the program.

use std::sync::Arc;

use kiln_ir::nest::{Access, Affine, Buffer, BufferId, BufferKind, Dim, LoopNest, Matrix, Stmt, Tile};
use kiln_ir::{Contraction, DType, PostOp};

use super::{BuildError, Builder};
use crate::microkernel::program::{Program, Step, assign};
use crate::microkernel::{Addr, Op, P, V};
use crate::target::VectorUnit;

/// The use of registers for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// The sums are in memory, but for one vector.
    spill: bool,
    /// Constants that stay in registers.
    resident: usize,
    /// Operations that each vector takes besides the program's own.
    extra: usize,
}

/// The registers that a program needs, measured once.
#[derive(Clone, Copy, Debug)]
struct Demand {
    /// With every constant loaded where it is used.
    registers: usize,
    constants: usize,
}

impl Demand {
    fn of(program: &Program) -> Self {
        Self { registers: program.min_registers(), constants: program.constants().len() }
    }

    /// The better way for `sums` vectors; `None` if there is none.
    fn plan(self, unit: &VectorUnit, sums: u64) -> Option<Plan> {
        let registers = usize::from(unit.registers);
        let with = |free: usize, spill: bool| {
            let resident = free.checked_sub(self.registers)?.min(self.constants);
            Some(Plan { spill, resident, extra: self.constants - resident + if spill { 2 } else { 0 } })
        };
        let in_registers = registers.checked_sub(sums as usize).and_then(|free| with(free, false));
        let spilled = with(registers - 1, true);
        [in_registers, spilled].into_iter().flatten().min_by_key(|p| p.extra)
    }
}

/// The cost of a contraction's epilogue, whatever the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    demand: Demand,
    operations: usize,
}

impl Cost {
    /// `None` if there is nothing to do.
    pub fn of(c: &Contraction) -> Option<Self> {
        let chain: Vec<PostOp> = c.post.iter().map(|(op, _)| *op).collect();
        if chain.is_empty() {
            return None;
        }
        let program = Program::of(&chain);
        let operands = c.post.iter().filter(|(_, v)| v.is_some()).count();
        Some(Self { demand: Demand::of(&program), operations: program.ops() + operands })
    }

    /// Operations on each vector of the result, if the tile has `sums` of them.
    pub fn per_vector(self, unit: &VectorUnit, sums: u64) -> f64 {
        let extra = self.demand.plan(unit, sums).map_or(0, |p| p.extra);
        (self.operations + extra) as f64
    }
}

fn chain(tile: &Tile) -> Vec<PostOp> {
    tile.post.iter().map(|(op, _)| *op).collect()
}

/// Gives every tile that spills its sums memory to do so, the same for all. Tells whether any does.
///
/// Whatever the form, a tile's sums are a vector for each row and each vector of its columns when the products are done.
pub fn add_spills(nest: &mut LoopNest, unit: &VectorUnit) -> bool {
    fn for_each_tile(body: &mut [Stmt], f: &mut impl FnMut(&mut Tile)) {
        for s in body {
            match s {
                Stmt::Loop(l) => for_each_tile(&mut l.body, f),
                Stmt::Tile(t) => f(t),
                _ => {}
            }
        }
    }
    let lanes = u64::from(unit.lanes);
    let id = BufferId(nest.buffers.len() as u16);
    let (mut most, mut last) = (0, None);
    let mut body = std::mem::take(&mut nest.body);
    for_each_tile(&mut body, &mut |t| {
        if t.post.is_empty() {
            return;
        }
        // Tiles are many, and their post-ops mostly the same.
        let chain = chain(t);
        let demand = match &last {
            Some((same, demand)) if *same == chain => *demand,
            _ => Demand::of(&Program::of(&chain)),
        };
        last = Some((chain, demand));
        let sums = t.m * t.n.div_ceil(lanes);
        if demand.plan(unit, sums).is_some_and(|p| p.spill) {
            let len = sums * lanes;
            t.spill = Some((Access { buffer: id, index: vec![Affine::constant(0)] }, len));
            most = most.max(len);
        }
    });
    nest.body = body;
    if most > 0 {
        let dims = vec![Dim { extent: most, stride: 1 }];
        let (name, kind) = ("spill".into(), BufferKind::Scratch);
        nest.buffers.push(Buffer { name, dtype: DType::F32, kind, dims, interleave: 1 });
    }
    most > 0
}

impl Builder<'_> {
    pub(super) fn epilogue(&mut self) -> Result<(), BuildError> {
        let chain = chain(self.tile);
        if chain.is_empty() {
            for i in 0..self.rows {
                (0..self.vectors).for_each(|j| self.store(i, j, self.result(i, j)));
            }
            return Ok(());
        }
        let program = Program::of(&chain);
        let failed = BuildError::Epilogue(self.unit.registers);
        let demand = Demand::of(&program);
        let mut plan = demand.plan(self.unit, self.rows * self.vectors).ok_or(failed.clone())?;
        // The nest decided the same; a tile without memory keeps its sums where they are.
        plan.spill &= self.tile.spill.is_some();
        let mut free = self.free.clone();
        if plan.spill {
            for i in 0..self.rows {
                for j in 0..self.vectors {
                    let op = Op::Store { s: self.result(i, j), dst: self.spill_addr(i, j), lanes: self.lanes as u16 };
                    self.push(op, format!("spill c[{i}, {}]", self.columns(j)));
                }
            }
            free = (0..self.unit.registers).map(V).collect();
        }
        let spilled = plan.spill.then(|| free.pop()).flatten();
        // The constants used most stay; the rest are loaded for each vector.
        let constants: Vec<(u32, V)> =
            program.constants().into_iter().take(plan.resident).zip(take(&mut free, plan.resident)).collect();
        for &(bits, d) in &constants {
            self.push(Op::Const { d, bits }, format!("{}", f32::from_bits(bits)));
        }
        let operands: Vec<(P, Matrix)> = {
            let tensors = self.tile.post.iter().filter_map(|(_, m)| m.clone());
            (2u8..).map(P).zip(tensors).collect()
        };
        // Tensors without rows are loaded once for all rows of a vector, where there is room.
        let shared: Vec<usize> = (0..operands.len()).filter(|n| self.rows > 1 && operands[*n].1.row == 0).collect();
        let room = free.len().saturating_sub(demand.registers);
        let held: Vec<(usize, V)> =
            shared.iter().take(room).copied().zip(take(&mut free, shared.len().min(room))).collect();
        let words = words(&chain);
        for j in 0..self.vectors {
            for &(n, d) in &held {
                let op = self.load_operand(&operands[n], 0, j, d);
                let name = self.params[2 + n].name.clone();
                self.push(op, format!("{name}[{}]", self.columns(j)));
            }
            for i in 0..self.rows {
                let register = spilled.unwrap_or(self.result(i, j));
                if plan.spill {
                    let op = Op::Load { d: register, src: self.spill_addr(i, j), lanes: self.lanes as u16 };
                    self.push(op, self.sum(i, j));
                }
                let resident = |step: Step| match step {
                    Step::Const(bits) => constants.iter().find(|(b, _)| *b == bits).map(|(_, v)| *v),
                    Step::Operand(n) => held.iter().find(|(h, _)| *h == usize::from(n)).map(|(_, v)| *v),
                    _ => None,
                };
                let mut load = |n: u8, d: V| self.load_operand(&operands[usize::from(n)], i, j, d);
                let ops = assign(&program, register, register, &free, &resident, &mut load).ok_or(failed.clone())?;
                let why: Arc<str> = format!("{} {words}", self.sum(i, j)).into();
                ops.into_iter().for_each(|op| self.push(op, why.clone()));
                self.store(i, j, register);
            }
        }
        Ok(())
    }

    fn result(&self, i: u64, j: u64) -> V {
        self.results[(i * self.vectors + j) as usize]
    }

    fn store(&mut self, i: u64, j: u64, s: V) {
        let op = Op::Store { s, dst: self.dst_addr(i, j), lanes: self.valid(j) };
        self.push(op, format!("dst[{i}, {}]", self.columns(j)));
    }

    fn spill_addr(&self, i: u64, j: u64) -> Addr {
        let param = P(self.params.len() as u8 - 2);
        Addr { param, offset: (4 * self.lanes * (i * self.vectors + j)) as i64, step: 0 }
    }

    /// The load of a tensor's elements for vector `j` of row `i`.
    fn load_operand(&self, (param, m): &(P, Matrix), i: u64, j: u64, d: V) -> Op {
        let bytes = self.dtype(m).bytes() as u64;
        let offset = (bytes * (i * m.row + if m.col == 0 { 0 } else { j * self.lanes })) as i64;
        let src = Addr { param: *param, offset, step: 0 };
        match m.col {
            0 => Op::Broadcast { d, src },
            _ => Op::Load { d, src, lanes: self.valid(j) },
        }
    }
}

/// The last `n` registers.
fn take(free: &mut Vec<V>, n: usize) -> Vec<V> {
    free.split_off(free.len() - n)
}

/// The chain, short enough for a comment.
fn words(chain: &[PostOp]) -> String {
    let text: String = chain.iter().map(|op| format!("+{op}")).collect();
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

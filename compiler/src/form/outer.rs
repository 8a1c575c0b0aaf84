//! Outer products: columns in lanes, times scalars of the rows.

use kiln_ir::nest::{Init, Run};
use kiln_ir::{Contraction, DType};

use super::operands::{has_unit_channels, is_unit};
use super::{LhsAccess, RhsAccess, Rules, StepWork};
use crate::microkernel::build::{BuildError, Builder, Factor, LHS, RHS, RowOperand, step_name};
use crate::microkernel::{Addr, Inst, Op, V};
use crate::target::{Multiplier, VectorUnit};

/// Scalars that one register of repeated lanes holds.
const LANES: u64 = 4;

/// The form.
pub(super) struct Outer;

impl Rules for Outer {
    fn check(&self, c: &Contraction, _unit: &VectorUnit) -> Result<(), String> {
        super::depthwise::check_window_kind(c, false)
    }

    fn check_access(
        &self,
        c: &Contraction,
        _unit: &VectorUnit,
        _lhs: LhsAccess,
        rhs: RhsAccess,
        nr: u64,
    ) -> Result<(), String> {
        match rhs {
            RhsAccess::InPlace if !is_unit(c.rhs.col, nr) => {
                Err("columns that are not contiguous must be packed".into())
            }
            _ => Ok(()),
        }
    }

    fn check_window(&self, c: &Contraction, lhs: LhsAccess) -> Result<(), String> {
        match lhs {
            LhsAccess::Block | LhsAccess::Shared if has_unit_channels(c) => {
                Err("channels that are neighbours are read in place".into())
            }
            _ => Ok(()),
        }
    }

    fn window_sources(&self, c: &Contraction) -> &'static [LhsAccess] {
        match has_unit_channels(c) {
            true => &[LhsAccess::InPlace],
            false => &[LhsAccess::Block, LhsAccess::Shared, LhsAccess::InPlace],
        }
    }

    fn unroll_group(&self, unit: &VectorUnit) -> u64 {
        match unit.multiplier {
            Multiplier::Lane { .. } => LANES,
            Multiplier::Broadcast => 1,
        }
    }

    fn registers_needed(&self, unit: &VectorUnit, rows: u64, columns: u64, _lhs: LhsAccess) -> u64 {
        let vectors = columns.div_ceil(u64::from(unit.lanes));
        match unit.multiplier {
            Multiplier::Lane { .. } => rows * vectors + rows + 1,
            Multiplier::Broadcast => rows * vectors + vectors + 1,
        }
    }

    /// By-element instructions reach the scalars of so many registers.
    fn most_rows(&self, unit: &VectorUnit) -> Option<u64> {
        match unit.multiplier {
            Multiplier::Lane { max_reg } => Some(max_reg.into()),
            Multiplier::Broadcast => None,
        }
    }

    fn granularity(&self, _c: &Contraction, unit: &VectorUnit) -> (u64, u64) {
        (1, unit.lanes.into())
    }

    fn step(&self, c: &Contraction, unit: &VectorUnit, rows: u64, columns: u64, _lhs: LhsAccess) -> StepWork {
        let (r, v) = (rows as f64, columns.div_ceil(u64::from(unit.lanes)) as f64);
        let widened = |dtype: DType| if dtype.is_narrow() { 1.0 } else { 0.0 };
        let row_loads = match unit.multiplier {
            Multiplier::Lane { .. } => r / LANES as f64,
            Multiplier::Broadcast => r,
        };
        let widen = row_loads * widened(c.lhs.dtype) + v * widened(c.rhs.dtype);
        StepWork {
            products: r * v,
            loads: v + row_loads,
            others: widen,
            of_loop: 0.5,
            per_product: 1.0,
            is_straight: false,
        }
    }

    fn has_free_tiles(&self) -> bool {
        true
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<(), BuildError> {
        b.outer()
    }
}

/// Registers of the operands; column registers rotate, so that a load need not wait for the multiply-adds that read its
/// register before.
#[derive(Clone, Copy)]
struct Plan {
    operand: RowOperand,
    row_regs: u8,
    col_regs: u8,
    vectors: u64,
}

impl Plan {
    fn acc(&self, i: u64, j: u64) -> V {
        V(self.row_regs + self.col_regs + (i * self.vectors + j) as u8)
    }

    fn row(&self, nth: u64) -> V {
        V((nth % u64::from(self.row_regs)) as u8)
    }

    fn col(&self, nth: u64) -> V {
        V(self.row_regs + (nth % u64::from(self.col_regs)) as u8)
    }
}

impl Builder<'_> {
    fn outer(&mut self) -> Result<(), BuildError> {
        let (rows, vectors) = (self.rows, self.vectors);
        if self.tile.rhs.col != 1 && self.tile.n > 1 {
            return Err(BuildError::Layout("the columns of rhs are not contiguous"));
        }
        let operand = RowOperand::of(self.unit, self.tile);
        let spare = u64::from(self.unit.registers) - rows * vectors;
        let (row_regs, col_regs) = match operand {
            RowOperand::LanesAlongK => (rows, (spare - rows).min(vectors.max(2))),
            RowOperand::LanesAlongM => {
                let row_regs = rows.div_ceil(LANES);
                (row_regs, (spare - row_regs).min(vectors.max(2)))
            }
            // All vectors of columns are held, unless registers are by element and there are too few.
            RowOperand::Broadcast => {
                let row_regs = if spare > vectors + 2 { 2 } else { 1 };
                (row_regs, vectors.min(spare - row_regs))
            }
        };
        let plan = Plan { operand, row_regs: row_regs as u8, col_regs: col_regs as u8, vectors };
        for i in 0..rows {
            for j in 0..vectors {
                let d = plan.acc(i, j);
                let op = match self.tile.init {
                    Init::Zero => Op::Zero { d },
                    Init::Load => Op::Load { d, src: self.dst_addr(i, j), lanes: self.valid(j) },
                };
                self.push(op, self.sum(i, j));
            }
        }
        self.contract(self.how.unroll, |b, run, from, count, advance| b.outer_steps(plan, run, from, count, advance));
        self.results = (0..rows).flat_map(|i| (0..vectors).map(move |j| plan.acc(i, j))).collect();
        self.free = self.free_besides(&self.results);
        Ok(())
    }

    fn outer_steps(&self, plan: Plan, run: Run, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let step = advance.unwrap_or(0);
        let mut out = vec![];
        let (lhs_bytes, rhs_bytes) = [LHS, RHS].map(|p| self.params[usize::from(p.0)].dtype.bytes() as u64).into();
        let (l, r) = (&self.tile.lhs, &self.tile.rhs);
        let lhs = |i: u64, p: u64| Addr {
            param: LHS,
            offset: lhs_bytes as i64 * (self.row_start(run, i) + (p * l.col) as i64),
            step: (lhs_bytes * step * l.col) as i64,
        };
        let rhs = |p: u64, j: u64| Addr {
            param: RHS,
            offset: (rhs_bytes * ((run.rhs + p) * r.row + j * self.lanes)) as i64,
            step: (rhs_bytes * step * r.row) as i64,
        };
        let in_loop = advance.is_some();
        let k = |p: u64| step_name(in_loop, p);
        let load = |p: u64, j: u64, nth: u64| {
            let lanes = if self.padded() { self.lanes as u16 } else { self.valid(j) };
            let op = Op::Load { d: plan.col(nth), src: rhs(p, j), lanes };
            Inst { op, why: self.name(in_loop, from, p, Factor::Rhs(j)) }
        };
        let mut loads = 0;
        let mut p = from;
        while p < from + count {
            let group = match plan.operand {
                RowOperand::LanesAlongK => (from + count - p).min(LANES),
                RowOperand::LanesAlongM | RowOperand::Broadcast => 1,
            };
            if plan.operand == RowOperand::LanesAlongK {
                for i in self.rows_of(run) {
                    let op = Op::LoadLanes { d: plan.row(i), src: lhs(i, p), count: group as u8 };
                    out.push(Inst { op, why: format!("lhs[{i}, {}..+{group}]", k(p)).into() });
                }
            }
            for q in p..p + group {
                if plan.operand == RowOperand::LanesAlongM {
                    for i in (0..self.rows).step_by(LANES as usize) {
                        let many = (self.rows - i).min(LANES);
                        let op = Op::LoadLanes { d: plan.row(i / LANES), src: lhs(i, q), count: many as u8 };
                        out.push(Inst { op, why: format!("lhs[{i}..+{many}, {}]", k(q)).into() });
                    }
                }
                match plan.operand {
                    RowOperand::LanesAlongK | RowOperand::LanesAlongM => {
                        for j in 0..self.vectors {
                            out.push(load(q, j, loads));
                            let a = plan.col(loads);
                            loads += 1;
                            for i in self.rows_of(run) {
                                let (b, lane) = match plan.operand {
                                    RowOperand::LanesAlongK => (plan.row(i), q - p),
                                    _ => (plan.row(i / LANES), i % LANES),
                                };
                                let op = Op::FmaLane { d: plan.acc(i, j), a, b, lane: lane as u8 };
                                out.push(Inst { op, why: self.sum(i, j) });
                            }
                        }
                    }
                    RowOperand::Broadcast if u64::from(plan.col_regs) >= self.vectors => {
                        out.extend((0..self.vectors).map(|j| load(q, j, j)));
                        for i in self.rows_of(run) {
                            let b = plan.row(i);
                            let why = self.name(in_loop, from, q, Factor::Lhs(i));
                            out.push(Inst { op: Op::Broadcast { d: b, src: lhs(i, q) }, why });
                            for j in 0..self.vectors {
                                let op = Op::Fma { d: plan.acc(i, j), a: plan.col(j), b };
                                out.push(Inst { op, why: self.sum(i, j) });
                            }
                        }
                    }
                    RowOperand::Broadcast => {
                        for j in 0..self.vectors {
                            out.push(load(q, j, j));
                            for i in self.rows_of(run) {
                                let b = plan.row(i);
                                let why = self.name(in_loop, from, q, Factor::Lhs(i));
                                out.push(Inst { op: Op::Broadcast { d: b, src: lhs(i, q) }, why });
                                let op = Op::Fma { d: plan.acc(i, j), a: plan.col(j), b };
                                out.push(Inst { op, why: self.sum(i, j) });
                            }
                        }
                    }
                }
            }
            p += group;
        }
        out
    }
}

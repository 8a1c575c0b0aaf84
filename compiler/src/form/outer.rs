//! Outer products: columns in lanes, times scalars of the rows.

use kiln_ir::nest::Run;
use kiln_ir::{Contraction, DType};

use super::operands::{has_unit_channels, is_unit};
use super::{LhsAccess, RhsAccess, Rules, StepWork};
use crate::microkernel::build::{BuildError, Builder, Factor, LHS, RHS, RowOperand, step_name};
use crate::microkernel::{Addr, Inst, Op, V};
use crate::target::{Multiplier, VectorUnit};

/// Scalars that one register of repeated lanes holds.
const LANES: u64 = 4;

/// Rows of a problem from which on f16 are widened in panels.
const WIDENED_ROWS: u64 = 8;

/// The form.
pub(super) struct Outer;

impl Outer {
    /// True if rows are widened where they are copied.
    fn widens_rows(&self, c: &Contraction) -> bool {
        self.panel_dtype(c, c.lhs.dtype) != c.lhs.dtype
    }
}

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
            LhsAccess::Block | LhsAccess::Shared if has_unit_channels(c) && !self.widens_rows(c) => {
                Err("channels that are neighbours are read in place".into())
            }
            _ => Ok(()),
        }
    }

    fn window_sources(&self, c: &Contraction) -> &'static [LhsAccess] {
        match has_unit_channels(c) && !self.widens_rows(c) {
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

    fn registers_needed(&self, unit: &VectorUnit, rows: u64, columns: u64, _lhs: LhsAccess, sum: DType) -> u64 {
        let vectors = columns.div_ceil(u64::from(unit.lanes));
        match unit.multiplier {
            Multiplier::Lane { .. } => rows * vectors + rows + 1,
            // Products of integers are made before they are added.
            Multiplier::Broadcast => rows * vectors + vectors + 1 + u64::from(sum.is_integer()),
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

    /// f16 of many rows are widened once, when they are copied: converting takes the pipes of products. A few rows read them once, and
    /// their time is that of memory. Integers of 8 bits are widened in all panels: no copy transposes them.
    fn panel_dtype(&self, c: &Contraction, dtype: DType) -> DType {
        match dtype {
            DType::F16 if c.m >= WIDENED_ROWS => DType::F32,
            DType::S8 | DType::U8 => DType::S32,
            other => other,
        }
    }

    fn step(
        &self,
        c: &Contraction,
        unit: &VectorUnit,
        [rows, columns]: [u64; 2],
        (lhs, rhs): (LhsAccess, RhsAccess),
    ) -> StepWork {
        let (r, v) = (rows as f64, columns.div_ceil(u64::from(unit.lanes)) as f64);
        let row_loads = match unit.multiplier {
            Multiplier::Lane { .. } => r / LANES as f64,
            Multiplier::Broadcast => r,
        };
        // Without masks, part of a vector is loaded in pieces that are powers of two.
        let part = (columns % u64::from(unit.lanes)).count_ones();
        let in_pieces = rhs == RhsAccess::InPlace && !unit.isa.has_masks();
        let pieces = if in_pieces { f64::from(part.saturating_sub(1)) } else { 0.0 };
        // The elements of a factor that are widened in the loop: those of f16 are converted, where those of bf16 are shifted.
        let widened = |dtype: DType, is_panel: bool, loads: f64| {
            let read = if is_panel { self.panel_dtype(c, dtype) } else { dtype };
            match read {
                DType::Bf16 => (0.0, loads),
                read if read.is_narrow() && !read.is_integer() => (loads, 0.0),
                // Loads widen integers.
                _ => (0.0, 0.0),
            }
        };
        let rows_widened = widened(c.lhs.dtype, lhs.is_packed(), row_loads);
        let columns_widened = widened(c.rhs.dtype, rhs != RhsAccess::InPlace, v);
        // f16 that are repeated are spread and converted: two operations.
        let conversions = 2.0 * rows_widened.0 + columns_widened.0;
        StepWork {
            // s32 are multiplied at half of the rate of f32 at most.
            products: r * v * if c.dst.dtype.is_integer() { 2.0 } else { 1.0 },
            loads: v + pieces + row_loads,
            conversions,
            others: rows_widened.1 + columns_widened.1,
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

impl Builder<'_> {
    fn outer(&mut self) -> Result<(), BuildError> {
        if self.tile.rhs.col != 1 && self.tile.n > 1 {
            return Err(BuildError::Layout("the columns of rhs are not contiguous"));
        }
        let is_integer = self.params[self.params.len() - 1].dtype.is_integer();
        let operand = RowOperand::of(self.unit, self.tile, is_integer);
        let sums = self.start_sums();
        self.contract(self.how.unroll, |b, run, from, count, advance| {
            b.outer_steps(operand, &sums, run, from, count, advance)
        });
        self.results = sums;
        Ok(())
    }

    /// `d + a * b`, of f32 or of s32.
    fn multiply_add(&self, d: V, a: V, b: V) -> Op {
        match self.params[self.params.len() - 1].dtype.is_integer() {
            true => Op::Mla { d, a, b },
            false => Op::Fma { d, a, b },
        }
    }

    fn outer_steps(
        &self,
        operand: RowOperand,
        sums: &[V],
        run: Run,
        from: u64,
        count: u64,
        advance: Option<u64>,
    ) -> Vec<Inst> {
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
        // The vector of columns and the operation that loads it.
        let column = |p: u64, j: u64| {
            let d = self.value();
            let lanes = if self.padded() { self.lanes as u16 } else { self.valid(j) };
            (d, Inst::new(Op::Load { d, src: rhs(p, j), lanes }, self.name(in_loop, from, p, Factor::Rhs(j))))
        };
        let scalar = |i: u64, p: u64| {
            let d = self.value();
            (d, Inst::new(Op::Broadcast { d, src: lhs(i, p) }, self.name(in_loop, from, p, Factor::Lhs(i))))
        };
        let sum = |i: u64, j: u64| sums[(i * self.vectors + j) as usize];
        let rows: Vec<u64> = self.rows_of(run).collect();
        // All vectors of columns are held, unless registers are by element and there are too few.
        let holds_columns = u64::from(self.unit.registers) > self.rows * self.vectors + self.vectors;
        let mut p = from;
        while p < from + count {
            let group = match operand {
                RowOperand::LanesAlongK => (from + count - p).min(LANES),
                RowOperand::LanesAlongM | RowOperand::Broadcast => 1,
            };
            // By row, or by four rows.
            let mut scalars = vec![V(0); self.rows as usize];
            if operand == RowOperand::LanesAlongK {
                for &i in &rows {
                    let d = self.value();
                    scalars[i as usize] = d;
                    let op = Op::LoadLanes { d, src: lhs(i, p), count: group as u8 };
                    out.push(Inst::new(op, format!("lhs[{i}, {}..+{group}]", k(p))));
                }
            }
            for q in p..p + group {
                if operand == RowOperand::LanesAlongM {
                    for i in (0..self.rows).step_by(LANES as usize) {
                        let many = (self.rows - i).min(LANES);
                        let d = self.value();
                        scalars[(i / LANES) as usize] = d;
                        let op = Op::LoadLanes { d, src: lhs(i, q), count: many as u8 };
                        out.push(Inst::new(op, format!("lhs[{i}..+{many}, {}]", k(q))));
                    }
                }
                match operand {
                    RowOperand::LanesAlongK | RowOperand::LanesAlongM => {
                        for j in 0..self.vectors {
                            let (a, load) = column(q, j);
                            out.push(load);
                            for &i in &rows {
                                let (nth, lane) = match operand {
                                    RowOperand::LanesAlongK => (i, q - p),
                                    _ => (i / LANES, i % LANES),
                                };
                                let b = scalars[nth as usize];
                                let op = Op::FmaLane { d: sum(i, j), a, b, lane: lane as u8 };
                                out.push(Inst::new(op, self.sum(i, j)));
                            }
                        }
                    }
                    RowOperand::Broadcast if holds_columns => {
                        let (columns, loads): (Vec<V>, Vec<Inst>) = (0..self.vectors).map(|j| column(q, j)).unzip();
                        out.extend(loads);
                        for &i in &rows {
                            let (b, load) = scalar(i, q);
                            out.push(load);
                            for (j, a) in (0..).zip(&columns) {
                                out.push(Inst::new(self.multiply_add(sum(i, j), *a, b), self.sum(i, j)));
                            }
                        }
                    }
                    RowOperand::Broadcast => {
                        for j in 0..self.vectors {
                            let (a, load) = column(q, j);
                            out.push(load);
                            for &i in &rows {
                                let (b, load) = scalar(i, q);
                                out.push(load);
                                out.push(Inst::new(self.multiply_add(sum(i, j), a, b), self.sum(i, j)));
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

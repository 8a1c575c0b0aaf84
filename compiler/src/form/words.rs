//! Products of words: columns in lanes, each lane a word of several steps of K, times words of the rows.
//!
//! A word holds as many steps of K as narrow factors fit in 32 bits, and an instruction adds the products of two words to each sum (SDOT and
//! its like, VPDPBUSD, VPMADDWD and an addition). Columns come from panels in which the steps of a word are neighbours, rows from such
//! panels or from where they lie, if they are contiguous along K.

use kiln_ir::nest::Run;
use kiln_ir::{Contraction, DType};

use super::operands::is_unit;
use super::{LhsAccess, RhsAccess, Rules, StepWork};
use crate::microkernel::build::{BuildError, Builder, LHS, RHS, step_name};
use crate::microkernel::{Addr, Factors, Inst, Op, V};
use crate::target::product::{self, Shape};
use crate::target::{Multiplier, VectorUnit};

/// Words that one register of repeated words holds.
const WORDS: u64 = 4;

/// The form whose words have so many steps of K.
pub(super) struct Words {
    /// Steps of K in a word.
    pub steps: u64,
}

impl Words {
    /// The factors in panels, if the unit multiplies them.
    fn factors(&self, c: &Contraction, unit: &VectorUnit) -> Option<Factors> {
        let [lhs, rhs] = [c.lhs.dtype, c.rhs.dtype].map(|dtype| self.panel_dtype(c, dtype));
        let factors = Factors::of([rhs, lhs])?;
        (factors.per_word() as u64 == self.steps && product::has(unit, Shape::Words, factors)).then_some(factors)
    }

    /// Products of registers that take as long as one of f32.
    fn slots(&self, c: &Contraction, unit: &VectorUnit) -> f64 {
        self.factors(c, unit).and_then(|f| product::of(unit, Shape::Words, f)).map_or(1.0, |p| p.slots)
    }
}

impl Rules for Words {
    fn check(&self, c: &Contraction, unit: &VectorUnit) -> Result<(), String> {
        super::depthwise::check_window_kind(c, false)?;
        if c.window.is_some() {
            return Err("words of several steps of K are of matrices".into());
        }
        match self.factors(c, unit) {
            Some(Factors::Bf16) => Err("words of bf16 are multiplied in blocks or in lanes".into()),
            Some(_) => Ok(()),
            None => Err(format!(
                "{} does not multiply words of {} steps of {} and {} here",
                unit.isa, self.steps, c.lhs.dtype, c.rhs.dtype
            )),
        }
    }

    fn check_access(
        &self,
        c: &Contraction,
        unit: &VectorUnit,
        lhs: LhsAccess,
        rhs: RhsAccess,
        _nr: u64,
    ) -> Result<(), String> {
        if rhs == RhsAccess::InPlace {
            return Err("columns are read from panels of words".into());
        }
        if lhs.is_packed() {
            return Ok(());
        }
        if !is_unit(c.lhs.col, c.k) || self.panel_dtype(c, c.lhs.dtype) != c.lhs.dtype {
            return Err("these rows are read from panels of words".into());
        }
        match unit.multiplier {
            Multiplier::Broadcast if !c.k.is_multiple_of(self.steps) => {
                Err("rows that end within a word are read from panels".into())
            }
            _ => Ok(()),
        }
    }

    fn check_window(&self, _c: &Contraction, _lhs: LhsAccess) -> Result<(), String> {
        Err("words of several steps of K are of matrices".into())
    }

    fn window_sources(&self, _c: &Contraction) -> &'static [LhsAccess] {
        &[]
    }

    fn k_group(&self) -> u64 {
        self.steps
    }

    /// Integers of 8 bits are widened in panels of words of two.
    fn panel_dtype(&self, _c: &Contraction, dtype: DType) -> DType {
        match dtype {
            DType::S8 | DType::U8 if self.steps == 2 => DType::S16,
            other => other,
        }
    }

    fn unroll_group(&self, unit: &VectorUnit) -> u64 {
        match unit.multiplier {
            Multiplier::Lane { .. } => WORDS * self.steps,
            Multiplier::Broadcast => self.steps,
        }
    }

    fn registers_needed(&self, unit: &VectorUnit, rows: u64, columns: u64, lhs: LhsAccess, _sum: DType) -> u64 {
        let vectors = columns.div_ceil(u64::from(unit.lanes));
        match unit.multiplier {
            // A register for four rows in a panel, or for four words of a row; and a vector of columns.
            Multiplier::Lane { .. } if lhs.is_packed() => rows * vectors + rows.div_ceil(WORDS) + 1,
            Multiplier::Lane { .. } => rows * vectors + rows + 1,
            // A vector of columns, a row's word, and the product before it is added.
            Multiplier::Broadcast => rows * vectors + vectors.min(2) + 2,
        }
    }

    fn most_rows(&self, unit: &VectorUnit) -> Option<u64> {
        match unit.multiplier {
            Multiplier::Lane { max_reg } => Some(max_reg.into()),
            Multiplier::Broadcast => None,
        }
    }

    fn granularity(&self, _c: &Contraction, unit: &VectorUnit) -> (u64, u64) {
        (self.steps, unit.lanes.into())
    }

    fn step(
        &self,
        c: &Contraction,
        unit: &VectorUnit,
        [rows, columns]: [u64; 2],
        _access: (LhsAccess, RhsAccess),
    ) -> StepWork {
        let (r, v) = (rows as f64, columns.div_ceil(u64::from(unit.lanes)) as f64);
        let steps = self.steps as f64;
        let row_loads = match unit.multiplier {
            Multiplier::Lane { .. } => r / WORDS as f64,
            Multiplier::Broadcast => r,
        };
        StepWork {
            products: r * v * self.slots(c, unit) / steps,
            loads: (v + row_loads) / steps,
            conversions: 0.0,
            others: 0.0,
            of_loop: 0.5,
            per_product: steps,
            is_straight: false,
        }
    }

    fn has_free_tiles(&self) -> bool {
        true
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<(), BuildError> {
        let types = [RHS, LHS].map(|p| b.params[usize::from(p.0)].dtype);
        let factors = Factors::of(types).ok_or(BuildError::Layout("no product of words of these types"))?;
        let sums = b.start_sums();
        b.contract(b.how.unroll, |b, run, from, count, advance| {
            b.word_steps(factors, &sums, run, from, count, advance)
        });
        b.results = sums;
        Ok(())
    }
}

impl Builder<'_> {
    fn word_steps(&self, f: Factors, sums: &[V], run: Run, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let (step, group) = (advance.unwrap_or(0), f.per_word() as u64);
        let [l, r] = [&self.tile.lhs, &self.tile.rhs];
        let [lhs_bytes, rhs_bytes] = [LHS, RHS].map(|p| self.params[usize::from(p.0)].dtype.bytes() as u64);
        let is_panel = self.is_interleaved(l);
        // The word of row `i` that begins with step `p`.
        let lhs = |i: u64, p: u64| {
            let (at, per_step) = if is_panel { (p * l.row + i * group, l.row) } else { (i * l.row + p, 1) };
            Addr { param: LHS, offset: (lhs_bytes * at) as i64, step: (lhs_bytes * step * per_step) as i64 }
        };
        let rhs = |p: u64, j: u64| Addr {
            param: RHS,
            offset: (rhs_bytes * ((run.rhs + p) * r.row + j * self.lanes * group)) as i64,
            step: (rhs_bytes * step * r.row) as i64,
        };
        let k = |p: u64| step_name(advance.is_some(), p);
        let sum = |i: u64, j: u64| sums[(i * self.vectors + j) as usize];
        let mut out = vec![];
        let column = |p: u64, j: u64, out: &mut Vec<Inst>| {
            let d = self.value();
            let op = Op::LoadRaw { d, src: rhs(p, j), elements: (self.lanes * group) as u16 };
            out.push(Inst::new(op, format!("rhs[{}..+{group}, {}]", k(p), self.columns(j))));
            d
        };
        let by_element = matches!(self.unit.multiplier, Multiplier::Lane { .. });
        let end = from + count;
        let mut p = from;
        while p < end {
            // Steps for which rows are loaded at once: those of a register along K, or of one word.
            let steps = if by_element && !is_panel { (end - p).min(WORDS * group) } else { (end - p).min(group) };
            let mut words = vec![];
            if by_element {
                // By row, or by four rows of a panel.
                let each = if is_panel { WORDS } else { 1 };
                for i in (0..self.rows).step_by(each as usize) {
                    let d = self.value();
                    let many = (self.rows - i).min(each);
                    let elements = if is_panel { many * group } else { steps };
                    out.push(Inst::new(
                        Op::LoadRawQuad { d, src: lhs(i, p), elements: elements as u16 },
                        format!("lhs[{i}..+{many}, {}..+{steps}]", k(p)),
                    ));
                    words.push(d);
                }
            }
            for q in (p..p + steps).step_by(group as usize) {
                if by_element {
                    for j in 0..self.vectors {
                        let a = column(q, j, &mut out);
                        for i in 0..self.rows {
                            let (nth, lane) = if is_panel { (i / WORDS, i % WORDS) } else { (i, (q - p) / group) };
                            let op = Op::DotLane { f, d: sum(i, j), a, b: words[nth as usize], lane: lane as u8 };
                            out.push(Inst::new(op, self.sum(i, j)));
                        }
                    }
                    continue;
                }
                // Two vectors of columns at once, so that a row's word serves both.
                for j0 in (0..self.vectors).step_by(2) {
                    let columns: Vec<(u64, V)> =
                        (j0..self.vectors.min(j0 + 2)).map(|j| (j, column(q, j, &mut out))).collect();
                    for i in 0..self.rows {
                        let b = self.value();
                        let elements = if is_panel { group } else { (end - q).min(group) } as u16;
                        let op = Op::BroadcastRaw { d: b, src: lhs(i, q), elements };
                        out.push(Inst::new(op, format!("lhs[{i}, {}..+{group}]", k(q))));
                        for &(j, a) in &columns {
                            out.push(Inst::new(Op::Dot { f, d: sum(i, j), a, b }, self.sum(i, j)));
                        }
                    }
                }
            }
            p += steps;
        }
        out
    }
}

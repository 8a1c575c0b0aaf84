//! Sums in lanes: K in lanes of both factors, the lanes of each sum added up at the end.
//!
//! For few rows, and columns that lie along K in memory: nothing is packed, and each element is read once. Two bf16 factors
//! are multiplied by BFDOT where there is one.

use kiln_ir::nest::Init;
use kiln_ir::{Contraction, DType};

use super::operands::is_unit;
use super::{LhsAccess, RhsAccess, Rules, StepWork};
use crate::microkernel::build::{BuildError, Builder, LHS, RHS, step_name};
use crate::microkernel::{Addr, Binary, Factors, Inst, Op, V};
use crate::target::VectorUnit;
use crate::target::product::{self, Shape};

/// Rows up to which it is tried.
const ROWS: u64 = 4;

/// The form.
pub(super) struct Dot;

/// True if factors of these types are multiplied by BFDOT.
fn is_dot_of_bf16(unit: &VectorUnit, types: [DType; 2]) -> bool {
    types == [DType::Bf16; 2] && product::has(unit, Shape::Words, Factors::Bf16)
}

/// True if products are made by BFDOT, two of them a lane.
fn has_pairs(c: &Contraction, unit: &VectorUnit) -> bool {
    is_dot_of_bf16(unit, [c.lhs.dtype, c.rhs.dtype])
}

impl Rules for Dot {
    fn check(&self, c: &Contraction, unit: &VectorUnit) -> Result<(), String> {
        super::depthwise::check_window_kind(c, false)?;
        if c.window.is_some() {
            return Err("sums in lanes are of matrices".into());
        }
        if c.dst.dtype.is_integer() {
            return Err("lanes of integers are not added up".into());
        }
        let [d, a, b] = [V(0), V(1), V(2)];
        if !(Op::PairAdd { d, a, b }).exists_on(unit.isa) {
            return Err(format!("{} does not add up lanes", unit.isa));
        }
        match is_unit(c.lhs.col, c.k) && is_unit(c.rhs.row, c.k) {
            true => Ok(()),
            false => Err("sums in lanes need both factors contiguous along K".into()),
        }
    }

    fn check_access(
        &self,
        _c: &Contraction,
        _unit: &VectorUnit,
        lhs: LhsAccess,
        rhs: RhsAccess,
        _nr: u64,
    ) -> Result<(), String> {
        match (lhs, rhs) {
            (LhsAccess::InPlace, RhsAccess::InPlace) => Ok(()),
            _ => Err("sums in lanes read both factors in place".into()),
        }
    }

    fn check_window(&self, _c: &Contraction, _lhs: LhsAccess) -> Result<(), String> {
        Err("sums in lanes are of matrices".into())
    }

    fn window_sources(&self, _c: &Contraction) -> &'static [LhsAccess] {
        &[]
    }

    fn is_worth_trying(&self, c: &Contraction) -> bool {
        c.m <= ROWS
    }

    fn multiplies_bf16(&self, c: &Contraction, unit: &VectorUnit) -> bool {
        has_pairs(c, unit)
    }

    fn unroll_group(&self, unit: &VectorUnit) -> u64 {
        2 * u64::from(unit.lanes)
    }

    fn unroll(&self, unit: &VectorUnit, _accumulators: u64) -> u64 {
        self.unroll_group(unit)
    }

    fn registers_needed(&self, _unit: &VectorUnit, rows: u64, columns: u64, _lhs: LhsAccess, _sum: DType) -> u64 {
        rows * columns + rows + 1
    }

    /// A sum is a register.
    fn column_step(&self, _lanes: u64) -> u64 {
        2
    }

    fn granularity(&self, c: &Contraction, unit: &VectorUnit) -> (u64, u64) {
        (u64::from(unit.lanes) * if has_pairs(c, unit) { 2 } else { 1 }, 1)
    }

    fn step(
        &self,
        c: &Contraction,
        unit: &VectorUnit,
        [rows, columns]: [u64; 2],
        _access: (LhsAccess, RhsAccess),
    ) -> StepWork {
        let (r, pairs) = (rows as f64, has_pairs(c, unit));
        let widened = |dtype: DType| if dtype.is_narrow() { 1.0 } else { 0.0 };
        let per = f64::from(unit.lanes) * if pairs { 2.0 } else { 1.0 };
        let widen = if pairs { 0.0 } else { r * widened(c.lhs.dtype) + columns as f64 * widened(c.rhs.dtype) };
        StepWork {
            products: r * columns as f64 / per,
            loads: (r + columns as f64) / per,
            conversions: 0.0,
            others: widen / per,
            of_loop: 0.5 / per,
            per_product: per,
            is_straight: false,
        }
    }

    /// The lanes of each sum are added up.
    fn arrange(&self, _unit: &VectorUnit, rows: u64, columns: u64) -> f64 {
        3.0 * (rows * columns) as f64
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<(), BuildError> {
        b.dot();
        Ok(())
    }
}

impl Builder<'_> {
    fn dot(&mut self) {
        let (rows, columns) = (self.rows, self.tile.n);
        let mut sums = vec![];
        for i in 0..rows {
            for j in 0..columns {
                let d = self.value();
                self.push(Op::Zero { d }, format!("c[{i}, {j}]"));
                sums.push(d);
            }
        }
        self.contract(self.how.unroll, |b, _, from, count, advance| b.dot_steps(&sums, from, count, advance));
        self.results = (0..rows).flat_map(|i| self.reduce(i, &sums)).collect();
        if self.tile.init == Init::Load {
            for i in 0..rows {
                for j in 0..self.vectors {
                    let (old, d) = (self.value(), self.value());
                    let a = std::mem::replace(&mut self.results[(i * self.vectors + j) as usize], d);
                    self.push(Op::Load { d: old, src: self.dst_addr(i, j), lanes: self.valid(j) }, "the old result");
                    self.push(Op::Binary { f: Binary::Add, d, a, b: old }, format!("c[{i}, {}]", self.columns(j)));
                }
            }
        }
    }

    fn dot_steps(&self, sums: &[V], from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let step = advance.unwrap_or(0);
        let dtypes = [LHS, RHS].map(|p| self.params[usize::from(p.0)].dtype);
        let pairs = is_dot_of_bf16(self.unit, dtypes);
        let whole = self.lanes * if pairs { 2 } else { 1 };
        let load = |d: V, src: Addr, elements: u64| match pairs {
            true => Op::LoadRaw { d, src, elements: elements as u16 },
            false => Op::Load { d, src, lanes: elements as u16 },
        };
        let addr = |param, dtype: DType, distance: u64, p: u64| {
            let bytes = dtype.bytes() as u64;
            Addr { param, offset: (bytes * (distance + p)) as i64, step: (bytes * step) as i64 }
        };
        let mut out = vec![];
        let mut p = from;
        while p < from + count {
            let elements = (from + count - p).min(whole);
            let k = step_name(advance.is_some(), p);
            let rows: Vec<V> = (0..self.rows).map(|_| self.value()).collect();
            for (i, d) in (0..).zip(&rows) {
                let op = load(*d, addr(LHS, dtypes[0], i * self.tile.lhs.row, p), elements);
                out.push(Inst::new(op, format!("lhs[{i}, {k}..+{elements}]")));
            }
            for j in 0..self.tile.n {
                let b = self.value();
                let op = load(b, addr(RHS, dtypes[1], j * self.tile.rhs.col, p), elements);
                out.push(Inst::new(op, format!("rhs[{k}..+{elements}, {j}]")));
                for (i, a) in (0..).zip(&rows) {
                    let (d, a) = (sums[(i * self.tile.n + j) as usize], *a);
                    let op = if pairs { Op::Dot { f: Factors::Bf16, d, a, b } } else { Op::Fma { d, a, b } };
                    out.push(Inst::new(op, format!("c[{i}, {j}]")));
                }
            }
            p += elements;
        }
        out
    }

    /// Adds up the lanes of a row's sums, as many sums at once as a register has lanes; gives the vectors of them.
    fn reduce(&mut self, i: u64, sums: &[V]) -> Vec<V> {
        let row = (i * self.tile.n) as usize;
        let mut results = vec![];
        for first in (0..self.tile.n).step_by(self.lanes as usize) {
            let last = (first + self.lanes).min(self.tile.n);
            let mut level = sums[row + first as usize..row + last as usize].to_vec();
            for _ in 0..self.lanes.ilog2() {
                level = level
                    .chunks(2)
                    .map(|pair| {
                        let (a, b) = (pair[0], *pair.last().unwrap_or(&pair[0]));
                        let d = self.value();
                        self.push(Op::PairAdd { d, a, b }, format!("lanes of c[{i}, {first}..]"));
                        d
                    })
                    .collect();
            }
            results.push(level[0]);
        }
        results
    }
}

//! Depthwise sums: columns in lanes of both factors, each with a channel of its own.
//!
//! Taps of a line of the kernel read what others read one pixel further: a vector of the source is loaded once and multiplied
//! with every tap that needs it. The weights of as many taps as registers allow are held meanwhile.

use std::collections::BTreeMap;

use kiln_ir::nest::Run;
use kiln_ir::{Contraction, DType};

use super::{LhsAccess, RhsAccess, Rules, StepWork};
use crate::microkernel::build::{BuildError, Builder, LHS, RHS};
use crate::microkernel::{Addr, Inst, Op, V};
use crate::target::VectorUnit;

/// The most taps whose weights are held.
const HELD: u64 = 5;

/// The form.
pub(super) struct Depthwise;

/// Fails if a contraction with a channel per group is computed in another form, or another contraction in this one.
pub(super) fn check_window_kind(c: &Contraction, is_depthwise: bool) -> Result<(), String> {
    match is_depthwise == c.window.as_ref().is_some_and(|w| w.depthwise) {
        true => Ok(()),
        false => Err("depthwise is the form of convolutions with a channel per group, and their only one".into()),
    }
}

impl Rules for Depthwise {
    fn check(&self, c: &Contraction, _unit: &VectorUnit) -> Result<(), String> {
        check_window_kind(c, true)
    }

    fn check_access(
        &self,
        _c: &Contraction,
        _unit: &VectorUnit,
        _lhs: LhsAccess,
        _rhs: RhsAccess,
        _nr: u64,
    ) -> Result<(), String> {
        Ok(())
    }

    fn check_window(&self, c: &Contraction, lhs: LhsAccess) -> Result<(), String> {
        match lhs {
            LhsAccess::InPlace if c.lhs.col != 1 => Err("columns must be neighbours".into()),
            LhsAccess::Shared => Err("each block of columns reads channels of its own".into()),
            LhsAccess::Block if c.lhs.col == 1 => Err("columns that are neighbours are read in place".into()),
            _ => Ok(()),
        }
    }

    fn window_sources(&self, c: &Contraction) -> &'static [LhsAccess] {
        if c.lhs.col == 1 { &[LhsAccess::InPlace] } else { &[LhsAccess::Block] }
    }

    fn unroll_group(&self, _unit: &VectorUnit) -> u64 {
        1
    }

    /// The weights of a few taps and two vectors of the source.
    fn registers_needed(&self, unit: &VectorUnit, rows: u64, columns: u64, _lhs: LhsAccess, _sum: DType) -> u64 {
        rows * columns.div_ceil(unit.lanes.into()) + 5
    }

    fn granularity(&self, _c: &Contraction, unit: &VectorUnit) -> (u64, u64) {
        (1, unit.lanes.into())
    }

    /// Taps along a line share what they read.
    fn step(
        &self,
        c: &Contraction,
        unit: &VectorUnit,
        [rows, columns]: [u64; 2],
        _access: (LhsAccess, RhsAccess),
    ) -> StepWork {
        let (r, v) = (rows as f64, columns.div_ceil(u64::from(unit.lanes)) as f64);
        let widened = |dtype: DType| if dtype.is_narrow() { 1.0 } else { 0.0 };
        let last = c.window.as_ref().and_then(|w| w.axes.last());
        let inputs = last.map_or(r, |a| {
            let (kernel, apart) = (a.kernel as f64, (a.stride.min(a.kernel * a.dilation)) as f64);
            ((r - 1.0) * apart + kernel).min(r * kernel) / kernel
        });
        StepWork {
            products: r * v,
            loads: v + inputs * v,
            conversions: 0.0,
            others: inputs * v * widened(c.lhs.dtype) + v * widened(c.rhs.dtype),
            of_loop: 0.5,
            per_product: 1.0,
            is_straight: true,
        }
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<(), BuildError> {
        b.depthwise()
    }
}

/// Runs in groups of at most so many that are evenly apart, as the taps of a line of the kernel are.
fn lines(runs: &[Run], most: usize) -> Vec<&[Run]> {
    let mut groups = vec![];
    let mut rest = runs;
    while let [first, others @ ..] = rest {
        let apart = others.first().map_or(0, |second| second.lhs - first.lhs);
        let even = |i: usize| rest[i].lhs - rest[i - 1].lhs == apart;
        let len = (1..rest.len().min(most)).take_while(|i| even(*i)).count() + 1;
        let (group, left) = rest.split_at(len);
        groups.push(group);
        rest = left;
    }
    groups
}

impl Builder<'_> {
    fn depthwise(&mut self) -> Result<(), BuildError> {
        if self.tile.lhs.col != 1 && self.tile.n > 1 {
            return Err(BuildError::Layout("the columns of lhs are not contiguous"));
        }
        // Two registers are for vectors of the source.
        let spare = u64::from(self.unit.registers) - self.rows * self.vectors;
        let held = (spare - 2).min(HELD);
        let sums = self.start_sums();
        let runs = self.runs();
        for j in 0..self.vectors {
            for taps in lines(&runs, held as usize) {
                let insts = self.taps(taps, j, &sums);
                self.body.extend(insts.into_iter().map(crate::microkernel::Stmt::Inst));
            }
        }
        self.results = sums;
        Ok(())
    }

    /// The products of some taps in vector `j` of all rows.
    fn taps(&self, taps: &[Run], j: u64, sums: &[V]) -> Vec<Inst> {
        let bytes = |param: usize| self.params[param].dtype.bytes() as i64;
        let mut out = vec![];
        // The rows and weights that read an element, by element; ascending, so are the taps of each row.
        let mut readers: BTreeMap<i64, Vec<(u64, V)>> = BTreeMap::new();
        for run in taps {
            let offset = bytes(1) * ((run.rhs * self.tile.rhs.row + j * self.lanes) as i64);
            let lanes = if self.padded() { self.lanes as u16 } else { self.valid(j) };
            let weight = self.value();
            let op = Op::Load { d: weight, src: Addr { param: RHS, offset, step: 0 }, lanes };
            out.push(Inst::new(op, format!("rhs[{}, {}]", run.rhs, self.columns(j))));
            for i in self.rows_of(*run) {
                readers.entry(self.row_start(*run, i)).or_default().push((i, weight));
            }
        }
        for (element, readers) in readers {
            let b = self.value();
            let offset = bytes(0) * (element + (j * self.lanes) as i64);
            let src = Addr { param: LHS, offset, step: 0 };
            let op = Op::Load { d: b, src, lanes: self.valid(j) };
            out.push(Inst::new(op, format!("lhs[{element}, {}]", self.columns(j))));
            for (i, a) in readers {
                let d = sums[(i * self.vectors + j) as usize];
                out.push(Inst::new(Op::Fma { d, a, b }, self.sum(i, j)));
            }
        }
        out
    }
}

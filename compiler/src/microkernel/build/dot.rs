//! Sums in lanes: K in lanes of both factors, the lanes of each sum added up at the end.
//!
//! For few rows, and columns that lie along K in memory: nothing is packed, and each element is read once. Two bf16 factors
//! are multiplied by BFDOT where there is one.

use kiln_ir::DType;
use kiln_ir::nest::Init;

use super::{Builder, LHS, RHS, step_name};
use crate::microkernel::{Addr, Binary, Inst, Op, V};

impl Builder<'_> {
    pub(super) fn dot(&mut self) {
        let (rows, columns) = (self.rows, self.tile.n);
        let acc = move |i: u64, j: u64| V((rows + i * columns + j) as u8);
        for i in 0..rows {
            (0..columns).for_each(|j| self.push(Op::Zero { d: acc(i, j) }, format!("c[{i}, {j}]")));
        }
        // What neither accumulators nor row vectors take holds vectors of columns.
        let others = rows + rows * columns;
        let spare = (u64::from(self.unit.registers) - others).min(columns.max(2));
        let col = move |nth: u64| V((others + nth % spare) as u8);
        self.contract(self.how.unroll, |b, _, from, count, advance| b.dot_steps(&acc, &col, from, count, advance));
        self.results = (0..rows).flat_map(|i| self.reduce(i, &acc)).collect();
        self.free = self.free_besides(&self.results);
        if self.tile.init == Init::Load {
            let old = self.free[0];
            for i in 0..rows {
                for j in 0..self.vectors {
                    let d = self.results[(i * self.vectors + j) as usize];
                    self.push(Op::Load { d: old, src: self.dst_addr(i, j), lanes: self.valid(j) }, "the old result");
                    self.push(Op::Binary { f: Binary::Add, d, a: d, b: old }, format!("c[{i}, {}]", self.columns(j)));
                }
            }
        }
    }

    fn dot_steps(
        &self,
        acc: &dyn Fn(u64, u64) -> V,
        col: &dyn Fn(u64) -> V,
        from: u64,
        count: u64,
        advance: Option<u64>,
    ) -> Vec<Inst> {
        let step = advance.unwrap_or(0);
        let dtypes = [LHS, RHS].map(|p| self.params[usize::from(p.0)].dtype);
        let pairs = self.unit.bf16 && dtypes == [DType::Bf16; 2];
        let whole = self.lanes * if pairs { 2 } else { 1 };
        let load = |d: V, src: Addr, elements: u64| match pairs {
            true => Op::LoadRaw { d, src, elements: elements as u16 },
            false => Op::Load { d, src, lanes: elements as u16 },
        };
        let addr = |param, dtype: DType, distance: u64, p: u64| {
            let bytes = dtype.bytes() as u64;
            Addr { param, offset: (bytes * (distance + p)) as i64, step: (bytes * step) as i64 }
        };
        let (mut out, mut loads) = (vec![], 0);
        let mut p = from;
        while p < from + count {
            let elements = (from + count - p).min(whole);
            let k = step_name(advance.is_some(), p);
            for i in 0..self.rows {
                let op = load(V(i as u8), addr(LHS, dtypes[0], i * self.tile.lhs.row, p), elements);
                out.push(Inst { op, why: format!("lhs[{i}, {k}..+{elements}]").into() });
            }
            for j in 0..self.tile.n {
                let b = col(loads);
                loads += 1;
                let op = load(b, addr(RHS, dtypes[1], j * self.tile.rhs.col, p), elements);
                out.push(Inst { op, why: format!("rhs[{k}..+{elements}, {j}]").into() });
                for i in 0..self.rows {
                    let (d, a) = (acc(i, j), V(i as u8));
                    let op = if pairs { Op::Dot2 { d, a, b } } else { Op::Fma { d, a, b } };
                    out.push(Inst { op, why: format!("c[{i}, {j}]").into() });
                }
            }
            p += elements;
        }
        out
    }

    /// Adds up the lanes of a row's sums, as many sums at once as a register has lanes; gives the registers that hold them.
    fn reduce(&mut self, i: u64, acc: &dyn Fn(u64, u64) -> V) -> Vec<V> {
        let mut results = vec![];
        for first in (0..self.tile.n).step_by(self.lanes as usize) {
            let mut level: Vec<V> = (first..(first + self.lanes).min(self.tile.n)).map(|j| acc(i, j)).collect();
            for _ in 0..self.lanes.ilog2() {
                level = level
                    .chunks(2)
                    .map(|pair| {
                        let (a, b) = (pair[0], *pair.last().unwrap_or(&pair[0]));
                        self.push(Op::PairAdd { d: a, a, b }, format!("lanes of c[{i}, {first}..]"));
                        a
                    })
                    .collect();
            }
            results.push(level[0]);
        }
        results
    }
}

//! How many lanes of each vector register are still needed.
//!
//! Liveness, the usual backward pass, with a number of lanes in place of a bit: a store needs the lanes it writes, a
//! lanewise operation of its operands what is needed of its result, and one that moves elements between lanes all of them.
//! Registers of which nothing is needed are free; lanes that are not needed may hold anything.

use super::avx2::LANES;
use crate::microkernel::{Inst, MicroKernel, Op, Stmt, V};

/// Lanes needed of each of the registers `v0..v15`, counted from lane 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand([u16; 16]);

impl Demand {
    /// The lanes needed of `v`, which is below 16.
    pub(super) fn of(&self, v: V) -> u16 {
        self.0[usize::from(v.0)]
    }

    /// The registers of which nothing is needed and that are none of `others`, from the lowest up.
    pub(super) fn free_besides(&self, others: &[V]) -> impl Iterator<Item = V> {
        (0..16).map(V).filter(|v| self.of(*v) == 0 && !others.contains(v))
    }

    fn need(&mut self, v: V, lanes: u16) {
        let needed = &mut self.0[usize::from(v.0)];
        *needed = lanes.max(*needed);
    }

    /// What is needed before `op` when this is needed after it.
    fn before(mut self, op: &Op) -> Demand {
        let lanes = match (op, op.defined()) {
            (Op::Store { lanes, .. }, _) => *lanes,
            (_, Some(d)) => std::mem::take(&mut self.0[usize::from(d.0)]),
            (_, None) => 0,
        };
        let moves = matches!(op, Op::PairAdd { .. } | Op::Permute { .. });
        let lanes = if moves && lanes > 0 { LANES } else { lanes };
        op.used().for_each(|v| self.need(v, lanes));
        self
    }

    fn before_all(self, body: &[Inst]) -> Demand {
        body.iter().rev().fold(self, |demand, i| demand.before(&i.op))
    }

    fn union(mut self, other: Demand) -> Demand {
        (0..16).map(V).for_each(|v| self.need(v, other.of(v)));
        self
    }
}

/// For every operation of `mk`, in the order they are written down, what is needed after it. Registers are below 16, and
/// of the operations that move elements between lanes or store there are only stores, pairwise sums and permutations.
pub(super) fn demand_after(mk: &MicroKernel) -> Vec<Demand> {
    let mut after = Vec::new();
    let mut demand = Demand::default();
    for stmt in mk.body.iter().rev() {
        let insts = match stmt {
            Stmt::Inst(i) => std::slice::from_ref(i),
            Stmt::Loop { body, .. } => {
                // The next iteration needs what the body needs, which may need more of this one. Demand only grows.
                loop {
                    let more = demand.union(demand.before_all(body));
                    if more == demand {
                        break body;
                    }
                    demand = more;
                }
            }
        };
        for i in insts.iter().rev() {
            after.push(demand);
            demand = demand.before(&i.op);
        }
    }
    after.reverse();
    after
}

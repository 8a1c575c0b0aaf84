//! The number of lanes of each vector register that are still needed.
//!
//! Liveness, the usual backward pass, with a number of lanes in place of a bit: a store needs the lanes it writes, a
//! lanewise operation of its operands what is needed of its result, and one that moves elements between lanes all of them.
//! Registers of which nothing is needed are free; lanes that are not needed may hold anything.

use crate::microkernel::op::Lanes;
use crate::microkernel::{Inst, MicroKernel, Op, Stmt, V};

/// The most registers that an instruction set has.
pub(super) const MAX_REGISTERS: u8 = 32;

/// Lanes needed of each of the registers `v0..v31`, counted from lane 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand([u16; MAX_REGISTERS as usize]);

impl Demand {
    /// The lanes needed of `v`, which is below [`MAX_REGISTERS`].
    pub(super) fn of(&self, v: V) -> u16 {
        self.0[v.0 as usize]
    }

    fn need(&mut self, v: V, lanes: u16) {
        let needed = &mut self.0[v.0 as usize];
        *needed = lanes.max(*needed);
    }

    /// The lanes that are needed before `op`, if these are needed after it. Registers have `all` lanes.
    fn before(mut self, op: &Op, all: u16) -> Demand {
        let lanes = match op.defined() {
            Some(d) => std::mem::take(&mut self.0[d.0 as usize]),
            None if op.slot().is_some() => all,
            None => op.touched().map_or(0, |t| t.elements),
        };
        let lanes = if op.lanes() == Lanes::Any && lanes > 0 { all } else { lanes };
        op.used().for_each(|v| self.need(v, lanes));
        self
    }

    fn before_all(self, body: &[Inst], all: u16) -> Demand {
        body.iter().rev().fold(self, |demand, i| demand.before(&i.op, all))
    }

    fn union(mut self, other: Demand) -> Demand {
        (0..MAX_REGISTERS.into()).map(V).for_each(|v| self.need(v, other.of(v)));
        self
    }
}

/// For every operation of `mk`, in the order they are written down, what is needed after it. Registers are below [`MAX_REGISTERS`], and
/// nothing is stored unconverted.
pub(super) fn demand_after(mk: &MicroKernel) -> Vec<Demand> {
    let all = mk.lanes as u16;
    let mut after = Vec::new();
    let mut demand = Demand::default();
    for stmt in mk.body.iter().rev() {
        let insts = match stmt {
            Stmt::Inst(i) => std::slice::from_ref(i),
            Stmt::Loop { body, .. } => {
                // The next iteration needs what the body needs, which may need more of this one. Demand only grows.
                loop {
                    let more = demand.union(demand.before_all(body, all));
                    if more == demand {
                        break body;
                    }
                    demand = more;
                }
            }
        };
        for i in insts.iter().rev() {
            after.push(demand);
            demand = demand.before(&i.op, all);
        }
    }
    after.reverse();
    after
}

//! Vector registers for intermediate values of an operation.
//!
//! An operation that needs some takes registers whose contents nobody will read: those that the micro-kernel never
//! names or has finished with, first those that need not be saved for the caller. If there are none, it borrows
//! registers that it does not itself use: they are spilled before and reloaded after it.

use crate::microkernel::{MicroKernel, Op, Stmt, V};

/// The registers of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// All of them.
    pub registers: Vec<u8>,
    /// Those among them that are spilled and reloaded.
    pub borrowed: Vec<u8>,
}

/// For each operation in order, the registers for the number that `need` says.
pub fn plan(mk: &MicroKernel, need: impl Fn(&Op) -> usize) -> Vec<Scratch> {
    let mut ops: Vec<&Op> = vec![];
    // For each operation, the range of the loop it is in.
    let mut loops = vec![];
    for stmt in &mk.body {
        let start = ops.len();
        match stmt {
            Stmt::Inst(inst) => {
                ops.push(&inst.op);
                loops.push(start..start);
            }
            Stmt::Loop { body, .. } => {
                ops.extend(body.iter().map(|inst| &inst.op));
                loops.resize(ops.len(), start..ops.len());
            }
        }
    }
    let mut named = [false; 256];
    ops.iter().flat_map(|op| touched(op)).for_each(|v| named[usize::from(v.0)] = true);
    (0..ops.len())
        .map(|i| {
            let need = need(ops[i]);
            if need == 0 {
                return Scratch::default();
            }
            let own: Vec<V> = touched(ops[i]).collect();
            let dead = |v: u8| {
                // Either the next trip follows, or what is behind the loop. Outside loops the range starts here.
                let end = loops[i].end.max(i + 1);
                let rest = &ops[i + 1..end];
                !is_read(V(v), rest.iter().chain(&ops[loops[i].start..i]))
                    && !is_read(V(v), rest.iter().chain(&ops[end..]))
            };
            let saved = |v: u8| (8..16).contains(&v);
            let others = || (0..32u8).filter(|v| !own.contains(&V(*v)));
            let free = others().filter(|v| !named[usize::from(*v)] && !saved(*v));
            let finished = others().filter(|v| named[usize::from(*v)] && dead(*v));
            let preserved = others().filter(|v| !named[usize::from(*v)] && saved(*v));
            let mut registers: Vec<u8> = free.chain(finished).chain(preserved).take(need).collect();
            let missing = need - registers.len();
            let borrowed: Vec<u8> = others().filter(|v| !registers.contains(v)).take(missing).collect();
            registers.extend(&borrowed);
            Scratch { registers, borrowed }
        })
        .collect()
}

fn touched(op: &Op) -> impl Iterator<Item = V> {
    op.used().chain(op.defined()).chain(op.clobbered())
}

/// True if `v`'s contents are read before they are replaced.
fn is_read<'a>(v: V, ops: impl Iterator<Item = &'a &'a Op>) -> bool {
    for op in ops {
        if op.used().any(|u| u == v) {
            return true;
        }
        if op.defined() == Some(v) || op.clobbered() == Some(v) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The registers of the only `pairadd`, written to a kernel whose unnamed registers are `v30` and `v31` or fewer.
    fn registers(named: u8, body: &str) -> Scratch {
        let fill: String = (0..named).map(|n| format!("v{n} = zero\n")).collect();
        let keep: String = (4..named).map(|n| format!("store d[0], v{n} x1\n")).collect();
        let text = format!(
            "microkernel uk sve lanes=4 registers=32 {{\nparam d: f32 write 1x16 stride 16\n{fill}{body}\n{keep}}}"
        );
        let mk: MicroKernel = text.parse().unwrap();
        mk.verify().unwrap();
        let mut scratch = plan(&mk, |op| if matches!(op, Op::PairAdd { .. }) { 2 } else { 0 });
        scratch.retain(|s| *s != Scratch::default());
        scratch.remove(0)
    }

    #[test]
    fn unnamed_registers_come_first_and_saved_ones_last() {
        assert_eq!(registers(4, "v0 = pairadd v0, v1").registers, [4, 5]);
        assert_eq!(registers(7, "v0 = pairadd v0, v1").registers, [7, 16]);
        assert_eq!(registers(31, "v0 = pairadd v0, v1").registers, [31, 2]);
    }

    #[test]
    fn living_registers_are_borrowed() {
        let body = "v0 = pairadd v0, v1\n store d[0], v2 x1\n store d[0], v3 x1";
        assert_eq!(registers(32, body), Scratch { registers: vec![4 - 2, 3], borrowed: vec![2, 3] });
        let one = registers(32, "v0 = pairadd v0, v1\n store d[0], v2 x1");
        assert_eq!(one, Scratch { registers: vec![3, 2], borrowed: vec![2] });
    }

    #[test]
    fn what_the_next_trip_reads_is_alive() {
        let body = "loop 2 {\n v2 = add v3, v3\n v0 = pairadd v0, v1\n }";
        assert_eq!(registers(32, body).borrowed, [3]);
        let body = "loop 2 {\n v0 = pairadd v0, v1\n v2 = add v3, v3\n }\n v3 = zero\n store d[0], v2 x1";
        assert_eq!(registers(32, body).borrowed, [3]);
    }
}

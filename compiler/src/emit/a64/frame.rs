//! The stack frame: what the caller expects unchanged, and room for vector registers that are kept.

use std::collections::BTreeSet;

use super::address::LoopPlan;
use super::asm::Assembler;
use super::inst::Inst;
use super::operand::{D, Disp, Imm, X, XSp};

/// So many bytes, a multiple of 16, in parts that an immediate can hold.
fn steps(bytes: i64) -> impl Iterator<Item = Imm<1, 4095, 1>> {
    const MOST: i64 = 4080;
    (0..bytes).step_by(MOST as usize).filter_map(move |from| Imm::new((bytes - from).min(MOST)))
}

/// The frame of a function. From the stack pointer up: pairs of registers of the caller's, then slots.
pub struct Frame {
    d: Vec<[D; 2]>,
    x: Vec<[X; 2]>,
    slots: i64,
}

impl Frame {
    /// The frame of a function that writes these vector registers and has loops of these plans. Slots have `slot_bytes`
    /// bytes, a multiple of 16.
    pub fn new(written: &BTreeSet<u8>, plans: &[LoopPlan], slots: usize, slot_bytes: i64) -> Frame {
        let used: BTreeSet<X> = plans.iter().flat_map(|p| &p.registers).copied().collect();
        let d_pairs = (8..16).step_by(2).filter(|n| written.contains(n) || written.contains(&(n + 1)));
        let x_pairs = (19..29).step_by(2).map(|n| [n, n + 1].map(|n| X::new(n).expect("below 31")));
        Frame {
            d: d_pairs.map(|n| [n, n + 1].map(|n| D::new(n).expect("below 32"))).collect(),
            x: x_pairs.filter(|pair| pair.iter().any(|x| used.contains(x))).collect(),
            slots: slots as i64 * slot_bytes,
        }
    }

    /// Bytes from the stack pointer up to the slots.
    pub fn slots_at(&self) -> i64 {
        16 * (self.d.len() + self.x.len()).max(usize::from(self.slots > 0)) as i64
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    fn bytes(&self) -> i64 {
        self.slots_at() + self.slots
    }

    /// Makes the frame and saves what it holds.
    pub fn enter(&self, asm: &mut Assembler) {
        steps(self.bytes()).for_each(|i| asm.push(Inst::SubImm { d: XSp::SP, n: XSp::SP, i }));
        let stores =
            self.pairs(|[t, u], i| Inst::StpD { t, u, n: XSp::SP, i }, |[t, u], i| Inst::Stp { t, u, n: XSp::SP, i });
        stores.into_iter().for_each(|inst| asm.push(inst));
    }

    /// Restores what the frame holds and removes it.
    pub fn leave(&self, asm: &mut Assembler) {
        let loads =
            self.pairs(|[t, u], i| Inst::LdpD { t, u, n: XSp::SP, i }, |[t, u], i| Inst::Ldp { t, u, n: XSp::SP, i });
        loads.into_iter().for_each(|inst| asm.push(inst));
        steps(self.bytes()).for_each(|i| asm.push(Inst::AddImm { d: XSp::SP, n: XSp::SP, i }));
    }

    /// An instruction for each pair of each kind with its place in the frame.
    fn pairs(
        &self,
        d: impl Fn([D; 2], Disp<-512, 504, 8>) -> Inst,
        x: impl Fn([X; 2], Disp<-512, 504, 8>) -> Inst,
    ) -> Vec<Inst> {
        let mut slots = (0..).map(|slot| Disp::new(16 * slot).expect("9 pairs are 144 bytes"));
        let mut slot = || slots.next().expect("endless");
        let mut out: Vec<Inst> = self.d.iter().map(|pair| d(*pair, slot())).collect();
        out.extend(self.x.iter().map(|pair| x(*pair, slot())));
        out
    }
}

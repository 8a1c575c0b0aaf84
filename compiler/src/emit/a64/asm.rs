//! A buffer of instructions with labels.

use super::inst::Inst;
use super::operand::{Imm, Lsl, OnePiece, Piece, X, XSp};

/// A place in an [`Assembler`]'s code, which may be used before it is [bound](Assembler::bind).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(usize);

/// Code whose branches or addresses cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AsmError {
    /// The branch does not reach its label.
    #[error("the instruction at {at:#x} does not reach {target:#x}")]
    OutOfRange {
        /// Byte offset of the branch.
        at: u64,
        /// Byte offset of its label.
        target: u64,
    },
    /// The label of a branch was not bound.
    #[error("the label of the branch at {at:#x} is not bound")]
    Unbound {
        /// Byte offset of the branch.
        at: u64,
    },
    /// A label was bound twice.
    #[error("a label is bound at {first:#x} and again at {second:#x}")]
    Rebound {
        /// Byte offset of the first binding.
        first: u64,
        /// Byte offset of the second.
        second: u64,
    },
}

/// Instructions in order, and branches to be resolved by [`finish`](Assembler::finish).
#[derive(Debug, Default)]
pub struct Assembler {
    words: Vec<u32>,
    /// Byte offset of each label once bound.
    labels: Vec<Option<u64>>,
    /// Index of the word, tested register, target.
    branches: Vec<(usize, X, Label)>,
    /// Index of the word, written register, target.
    addresses: Vec<(usize, X, Label)>,
}

impl Assembler {
    /// Byte offset of the next instruction.
    pub fn offset(&self) -> u64 {
        4 * self.words.len() as u64
    }

    /// Appends an instruction.
    pub fn push(&mut self, inst: Inst) {
        self.words.push(inst.encode());
    }

    /// A new label, not bound yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Makes `label` the place of the next instruction.
    pub fn bind(&mut self, label: Label) -> Result<(), AsmError> {
        let second = self.offset();
        match self.labels[label.0].replace(second) {
            Some(first) => Err(AsmError::Rebound { first, second }),
            None => Ok(()),
        }
    }

    /// Appends a branch to `target` that is taken if `t` is not 0.
    pub fn cbnz(&mut self, t: X, target: Label) {
        self.branches.push((self.words.len(), t, target));
        self.words.push(0);
    }

    /// Appends what sets `d` to the address of `target`.
    pub fn adr(&mut self, d: X, target: Label) {
        self.addresses.push((self.words.len(), d, target));
        self.words.push(0);
    }

    /// Appends data, after zeros that bring it to a multiple of 16 bytes, and binds `label` to it.
    pub fn data(&mut self, label: Label, words: &[u32]) -> Result<(), AsmError> {
        self.words.resize(self.words.len().next_multiple_of(4), 0);
        self.bind(label)?;
        self.words.extend(words);
        Ok(())
    }

    /// Appends what sets `d = value`: 1 to 4 instructions.
    pub fn mov_const(&mut self, d: X, value: u64) {
        let mut pieces = (0..4u8).map(|n| (n, value >> (16 * n) & 0xffff)).filter(|(_, bits)| *bits != 0);
        let (n, bits) = pieces.next().unwrap_or((0, 0));
        self.push(Inst::Movz { d, i: OnePiece::new(bits << (16 * n)).expect("16 bits are one piece") });
        for (n, bits) in pieces {
            let i = Imm::new(bits.cast_signed()).expect("16 bits");
            self.push(Inst::Movk { d, i, h: Piece::new(n).expect("one of 4 pieces") });
        }
    }

    /// Appends what sets `x = x + c`; if no two instructions can, by way of `scratch`.
    pub fn increase(&mut self, x: X, c: i64, scratch: X) {
        if is_short(c) {
            self.add_const(x, x, c);
        } else {
            self.mov_const(scratch, c.cast_unsigned());
            self.push(Inst::Add { d: x, n: x, m: scratch, s: Lsl::NONE });
        }
    }

    /// Appends what sets `d = n + c`: 0 to 5 instructions. Unless `c` [is short](is_short), `d` must not be `n`.
    pub fn add_const(&mut self, d: X, n: X, c: i64) {
        if c == 0 {
            if d != n {
                self.push(Inst::Mov { d, m: n });
            }
        } else if is_short(c) {
            let magnitude = c.abs();
            let mut n = XSp::from(n);
            let d = XSp::from(d);
            if let Some(i) = Imm::new(magnitude >> 12) {
                self.push(if c > 0 { Inst::AddImm12 { d, n, i } } else { Inst::SubImm12 { d, n, i } });
                n = d;
            }
            if let Some(i) = Imm::new(magnitude & 0xfff) {
                self.push(if c > 0 { Inst::AddImm { d, n, i } } else { Inst::SubImm { d, n, i } });
            }
        } else {
            debug_assert_ne!(d, n, "the sum is built in its destination");
            self.mov_const(d, c.cast_unsigned());
            self.push(Inst::Add { d, n: d, m: n, s: Lsl::NONE });
        }
    }

    /// The code in memory order, every branch resolved.
    pub fn finish(mut self) -> Result<Vec<u8>, AsmError> {
        let distance = |index: usize, label: Label| {
            let at = 4 * index as u64;
            let target = self.labels[label.0].ok_or(AsmError::Unbound { at })?;
            Imm::new(target.cast_signed() - at.cast_signed()).ok_or(AsmError::OutOfRange { at, target })
        };
        for (index, t, label) in self.branches {
            self.words[index] = Inst::Cbnz { t, i: distance(index, label)? }.encode();
        }
        for (index, d, label) in self.addresses {
            self.words[index] = Inst::Adr { d, i: distance(index, label)? }.encode();
        }
        Ok(self.words.into_iter().flat_map(u32::to_le_bytes).collect())
    }
}

/// True if `c` can be added in at most two instructions and no other register: less than 24 bits and a sign.
pub fn is_short(c: i64) -> bool {
    c.unsigned_abs() < 1 << 24
}

/// True if one instruction can add `c`.
pub fn is_one_addition(c: i64) -> bool {
    is_short(c) && (c.abs() >> 12 == 0 || c & 0xfff == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X0: X = X::new(0).unwrap();
    const X1: X = X::new(1).unwrap();

    fn words(asm: Assembler) -> Vec<u32> {
        asm.finish().unwrap().chunks(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect()
    }

    fn texts(build: impl FnOnce(&mut Assembler)) -> Vec<u32> {
        let mut asm = Assembler::default();
        build(&mut asm);
        words(asm)
    }

    fn cbnz(distance: i64) -> u32 {
        Inst::Cbnz { t: X0, i: Imm::new(distance).unwrap() }.encode()
    }

    #[test]
    fn branches_reach_forward_and_back() {
        let mut asm = Assembler::default();
        let (back, forward) = (asm.label(), asm.label());
        asm.bind(back).unwrap();
        asm.push(Inst::Ret {});
        asm.cbnz(X0, forward);
        asm.cbnz(X0, back);
        asm.bind(forward).unwrap();
        let ret = Inst::Ret {}.encode();
        assert_eq!(words(asm), [ret, cbnz(8), cbnz(-8)]);
    }

    #[test]
    fn a_branch_reaches_exactly_a_mebibyte() {
        let distance = |instructions: usize| {
            let mut asm = Assembler::default();
            let label = asm.label();
            asm.bind(label).unwrap();
            (0..instructions).for_each(|_| asm.push(Inst::Ret {}));
            asm.cbnz(X0, label);
            asm.finish()
        };
        assert!(distance(1 << 18).is_ok());
        assert_eq!(distance((1 << 18) + 1), Err(AsmError::OutOfRange { at: (1 << 20) + 4, target: 0 }));
    }

    #[test]
    fn data_is_aligned_and_found() {
        let mut asm = Assembler::default();
        let pool = asm.label();
        asm.adr(X0, pool);
        asm.push(Inst::Ret {});
        asm.data(pool, &[7, 8]).unwrap();
        let adr = Inst::Adr { d: X0, i: Imm::new(16).unwrap() }.encode();
        assert_eq!(words(asm), [adr, Inst::Ret {}.encode(), 0, 0, 7, 8]);
    }

    #[test]
    fn labels_are_bound_once() {
        let mut asm = Assembler::default();
        let label = asm.label();
        asm.push(Inst::Ret {});
        asm.cbnz(X0, label);
        asm.bind(label).unwrap();
        assert_eq!(asm.bind(label), Err(AsmError::Rebound { first: 8, second: 8 }));
        let mut asm = Assembler::default();
        let label = asm.label();
        asm.cbnz(X0, label);
        assert_eq!(asm.finish(), Err(AsmError::Unbound { at: 0 }));
    }

    #[test]
    fn constants_take_the_fewest_instructions() {
        let piece = |v| Inst::Movz { d: X0, i: OnePiece::new(v).unwrap() }.encode();
        assert_eq!(texts(|a| a.mov_const(X0, 0)), [piece(0)]);
        assert_eq!(texts(|a| a.mov_const(X0, 0x7_0000)), [piece(0x7_0000)]);
        assert_eq!(texts(|a| a.mov_const(X0, u64::MAX)).len(), 4);
        let (d, n, i) = (X0.into(), X1.into(), Imm::new(1).unwrap());
        assert_eq!(texts(|a| a.add_const(X0, X0, 0)), []);
        assert_eq!(texts(|a| a.add_const(X0, X1, 0)), [Inst::Mov { d: X0, m: X1 }.encode()]);
        assert_eq!(texts(|a| a.add_const(X0, X1, 4096)), [Inst::AddImm12 { d, n, i }.encode()]);
        let both = [Inst::SubImm12 { d, n, i }.encode(), Inst::SubImm { d, n: d, i }.encode()];
        assert_eq!(texts(|a| a.add_const(X0, X1, -4097)), both);
        let sum = Inst::Add { d: X0, n: X0, m: X1, s: Lsl::NONE }.encode();
        assert_eq!(texts(|a| a.add_const(X0, X1, 1 << 24)), [piece(1 << 24), sum]);
    }
}

//! The values that an operation can be executed on.

use super::{Binary, Factors, Op, Permute, Shift, Unary};
use crate::microkernel::V;

/// The values of a register's words: their bits, or terms that say what they were computed from.
///
/// The table states the meaning of an operation once, in these terms. [`interp`](super::super::interp) executes it on bits and
/// [`check`](super::super::check) on terms.
pub trait Domain {
    /// A word of 32 bits.
    type Word: Copy;
    /// Half a word: a bf16.
    type Half: Copy;
    /// A quarter of a word: an integer of 8 bits.
    type Byte: Copy;
    /// The reason why an operation cannot be executed on its operands.
    type Error;

    /// The word of these bits.
    fn constant(&mut self, bits: u32) -> Self::Word;

    /// `acc + a * b` of f32, rounded once.
    fn fma(&mut self, a: Self::Word, b: Self::Word, acc: Self::Word) -> Self::Word;

    /// `acc + a * b` of s32, of which the low 32 bits stay.
    fn mla(&mut self, a: Self::Word, b: Self::Word, acc: Self::Word) -> Self::Word;

    /// `f(a, b)`.
    fn binary(&mut self, f: Binary, a: Self::Word, b: Self::Word) -> Self::Word;

    /// `f(a)`.
    fn unary(&mut self, f: Unary, a: Self::Word) -> Self::Word;

    /// `a` shifted by `by` bits, 1 to 31.
    fn shift(&mut self, f: Shift, a: Self::Word, by: u8) -> Self::Word;

    /// `acc` and the products of the factors in `a` and `b`, a word after the other: those of bf16 as BFDOT adds them, those of
    /// integers modulo 2^32.
    fn dot(
        &mut self,
        f: Factors,
        a: &[Self::Word],
        b: &[Self::Word],
        acc: Self::Word,
    ) -> Result<Self::Word, Self::Error>;

    /// The f32 rounded to bf16.
    fn round(&mut self, word: Self::Word) -> Result<Self::Half, Self::Error>;

    /// The low half of a word of two bf16, and the high one.
    fn split(&self, word: Self::Word) -> Result<[Self::Half; 2], Self::Error>;

    /// The word of a low half and a high one.
    fn join(&self, halves: [Self::Half; 2]) -> Self::Word;

    /// The low byte of half a word, and the high one.
    fn split_half(&self, half: Self::Half) -> Result<[Self::Byte; 2], Self::Error>;

    /// Half a word of a low byte and a high one.
    fn join_half(&self, bytes: [Self::Byte; 2]) -> Self::Half;

    /// Word `l` of `words` many of a permutation by elements of 8, 16, 32 or 64 bits.
    fn permuted(
        &self,
        (f, bits): (Permute, u8),
        [a, b]: [&[Self::Word]; 2],
        l: usize,
        words: usize,
    ) -> Result<Self::Word, Self::Error> {
        let from = |i: usize, count: usize| {
            let (operand, at) = f.source(i, count);
            ([a, b][operand], at)
        };
        if bits <= 16 {
            let half = |i: usize| {
                if bits == 16 {
                    let (operand, at) = from(i, 2 * words);
                    return Ok(self.split(operand[at / 2])?[at % 2]);
                }
                let byte = |i: usize| {
                    let (operand, at) = from(i, 4 * words);
                    Ok(self.split_half(self.split(operand[at / 4])?[at / 2 % 2])?[at % 2])
                };
                Ok(self.join_half([byte(2 * i)?, byte(2 * i + 1)?]))
            };
            return Ok(self.join([half(2 * l)?, half(2 * l + 1)?]));
        }
        let width = usize::from(bits / 32);
        let (operand, at) = from(l / width, words / width);
        Ok(operand[at * width + l % width])
    }
}

/// The registers of a machine, `lanes` words each.
pub struct Registers<W> {
    words: Vec<W>,
    lanes: usize,
    /// Copies of operands that may be overwritten while they are read.
    copies: [Vec<W>; 3],
}

impl<W: Copy> Registers<W> {
    /// `count` registers of `lanes` words, all of them `word`.
    pub fn new(count: u32, lanes: usize, word: W) -> Self {
        Self { words: vec![word; count as usize * lanes], lanes, copies: Default::default() }
    }

    /// The words of all registers, one after the other.
    pub fn all(&self) -> &[W] {
        &self.words
    }

    /// The same, to be changed.
    pub fn all_mut(&mut self) -> &mut [W] {
        &mut self.words
    }

    /// The words of `v`, if there is such a register.
    pub fn get(&self, v: V) -> Option<&[W]> {
        let at = v.0 as usize * self.lanes;
        self.words.get(at..at + self.lanes)
    }

    /// Sets all words of `v`, which exists, to `word`.
    pub fn fill(&mut self, v: V, word: W) {
        let at = v.0 as usize * self.lanes;
        self.words[at..at + self.lanes].fill(word);
    }

    /// Executes an operation that [keeps the rules](Op::check), whose registers exist, and which is no store. A load gets what it loads as
    /// `loaded`, followed by zeros: at least a register's words, and four.
    pub fn execute<D: Domain<Word = W>>(&mut self, domain: &mut D, op: &Op, loaded: &[W]) -> Result<(), D::Error> {
        let Some(d) = op.defined() else { return Ok(()) };
        let mut copies = std::mem::take(&mut self.copies);
        for (copy, v) in copies.iter_mut().zip(op.used()) {
            let at = v.0 as usize * self.lanes;
            copy.clear();
            copy.extend_from_slice(&self.words[at..at + self.lanes]);
        }
        let at = d.0 as usize * self.lanes;
        let result = op.compute(domain, &copies, loaded, &mut self.words[at..at + self.lanes]);
        self.copies = copies;
        result
    }
}

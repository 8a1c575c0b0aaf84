//! The execution of a micro-kernel on symbolic words.

use std::collections::HashMap;

use kiln_ir::DType;
use rustc_hash::FxBuildHasher;

use super::super::{Addr, Binary, Inst, MicroKernel, Op, P, Permute, V};
use super::value::{Distance, Element, Factor, Half, Terms, Word, block_factors};
use super::{Fault, SHOWN};

/// A value that was stored in an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// Of f32.
    Word(Word),
    /// Of bf16.
    Half(Half),
}

/// One element that an operation stored.
#[derive(Clone, Copy)]
pub(super) struct Store {
    pub param: P,
    pub byte: u64,
    pub value: Stored,
}

/// The parameters that have a part in products, and the facts about them.
pub(super) struct Roles {
    pub lhs: P,
    pub rhs: P,
    /// Of a right factor in groups of steps: bytes from a group to the next, steps of a group, and which steps are no zeros.
    pub groups: Option<(u64, u64, Vec<bool>)>,
    /// Memory that holds nothing before it is stored to.
    pub spill: Option<P>,
}

/// Registers, and memory as far as it is read back.
pub(super) struct Machine<'a> {
    mk: &'a MicroKernel,
    roles: Option<Roles>,
    lanes: usize,
    /// Lane `l` of register `v` is at `v * lanes + l`.
    registers: Vec<Word>,
    /// Copies of operands that may be overwritten while they are read.
    operands: [Vec<Word>; 2],
    /// The stored values that a load may read, by parameter and byte.
    memory: HashMap<(P, u64), Stored, FxBuildHasher>,
    pub terms: Terms,
}

impl<'a> Machine<'a> {
    pub fn new(mk: &'a MicroKernel, roles: Option<Roles>) -> Self {
        let lanes = mk.lanes as usize;
        let registers = vec![Word::Unset; lanes * usize::from(mk.registers)];
        Machine {
            mk,
            roles,
            lanes,
            registers,
            operands: [vec![], vec![]],
            memory: HashMap::default(),
            terms: Terms::default(),
        }
    }

    /// Executes `op` in `trip`; what it stores is appended to `stores`.
    pub fn execute(&mut self, op: &Op, trip: u64, stores: &mut Vec<Store>) -> Result<(), Fault> {
        for v in op.used() {
            // Operations write all lanes.
            if self.registers.get(self.at(v)).copied().ok_or(Fault::Malformed)? == Word::Unset {
                return Err(Fault::Unset(v));
            }
        }
        for v in op.defined().into_iter().chain(op.clobbered()) {
            exists(v.0 < self.mk.registers)?;
        }
        match *op {
            Op::Zero { d } => self.fill(d, |_| Word::Bits(0)),
            Op::Const { d, bits } => self.fill(d, |_| Word::Bits(bits)),
            Op::Load { d, src, lanes } => {
                exists(lanes >= 1 && usize::from(lanes) <= self.lanes)?;
                for l in 0..self.lanes {
                    let word = if l < usize::from(lanes) { self.load(&src, trip, l as u64)? } else { Word::Bits(0) };
                    self.set(d, l, word);
                }
            }
            Op::LoadLanes { d, src, count } => {
                exists((1..=4).contains(&count))?;
                for quad in 0..4 {
                    let word = if quad < u64::from(count) { self.load(&src, trip, quad)? } else { Word::Bits(0) };
                    (quad as usize..self.lanes).step_by(4).for_each(|l| self.set(d, l, word));
                }
            }
            Op::Broadcast { d, src } => {
                let word = self.load(&src, trip, 0)?;
                self.fill(d, |_| word);
            }
            Op::LoadRaw { d, src, elements } => {
                exists(elements >= 1 && usize::from(elements) <= 2 * self.lanes)?;
                for l in 0..self.lanes {
                    let word = self.load_pair(&src, trip, l as u64, elements.into())?;
                    self.set(d, l, word);
                }
            }
            Op::LoadRawQuad { d, src, elements } => {
                exists((1..=8).contains(&elements))?;
                for quad in 0..4 {
                    let word = self.load_pair(&src, trip, quad, elements.into())?;
                    (quad as usize..self.lanes).step_by(4).for_each(|l| self.set(d, l, word));
                }
            }
            Op::Store { s, dst, lanes } => {
                exists(lanes >= 1 && usize::from(lanes) <= self.lanes)?;
                let dtype = self.dtype(dst.param)?;
                for l in 0..usize::from(lanes) {
                    let word = self.get(s, l);
                    let value = match dtype {
                        DType::F32 => Stored::Word(word),
                        DType::Bf16 => Stored::Half(self.rounded(word)?),
                    };
                    self.store(&dst, trip, l as u64, value, stores)?;
                }
            }
            Op::StoreRaw { s, dst, elements } => {
                exists(elements >= 1 && usize::from(elements) <= 2 * self.lanes)?;
                exists(self.dtype(dst.param)? == DType::Bf16)?;
                for n in 0..usize::from(elements) {
                    let [low, high] = halves(self.get(s, n / 2))?;
                    let value = Stored::Half(if n % 2 == 0 { low } else { high });
                    self.store(&dst, trip, n as u64, value, stores)?;
                }
            }
            Op::Fma { d, a, b } => {
                for l in 0..self.lanes {
                    let word = self.fma(self.get(d, l), self.get(a, l), self.get(b, l));
                    self.set(d, l, word);
                }
            }
            Op::FmaLane { d, a, b, lane } => {
                exists(lane < 4)?;
                let scalars = self.copy(0, b);
                for l in 0..self.lanes {
                    let word = self.fma(self.get(d, l), self.get(a, l), scalars[l / 4 * 4 + usize::from(lane)]);
                    self.set(d, l, word);
                }
                self.operands[0] = scalars;
            }
            Op::Binary { f, d, a, b } => {
                for l in 0..self.lanes {
                    let term = self.terms.binary(f, self.get(a, l), self.get(b, l));
                    self.set(d, l, Word::Term(term));
                }
            }
            Op::Unary { f, d, a } => {
                for l in 0..self.lanes {
                    let word = self.terms.unary(f, self.get(a, l));
                    self.set(d, l, word);
                }
            }
            Op::Shift { f, d, a, by } => {
                exists((1..=31).contains(&by))?;
                for l in 0..self.lanes {
                    let term = self.terms.shift(f, self.get(a, l), by);
                    self.set(d, l, Word::Term(term));
                }
            }
            Op::PairAdd { d, a, b } => {
                let (a, b) = (self.copy(0, a), self.copy(1, b));
                let half = self.lanes / 2;
                for l in 0..self.lanes {
                    let (from, at) = if l < half { (&a, 2 * l) } else { (&b, 2 * (l - half)) };
                    let term = self.terms.binary(Binary::Add, from[at], from[at + 1]);
                    self.set(d, l, Word::Term(term));
                }
                self.operands = [a, b];
            }
            Op::Mmla { d, a, b } => {
                let (a, b) = (self.copy(0, a), self.copy(1, b));
                for l in 0..self.lanes {
                    let quad = l / 4 * 4;
                    let (row, column) = (quad + l % 4 / 2 * 2, quad + l % 2 * 2);
                    let word = self.block(self.get(d, l), &a[row..row + 2], &b[column..column + 2])?;
                    self.set(d, l, word);
                }
                self.operands = [a, b];
            }
            Op::Dot2 { d, a, b } => {
                for l in 0..self.lanes {
                    let word = self.block(self.get(d, l), &[self.get(a, l)], &[self.get(b, l)])?;
                    self.set(d, l, word);
                }
            }
            Op::Dot2Lane { d, a, b, lane } => {
                exists(lane < 4)?;
                let pairs = self.copy(0, b);
                for l in 0..self.lanes {
                    let pair = pairs[l / 4 * 4 + usize::from(lane)];
                    let word = self.block(self.get(d, l), &[self.get(a, l)], &[pair])?;
                    self.set(d, l, word);
                }
                self.operands[0] = pairs;
            }
            Op::Narrow { d, a, b, t } => {
                let (a, b) = (self.copy(0, a), self.copy(1, b));
                for l in 0..self.lanes {
                    let word = |n: usize| if n < self.lanes { a[n] } else { b[n - self.lanes] };
                    let (low, high) = (word(2 * l), word(2 * l + 1));
                    let word = Word::halves(self.rounded(low)?, self.rounded(high)?);
                    self.set(d, l, word);
                }
                self.operands = [a, b];
                self.fill(t, |_| Word::Unset);
            }
            Op::NarrowPairs { d, a, b, t } => {
                let (a, b) = (self.copy(0, a), self.copy(1, b));
                for l in 0..self.lanes {
                    let word = Word::halves(self.rounded(a[l])?, self.rounded(b[l])?);
                    self.set(d, l, word);
                }
                self.operands = [a, b];
                self.fill(t, |_| Word::Unset);
            }
            Op::Permute { f, bits, d, a, b } => {
                let (a, b) = (self.copy(0, a), self.copy(1, b));
                self.permute(f, bits, d, &a, &b)?;
                self.operands = [a, b];
            }
        }
        Ok(())
    }

    /// The words of all registers.
    pub fn registers(&self) -> &[Word] {
        &self.registers
    }

    /// After `done` trips of a loop, goes on to the last of `trips`, if trips differ only in where they are in memory; tells
    /// whether it did. `before` holds the registers after the two trips before this one.
    ///
    /// If each word went through two trips by the same distance, it goes through all others by that distance: what an operation
    /// makes of words that are evenly apart is evenly apart, as long as it takes the same way, and whether it does is an
    /// equality of two places in memory that both move evenly: if it holds in two trips, it holds in all. The exceptions
    /// are what memory was stored to, and where a panel is filled up; so there is no skipping where a loop stores, or loads
    /// what was stored, and the panel is looked at for each trip.
    pub fn skip(&mut self, body: &[Inst], before: &[Vec<Word>; 2], done: u64, trips: u64) -> bool {
        let moved = |n: usize| {
            let distance = Distance::between(before[0][n], before[1][n])?;
            (Distance::between(before[1][n], self.registers[n])? == distance).then_some(distance)
        };
        let touched = || body.iter().filter_map(|i| i.op.touched());
        let is_stored = |p: P| self.memory.keys().any(|(stored, _)| *stored == p);
        if touched().any(|t| t.store || is_stored(t.addr.param)) {
            return false;
        }
        let Some(distances) = (0..self.registers.len()).map(moved).collect::<Option<Vec<_>>>() else { return false };
        for t in touched() {
            // The same steps of a group are filled up, at both ends of what is loaded.
            let ends = |trip: u64| {
                [0, u64::from(t.elements) - 1].map(|n| self.element(&t.addr, trip, n).ok().map(|e| self.filled_up(e)))
            };
            if (done..trips - 1).any(|trip| ends(trip) != ends(done - 1)) {
                return false;
            }
        }
        let further = trips - 1 - done;
        self.registers
            .iter_mut()
            .zip(distances)
            .for_each(|(word, distance)| *word = distance.times(further).from(*word));
        true
    }

    /// Two bf16 or a whole word, in words.
    pub fn show(&self, half: Half) -> String {
        self.terms.show_half(half, SHOWN, &self.mk.params)
    }

    fn at(&self, v: V) -> usize {
        usize::from(v.0) * self.lanes
    }

    fn get(&self, v: V, lane: usize) -> Word {
        self.registers[self.at(v) + lane]
    }

    fn set(&mut self, v: V, lane: usize, word: Word) {
        let at = self.at(v) + lane;
        self.registers[at] = word;
    }

    fn fill(&mut self, v: V, word: impl Fn(usize) -> Word) {
        (0..self.lanes).for_each(|l| self.set(v, l, word(l)));
    }

    /// The words of `v`, in the memory of copy `n`.
    fn copy(&mut self, n: usize, v: V) -> Vec<Word> {
        let mut copy = std::mem::take(&mut self.operands[n]);
        copy.clear();
        copy.extend_from_slice(&self.registers[self.at(v)..self.at(v) + self.lanes]);
        copy
    }

    fn dtype(&self, p: P) -> Result<DType, Fault> {
        self.mk.params.get(usize::from(p.0)).map(|p| p.dtype).ok_or(Fault::Malformed)
    }

    /// The element `n` elements behind an address.
    fn element(&self, addr: &Addr, trip: u64, n: u64) -> Result<Element, Fault> {
        let byte = i128::from(addr.offset) + i128::from(trip) * i128::from(addr.step);
        let behind = n * self.dtype(addr.param)?.bytes() as u64;
        Element::new(addr.param, byte + i128::from(behind)).ok_or(Fault::Malformed)
    }

    /// The value that was stored in an element, if there is one.
    fn held(&self, e: Element) -> Result<Option<Stored>, Fault> {
        if self.memory.is_empty() && self.roles.as_ref().is_none_or(|r| r.spill.is_none()) {
            return Ok(None);
        }
        let stored = self.memory.get(&(e.param(), e.byte())).copied();
        let is_spill = self.roles.as_ref().is_some_and(|r| r.spill == Some(e.param()));
        if is_spill && stored.is_none() { Err(Fault::NotStored) } else { Ok(stored) }
    }

    /// The element as f32.
    fn load(&self, addr: &Addr, trip: u64, n: u64) -> Result<Word, Fault> {
        let e = self.element(addr, trip, n)?;
        Ok(match self.held(e)? {
            None => Word::Element(e),
            Some(Stored::Word(word)) => word,
            Some(Stored::Half(Half::Zero)) => Word::Bits(0),
            // No tile reads back what it rounded.
            Some(Stored::Half(_)) => return Err(Fault::Halves),
        })
    }

    /// Elements `2 n` and `2 n + 1` of `count` as they are.
    fn load_pair(&self, addr: &Addr, trip: u64, n: u64, count: u64) -> Result<Word, Fault> {
        exists(self.dtype(addr.param)? == DType::Bf16)?;
        let half = |n: u64| {
            if n >= count {
                return Ok(Half::Zero);
            }
            let e = self.element(addr, trip, n)?;
            Ok(match self.held(e)? {
                None if self.is_filled_up(e) => Half::Zero,
                None => Half::Element(e),
                Some(Stored::Half(half)) => half,
                Some(Stored::Word(_)) => return Err(Fault::Halves),
            })
        };
        Ok(Word::halves(half(2 * n)?, half(2 * n + 1)?))
    }

    /// Tells whether an element of a right factor in groups belongs to no step.
    fn is_filled_up(&self, e: Element) -> bool {
        let Some(Roles { rhs, groups: Some((stride, group, _)), .. }) = &self.roles else { return false };
        e.param() == *rhs && self.filled_up(e) >> (e.byte() % stride / 2 % group) & 1 == 1
    }

    /// The steps of an element's group that belong to no sum, as bits; none where there are no groups.
    fn filled_up(&self, e: Element) -> u64 {
        let Some(Roles { rhs, groups: Some((stride, group, steps)), .. }) = &self.roles else { return 0 };
        let first = e.byte() / stride * group;
        let is_step = |n: &u64| steps.get((first + n) as usize).copied().unwrap_or(false);
        if e.param() == *rhs { (0..*group).filter(|n| !is_step(n)).fold(0, |bits, n| bits | 1 << n) } else { 0 }
    }

    fn store(&mut self, to: &Addr, trip: u64, n: u64, value: Stored, stores: &mut Vec<Store>) -> Result<(), Fault> {
        let e = self.element(to, trip, n)?;
        let (param, byte) = (e.param(), e.byte());
        if self.roles.is_some() {
            self.memory.insert((param, byte), value);
        }
        stores.push(Store { param, byte, value });
        Ok(())
    }

    /// A word rounded to bf16. Rounding what was widened gives it back.
    pub fn rounded(&mut self, word: Word) -> Result<Half, Fault> {
        Ok(match word {
            Word::Bits(0) => Half::Zero,
            Word::Element(e) if self.dtype(e.param())? == DType::Bf16 => Half::Element(e),
            Word::Element(e) => Half::Rounded(e),
            Word::Halves(..) => return Err(Fault::Halves),
            word => Half::Of(self.terms.of(word)),
        })
    }

    /// `acc + a * b`: a product of the tile's factors, or an operation of a post-op.
    fn fma(&mut self, acc: Word, a: Word, b: Word) -> Word {
        if let (Word::Element(a), Word::Element(b), Some(roles)) = (a, b, &self.roles) {
            for (lhs, rhs) in [(a, b), (b, a)] {
                if lhs.param() == roles.lhs && rhs.param() == roles.rhs {
                    return self.terms.add_product(acc, [Factor::scalar(lhs), Factor::scalar(rhs)]);
                }
            }
        }
        self.terms.fma(acc, a, b)
    }

    /// `acc` plus the products of the halves of `a` and `b`, in order.
    fn block(&mut self, acc: Word, a: &[Word], b: &[Word]) -> Result<Word, Fault> {
        let mut all = [[Half::Zero; 4]; 2];
        for (to, words) in all.iter_mut().zip([a, b]) {
            for (n, word) in words.iter().enumerate() {
                to[2 * n..2 * n + 2].copy_from_slice(&halves(*word)?);
            }
        }
        let count = 2 * a.len();
        let factors = block_factors(&all[0][..count], &all[1][..count]).map_err(|()| Fault::NotAProduct)?;
        Ok(factors.map_or(acc, |factors| self.terms.add_product(acc, factors)))
    }

    fn permute(&mut self, f: Permute, bits: u8, d: V, a: &[Word], b: &[Word]) -> Result<(), Fault> {
        if bits == 16 {
            let halved = |words: &[Word]| words.iter().map(|w| halves(*w)).collect::<Result<Vec<_>, _>>();
            let permuted = permuted(f, 1, halved(a)?.as_flattened(), halved(b)?.as_flattened());
            for (l, pair) in permuted.as_chunks().0.iter().enumerate() {
                let [low, high] = *pair;
                self.set(d, l, Word::halves(low, high));
            }
            return Ok(());
        }
        let width = match bits {
            32 => 1,
            64 => 2,
            _ => return Err(Fault::Malformed),
        };
        permuted(f, width, a, b).into_iter().enumerate().for_each(|(l, word)| self.set(d, l, word));
        Ok(())
    }
}

fn exists(exists: bool) -> Result<(), Fault> {
    if exists { Ok(()) } else { Err(Fault::Malformed) }
}

/// The halves of a word that holds two bf16.
fn halves(word: Word) -> Result<[Half; 2], Fault> {
    match word {
        Word::Bits(0) => Ok([Half::Zero; 2]),
        Word::Halves(low, high) => Ok([low, high]),
        _ => Err(Fault::Halves),
    }
}

/// A permutation of elements of `width` units each.
fn permuted<T: Copy>(f: Permute, width: usize, a: &[T], b: &[T]) -> Vec<T> {
    let count = a.len() / width;
    let of = |from: &[T], n: usize| from[n * width..(n + 1) * width].to_vec();
    let elements: Vec<Vec<T>> = match f {
        Permute::ZipLow => (0..count).map(|n| of(if n % 2 == 0 { a } else { b }, n / 2)).collect(),
        Permute::ZipHigh => (0..count).map(|n| of(if n % 2 == 0 { a } else { b }, count / 2 + n / 2)).collect(),
        Permute::TrnEven => (0..count).map(|n| of(if n % 2 == 0 { a } else { b }, n / 2 * 2)).collect(),
        Permute::TrnOdd => (0..count).map(|n| of(if n % 2 == 0 { a } else { b }, n / 2 * 2 + 1)).collect(),
        Permute::UzpEven | Permute::UzpOdd => {
            let odd = usize::from(f == Permute::UzpOdd);
            let half = count / 2;
            (0..count).map(|n| if n < half { of(a, 2 * n + odd) } else { of(b, 2 * (n - half) + odd) }).collect()
        }
    };
    elements.concat()
}

//! The execution of a micro-kernel on symbolic words.

use std::collections::HashMap;

use kiln_ir::DType;
use rustc_hash::FxBuildHasher;

use super::super::op::{Domain, Registers};
use super::super::program::Program;
use super::super::{Addr, Binary, Inst, MicroKernel, P, Param, Shift, Touched, Unary, V};
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
}

/// Registers, and memory as far as it is read back.
pub(super) struct Machine<'a> {
    mk: &'a MicroKernel,
    roles: Option<Roles>,
    lanes: usize,
    registers: Registers<Word>,
    /// What the last operation loaded.
    loaded: Vec<Word>,
    /// The stored values that a load may read, by parameter and byte.
    memory: HashMap<(P, u64), Stored, FxBuildHasher>,
    /// The words that were kept in slots.
    slots: HashMap<u16, Vec<Word>, FxBuildHasher>,
    pub terms: Terms,
}

impl<'a> Machine<'a> {
    pub fn new(mk: &'a MicroKernel, roles: Option<Roles>) -> Self {
        let lanes = mk.lanes as usize;
        Machine {
            mk,
            roles,
            lanes,
            registers: Registers::new(mk.registers, lanes, Word::Unset),
            loaded: vec![],
            memory: HashMap::default(),
            slots: HashMap::default(),
            terms: Terms::default(),
        }
    }

    /// Executes `inst` in `trip`; what it stores is appended to `stores`.
    pub fn execute(&mut self, inst: &Inst, trip: u64, stores: &mut Vec<Store>) -> Result<(), Fault> {
        let op = &inst.op;
        for v in op.used() {
            // Operations write all lanes.
            if self.registers.get(v).ok_or(Fault::Malformed)?.first() == Some(&Word::Unset) {
                return Err(Fault::Unset(v));
            }
        }
        for v in op.defined().iter().chain(inst.temps.as_slice()) {
            exists(v.0 < self.mk.registers)?;
        }
        op.check().map_err(|_| Fault::Malformed)?;
        if let Some(touched) = op.touched() {
            exists(touched.elements >= 1 && u32::from(touched.elements) <= op.most_elements(self.mk.lanes))?;
            if touched.store {
                return op.used().try_for_each(|s| self.store(s, &touched, trip, stores));
            }
            self.load(&touched, trip)?;
        }
        match (op.slot(), op.defined()) {
            (Some(slot), Some(_)) => self.loaded.clone_from(self.slots.get(&slot).ok_or(Fault::NotStored)?),
            (Some(slot), None) => {
                let words = op.used().find_map(|s| self.registers.get(s)).ok_or(Fault::Malformed)?;
                self.slots.insert(slot, words.to_vec());
            }
            (None, _) => {}
        }
        let mut domain = Symbols { terms: &mut self.terms, params: &self.mk.params, roles: self.roles.as_ref() };
        self.registers.execute(&mut domain, op, &self.loaded)?;
        inst.temps.as_slice().iter().for_each(|t| self.registers.fill(*t, Word::Unset));
        Ok(())
    }

    /// The words of all registers.
    pub fn registers(&self) -> &[Word] {
        self.registers.all()
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
            (Distance::between(before[1][n], self.registers.all()[n])? == distance).then_some(distance)
        };
        let touched = || body.iter().filter_map(|i| i.op.touched());
        let is_stored = |p: P| self.memory.keys().any(|(stored, _)| *stored == p);
        if touched().any(|t| t.store || is_stored(t.addr.param)) || body.iter().any(|i| i.op.slot().is_some()) {
            return false;
        }
        let Some(distances) = (0..self.registers.all().len()).map(moved).collect::<Option<Vec<_>>>() else {
            return false;
        };
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
            .all_mut()
            .iter_mut()
            .zip(distances)
            .for_each(|(word, distance)| *word = distance.times(further).from(*word));
        true
    }

    /// Two bf16 or a whole word, in words.
    pub fn show(&self, half: Half) -> String {
        self.terms.show_half(half, SHOWN, &self.mk.params)
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
        Ok(self.memory.get(&(e.param(), e.byte())).copied())
    }

    /// Sets `loaded` to the words of what an operation touches, and zeros behind them.
    fn load(&mut self, touched: &Touched, trip: u64) -> Result<(), Fault> {
        let Touched { addr, elements, raw, .. } = touched;
        let mut loaded = std::mem::take(&mut self.loaded);
        loaded.clear();
        if *raw {
            exists(self.dtype(addr.param)? == DType::Bf16)?;
            for n in 0..u64::from(*elements).div_ceil(2) {
                let half = |n| if n < u64::from(*elements) { self.half(addr, trip, n) } else { Ok(Half::Zero) };
                loaded.push(Word::halves(half(2 * n)?, half(2 * n + 1)?));
            }
        } else {
            for n in 0..u64::from(*elements) {
                loaded.push(self.word(addr, trip, n)?);
            }
        }
        loaded.resize(self.lanes, Word::Bits(0));
        self.loaded = loaded;
        Ok(())
    }

    /// An element as f32.
    fn word(&self, addr: &Addr, trip: u64, n: u64) -> Result<Word, Fault> {
        let e = self.element(addr, trip, n)?;
        Ok(match self.held(e)? {
            None => Word::Element(e),
            Some(Stored::Word(word)) => word,
            Some(Stored::Half(Half::Zero)) => Word::Bits(0),
            // No tile reads back what it rounded.
            Some(Stored::Half(_)) => return Err(Fault::Halves),
        })
    }

    /// An element of bf16 as it is.
    fn half(&self, addr: &Addr, trip: u64, n: u64) -> Result<Half, Fault> {
        let e = self.element(addr, trip, n)?;
        Ok(match self.held(e)? {
            None if self.is_filled_up(e) => Half::Zero,
            None => Half::Element(e),
            Some(Stored::Half(half)) => half,
            Some(Stored::Word(_)) => return Err(Fault::Halves),
        })
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

    /// Stores the first words of `s` where an operation touches memory.
    fn store(&mut self, s: V, touched: &Touched, trip: u64, stores: &mut Vec<Store>) -> Result<(), Fault> {
        let Touched { addr, elements, raw, .. } = touched;
        let dtype = self.dtype(addr.param)?;
        exists(dtype == DType::Bf16 || !raw)?;
        for n in 0..usize::from(*elements) {
            let word = |l: usize| self.registers.get(s).and_then(|words| words.get(l)).copied().ok_or(Fault::Malformed);
            let value = match (*raw, dtype.is_narrow()) {
                (true, _) => Stored::Half(halves(word(n / 2)?)?[n % 2]),
                (false, true) => {
                    let word = word(n)?;
                    Stored::Half(self.rounded(word, dtype)?)
                }
                (false, false) => Stored::Word(word(n)?),
            };
            let e = self.element(addr, trip, n as u64)?;
            let (param, byte) = (e.param(), e.byte());
            if self.roles.is_some() {
                self.memory.insert((param, byte), value);
            }
            stores.push(Store { param, byte, value });
        }
        Ok(())
    }

    /// The result of post-ops for a sum and their tensors.
    pub fn post_ops(&mut self, program: &Program, sum: Word, operands: &[Word]) -> Result<Word, Fault> {
        // No operand of a post-op is a factor of the tile.
        program.run(&mut Symbols { terms: &mut self.terms, params: &self.mk.params, roles: None }, sum, operands)
    }

    /// A word rounded to a type of two bytes.
    pub fn rounded(&mut self, word: Word, dtype: DType) -> Result<Half, Fault> {
        Symbols { terms: &mut self.terms, params: &self.mk.params, roles: self.roles.as_ref() }.rounded(word, dtype)
    }
}

/// Terms of what words were computed from.
struct Symbols<'a> {
    terms: &'a mut Terms,
    params: &'a [Param],
    roles: Option<&'a Roles>,
}

impl Symbols<'_> {
    /// A word rounded to a type of two bytes. Rounding what was widened gives it back.
    fn rounded(&mut self, word: Word, to: DType) -> Result<Half, Fault> {
        Ok(match word {
            Word::Bits(0) => Half::Zero,
            Word::Element(e) => {
                let dtype = self.params.get(usize::from(e.param().0)).map(|p| p.dtype).ok_or(Fault::Malformed)?;
                if dtype == to { Half::Element(e) } else { Half::Rounded(e) }
            }
            Word::Halves(..) => return Err(Fault::Halves),
            word => Half::Of(self.terms.of(word)),
        })
    }
}

impl Domain for Symbols<'_> {
    type Word = Word;
    type Half = Half;
    type Error = Fault;

    fn constant(&mut self, bits: u32) -> Word {
        Word::Bits(bits)
    }

    /// A product of the tile's factors, or an operation of a post-op.
    fn fma(&mut self, a: Word, b: Word, acc: Word) -> Word {
        if let (Word::Element(a), Word::Element(b), Some(roles)) = (a, b, self.roles) {
            for (lhs, rhs) in [(a, b), (b, a)] {
                if lhs.param() == roles.lhs && rhs.param() == roles.rhs {
                    return self.terms.add_product(acc, [Factor::scalar(lhs), Factor::scalar(rhs)]);
                }
            }
        }
        self.terms.fma(acc, a, b)
    }

    fn binary(&mut self, f: Binary, a: Word, b: Word) -> Word {
        Word::Term(self.terms.binary(f, a, b))
    }

    fn unary(&mut self, f: Unary, a: Word) -> Word {
        self.terms.unary(f, a)
    }

    fn shift(&mut self, f: Shift, a: Word, by: u8) -> Word {
        Word::Term(self.terms.shift(f, a, by))
    }

    fn dot(&mut self, a: &[Word], b: &[Word], acc: Word) -> Result<Word, Fault> {
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

    fn round(&mut self, word: Word) -> Result<Half, Fault> {
        self.rounded(word, DType::Bf16)
    }

    fn split(&self, word: Word) -> Result<[Half; 2], Fault> {
        halves(word)
    }

    fn join(&self, [low, high]: [Half; 2]) -> Word {
        Word::halves(low, high)
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

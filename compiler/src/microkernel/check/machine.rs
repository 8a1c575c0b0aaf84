//! The execution of a micro-kernel on symbolic words.

use std::collections::HashMap;

use kiln_ir::DType;
use rustc_hash::FxBuildHasher;

use super::super::op::{Domain, Registers};
use super::super::program::Program;
use super::super::{Addr, Binary, Factors, Inst, MicroKernel, P, Param, Shift, Touched, Unary, V};
use super::value::{Byte, Distance, Element, Factor, Half, Terms, Word, block_factors, show_byte};
use super::{Fault, SHOWN};

/// A value that was stored in an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// Of four bytes.
    Word(Word),
    /// Of two bytes.
    Half(Half),
    /// Of one byte.
    Byte(Byte),
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
    /// The groups of steps of the right factor, if it has some.
    pub groups: Option<Groups>,
}

/// Groups of steps of K that are neighbours in the right factor.
pub(super) struct Groups {
    /// Bytes from a group to the next.
    pub stride: u64,
    /// Steps of a group.
    pub group: u64,
    /// Bytes of an element.
    pub size: u64,
    /// The steps that belong to a sum: the others are zeros.
    pub steps: Vec<bool>,
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
            let extent = touched.extent(self.dtype(touched.addr.param)?);
            exists(touched.elements >= 1 && extent <= op.most_touched(self.mk.lanes))?;
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

    /// A byte, in words.
    pub fn show_byte(&self, byte: Byte) -> String {
        show_byte(byte, &self.mk.params)
    }

    /// Half a word or a whole one, in words.
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
            let dtype = self.dtype(addr.param)?;
            let elements = u64::from(*elements);
            exists(dtype.is_narrow())?;
            let half = |n: u64| match dtype.bytes() {
                1 => {
                    let byte = |n| if n < elements { self.byte(addr, trip, n) } else { Ok(Byte::Zero) };
                    Ok(Half::bytes([byte(2 * n)?, byte(2 * n + 1)?]))
                }
                _ if n < elements => self.half(addr, trip, n),
                _ => Ok(Half::Zero),
            };
            for n in 0..(elements * dtype.bytes() as u64).div_ceil(4) {
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
            Some(Stored::Half(_) | Stored::Byte(_)) => return Err(Fault::Halves),
        })
    }

    /// An element of one byte as it is.
    fn byte(&self, addr: &Addr, trip: u64, n: u64) -> Result<Byte, Fault> {
        let e = self.element(addr, trip, n)?;
        Ok(match self.held(e)? {
            None if self.is_filled_up(e) => Byte::Zero,
            None => Byte::Element(e),
            Some(Stored::Byte(byte)) => byte,
            Some(_) => return Err(Fault::Halves),
        })
    }

    /// An element of two bytes as it is.
    fn half(&self, addr: &Addr, trip: u64, n: u64) -> Result<Half, Fault> {
        let e = self.element(addr, trip, n)?;
        Ok(match self.held(e)? {
            None if self.is_filled_up(e) => Half::Zero,
            None => Half::Element(e),
            Some(Stored::Half(half)) => half,
            Some(_) => return Err(Fault::Halves),
        })
    }

    /// Tells whether an element of a right factor in groups belongs to no step.
    fn is_filled_up(&self, e: Element) -> bool {
        let Some(Roles { rhs, groups: Some(Groups { stride, group, size, .. }), .. }) = &self.roles else {
            return false;
        };
        e.param() == *rhs && self.filled_up(e) >> (e.byte() % stride / size % group) & 1 == 1
    }

    /// The steps of an element's group that belong to no sum, as bits; none where there are no groups.
    fn filled_up(&self, e: Element) -> u64 {
        let Some(Roles { rhs, groups: Some(Groups { stride, group, steps, .. }), .. }) = &self.roles else { return 0 };
        let first = e.byte() / stride * group;
        let is_step = |n: &u64| steps.get((first + n) as usize).copied().unwrap_or(false);
        if e.param() == *rhs { (0..*group).filter(|n| !is_step(n)).fold(0, |bits, n| bits | 1 << n) } else { 0 }
    }

    /// Stores the first words of `s` where an operation touches memory.
    fn store(&mut self, s: V, touched: &Touched, trip: u64, stores: &mut Vec<Store>) -> Result<(), Fault> {
        let Touched { addr, elements, raw, .. } = touched;
        let dtype = self.dtype(addr.param)?;
        exists(dtype.is_narrow() || !raw)?;
        for n in 0..usize::from(*elements) {
            let word = |l: usize| self.registers.get(s).and_then(|words| words.get(l)).copied().ok_or(Fault::Malformed);
            let value = match (*raw, dtype.bytes()) {
                (true, 1) => {
                    let half = halves(halved(word(n / 4)?, &self.mk.params))?[n / 2 % 2];
                    Stored::Byte(half.split().ok_or(Fault::Halves)?[n % 2])
                }
                (true, _) => Stored::Half(halves(halved(word(n / 2)?, &self.mk.params))?[n % 2]),
                (false, 1) => return Err(Fault::Malformed),
                (false, 2) => {
                    let word = word(n)?;
                    Stored::Half(self.rounded(word, dtype)?)
                }
                (false, _) => Stored::Word(word(n)?),
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
    /// Sets `to` to the factors in a word, in order: as many as it has.
    fn factors(&self, word: Word, to: &mut [Half]) -> Result<(), Fault> {
        let halves = halves(word)?;
        if to.len() == 2 {
            to.copy_from_slice(&halves);
            return Ok(());
        }
        for (to, half) in to.chunks_mut(2).zip(halves) {
            let bytes = half.split().ok_or(Fault::Halves)?;
            for (to, byte) in to.iter_mut().zip(bytes) {
                *to = match byte {
                    Byte::Zero => Half::Zero,
                    Byte::Element(e) => Half::Element(e),
                    Byte::Above(_) => return Err(Fault::Halves),
                };
            }
        }
        Ok(())
    }

    /// `acc` with the product of two of the tile's factors, if they are that, and are integers or are not.
    fn product(&mut self, a: Word, b: Word, acc: Word, integers: bool) -> Option<Word> {
        let (Word::Element(a), Word::Element(b), Some(roles)) = (a, b, self.roles) else { return None };
        let (lhs, rhs) =
            [(a, b), (b, a)].into_iter().find(|(l, r)| (l.param(), r.param()) == (roles.lhs, roles.rhs))?;
        let is_integer = |p: P| self.params.get(usize::from(p.0)).is_some_and(|p| p.dtype.is_integer());
        let fits = [roles.lhs, roles.rhs].into_iter().all(|p| is_integer(p) == integers);
        fits.then(|| self.terms.add_product(acc, [Factor::scalar(lhs), Factor::scalar(rhs)]))
    }

    /// A word converted to a type of two bytes. Rounding what was widened gives it back.
    fn rounded(&mut self, word: Word, to: DType) -> Result<Half, Fault> {
        Ok(match word {
            Word::Bits(0) => Half::Zero,
            Word::Element(e) => {
                let dtype = self.params.get(usize::from(e.param().0)).map(|p| p.dtype).ok_or(Fault::Malformed)?;
                match to.is_integer() {
                    _ if dtype == to => Half::Element(e),
                    true if dtype.is_integer() => Half::Low(e),
                    true => return Err(Fault::Halves),
                    false => Half::Rounded(e),
                }
            }
            Word::Halves(..) => return Err(Fault::Halves),
            word => Half::Of(self.terms.of(word)),
        })
    }
}

impl Domain for Symbols<'_> {
    type Word = Word;
    type Half = Half;
    type Byte = Byte;
    type Error = Fault;

    fn constant(&mut self, bits: u32) -> Word {
        Word::Bits(bits)
    }

    fn fma(&mut self, a: Word, b: Word, acc: Word) -> Word {
        self.product(a, b, acc, false).unwrap_or_else(|| self.terms.fma(acc, a, b))
    }

    fn mla(&mut self, a: Word, b: Word, acc: Word) -> Word {
        self.product(a, b, acc, true).unwrap_or_else(|| self.terms.mla(acc, a, b))
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

    fn dot(&mut self, f: Factors, a: &[Word], b: &[Word], acc: Word) -> Result<Word, Fault> {
        let mut all = [[Half::Zero; 8]; 2];
        let count = f.per_word() * a.len();
        for (to, words) in all.iter_mut().zip([a, b]) {
            for (to, word) in to.chunks_mut(f.per_word()).zip(words) {
                self.factors(*word, to)?;
            }
        }
        let size = f.types()[0].bytes() as u64;
        let factors = block_factors(&all[0][..count], &all[1][..count], size).map_err(|()| Fault::NotAProduct)?;
        let Some([a, b]) = factors else { return Ok(acc) };
        let has_type = |factor: Factor, dtype: DType| {
            let found = self.params.get(usize::from(factor.element().param().0)).map(|p| p.dtype);
            found == Some(dtype) || (dtype == DType::Bf16 && found == Some(DType::F32))
        };
        exists(has_type(a, f.types()[0]) && has_type(b, f.types()[1]))?;
        // The left factor first.
        let is_swapped = self.roles.is_some_and(|r| r.lhs == b.element().param());
        Ok(self.terms.add_product(acc, if is_swapped { [b, a] } else { [a, b] }))
    }

    fn round(&mut self, word: Word) -> Result<Half, Fault> {
        self.rounded(word, DType::Bf16)
    }

    fn split(&self, word: Word) -> Result<[Half; 2], Fault> {
        halves(halved(word, self.params))
    }

    fn join(&self, [low, high]: [Half; 2]) -> Word {
        Word::halves(low, high)
    }

    fn split_half(&self, half: Half) -> Result<[Byte; 2], Fault> {
        half.split().ok_or(Fault::Halves)
    }

    fn join_half(&self, bytes: [Byte; 2]) -> Half {
        Half::bytes(bytes)
    }
}

fn exists(exists: bool) -> Result<(), Fault> {
    if exists { Ok(()) } else { Err(Fault::Malformed) }
}

/// The halves of an integer of 8 bits that was widened, or the word as it is.
fn halved(word: Word, params: &[Param]) -> Word {
    match word {
        Word::Element(e) if is_byte(e, params) => Word::Halves(Half::Low(e), Half::High(e)),
        word => word,
    }
}

fn is_byte(e: Element, params: &[Param]) -> bool {
    params.get(usize::from(e.param().0)).is_some_and(|p| p.dtype.bytes() == 1)
}

/// The halves of a word that holds two.
fn halves(word: Word) -> Result<[Half; 2], Fault> {
    match word {
        Word::Bits(0) => Ok([Half::Zero; 2]),
        Word::Halves(low, high) => Ok([low, high]),
        _ => Err(Fault::Halves),
    }
}

//! Symbolic words: the values that lanes of registers have in a proof.
//!
//! A word stands for an element of memory, for two bf16 or four integers of 8 bits, for a sum of products, or for a [`Term`]: the result of any other
//! operation on words. Terms are interned, so that equal ones have equal numbers. A sum is a start and a list of products in
//! the order in which they were added, kept as progressions: factors that are evenly apart in memory, as those of a K loop are.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::super::{Binary, P, Param, Shift, Unary};

/// Bits of a byte's place in an [`Element`].
const BYTE_BITS: u32 = 48;

/// An element of a parameter as it was when the micro-kernel was called. Differences of elements of one parameter are distances
/// in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Element(u64);

impl Element {
    /// The element at `byte` of `param`; `None` if there cannot be one.
    pub fn new(param: P, byte: i128) -> Option<Self> {
        (0..1 << BYTE_BITS).contains(&byte).then_some(Self(u64::from(param.0) << 56 | byte as u64))
    }

    pub fn param(self) -> P {
        P((self.0 >> 56) as u8)
    }

    pub fn byte(self) -> u64 {
        self.0 & ((1 << BYTE_BITS) - 1)
    }

    fn behind(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// Added to the number of a factor's elements if they are rounded.
const ROUNDED: u64 = 16;

/// A factor of a product: an element that is a word, or the first of up to eight neighbours that are narrower, or rounded to bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Factor(u64);

impl Factor {
    /// An element that is f32, or bf16 widened to it.
    pub fn scalar(e: Element) -> Self {
        Self(e.0)
    }

    /// `count` neighbours from `e` on, 1 to 8, as they are or f32 that are `rounded` to bf16.
    pub fn block(e: Element, count: u64, rounded: bool) -> Self {
        Self(e.0 | (count + if rounded { ROUNDED } else { 0 }) << BYTE_BITS)
    }

    /// The distances, in bytes, from the factors of one product to those of another of the same kind.
    pub fn distance(from: [Factor; 2], to: [Factor; 2]) -> [u64; 2] {
        [to[0].0.wrapping_sub(from[0].0), to[1].0.wrapping_sub(from[1].0)]
    }

    pub fn element(self) -> Element {
        Element(self.0 & !(0xff << BYTE_BITS))
    }

    fn kind(self) -> u64 {
        self.0 >> BYTE_BITS & 0xff
    }
}

/// One half of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Half {
    /// +0.
    Zero,
    /// An element of two bytes as it is in memory.
    Element(Element),
    /// An f32 of memory, rounded.
    Rounded(Element),
    /// A term, rounded.
    Of(Term),
    /// The low half of an integer of 8 bits that was widened: the integer, in 16 bits.
    Low(Element),
    /// The high half of such a one.
    High(Element),
    /// Two bytes, the first in the low one. Not both are zero.
    Bytes([Byte; 2]),
}

/// One byte of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Byte {
    /// 0.
    Zero,
    /// An integer of 8 bits as it is in memory.
    Element(Element),
    /// A byte above such a one that was widened.
    Above(Element),
}

impl Half {
    /// Two bytes.
    pub fn bytes(bytes: [Byte; 2]) -> Self {
        if bytes == [Byte::Zero; 2] { Half::Zero } else { Half::Bytes(bytes) }
    }

    /// Its bytes, if it is made of some.
    pub fn split(self) -> Option<[Byte; 2]> {
        match self {
            Half::Zero => Some([Byte::Zero; 2]),
            Half::Low(e) => Some([Byte::Element(e), Byte::Above(e)]),
            Half::High(e) => Some([Byte::Above(e); 2]),
            Half::Bytes(bytes) => Some(bytes),
            Half::Element(_) | Half::Rounded(_) | Half::Of(_) => None,
        }
    }

    /// The same with all its elements so many bytes further on.
    fn moved(self, by: u64) -> Self {
        let element = |e: Element| Element(e.0.wrapping_add(by));
        let byte = |b: Byte| match b {
            Byte::Zero => b,
            Byte::Element(e) => Byte::Element(element(e)),
            Byte::Above(e) => Byte::Above(element(e)),
        };
        match self {
            Half::Element(e) => Half::Element(element(e)),
            Half::Rounded(e) => Half::Rounded(element(e)),
            Half::Low(e) => Half::Low(element(e)),
            Half::High(e) => Half::High(element(e)),
            Half::Bytes(bytes) => Half::Bytes(bytes.map(byte)),
            Half::Zero | Half::Of(_) => self,
        }
    }

    /// The first element that it is made of.
    fn first(self) -> Option<Element> {
        let of = |b: Byte| match b {
            Byte::Zero => None,
            Byte::Element(e) | Byte::Above(e) => Some(e),
        };
        match self {
            Half::Element(e) | Half::Rounded(e) | Half::Low(e) | Half::High(e) => Some(e),
            Half::Bytes([low, high]) => of(low).or(of(high)),
            Half::Zero | Half::Of(_) => None,
        }
    }
}

/// The symbolic value of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing: it was never written, or was overwritten without a result.
    Unset,
    /// These bits.
    Bits(u32),
    /// An element that is f32, or bf16 widened to it.
    Element(Element),
    /// Two halves, the first in the low one. Not both are zero.
    Halves(Half, Half),
    /// A sum of products.
    Sum(Sum),
    /// Anything else.
    Term(Term),
}

impl Word {
    /// Two halves.
    pub fn halves(low: Half, high: Half) -> Self {
        if [low, high] == [Half::Zero; 2] { Word::Bits(0) } else { Word::Halves(low, high) }
    }
}

/// The distance between two words that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distance {
    /// It is the same.
    Same,
    /// Bytes between the elements that it is or was rounded from: of a pair, of the low and the high one.
    Bytes([u64; 2]),
    /// Products of the last progression of a sum.
    Products(u32),
}

impl Distance {
    /// The distance from `a` to `b`; `None` if they differ in more.
    pub fn between(a: Word, b: Word) -> Option<Self> {
        let bytes = |a: Element, b: Element| (a.param() == b.param()).then(|| b.0.wrapping_sub(a.0));
        let of_halves = |a: Half, b: Half| {
            let by = match (a.first(), b.first()) {
                (Some(a), Some(b)) => bytes(a, b)?,
                _ => 0,
            };
            (a.moved(by) == b).then_some(by)
        };
        match (a, b) {
            _ if a == b => Some(Distance::Same),
            (Word::Element(a), Word::Element(b)) => Some(Distance::Bytes([bytes(a, b)?, 0])),
            (Word::Halves(a0, a1), Word::Halves(b0, b1)) => {
                Some(Distance::Bytes([of_halves(a0, b0)?, of_halves(a1, b1)?]))
            }
            (Word::Sum(a), Word::Sum(b)) if a.count >= 2 && b == (Sum { count: b.count, ..a }) => {
                Some(Distance::Products(b.count.checked_sub(a.count)?))
            }
            _ => None,
        }
    }

    /// So many times as far.
    pub fn times(self, n: u64) -> Self {
        match self {
            Distance::Same => Distance::Same,
            Distance::Bytes(bytes) => Distance::Bytes(bytes.map(|b| b.wrapping_mul(n))),
            Distance::Products(count) => Distance::Products(count * n as u32),
        }
    }

    /// The word that is so far from `word`.
    pub fn from(self, word: Word) -> Word {
        let element = |e: Element, bytes: u64| Element(e.0.wrapping_add(bytes));
        match (self, word) {
            (Distance::Bytes([bytes, _]), Word::Element(e)) => Word::Element(element(e, bytes)),
            (Distance::Bytes([low, high]), Word::Halves(a, b)) => Word::Halves(a.moved(low), b.moved(high)),
            (Distance::Products(count), Word::Sum(sum)) => Word::Sum(Sum { count: sum.count + count, ..sum }),
            (_, word) => word,
        }
    }
}

/// A start and products that were added to it one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sum {
    /// The word that the products were added to: a start, or a sum of earlier progressions.
    before: Term,
    /// Products of the last progression.
    count: u32,
    /// The factors of its first product.
    first: [u64; 2],
    /// The distance from one product's factors to the next one's.
    step: [u64; 2],
}

impl Sum {
    fn new(before: Term, [lhs, rhs]: [Factor; 2]) -> Self {
        Self { before, count: 1, first: [lhs.0, rhs.0], step: [0, 0] }
    }

    /// True if these are the factors that continue the last progression.
    fn continues(&self, [lhs, rhs]: [Factor; 2]) -> bool {
        let next = |n: usize| self.first[n].wrapping_add(self.step[n].wrapping_mul(self.count.into()));
        [lhs.0, rhs.0] == [next(0), next(1)]
    }
}

/// An interned term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Term(u32);

/// The definition of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Bits(u32),
    Element(Element),
    Halves(Half, Half),
    Sum(Sum),
    Binary(Binary, Term, Term),
    Unary(Unary, Term),
    Shift(Shift, Term, u8),
    Fma { acc: Term, a: Term, b: Term },
    Mla { acc: Term, a: Term, b: Term },
}

/// All terms of a proof.
#[derive(Default)]
pub(super) struct Terms {
    keys: Vec<Key>,
    known: HashMap<Key, Term, FxBuildHasher>,
}

impl Terms {
    fn intern(&mut self, key: Key) -> Term {
        *self.known.entry(key).or_insert_with(|| {
            self.keys.push(key);
            Term(self.keys.len() as u32 - 1)
        })
    }

    /// The term that a word is. The word is set.
    pub fn of(&mut self, word: Word) -> Term {
        match word {
            Word::Unset => unreachable!("registers are set before they are read"),
            Word::Bits(bits) => self.intern(Key::Bits(bits)),
            Word::Element(e) => self.intern(Key::Element(e)),
            Word::Halves(low, high) => self.intern(Key::Halves(low, high)),
            Word::Sum(sum) => self.intern(Key::Sum(sum)),
            Word::Term(term) => term,
        }
    }

    /// `f(a, b)`. Operands of operations that commute are put in one order, so that both orders are the same term. Only which NaN results
    /// can depend on the order.
    pub fn binary(&mut self, f: Binary, a: Word, b: Word) -> Term {
        let (a, b) = (self.of(a), self.of(b));
        self.intern(if !f.commutes() || a <= b { Key::Binary(f, a, b) } else { Key::Binary(f, b, a) })
    }

    pub fn unary(&mut self, f: Unary, a: Word) -> Word {
        if f == Unary::Move {
            return a;
        }
        let a = self.of(a);
        Word::Term(self.intern(Key::Unary(f, a)))
    }

    pub fn shift(&mut self, f: Shift, a: Word, by: u8) -> Term {
        let a = self.of(a);
        self.intern(Key::Shift(f, a, by))
    }

    /// `acc + a * b`, of words that are not factors of the tile. If both factors are 0, as they are beyond the elements of a panel,
    /// the result is `acc`.
    pub fn fma(&mut self, acc: Word, a: Word, b: Word) -> Word {
        if let (Word::Bits(0), Word::Bits(0)) = (a, b) {
            return acc;
        }
        let [acc, a, b] = [acc, a, b].map(|w| self.of(w));
        Word::Term(self.intern(Key::Fma { acc, a: a.min(b), b: a.max(b) }))
    }

    /// `acc + a * b` of integers that are not factors of the tile. If both factors are 0, the result is `acc`.
    pub fn mla(&mut self, acc: Word, a: Word, b: Word) -> Word {
        if let (Word::Bits(0), Word::Bits(0)) = (a, b) {
            return acc;
        }
        let [acc, a, b] = [acc, a, b].map(|w| self.of(w));
        Word::Term(self.intern(Key::Mla { acc, a: a.min(b), b: a.max(b) }))
    }

    /// `to` with one more product.
    pub fn add_product(&mut self, to: Word, factors: [Factor; 2]) -> Word {
        let Word::Sum(mut sum) = to else {
            let before = self.of(to);
            return Word::Sum(Sum::new(before, factors));
        };
        if sum.count == 1 {
            sum.step = [factors[0].0.wrapping_sub(sum.first[0]), factors[1].0.wrapping_sub(sum.first[1])];
            sum.count = 2;
        } else if sum.continues(factors) {
            sum.count += 1;
        } else {
            let before = self.intern(Key::Sum(sum));
            sum = Sum::new(before, factors);
        }
        Word::Sum(sum)
    }

    /// `to` with `count` more products, whose factors are `step` bytes apart: what as many calls of
    /// [`add_product`](Self::add_product) give.
    pub fn add_products(&mut self, mut to: Word, first: [Factor; 2], step: [u64; 2], count: u64) -> Word {
        for n in 0..count {
            let factor = |i: usize| Factor(first[i].0.wrapping_add(step[i].wrapping_mul(n)));
            to = self.add_product(to, [factor(0), factor(1)]);
            if let Word::Sum(sum) = &mut to
                && sum.count > 1
                && sum.step == step
            {
                // The others continue the progression.
                sum.count += (count - n - 1) as u32;
                break;
            }
        }
        to
    }

    /// Half a word in words, or all of a term that is one word.
    pub fn show_half(&self, half: Half, levels: u32, params: &[Param]) -> String {
        match half {
            Half::Zero => "0".to_owned(),
            Half::Element(e) => show_element(e, params),
            Half::Rounded(e) => format!("bf16({})", show_element(e, params)),
            Half::Of(t) => self.show(t, levels, params),
            Half::Low(e) => format!("low half of {}", show_element(e, params)),
            Half::High(e) => format!("high half of {}", show_element(e, params)),
            Half::Bytes(bytes) => {
                let [low, high] = bytes.map(|b| show_byte(b, params));
                format!("({low}, {high})")
            }
        }
    }

    /// A term in words, with so many levels of what it is made from.
    fn show(&self, term: Term, levels: u32, params: &[Param]) -> String {
        let name = |e: Element| show_element(e, params);
        let inner = |t: Term| if levels == 0 { "..".to_owned() } else { self.show(t, levels - 1, params) };
        let half = |h: Half| self.show_half(h, levels.saturating_sub(1), params);
        match self.keys[term.0 as usize] {
            Key::Bits(bits) => format!("{}", f32::from_bits(bits)),
            Key::Element(e) => name(e),
            Key::Halves(low, high) => format!("({}, {})", half(low), half(high)),
            Key::Sum(Sum { before, count, first, step }) => {
                let factor = |n: usize| {
                    let f = Factor(first[n]);
                    let kind = match f.kind() {
                        0 => String::new(),
                        k @ 1..ROUNDED => format!(" x{k}"),
                        k => format!(" x{} rounded", k - ROUNDED),
                    };
                    let by = step[n].cast_signed();
                    let by = if count > 1 { format!("{by:+}*n") } else { String::new() };
                    format!("{}{kind}{by}", name(f.element()))
                };
                format!("{} + sum of {} * {} for n < {count}", inner(before), factor(0), factor(1))
            }
            Key::Binary(f, a, b) => format!("{f:?}({}, {})", inner(a), inner(b)),
            Key::Unary(f, a) => format!("{f:?}({})", inner(a)),
            Key::Shift(f, a, by) => format!("{f:?}({}, {by})", inner(a)),
            Key::Fma { acc, a, b } | Key::Mla { acc, a, b } => format!("{} + {} * {}", inner(acc), inner(a), inner(b)),
        }
    }
}

/// A byte in words.
pub(super) fn show_byte(byte: Byte, params: &[Param]) -> String {
    match byte {
        Byte::Zero => "0".to_owned(),
        Byte::Element(e) => show_element(e, params),
        Byte::Above(e) => format!("sign of {}", show_element(e, params)),
    }
}

fn show_element(e: Element, params: &[Param]) -> String {
    let name = params.get(usize::from(e.param().0)).map_or("?", |p| p.name.as_str());
    format!("{name}[{}]", e.byte())
}

/// The factors of a product of neighbours, which have `size` bytes where they were not rounded: `Ok(None)` where one of each two factors is zero, `Err` where they are no
/// neighbours. A product with a zero adds nothing: factors are taken to be finite where another row or column has none.
pub(super) fn block_factors(a: &[Half], b: &[Half], size: u64) -> Result<Option<[Factor; 2]>, ()> {
    let is_product = |i: usize| a[i] != Half::Zero && b[i] != Half::Zero;
    let count = (0..a.len()).take_while(|i| is_product(*i)).count();
    if (count..a.len()).any(is_product) {
        return Err(());
    }
    if count == 0 {
        return Ok(None);
    }
    let factor = |halves: &[Half]| {
        let neighbours = |first: Element, bytes: u64, half: fn(Element) -> Half| {
            let is_next = |(n, h): (usize, &Half)| *h == half(first.behind(n as u64 * bytes));
            halves[..count].iter().enumerate().all(is_next).then_some(first)
        };
        let (first, rounded) = match halves[0] {
            Half::Element(e) => (neighbours(e, size, Half::Element), false),
            Half::Rounded(e) => (neighbours(e, 4, Half::Rounded), true),
            Half::Zero | Half::Of(_) | Half::Low(_) | Half::High(_) | Half::Bytes(_) => (None, false),
        };
        first.map(|e| Factor::block(e, count as u64, rounded)).ok_or(())
    };
    Ok(Some([factor(a)?, factor(b)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(param: u8, byte: i128) -> Element {
        Element::new(P(param), byte).unwrap()
    }

    /// Adding many products at once is adding them one by one, whatever was added before.
    #[test]
    fn progressions_are_one_however_they_are_made() {
        let runs = [(0, 0, 4, 40, 5), (20, 200, 4, 40, 2), (28, 280, 8, 40, 1), (100, 0, 0, 40, 3), (7, 9, 1, 1, 1)];
        for first in 0..runs.len() {
            let mut terms = Terms::default();
            let (mut one, mut many) = (Word::Bits(0), Word::Bits(0));
            for (l, r, dl, dr, count) in runs.into_iter().cycle().skip(first).take(2 * runs.len()) {
                let factors = |n: i128| [(0, l + n * dl), (1, r + n * dr)].map(|(p, b)| Factor::scalar(at(p, b)));
                (0..count).for_each(|n| one = terms.add_product(one, factors(n)));
                many = terms.add_products(many, factors(0), [dl as u64, dr as u64], count as u64);
                assert_eq!(terms.of(one), terms.of(many));
            }
        }
    }

    #[test]
    fn another_order_or_factor_is_another_sum() {
        let mut terms = Terms::default();
        let factors = |l: i128, r: i128| [at(0, l), at(1, r)].map(Factor::scalar);
        let mut sum = |list: &[(i128, i128)]| {
            let word = list.iter().fold(Word::Bits(0), |sum, (l, r)| terms.add_product(sum, factors(*l, *r)));
            terms.of(word)
        };
        let right = sum(&[(0, 0), (4, 8), (8, 16)]);
        assert_eq!(sum(&[(0, 0), (4, 8), (8, 16)]), right);
        for wrong in [
            &[(0, 0), (8, 16), (4, 8)][..],
            &[(4, 8), (0, 0), (8, 16)],
            &[(0, 0), (4, 8)],
            &[(0, 0), (4, 8), (8, 16), (12, 24)],
            &[(0, 0), (4, 8), (8, 24)],
            &[(0, 0), (4, 8), (8, 16), (8, 16)],
        ] {
            assert_ne!(sum(wrong), right, "{wrong:?}");
        }
    }

    #[test]
    fn blocks_are_neighbours() {
        let raw = |byte| Half::Element(at(1, byte));
        let rounded = |byte| Half::Rounded(at(0, byte));
        let (a, b) = ([rounded(0), rounded(4), rounded(8), Half::Zero], [raw(0), raw(2), raw(4), raw(6)]);
        let three = [Factor::block(at(0, 0), 3, true), Factor::block(at(1, 0), 3, false)];
        assert_eq!(block_factors(&a, &b, 2), Ok(Some(three)));
        assert_eq!(block_factors(&[Half::Zero; 4], &b, 2), Ok(None));
        assert_eq!(block_factors(&[Half::Zero, rounded(4)], &b[..2], 2), Err(()), "a gap before a product");
        assert_eq!(block_factors(&[rounded(0), rounded(2)], &b[..2], 2), Err(()), "no neighbours");
        assert_eq!(block_factors(&[rounded(0), raw(2)], &b[..2], 2), Err(()), "of two kinds");
    }
}

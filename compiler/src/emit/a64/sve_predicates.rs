//! The assignment of predicates to numbers of elements.
//!
//! `p0` is all true. `p1` to `p6` are made once, for the numbers of elements that occur most; `p7` is for one operation
//! at a time, for other numbers and for intermediate conditions.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::function::{Code, operations};
use super::inst::Inst;
use super::operand::{P7, XZr};
use super::roles::{NUMBER, SCRATCH};
use crate::microkernel::{MicroKernel, Op};

/// The size of the elements that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// 32 bits.
    S,
    /// 16 bits.
    H,
    /// 8 bits.
    B,
}

impl Element {
    /// That of elements of one or two bytes that are not converted.
    pub fn raw(bytes: usize) -> Element {
        if bytes == 1 { Element::B } else { Element::H }
    }

    /// Elements in 128 bits.
    pub fn per_quad(self) -> u16 {
        match self {
            Element::S => 4,
            Element::H => 8,
            Element::B => 16,
        }
    }
}

/// The predicates of a function.
pub struct Predicates {
    lanes: u16,
    /// True if elements of 8 or 16 bits occur, for which `p0` must be true in every byte.
    halves: bool,
    fixed: BTreeMap<(Element, u16), P7>,
}

impl Predicates {
    /// All elements, of any size.
    pub const ALL: P7 = P7::new(0).unwrap();

    /// For one operation at a time.
    pub const SCRATCH: P7 = P7::new(7).unwrap();

    /// The predicates for `mk`.
    pub fn new(mk: &MicroKernel) -> Predicates {
        let lanes = mk.lanes as u16;
        let mut uses = BTreeMap::<(Element, u16), usize>::new();
        operations(mk).filter_map(|op| partial(mk, op)).for_each(|key| *uses.entry(key).or_default() += 1);
        let mut keys: Vec<(Element, u16)> = uses.keys().copied().collect();
        keys.sort_by_key(|key| (Reverse(uses[key]), *key));
        keys.truncate(6);
        keys.sort_unstable();
        let fixed = keys.into_iter().zip((1..).map_while(P7::new)).collect();
        Predicates { lanes, halves: operations(mk).any(Op::is_raw), fixed }
    }

    /// Appends what makes them.
    pub fn prologue(&self, code: &mut Code) {
        code.note("p0: all lanes");
        let d = Self::ALL.into();
        code.asm.push(if self.halves { Inst::PtrueB { d } } else { Inst::PtrueS { d } });
        for (key, p) in &self.fixed {
            code.note(match key {
                (Element::S, count) => format!("{p}: {count} lanes"),
                (Element::H, count) => format!("{p}: {count} elements of two bytes"),
                (Element::B, count) => format!("{p}: {count} bytes"),
            });
            code.asm.mov_const(SCRATCH, key.1.into());
            code.asm.push(first(*key, *p, SCRATCH.into()));
        }
    }

    /// The predicate of the first `count` elements, made for the next instruction if it is none of the fixed ones.
    pub fn of(&self, code: &mut Code, element: Element, count: u16) -> P7 {
        if count == self.lanes / 4 * element.per_quad() {
            return Self::ALL;
        }
        let key = (element, count);
        self.fixed.get(&key).copied().unwrap_or_else(|| {
            code.asm.mov_const(NUMBER, count.into());
            code.asm.push(first(key, Self::SCRATCH, NUMBER.into()));
            Self::SCRATCH
        })
    }
}

/// The instructions that make `p` true for the first `m` elements.
fn first((element, _): (Element, u16), p: P7, m: XZr) -> Inst {
    let (d, n) = (p.into(), XZr::ZR);
    match element {
        Element::S => Inst::WhileloS { d, n, m },
        Element::H => Inst::WhileloH { d, n, m },
        Element::B => Inst::WhileloB { d, n, m },
    }
}

/// The elements that `op` needs a predicate for, unless they are a whole register, or all that is repeated in each 128 bits.
fn partial(mk: &MicroKernel, op: &Op) -> Option<(Element, u16)> {
    let touched = op.touched().filter(|_| !matches!(op, Op::Broadcast { .. }))?;
    let (dtype, count) = (mk.dtype(touched.addr)?, touched.elements);
    let element = if touched.raw { Element::raw(dtype.bytes()) } else { Element::S };
    // A part of four that is widened is loaded as the start of a register.
    let is_repeated =
        matches!(op, Op::LoadRawQuad { .. }) || matches!(op, Op::LoadLanes { .. } if count == 4 || !dtype.is_narrow());
    let whole = if is_repeated { element.per_quad() } else { mk.lanes as u16 / 4 * element.per_quad() };
    (count != whole).then_some((element, count))
}

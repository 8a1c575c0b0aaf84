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
}

/// The predicates of a function.
pub struct Predicates {
    lanes: u16,
    /// True if elements of 16 bits occur, for which `p0` must be true in every byte.
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
                (Element::H, count) => format!("{p}: {count} bf16"),
            });
            code.asm.mov_const(SCRATCH, key.1.into());
            code.asm.push(first(*key, *p, SCRATCH.into()));
        }
    }

    /// The predicate of the first `count` elements, made for the next instruction if it is none of the fixed ones.
    pub fn of(&self, code: &mut Code, element: Element, count: u16) -> P7 {
        let whole = match element {
            Element::S => self.lanes,
            Element::H => 2 * self.lanes,
        };
        if count == whole {
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
    }
}

/// The elements that `op` needs a predicate for, unless they are a whole register.
fn partial(mk: &MicroKernel, op: &Op) -> Option<(Element, u16)> {
    let whole = mk.lanes as u16;
    let (element, count, whole) = match *op {
        Op::Load { lanes, .. } | Op::Store { lanes, .. } => (Element::S, lanes, whole),
        Op::LoadLanes { count, src, .. } => {
            // The whole of 4 needs none; a part that is widened is loaded as the start of a register.
            let widened = mk.params.get(usize::from(src.param.0)).is_some_and(|p| p.dtype.is_narrow());
            (Element::S, count.into(), if widened && count < 4 { whole } else { 4 })
        }
        Op::LoadRaw { elements, .. } | Op::StoreRaw { elements, .. } => (Element::H, elements, 2 * whole),
        Op::LoadRawQuad { elements, .. } => (Element::H, elements, 8),
        _ => return None,
    };
    (count != whole).then_some((element, count))
}

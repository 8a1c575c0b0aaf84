//! SVE's loads and stores.

use kiln_ir::DType;

use super::function::{Code, Resolved};
use super::inst::Inst;
use super::operand::{Disp, Q, QuadDisp, X};
use super::sve_convert::{self, mul_vl};
use super::sve_predicates::{Element, Predicates};
use super::vectors::z;
use crate::emit::EmitError;
use crate::microkernel::V;

/// A place in memory and the type of what is there.
#[derive(Clone, Copy)]
pub struct At {
    /// The address.
    pub place: Resolved,
    /// The type of elements.
    pub dtype: DType,
}

impl At {
    /// What a whole register takes in memory.
    fn whole(self, code: &Code) -> i64 {
        i64::from(code.mk.lanes) * self.dtype.bytes() as i64
    }
}

impl Predicates {
    /// Appends [`Op::Load`](crate::microkernel::Op::Load).
    pub fn load(&self, code: &mut Code, d: V, lanes: u16, at: At) {
        let (t, g) = (z(d.0 as u8), self.of(code, Element::S, lanes));
        code.asm.push(sve_convert::load(at.dtype, t, g, at.place, at.whole(code)));
        sve_convert::widen(code, t, at.dtype);
    }

    /// Appends [`Op::LoadLanes`](crate::microkernel::Op::LoadLanes).
    pub fn load_lanes(&self, code: &mut Code, d: V, count: u8, at: At) {
        let t = z(d.0 as u8);
        match at.dtype {
            DType::F32 | DType::S32 => {
                // LD1RQW takes the predicate of the first 128 bits for all.
                let all = if count == 4 { code.mk.lanes as u16 } else { count.into() };
                let g = self.of(code, Element::S, all);
                code.asm.push(match at.place {
                    Resolved::Displaced { n, by } => Inst::Ld1rqwS { t, g, n, i: quad(by) },
                    Resolved::Indexed { n, m } => Inst::Ld1rqwIndexedS { t, g, n, m },
                });
            }
            DType::Bf16 | DType::F16 | DType::S16 if count == 4 => {
                let (n, by) = displaced(at.place);
                let i = Disp::new(by).expect("the place is in reach");
                code.asm.push(Inst::Ld1rdD { t, g: Predicates::ALL, n, i });
                code.asm.push(Inst::UunpkloS { d: t, n: t });
                sve_convert::widen(code, t, at.dtype);
            }
            DType::Bf16 | DType::F16 | DType::S16 | DType::S8 | DType::U8 => {
                self.load(code, d, count.into(), at);
                code.asm.push(Inst::DupQ { d: t, n: Q::new(d.0 as u8).expect("below 32") });
            }
        }
    }

    /// Appends [`Op::Store`](crate::microkernel::Op::Store).
    pub fn store(&self, code: &mut Code, s: V, lanes: u16, at: At, temps: &[u8]) -> Result<(), EmitError> {
        let narrowed = sve_convert::narrow(code, s.0 as u8, at.dtype, temps)?;
        let (t, g, whole) = (z(narrowed), self.of(code, Element::S, lanes), at.whole(code));
        code.asm.push(match (at.place, at.dtype.is_narrow()) {
            (Resolved::Displaced { n, by }, false) => Inst::St1wS { t, g, n, i: mul_vl(by, whole) },
            (Resolved::Indexed { n, m }, false) => Inst::St1wIndexedS { t, g, n, m },
            (Resolved::Displaced { n, by }, true) => Inst::St1hS { t, g, n, i: mul_vl(by, whole) },
            (Resolved::Indexed { n, m }, true) => Inst::St1hIndexedS { t, g, n, m },
        });
        Ok(())
    }

    /// Appends [`Op::LoadRaw`](crate::microkernel::Op::LoadRaw).
    pub fn load_raw(&self, code: &mut Code, d: V, elements: u16, at: At) {
        let element = Element::raw(at.dtype.bytes());
        let (t, g, register) = (z(d.0 as u8), self.of(code, element, elements), code.vector_bytes());
        code.asm.push(match (at.dtype.bytes(), at.place) {
            (1, Resolved::Displaced { n, by }) => Inst::Ld1bB { t, g, n, i: mul_vl(by, register) },
            (1, Resolved::Indexed { n, m }) => Inst::Ld1bIndexedB { t, g, n, m },
            (_, Resolved::Displaced { n, by }) => Inst::Ld1hH { t, g, n, i: mul_vl(by, register) },
            (_, Resolved::Indexed { n, m }) => Inst::Ld1hIndexedH { t, g, n, m },
        });
    }

    /// Appends [`Op::LoadRawQuad`](crate::microkernel::Op::LoadRawQuad).
    pub fn load_raw_quad(&self, code: &mut Code, d: V, elements: u16, at: At) {
        let element = Element::raw(at.dtype.bytes());
        // The predicate of the first 128 bits is that of all.
        let is_whole = elements == element.per_quad();
        let all = if is_whole { code.mk.lanes as u16 / 4 * elements } else { elements };
        let (t, g) = (z(d.0 as u8), self.of(code, element, all));
        code.asm.push(match (at.dtype.bytes(), at.place) {
            (1, Resolved::Displaced { n, by }) => Inst::Ld1rqbB { t, g, n, i: quad(by) },
            (1, Resolved::Indexed { n, m }) => Inst::Ld1rqbIndexedB { t, g, n, m },
            (_, Resolved::Displaced { n, by }) => Inst::Ld1rqhH { t, g, n, i: quad(by) },
            (_, Resolved::Indexed { n, m }) => Inst::Ld1rqhIndexedH { t, g, n, m },
        });
    }

    /// Appends [`Op::StoreRaw`](crate::microkernel::Op::StoreRaw).
    pub fn store_raw(&self, code: &mut Code, s: V, elements: u16, at: At) {
        let element = Element::raw(at.dtype.bytes());
        let (t, g, register) = (z(s.0 as u8), self.of(code, element, elements), code.vector_bytes());
        code.asm.push(match (at.dtype.bytes(), at.place) {
            (1, Resolved::Displaced { n, by }) => Inst::St1bB { t, g, n, i: mul_vl(by, register) },
            (1, Resolved::Indexed { n, m }) => Inst::St1bIndexedB { t, g, n, m },
            (_, Resolved::Displaced { n, by }) => Inst::St1hH { t, g, n, i: mul_vl(by, register) },
            (_, Resolved::Indexed { n, m }) => Inst::St1hIndexedH { t, g, n, m },
        });
    }
}

/// Appends [`Op::Broadcast`](crate::microkernel::Op::Broadcast).
pub fn broadcast(code: &mut Code, d: V, at: At) {
    let (n, by) = displaced(at.place);
    code.asm.push(sve_convert::broadcast(at.dtype, z(d.0 as u8), n, by));
    sve_convert::widen(code, z(d.0 as u8), at.dtype);
}

fn quad(by: i64) -> QuadDisp {
    QuadDisp::new(by).expect("the place is in reach")
}

fn displaced(place: Resolved) -> (X, i64) {
    match place {
        Resolved::Displaced { n, by } => (n, by),
        Resolved::Indexed { .. } => unreachable!("a form without an index is not given one"),
    }
}

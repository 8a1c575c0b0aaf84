//! The SVE emitter: one micro-kernel to one AAPCS64 function, for the vector length that the micro-kernel names. Vector
//! register `vN` is `zN`.

use kiln_ir::DType;

use super::address::Form;
use super::function::{self, Code, Resolved, VectorEmitter, slots_address};
use super::inst::Inst;
use super::operand::{Disp, Float8, Imm, MulVl, Q, QuadDisp, Right, ScalarDisp, X, Z, Z7, ZSize};
use super::roles::SCRATCH;
use super::sve_predicates::{Element, Predicates};
use super::sve_products;
use super::vectors::z;
use super::{sve_bf16, sve_convert};
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::assign::Need;
use crate::microkernel::{Binary, MicroKernel, Op, Permute, Shift, Unary};
use crate::target::{Target, VectorIsa};

/// Emits `mk` as a C function of its parameters' pointers. It must be run with vectors of exactly `mk.lanes` f32
/// lanes.
pub fn emit(mk: &MicroKernel, target: &Target, arguments: Arguments) -> Result<Function, EmitError> {
    function::emit(Sve { predicates: Predicates::new(mk) }, mk, target, arguments)
}

/// What the operations of a program need besides their own registers, in order.
pub fn needs(program: &MicroKernel, bf16: bool) -> Vec<Need> {
    function::needs::<Sve>(program, bf16)
}

struct Sve {
    predicates: Predicates,
}

impl VectorEmitter for Sve {
    const ISA: VectorIsa = VectorIsa::Sve;
    const POOL_COPIES: usize = 1;

    fn has_lanes(lanes: u32) -> bool {
        lanes.is_multiple_of(4) && (4..=64).contains(&lanes)
    }

    fn form(code: &Code, op: &Op) -> Option<Form> {
        let element = code.dtype(op.touched()?.addr).bytes();
        let widened = i64::from(code.mk.lanes) * element as i64;
        Some(match op {
            Op::LoadRaw { .. } | Op::StoreRaw { .. } => Form::vector(code.vector_bytes(), element),
            Op::LoadRawQuad { .. } => Form::quad(element),
            Op::Broadcast { .. } => Form::scalar(element, element),
            Op::LoadLanes { .. } if element == 4 => Form::quad(element),
            Op::LoadLanes { count: 4, .. } if element == 2 => Form::scalar(8, element),
            _ => Form::vector(widened, element),
        })
    }

    fn need(mk: &MicroKernel, bf16: bool, op: &Op) -> Need {
        let temps = match *op {
            Op::PairAdd { .. } | Op::Narrow { .. } => 1,
            Op::NarrowPairs { .. } => u8::from(!bf16),
            Op::Store { dst, .. } => u8::from(mk.dtype(dst).is_some_and(DType::is_narrow)),
            _ => 0,
        };
        Need { temps, is_apart: false }
    }

    fn is_pooled(bits: u32) -> bool {
        immediate(z(0), bits).is_none()
    }

    fn prologue(&mut self, code: &mut Code) {
        self.predicates.prologue(code);
    }

    fn op(&mut self, code: &mut Code, op: &Op, place: Option<Resolved>, temps: &[u8]) -> Result<(), EmitError> {
        if let Some(place) = place {
            return self.memory(code, op, place, temps);
        }
        let g = Predicates::ALL;
        let inst = match *op {
            Op::Zero { d } => Inst::DupS { d: z(d.0 as u8), i: Imm::new(0).expect("in range") },
            Op::Const { d, bits } => match immediate(z(d.0 as u8), bits) {
                Some(inst) => inst,
                None => {
                    let (mut n, mut at) = code.pooled(bits);
                    if !Form::scalar(4, 4).reaches(at) {
                        code.asm.add_const(SCRATCH, n, at);
                        (n, at) = (SCRATCH, 0);
                    }
                    Inst::Ld1rwS { t: z(d.0 as u8), g, n, i: ScalarDisp::new(at).expect("in reach") }
                }
            },
            Op::Fma { d, a, b } => Inst::FmlaS { d: z(d.0 as u8), g, n: z(a.0 as u8), m: z(b.0 as u8) },
            Op::Mla { d, a, b } => Inst::MlaS { d: z(d.0 as u8), g, n: z(a.0 as u8), m: z(b.0 as u8) },
            Op::FmaLane { d, a, b, lane } => {
                let (m, i) = scalars(code, b.0 as u8, lane)?;
                Inst::FmlaIndexedS { d: z(d.0 as u8), n: z(a.0 as u8), m, i }
            }
            Op::Binary { f, d, a, b } => {
                binary(code, f, z(d.0 as u8), z(a.0 as u8), z(b.0 as u8));
                return Ok(());
            }
            Op::Unary { f: Unary::Move, d, a } if d == a => return Ok(()),
            Op::Unary { f, d, a } => {
                let (d, n) = (z(d.0 as u8), z(a.0 as u8));
                match f {
                    Unary::Move => Inst::MovZ { d, n },
                    Unary::Sqrt => Inst::FsqrtS { d, g, n },
                    Unary::Abs => Inst::FabsS { d, g, n },
                }
            }
            Op::Shift { f, d, a, by } => {
                let (d, n) = (z(d.0 as u8), z(a.0 as u8));
                match f {
                    Shift::Left => Inst::LslS { d, n, i: Imm::new(by.into()).expect("shifts are checked") },
                    Shift::RightSigned => Inst::AsrS { d, n, i: Right::new(by).expect("shifts are checked") },
                }
            }
            Op::PairAdd { d, a, b } => {
                let (d, a, b, t, s) =
                    (z(d.0 as u8), z(a.0 as u8), z(b.0 as u8), z(temp(code, temps)?), ZSize::new(32).expect("a size"));
                code.asm.push(Inst::Uzp2Z { d: t, n: a, m: b, s });
                code.asm.push(Inst::Uzp1Z { d, n: a, m: b, s });
                Inst::FaddS { d, n: d, m: t }
            }
            Op::Permute { f, bits, d, a, b } => {
                let (d, n, m) = (z(d.0 as u8), z(a.0 as u8), z(b.0 as u8));
                let s = ZSize::new(bits).expect("element sizes are checked");
                match f {
                    Permute::ZipLow => Inst::Zip1Z { d, n, m, s },
                    Permute::ZipHigh => Inst::Zip2Z { d, n, m, s },
                    Permute::UzpEven => Inst::Uzp1Z { d, n, m, s },
                    Permute::UzpOdd => Inst::Uzp2Z { d, n, m, s },
                    Permute::TrnEven => Inst::Trn1Z { d, n, m, s },
                    Permute::TrnOdd => Inst::Trn2Z { d, n, m, s },
                }
            }
            Op::Mmla { f, d, a, b } => return code.push_extension(sve_products::blocks(code, f, [d, a, b])?),
            Op::Dot { f, d, a, b } => return code.push_extension(sve_products::words(code, f, [d, a, b])?),
            Op::DotLane { f, d, a, b, lane } => {
                let (m, i) = scalars(code, b.0 as u8, lane)?;
                return code.push_extension(sve_products::by_element(code, f, [d, a], m, i)?);
            }
            Op::Narrow { d, a, b } => {
                return sve_bf16::narrow(code, d.0 as u8, a.0 as u8, b.0 as u8, temp(code, temps)?);
            }
            Op::NarrowPairs { d, a, b } => return sve_bf16::narrow_pairs(code, d.0 as u8, a.0 as u8, b.0 as u8, temps),
            Op::Load { .. }
            | Op::LoadLanes { .. }
            | Op::Broadcast { .. }
            | Op::Store { .. }
            | Op::LoadRaw { .. }
            | Op::LoadRawQuad { .. }
            | Op::BroadcastRaw { .. }
            | Op::StoreRaw { .. }
            | Op::Spill { .. }
            | Op::Reload { .. } => unreachable!("a memory operation has a place"),
        };
        code.asm.push(inst);
        Ok(())
    }

    fn spill(&self, code: &mut Code, v: u8, at: i64, slot: u16, reload: bool) {
        let (bytes, slot) = (code.vector_bytes(), i64::from(slot));
        let n = slots_address(&mut code.asm, at + slot / 8 * 8 * bytes);
        let (t, g, i) = (z(v), Predicates::ALL, MulVl::new(slot % 8).expect("below 8"));
        code.asm.push(if reload { Inst::Ld1wS { t, g, n, i } } else { Inst::St1wS { t, g, n, i } });
    }
}

impl Sve {
    fn memory(&self, code: &mut Code, op: &Op, place: Resolved, temps: &[u8]) -> Result<(), EmitError> {
        let dtype = code.dtype(op.touched().expect("a memory operation").addr);
        // What a whole register takes in memory.
        let whole = i64::from(code.mk.lanes) * dtype.bytes() as i64;
        match *op {
            Op::Load { d, lanes, .. } => self.load_widened(code, d.0 as u8, lanes, dtype, place, whole),
            Op::LoadLanes { d, count, .. } if !dtype.is_narrow() => {
                // LD1RQW takes the predicate of the first 128 bits for all.
                let all = if count == 4 { code.mk.lanes as u16 } else { count.into() };
                let (t, g) = (z(d.0 as u8), self.predicates.of(code, Element::S, all));
                code.asm.push(match place {
                    Resolved::Displaced { n, by } => Inst::Ld1rqwS { t, g, n, i: quad(by) },
                    Resolved::Indexed { n, m } => Inst::Ld1rqwIndexedS { t, g, n, m },
                });
            }
            Op::LoadLanes { d, count: 4, .. } if dtype.bytes() == 2 => {
                let (n, by) = displaced(place);
                let d = z(d.0 as u8);
                let i = Disp::new(by).expect("the place is in reach");
                code.asm.push(Inst::Ld1rdD { t: d, g: Predicates::ALL, n, i });
                code.asm.push(Inst::UunpkloS { d, n: d });
                sve_convert::widen(code, d, dtype);
            }
            Op::LoadLanes { d, count, .. } => {
                self.load_widened(code, d.0 as u8, count.into(), dtype, place, whole);
                code.asm.push(Inst::DupQ { d: z(d.0 as u8), n: Q::new(d.0 as u8).expect("below 32") });
            }
            Op::Broadcast { d, .. } => {
                let (n, by) = displaced(place);
                code.asm.push(sve_convert::broadcast(dtype, z(d.0 as u8), n, by));
                sve_convert::widen(code, z(d.0 as u8), dtype);
            }
            Op::Store { s, lanes, .. } => {
                let narrowed = sve_convert::narrow(code, s.0 as u8, dtype, temps)?;
                let (t, g) = (z(narrowed), self.predicates.of(code, Element::S, lanes));
                code.asm.push(match (place, dtype.is_narrow()) {
                    (Resolved::Displaced { n, by }, false) => Inst::St1wS { t, g, n, i: mul_vl(by, whole) },
                    (Resolved::Indexed { n, m }, false) => Inst::St1wIndexedS { t, g, n, m },
                    (Resolved::Displaced { n, by }, true) => Inst::St1hS { t, g, n, i: mul_vl(by, whole) },
                    (Resolved::Indexed { n, m }, true) => Inst::St1hIndexedS { t, g, n, m },
                });
            }
            Op::LoadRaw { d, elements, .. } => {
                let element = Element::raw(dtype.bytes());
                let (t, g) = (z(d.0 as u8), self.predicates.of(code, element, elements));
                let register = code.vector_bytes();
                code.asm.push(match (place, element) {
                    (Resolved::Displaced { n, by }, Element::B) => Inst::Ld1bB { t, g, n, i: mul_vl(by, register) },
                    (Resolved::Indexed { n, m }, Element::B) => Inst::Ld1bIndexedB { t, g, n, m },
                    (Resolved::Displaced { n, by }, _) => Inst::Ld1hH { t, g, n, i: mul_vl(by, register) },
                    (Resolved::Indexed { n, m }, _) => Inst::Ld1hIndexedH { t, g, n, m },
                });
            }
            Op::LoadRawQuad { d, elements, .. } => {
                let element = Element::raw(dtype.bytes());
                // The predicate of the first 128 bits is that of all.
                let is_whole = elements == element.per_quad();
                let all = if is_whole { code.mk.lanes as u16 / 4 * elements } else { elements };
                let (t, g) = (z(d.0 as u8), self.predicates.of(code, element, all));
                code.asm.push(match (place, element) {
                    (Resolved::Displaced { n, by }, Element::B) => Inst::Ld1rqbB { t, g, n, i: quad(by) },
                    (Resolved::Indexed { n, m }, Element::B) => Inst::Ld1rqbIndexedB { t, g, n, m },
                    (Resolved::Displaced { n, by }, _) => Inst::Ld1rqhH { t, g, n, i: quad(by) },
                    (Resolved::Indexed { n, m }, _) => Inst::Ld1rqhIndexedH { t, g, n, m },
                });
            }
            Op::StoreRaw { s, elements, .. } => {
                let element = Element::raw(dtype.bytes());
                let (t, g) = (z(s.0 as u8), self.predicates.of(code, element, elements));
                let register = code.vector_bytes();
                code.asm.push(match (place, element) {
                    (Resolved::Displaced { n, by }, Element::B) => Inst::St1bB { t, g, n, i: mul_vl(by, register) },
                    (Resolved::Indexed { n, m }, Element::B) => Inst::St1bIndexedB { t, g, n, m },
                    (Resolved::Displaced { n, by }, _) => Inst::St1hH { t, g, n, i: mul_vl(by, register) },
                    (Resolved::Indexed { n, m }, _) => Inst::St1hIndexedH { t, g, n, m },
                });
            }
            _ => unreachable!("not a memory operation"),
        }
        Ok(())
    }

    /// Appends what loads `lanes` elements as words.
    fn load_widened(&self, code: &mut Code, d: u8, lanes: u16, dtype: DType, place: Resolved, whole: i64) {
        let (t, g) = (z(d), self.predicates.of(code, Element::S, lanes));
        code.asm.push(sve_convert::load(dtype, t, g, place, whole));
        sve_convert::widen(code, t, dtype);
    }
}

/// The first temporary register.
fn temp(code: &Code, temps: &[u8]) -> Result<u8, EmitError> {
    temps.first().copied().ok_or_else(|| code.no_temps())
}

/// The arithmetic that is destructive works on the first operand, which is copied unless the result replaces one.
fn binary(code: &mut Code, f: Binary, d: Z, a: Z, b: Z) {
    let mut destructive = |inst: fn(Z, Z) -> Inst, reversed: fn(Z, Z) -> Inst| {
        if d == b && d != a {
            return reversed(d, a);
        }
        if d != a {
            code.asm.push(Inst::MovZ { d, n: a });
        }
        inst(d, b)
    };
    let inst = match f {
        Binary::Add => Inst::FaddS { d, n: a, m: b },
        Binary::Sub => Inst::FsubS { d, n: a, m: b },
        Binary::Mul => Inst::FmulS { d, n: a, m: b },
        Binary::Div => destructive(
            |d, m| Inst::FdivS { d, g: Predicates::ALL, m },
            |d, m| Inst::FdivrS { d, g: Predicates::ALL, m },
        ),
        // The maximum does not depend on the order of its operands.
        Binary::Max => {
            let max = |d, m| Inst::FmaxS { d, g: Predicates::ALL, m };
            destructive(max, max)
        }
        Binary::Min => {
            let min = |d, m| Inst::FminS { d, g: Predicates::ALL, m };
            destructive(min, min)
        }
        Binary::IAdd => Inst::AddS { d, n: a, m: b },
        Binary::ISub => Inst::SubS { d, n: a, m: b },
        Binary::And => Inst::AndZ { d, n: a, m: b },
        Binary::Or if a == b => Inst::MovZ { d, n: a },
        Binary::Or => Inst::OrrZ { d, n: a, m: b },
        Binary::Xor => Inst::EorZ { d, n: a, m: b },
    };
    code.asm.push(inst);
}

/// The register and index of a multiply-add by element.
fn scalars(code: &Code, b: u8, lane: u8) -> Result<(Z7, Imm<0, 3, 1>), EmitError> {
    match (Z7::new(b), Imm::new(lane.into())) {
        (Some(m), Some(i)) => Ok((m, i)),
        _ => Err(code.error(format!("a multiply-add by element {lane} of v{b}: it can be one of 0-3 of v0-v7"))),
    }
}

/// The instruction that sets `d` to `bits` in all lanes without memory, if there is one.
fn immediate(d: Z, bits: u32) -> Option<Inst> {
    let integer = Imm::new(bits.into()).map(|i| Inst::DupS { d, i });
    integer.or_else(|| Float8::new(bits).map(|i| Inst::FdupS { d, i }))
}

fn mul_vl(bytes: i64, whole: i64) -> MulVl {
    MulVl::new(bytes / whole).expect("the place is in reach")
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

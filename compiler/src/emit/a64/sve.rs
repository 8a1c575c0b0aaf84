//! The SVE emitter: one micro-kernel to one AAPCS64 function, for the vector length that the micro-kernel names. Vector
//! register `vN` is `zN`.

use kiln_ir::DType;

use super::address::Form;
use super::function::{self, Code, Resolved, VectorEmitter, slots_address};
use super::inst::Inst;
use super::operand::{Float8, Imm, MulVl, ScalarDisp, Z, Z7, ZSize};
use super::roles::SCRATCH;
use super::sve_memory::At;
use super::sve_predicates::Predicates;
use super::sve_products;
use super::vectors::z;
use super::{sve_bf16, sve_memory};
use crate::emit::lanewise::{self, SveBinary};
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::assign::Need;
use crate::microkernel::{Binary, MicroKernel, Op, Permute, Unary};
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

pub(super) struct Sve {
    pub(super) predicates: Predicates,
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
        Some(match *op {
            Op::LoadRaw { .. } | Op::StoreRaw { .. } => Form::vector(code.vector_bytes(), element),
            Op::LoadRawQuad { .. } => Form::quad(element),
            Op::Broadcast { .. } => Form::scalar(element, element),
            Op::LoadLanes { .. } if element == 4 => Form::quad(element),
            Op::LoadLanes { count: 4, .. } if element == 2 => Form::scalar(8, element),
            Op::Load { .. } | Op::Store { .. } | Op::LoadLanes { .. } => Form::vector(widened, element),
            Op::BroadcastRaw { .. }
            | Op::Zero { .. }
            | Op::Const { .. }
            | Op::Fma { .. }
            | Op::Mla { .. }
            | Op::FmaLane { .. }
            | Op::Binary { .. }
            | Op::Unary { .. }
            | Op::Shift { .. }
            | Op::PairAdd { .. }
            | Op::Mmla { .. }
            | Op::Dot { .. }
            | Op::DotLane { .. }
            | Op::Narrow { .. }
            | Op::NarrowPairs { .. }
            | Op::Spill { .. }
            | Op::Reload { .. }
            | Op::Permute { .. } => return None,
        })
    }

    fn need(mk: &MicroKernel, bf16: bool, op: &Op) -> Need {
        let temps = match *op {
            Op::PairAdd { .. } | Op::Narrow { .. } => 1,
            Op::NarrowPairs { .. } => u8::from(!bf16),
            Op::Store { dst, .. } => u8::from(mk.dtype(dst).is_some_and(DType::is_narrow)),
            Op::Zero { .. }
            | Op::Const { .. }
            | Op::Load { .. }
            | Op::LoadLanes { .. }
            | Op::Broadcast { .. }
            | Op::LoadRaw { .. }
            | Op::LoadRawQuad { .. }
            | Op::BroadcastRaw { .. }
            | Op::StoreRaw { .. }
            | Op::Fma { .. }
            | Op::Mla { .. }
            | Op::FmaLane { .. }
            | Op::Binary { .. }
            | Op::Unary { .. }
            | Op::Shift { .. }
            | Op::Mmla { .. }
            | Op::Dot { .. }
            | Op::DotLane { .. }
            | Op::Spill { .. }
            | Op::Reload { .. }
            | Op::Permute { .. } => 0,
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
        let at = op.touched().zip(place).map(|(t, place)| At { place, dtype: code.dtype(t.addr) });
        let at = || at.expect("a memory operation has a place");
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
            Op::Unary { f, d, a } => lanewise::sve_unary(f, z(d.0 as u8), g, z(a.0 as u8)),
            Op::Shift { f, d, a, by } => lanewise::sve_shift(f, z(d.0 as u8), z(a.0 as u8), by),
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
            Op::Load { d, lanes, .. } => {
                self.predicates.load(code, d, lanes, at());
                return Ok(());
            }
            Op::LoadLanes { d, count, .. } => {
                self.predicates.load_lanes(code, d, count, at());
                return Ok(());
            }
            Op::Broadcast { d, .. } => {
                sve_memory::broadcast(code, d, at());
                return Ok(());
            }
            Op::Store { s, lanes, .. } => return self.predicates.store(code, s, lanes, at(), temps),
            Op::LoadRaw { d, elements, .. } => {
                self.predicates.load_raw(code, d, elements, at());
                return Ok(());
            }
            Op::LoadRawQuad { d, elements, .. } => {
                self.predicates.load_raw_quad(code, d, elements, at());
                return Ok(());
            }
            Op::StoreRaw { s, elements, .. } => {
                self.predicates.store_raw(code, s, elements, at());
                return Ok(());
            }
            Op::BroadcastRaw { .. } => unreachable!("it does not exist on A64"),
            Op::Spill { .. } | Op::Reload { .. } => unreachable!("slots are written and read by `spill`"),
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

/// The first temporary register.
fn temp(code: &Code, temps: &[u8]) -> Result<u8, EmitError> {
    temps.first().copied().ok_or_else(|| code.no_temps())
}

/// The arithmetic that is destructive works on the first operand, which is copied unless the result replaces one.
fn binary(code: &mut Code, f: Binary, d: Z, a: Z, b: Z) {
    let g = Predicates::ALL;
    let inst = match lanewise::sve_binary(f, d, a, b) {
        SveBinary::Plain(inst) => inst,
        SveBinary::Destructive(_, reversed) if d == b && d != a => reversed(d, g, a),
        SveBinary::Destructive(inst, _) => {
            if d != a {
                code.asm.push(Inst::MovZ { d, n: a });
            }
            inst(d, g, b)
        }
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

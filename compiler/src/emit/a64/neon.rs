//! The NEON emitter: one micro-kernel to one AAPCS64 function of 128-bit vectors. Vector register `vN` is `vN`.
//!
//! A number of elements that no load takes at once is taken in pieces of falling powers of two, each into its lane of
//! the register, so that nothing beyond the elements is touched.

use kiln_ir::DType;

use super::address::Form;
use super::function::{self, Code, Resolved, VectorEmitter};
use super::inst::Inst;
use super::operand::{Arrangement, B, D, Disp, H, Imm, ModifiedFloat, OneByte, Q, S, UpperLane, V, X, XSp};
use super::roles::SCRATCH;
use super::vectors::v;
use super::{neon_bf16, neon_convert, neon_products};
use crate::emit::lanewise;
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::assign::Need;
use crate::microkernel::{MicroKernel, Op, Permute, Unary};
use crate::target::{Target, VectorIsa};

/// Emits `mk` as a C function of its parameters' pointers.
pub fn emit(mk: &MicroKernel, target: &Target, arguments: Arguments) -> Result<Function, EmitError> {
    function::emit(Neon, mk, target, arguments)
}

/// What the operations of a program need besides their own registers, in order.
pub fn needs(program: &MicroKernel, bf16: bool) -> Vec<Need> {
    function::needs::<Neon>(program, bf16)
}

struct Neon;

/// A place in memory, the type of what is there, and the bytes that are touched.
#[derive(Clone, Copy)]
struct At {
    place: Resolved,
    dtype: DType,
    bytes: usize,
}

impl VectorEmitter for Neon {
    const ISA: VectorIsa = VectorIsa::Neon;
    const POOL_COPIES: usize = 4;

    fn has_lanes(lanes: u32) -> bool {
        lanes == 4
    }

    fn form(code: &Code, op: &Op) -> Option<Form> {
        let bytes = bytes(code, op)?;
        Some(Form::neon(piece(bytes), bytes.is_power_of_two()))
    }

    fn need(mk: &MicroKernel, bf16: bool, op: &Op) -> Need {
        let temps = match *op {
            Op::Store { dst, .. } => mk.dtype(dst).map_or(0, |dtype| neon_convert::temps(dtype, bf16)),
            Op::Narrow { .. } if bf16 => 0,
            Op::Narrow { .. } => 2,
            Op::NarrowPairs { .. } => 2 - u8::from(bf16),
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
            | Op::PairAdd { .. }
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
        immediate(v(0), bits).is_none()
    }

    fn prologue(&mut self, _: &mut Code) {}

    fn op(&mut self, code: &mut Code, op: &Op, place: Option<Resolved>, temps: &[u8]) -> Result<(), EmitError> {
        let at = op.touched().zip(place).map(|(touched, place)| {
            let dtype = code.dtype(touched.addr);
            At { place, dtype, bytes: usize::from(touched.elements) * dtype.bytes() }
        });
        let at = || at.expect("a memory operation has a place");
        let inst = match *op {
            Op::Zero { d } => Inst::MoviZero { d: v(d.0 as u8) },
            Op::Const { d, bits } => match immediate(v(d.0 as u8), bits) {
                Some(inst) => inst,
                None => {
                    let (pool, at) = code.pooled(bits);
                    let (n, by) = if Form::neon(16, true).reaches(at) { (pool, at) } else { (SCRATCH, 0) };
                    if n == SCRATCH {
                        code.asm.add_const(n, pool, at);
                    }
                    load_piece(d.0 as u8, 16, Resolved::Displaced { n, by })
                }
            },
            Op::Fma { d, a, b } => Inst::Fmla4s { d: v(d.0 as u8), n: v(a.0 as u8), m: v(b.0 as u8) },
            Op::Mla { d, a, b } => Inst::Mla4s { d: v(d.0 as u8), n: v(a.0 as u8), m: v(b.0 as u8) },
            Op::FmaLane { d, a, b, lane } => {
                let (d, n, m) = (v(d.0 as u8), v(a.0 as u8), v(b.0 as u8));
                match (Imm::new(lane.into()), UpperLane::new(lane)) {
                    (Some(i), _) => Inst::FmlaLow4s { d, n, m, i },
                    (_, Some(i)) => Inst::FmlaHigh4s { d, n, m, i },
                    _ => unreachable!("lanes are checked"),
                }
            }
            Op::Binary { f, d, a, b } => lanewise::neon_binary(f, v(d.0 as u8), v(a.0 as u8), v(b.0 as u8)),
            Op::Unary { f: Unary::Move, d, a } if d == a => return Ok(()),
            Op::Unary { f, d, a } => lanewise::neon_unary(f, v(d.0 as u8), v(a.0 as u8)),
            Op::Shift { f, d, a, by } => lanewise::neon_shift(f, v(d.0 as u8), v(a.0 as u8), by),
            Op::PairAdd { d, a, b } => Inst::Faddp4s { d: v(d.0 as u8), n: v(a.0 as u8), m: v(b.0 as u8) },
            Op::Permute { f, bits, d, a, b } => {
                let (d, n, m) = (v(d.0 as u8), v(a.0 as u8), v(b.0 as u8));
                let s = Arrangement::new(bits).expect("element sizes are checked");
                match f {
                    Permute::ZipLow => Inst::Zip1V { d, n, m, s },
                    Permute::ZipHigh => Inst::Zip2V { d, n, m, s },
                    Permute::UzpEven => Inst::Uzp1V { d, n, m, s },
                    Permute::UzpOdd => Inst::Uzp2V { d, n, m, s },
                    Permute::TrnEven => Inst::Trn1V { d, n, m, s },
                    Permute::TrnOdd => Inst::Trn2V { d, n, m, s },
                }
            }
            Op::Mmla { f, d, a, b } => return code.push_extension(neon_products::blocks(code, f, [d, a, b])?),
            Op::Dot { f, d, a, b } => return code.push_extension(neon_products::words(code, f, [d, a, b])?),
            Op::DotLane { f, d, a, b, lane } => {
                return code.push_extension(neon_products::by_element(code, f, [d, a, b], lane)?);
            }
            Op::Narrow { d, a, b } => return neon_bf16::narrow(code, [d, a, b].map(|v| v.0 as u8), temps),
            Op::NarrowPairs { d, a, b } => return neon_bf16::narrow_pairs(code, [d, a, b].map(|v| v.0 as u8), temps),
            Op::Load { d, .. } | Op::LoadLanes { d, .. } => {
                let At { place, dtype, bytes } = at();
                load(code, d.0 as u8, bytes, place);
                neon_convert::widen(code, v(d.0 as u8), dtype);
                return Ok(());
            }
            Op::Broadcast { d, .. } => {
                broadcast(code, d.0 as u8, at().dtype, at().place);
                return Ok(());
            }
            Op::Store { s, .. } => {
                let At { place, dtype, bytes } = at();
                let narrowed = neon_convert::narrow(code, s.0 as u8, dtype, temps)?;
                store(code, narrowed, bytes, place);
                return Ok(());
            }
            Op::LoadRaw { d, .. } | Op::LoadRawQuad { d, .. } => {
                load(code, d.0 as u8, at().bytes, at().place);
                return Ok(());
            }
            Op::StoreRaw { s, .. } => {
                store(code, s.0 as u8, at().bytes, at().place);
                return Ok(());
            }
            Op::BroadcastRaw { .. } => unreachable!("it does not exist on A64"),
            Op::Spill { .. } | Op::Reload { .. } => unreachable!("slots are written and read by `spill`"),
        };
        code.asm.push(inst);
        Ok(())
    }

    fn spill(&self, code: &mut Code, v: u8, at: i64, slot: u16, reload: bool) {
        let (t, n) = (Q::new(v).expect("below 32"), XSp::SP);
        let i = Disp::new(at + 16 * i64::from(slot)).expect("frames are small, and multiples of 16");
        code.asm.push(if reload { Inst::LdrQ { t, n, i } } else { Inst::StrQ { t, n, i } });
    }
}

/// The instruction that sets `d` to `bits` in all lanes without memory, if there is one.
fn immediate(d: V, bits: u32) -> Option<Inst> {
    if bits == 0 {
        return Some(Inst::MoviZero { d });
    }
    let movi = OneByte::new(bits).map(|i| Inst::Movi4s { d, i });
    let mvni = || OneByte::new(!bits).map(|i| Inst::Mvni4s { d, i });
    movi.or_else(mvni).or_else(|| ModifiedFloat::new(bits).map(|i| Inst::Fmov4s { d, i }))
}

/// Bytes that `op` touches.
fn bytes(code: &Code, op: &Op) -> Option<usize> {
    let touched = op.touched()?;
    Some(usize::from(touched.elements) * code.dtype(touched.addr).bytes())
}

/// The bytes that the first of the instructions for `bytes`, 1 to 16, takes: a power of two.
fn piece(bytes: usize) -> usize {
    1 << bytes.ilog2()
}

/// LD1R where it needs no addition; the load of the element and DUP elsewhere, which take displacements.
fn broadcast(code: &mut Code, d: u8, dtype: DType, place: Resolved) {
    let t = v(d);
    let Resolved::Displaced { n, by: 0 } = place else {
        code.asm.push(load_piece(d, dtype.bytes(), place));
        // All but the shift of bf16 widens fewer elements than there are lanes.
        if dtype == DType::Bf16 {
            code.asm.push(Inst::Dup4s { d: t, n: t });
            neon_convert::widen_equal(code, t, dtype);
        } else {
            neon_convert::widen(code, t, dtype);
            code.asm.push(Inst::Dup4s { d: t, n: t });
        }
        return;
    };
    code.asm.push(match dtype.bytes() {
        1 => Inst::Ld1r8b { t, n },
        2 => Inst::Ld1rH { t, n },
        _ => Inst::Ld1rS { t, n },
    });
    neon_convert::widen_equal(code, t, dtype);
}

/// The instruction of one of the rows for a lane.
macro_rules! lane_access {
    ($t:expr, $lane:expr, $s:ident, [$($h:ident)*], [$($b:ident)*]) => {{
        let (t, n) = ($t, SCRATCH);
        match $lane {
            (4, _) => Inst::$s { t, n },
            (2, at) => [$(Inst::$h { t, n }),*][at / 4 - 1],
            (_, at) => [$(Inst::$b { t, n }),*][at / 2 - 1],
        }
    }};
}

/// Appends what loads `bytes` bytes to the start of register `t` and zeros behind them.
fn load(code: &mut Code, t: u8, bytes: usize, place: Resolved) {
    code.asm.push(load_piece(t, piece(bytes), place));
    for (lane, n) in further(code, bytes, place) {
        address(code, n);
        let t = v(t);
        code.asm
            .push(lane_access!(t, lane, Ld1S2, [Ld1H2 Ld1H4 Ld1H6], [Ld1B2 Ld1B4 Ld1B6 Ld1B8 Ld1B10 Ld1B12 Ld1B14]));
    }
}

/// Appends what stores the first `bytes` bytes of register `t`.
fn store(code: &mut Code, t: u8, bytes: usize, place: Resolved) {
    code.asm.push(store_piece(t, piece(bytes), place));
    for (lane, n) in further(code, bytes, place) {
        address(code, n);
        let t = v(t);
        code.asm
            .push(lane_access!(t, lane, St1S2, [St1H2 St1H4 St1H6], [St1B2 St1B4 St1B6 St1B8 St1B10 St1B12 St1B14]));
    }
}

/// The bytes of a further piece, and how many come before it.
type Lane = (usize, usize);

/// The pieces of `bytes` bytes, 1 to 16, behind the first, each with the base register and distance of its address.
fn further(code: &Code, bytes: usize, place: Resolved) -> Vec<(Lane, (X, i64))> {
    let mut out = vec![];
    let mut at = piece(bytes);
    // Instructions for a single lane have no displacement, so that the address is advanced in the scratch register.
    let (mut base, mut from) = match place {
        Resolved::Displaced { n, by } => (n, -by),
        Resolved::Indexed { .. } => {
            debug_assert!(bytes == at, "{}: only single instructions are indexed", code.mk.name);
            return out;
        }
    };
    while at < bytes {
        let size = piece(bytes - at);
        out.push(((size, at), (base, at as i64 - from)));
        (base, from) = (SCRATCH, at as i64);
        at += size;
    }
    out
}

fn address(code: &mut Code, (base, distance): (X, i64)) {
    code.asm.add_const(SCRATCH, base, distance);
}

/// The instruction of one of the rows for a register of this many bytes.
macro_rules! access {
    ($t:expr, $place:expr, $register:ident, $scaled:ident, $unscaled:ident, $indexed:ident) => {{
        let t = $register::new($t).expect("below 32");
        match $place {
            Resolved::Indexed { n, m } => Inst::$indexed { t, n, m },
            Resolved::Displaced { n, by } => match Disp::new(by) {
                Some(i) => Inst::$scaled { t, n: n.into(), i },
                None => Inst::$unscaled { t, n, i: Disp::new(by).expect("the place is in reach") },
            },
        }
    }};
}

fn load_piece(t: u8, bytes: usize, place: Resolved) -> Inst {
    match bytes {
        16 => access!(t, place, Q, LdrQ, LdurQ, LdrQIndexed),
        8 => access!(t, place, D, LdrD, LdurD, LdrDIndexed),
        4 => access!(t, place, S, LdrS, LdurS, LdrSIndexed),
        1 => access!(t, place, B, LdrB, LdurB, LdrBIndexed),
        _ => access!(t, place, H, LdrH, LdurH, LdrHIndexed),
    }
}

fn store_piece(t: u8, bytes: usize, place: Resolved) -> Inst {
    match bytes {
        16 => access!(t, place, Q, StrQ, SturQ, StrQIndexed),
        8 => access!(t, place, D, StrD, SturD, StrDIndexed),
        4 => access!(t, place, S, StrS, SturS, StrSIndexed),
        1 => access!(t, place, B, StrB, SturB, StrBIndexed),
        _ => access!(t, place, H, StrH, SturH, StrHIndexed),
    }
}

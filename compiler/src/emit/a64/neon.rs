//! The NEON emitter: one micro-kernel to one AAPCS64 function of 128-bit vectors. Vector register `vN` is `vN`.
//!
//! A number of elements that no load takes at once is taken in pieces of falling powers of two, each into its lane of
//! the register, so that nothing beyond the elements is touched.

use kiln_ir::DType;

use super::address::Form;
use super::function::{self, Code, Resolved, VectorEmitter};
use super::inst::Inst;
use super::neon_bf16;
use super::operand::{Arrangement, D, Disp, H, Imm, ModifiedFloat, OneByte, Q, Right, S, UpperLane, V, X, XSp};
use super::roles::SCRATCH;
use super::vectors::v;
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::assign::Need;
use crate::microkernel::{Binary, MicroKernel, Op, Permute, Shift, Unary};
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
        Need { temps: neon_bf16::temps(mk, bf16, op), is_apart: false }
    }

    fn is_pooled(bits: u32) -> bool {
        immediate(v(0), bits).is_none()
    }

    fn prologue(&mut self, _: &mut Code) {}

    fn op(&mut self, code: &mut Code, op: &Op, place: Option<Resolved>, temps: &[u8]) -> Result<(), EmitError> {
        if let (Some(touched), Some(place)) = (op.touched(), place) {
            return memory(code, op, code.dtype(touched.addr), place, temps);
        }
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
            Op::FmaLane { d, a, b, lane } => {
                let (d, n, m) = (v(d.0 as u8), v(a.0 as u8), v(b.0 as u8));
                match (Imm::new(lane.into()), UpperLane::new(lane)) {
                    (Some(i), _) => Inst::FmlaLow4s { d, n, m, i },
                    (_, Some(i)) => Inst::FmlaHigh4s { d, n, m, i },
                    _ => unreachable!("lanes are checked"),
                }
            }
            Op::Binary { f, d, a, b } => binary(f, v(d.0 as u8), v(a.0 as u8), v(b.0 as u8)),
            Op::Unary { f: Unary::Move, d, a } if d == a => return Ok(()),
            Op::Unary { f, d, a } => {
                let (d, n) = (v(d.0 as u8), v(a.0 as u8));
                match f {
                    Unary::Move => Inst::Mov16b { d, n },
                    Unary::Sqrt => Inst::Fsqrt4s { d, n },
                    Unary::Abs => Inst::Fabs4s { d, n },
                }
            }
            Op::Shift { f, d, a, by } => {
                let (d, n) = (v(d.0 as u8), v(a.0 as u8));
                match f {
                    Shift::Left => Inst::Shl4s { d, n, i: Imm::new(by.into()).expect("shifts are checked") },
                    Shift::RightSigned => Inst::Sshr4s { d, n, i: Right::new(by).expect("shifts are checked") },
                }
            }
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
            Op::Mmla { .. } | Op::Dot2 { .. } | Op::Dot2Lane { .. } => {
                return code.push_bf16(neon_bf16::product(op).expect("one of the products"));
            }
            Op::Narrow { d, a, b } => return neon_bf16::narrow(code, [d, a, b].map(|v| v.0 as u8), temps),
            Op::NarrowPairs { d, a, b } => return neon_bf16::narrow_pairs(code, [d, a, b].map(|v| v.0 as u8), temps),
            Op::Load { .. }
            | Op::LoadLanes { .. }
            | Op::Broadcast { .. }
            | Op::Store { .. }
            | Op::LoadRaw { .. }
            | Op::LoadRawQuad { .. }
            | Op::StoreRaw { .. }
            | Op::Spill { .. }
            | Op::Reload { .. } => unreachable!("a memory operation has a place"),
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

fn binary(f: Binary, d: V, n: V, m: V) -> Inst {
    match f {
        Binary::Add => Inst::Fadd4s { d, n, m },
        Binary::Sub => Inst::Fsub4s { d, n, m },
        Binary::Mul => Inst::Fmul4s { d, n, m },
        Binary::Div => Inst::Fdiv4s { d, n, m },
        Binary::Max => Inst::Fmax4s { d, n, m },
        Binary::Min => Inst::Fmin4s { d, n, m },
        Binary::IAdd => Inst::Add4s { d, n, m },
        Binary::ISub => Inst::Sub4s { d, n, m },
        Binary::And => Inst::And16b { d, n, m },
        Binary::Or if n == m => Inst::Mov16b { d, n },
        Binary::Or => Inst::Orr16b { d, n, m },
        Binary::Xor => Inst::Eor16b { d, n, m },
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

/// The bytes that the first of the instructions for `bytes`, 2 to 16, takes: a power of two.
fn piece(bytes: usize) -> usize {
    1 << bytes.ilog2()
}

fn memory(code: &mut Code, op: &Op, dtype: DType, place: Resolved, temps: &[u8]) -> Result<(), EmitError> {
    let bytes = bytes(code, op).expect("a memory operation");
    match *op {
        Op::LoadRaw { d, .. } | Op::LoadRawQuad { d, .. } => load(code, d.0 as u8, bytes, place),
        Op::StoreRaw { s, .. } => store(code, s.0 as u8, bytes, place),
        Op::Load { d, .. } | Op::LoadLanes { d, .. } => {
            load(code, d.0 as u8, bytes, place);
            match dtype {
                DType::F32 => {}
                DType::Bf16 => code.asm.push(Inst::Shll { d: v(d.0 as u8), n: v(d.0 as u8) }),
                DType::F16 => code.asm.push(Inst::Fcvtl { d: v(d.0 as u8), n: v(d.0 as u8) }),
            }
        }
        Op::Broadcast { d, .. } => broadcast(code, d.0 as u8, dtype, place),
        Op::Store { s, .. } => {
            let narrowed = match dtype {
                DType::F32 => s.0 as u8,
                DType::Bf16 => neon_bf16::narrow_low(code, s.0 as u8, temps)?,
                DType::F16 => {
                    let [d, ..] = *temps else { return Err(code.no_temps()) };
                    code.asm.push(Inst::Fcvtn { d: v(d), n: v(s.0 as u8) });
                    d
                }
            };
            store(code, narrowed, bytes, place);
        }
        _ => unreachable!("not a memory operation"),
    }
    Ok(())
}

/// LD1R where it needs no addition; the load of the element and DUP elsewhere, which take displacements.
fn broadcast(code: &mut Code, d: u8, dtype: DType, place: Resolved) {
    let t = v(d);
    match (place, dtype) {
        (Resolved::Displaced { n, by: 0 }, DType::F32) => code.asm.push(Inst::Ld1rS { t, n }),
        (Resolved::Displaced { n, by: 0 }, DType::Bf16 | DType::F16) => code.asm.push(Inst::Ld1rH { t, n }),
        _ => {
            code.asm.push(load_piece(d, dtype.bytes(), place));
            if dtype == DType::F16 {
                code.asm.push(Inst::Fcvtl { d: t, n: t });
            }
            code.asm.push(Inst::Dup4s { d: t, n: t });
            if dtype == DType::F16 {
                return;
            }
        }
    }
    match dtype {
        DType::F32 => {}
        DType::Bf16 => code.asm.push(Inst::Shl4s { d: t, n: t, i: Imm::new(16).expect("below 32") }),
        DType::F16 => code.asm.push(Inst::Fcvtl { d: t, n: t }),
    }
}

/// Appends what loads `bytes` bytes to the start of register `t` and zeros behind them.
fn load(code: &mut Code, t: u8, bytes: usize, place: Resolved) {
    code.asm.push(load_piece(t, piece(bytes), place));
    for (at, n) in further(code, bytes, place) {
        let t = v(t);
        address(code, n);
        code.asm.push(match at {
            Lane::S2 => Inst::Ld1S2 { t, n: SCRATCH },
            Lane::H2 => Inst::Ld1H2 { t, n: SCRATCH },
            Lane::H4 => Inst::Ld1H4 { t, n: SCRATCH },
            Lane::H6 => Inst::Ld1H6 { t, n: SCRATCH },
        });
    }
}

/// Appends what stores the first `bytes` bytes of register `t`.
fn store(code: &mut Code, t: u8, bytes: usize, place: Resolved) {
    code.asm.push(store_piece(t, piece(bytes), place));
    for (at, n) in further(code, bytes, place) {
        let t = v(t);
        address(code, n);
        code.asm.push(match at {
            Lane::S2 => Inst::St1S2 { t, n: SCRATCH },
            Lane::H2 => Inst::St1H2 { t, n: SCRATCH },
            Lane::H4 => Inst::St1H4 { t, n: SCRATCH },
            Lane::H6 => Inst::St1H6 { t, n: SCRATCH },
        });
    }
}

/// The lanes that a further piece can be.
#[derive(Clone, Copy)]
enum Lane {
    S2,
    H2,
    H4,
    H6,
}

/// The pieces of `bytes` bytes behind the first, each with the base register and distance of its address.
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
        let lane = match (size, at) {
            (4, 8) => Lane::S2,
            (2, 4) => Lane::H2,
            (2, 8) => Lane::H4,
            (2, 12) => Lane::H6,
            _ => unreachable!("at most 16 bytes, an even number"),
        };
        out.push((lane, (base, at as i64 - from)));
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
        _ => access!(t, place, H, LdrH, LdurH, LdrHIndexed),
    }
}

fn store_piece(t: u8, bytes: usize, place: Resolved) -> Inst {
    match bytes {
        16 => access!(t, place, Q, StrQ, SturQ, StrQIndexed),
        8 => access!(t, place, D, StrD, SturD, StrDIndexed),
        4 => access!(t, place, S, StrS, SturS, StrSIndexed),
        _ => access!(t, place, H, StrH, SturH, StrHIndexed),
    }
}

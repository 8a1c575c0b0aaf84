//! AVX2 with FMA: micro-kernels of 8-lane registers to System V functions.
//!
//! Vector register `vN` is `ymmN`. Most operations are one instruction; the choices are in those that are not:
//!
//! * **Partial loads** read nothing but their lanes. 1, 2 and 4 lanes are the moves of that size, 3 are 2 and an insertion.
//!   For 5 to 7 the upper part is loaded into the upper half and then the lower 4 lanes inserted from memory. If the lanes
//!   beyond are needed, which is rare, they are zeroed on the way; if not, they repeat others, which takes broadcasting
//!   loads in place of shuffles. `vmaskmovps` would be one instruction, but on AMD cores it occupies a pipe that
//!   multiply-adds need: it keeps a 6x13 tile at 90 % of their peak, where this reaches 92 to 98 % (Zen 4). Nor is there
//!   a mask to find a register for.
//! * **Partial stores** are cut into moves of 16, 8 and 4 bytes, because a storing `vmaskmovps` is microcode on
//!   AMD cores up to Zen 4 (Agner Fog, instruction tables). The upper half is brought down by
//!   `vextractf128` into the register itself if its value is dead, else by swapping the halves and swapping them back.
//! * **`max` and `min`**: `vmaxps` and `vminps` return their second source if either source is NaN. If one operand is known
//!   to be no NaN (relu, clamps), the other goes there and one instruction is exact. Otherwise the lanes in which either
//!   operand is NaN are set to all ones, which is a NaN. Of +0 and -0 either may result.
//! * **bf16** is widened by loads and narrowed by stores: `bf16`.
//! * **Constants** but 0 and all ones are broadcast from behind the code.
//!
//! What takes more registers than an operation names takes dead ones. Where none is dead, a live one is kept in the red
//! zone below the stack pointer meanwhile.
//!
//! The function ends with `vzeroupper` and uses caller-saved registers, and only in loops over many streams others, which
//! it saves. Loop heads are aligned to 32 bytes, given that the function is placed at a multiple of 64.

mod bf16;
mod memory;

use iced_x86::{Code, IcedError, Instruction, MemoryOperand, Register};
use kiln_ir::DType;

use super::assembler::Assembler;
use super::demand::{Demand, demand_after};
use super::pointers::{Pointers, memory};
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::{Addr, Binary, Inst, MicroKernel, Op, Permute, Shift, Stmt, Unary, V};
use crate::target::VectorIsa;

/// f32 lanes of a register.
pub(super) const LANES: u16 = 8;
/// Vector registers.
const REGISTERS: u8 = 16;
/// Loop heads start at a multiple of this many bytes.
const LOOP_ALIGN: usize = 32;
/// Immediate of `vcmpps`: true if either operand is NaN.
const UNORDERED: u32 = 3;
/// `vblendps`: the odd words from the second operand.
const ODD_WORDS: u32 = 0b1010_1010;
/// Immediate of `vpermpd` and `vpermq`: quadwords 0, 2, 1 and 3, which undoes what working by halves did.
const INTERLEAVE_HALVES: u32 = 0b11_01_10_00;
/// Immediate of `vshufps`: the even elements of both sources.
const EVEN: u32 = 0b10_00_10_00;
/// Immediate of `vshufps`: the odd elements of both sources.
const ODD: u32 = 0b11_01_11_01;
/// Immediate of `vperm2f128`: the low halves of both sources.
const LOW_HALVES: u32 = 0x20;
/// Immediate of `vperm2f128`: the high halves of both sources.
const HIGH_HALVES: u32 = 0x31;
/// All bits but the sign.
const MAGNITUDE: u32 = u32::MAX >> 1;

/// Emits `mk` as a function of up to [`MAX_PARAMS`](super::MAX_PARAMS) pointers, in order, or of a pointer to any number of
/// them, in the System V convention. It returns nothing. The bytes depend on `mk` only; they are position independent and
/// expect an address that is a multiple of 64.
///
/// # Errors
///
/// `mk` is for another instruction set, names a register, parameter or number of lanes that does not exist, has an operation
/// that AVX2 lacks (multiply-adds by element, bf16 that are not converted, permutations of 16 bits), or spreads the operands
/// of a loop further than displacements reach or over more streams than there are registers for pointers.
pub fn emit(mk: &MicroKernel, arguments: Arguments) -> Result<Function, EmitError> {
    check(mk)?;
    let mut emitter = Emitter {
        mk,
        asm: Assembler::new(mk),
        pointers: Pointers::new(mk, arguments)?,
        demand: demand_after(mk).into_iter(),
        ordered: [false; REGISTERS as usize],
    };
    emitter.pointers.enter(&mut emitter.asm)?;
    for stmt in &mk.body {
        match stmt {
            Stmt::Inst(i) => emitter.inst(i)?,
            Stmt::Loop { trips: 1, body, .. } => body.iter().try_for_each(|i| emitter.inst(i))?,
            Stmt::Loop { trips, why, body } => emitter.repeat(*trips, why, body)?,
        }
    }
    emitter.asm.note("return");
    emitter.pointers.leave(&mut emitter.asm)?;
    emitter.put(Ok(Instruction::with(Code::VEX_Vzeroupper)))?;
    emitter.put(Ok(Instruction::with(Code::Retnq)))?;
    Ok(emitter.asm.finish())
}

/// The error of emitting `mk` that `what` describes.
pub(super) fn error(mk: &MicroKernel, what: impl Into<String>) -> EmitError {
    EmitError { name: mk.name.clone(), isa: VectorIsa::Avx2, what: what.into() }
}

/// Refuses what no sequence of instructions could express, so that the rest may index by register and parameter.
fn check(mk: &MicroKernel) -> Result<(), EmitError> {
    let require = |holds: bool, what: &dyn Fn() -> String| if holds { Ok(()) } else { Err(error(mk, what())) };
    require(mk.isa == VectorIsa::Avx2, &|| format!("it is written for {}", mk.isa))?;
    require(mk.lanes == LANES.into(), &|| format!("registers have {LANES} lanes, not {}", mk.lanes))?;
    require(mk.registers <= REGISTERS, &|| format!("there are {REGISTERS} registers, not {}", mk.registers))?;
    for stmt in &mk.body {
        let insts = match stmt {
            Stmt::Inst(i) => std::slice::from_ref(i),
            Stmt::Loop { trips, body, .. } => {
                require(*trips > 0, &|| "a loop of no trips".to_owned())?;
                body
            }
        };
        for Inst { op, .. } in insts {
            for v in op.used().chain(op.defined()) {
                require(v.0 < mk.registers, &|| format!("v{} of {} registers in {op:?}", v.0, mk.registers))?;
            }
            let known = op.touched().is_none_or(|t| usize::from(t.addr.param.0) < mk.params.len());
            require(known, &|| format!("no such parameter: {op:?}"))?;
            if let Op::Load { lanes, .. } | Op::Store { lanes, .. } = op {
                require((1..=LANES).contains(lanes), &|| format!("{lanes} lanes of {LANES} in {op:?}"))?;
            }
            match op {
                Op::LoadLanes { count, .. } => {
                    require((1..=4).contains(count), &|| format!("{count} lanes of 4 in {op:?}"))?;
                }
                Op::Shift { by, .. } => require((1..32).contains(by), &|| format!("{by} bits of 32 in {op:?}"))?,
                Op::Permute { bits, .. } => {
                    require(matches!(bits, 32 | 64), &|| format!("elements of {bits} bits in {op:?}"))?;
                }
                _ => {}
            }
            let by_element = matches!(op, Op::FmaLane { .. });
            require(!by_element, &|| format!("no multiply-add by element, broadcast instead: {op:?}"))?;
            let raw = matches!(
                op,
                Op::LoadRaw { .. }
                    | Op::LoadRawQuad { .. }
                    | Op::StoreRaw { .. }
                    | Op::Mmla { .. }
                    | Op::Dot2 { .. }
                    | Op::Dot2Lane { .. }
                    | Op::Narrow { .. }
                    | Op::NarrowPairs { .. }
            );
            require(!raw, &|| format!("no arithmetic of bf16, convert instead: {op:?}"))?;
        }
    }
    Ok(())
}

/// Whether what `op` writes is no NaN, whatever its operands are.
fn writes_ordered(op: &Op) -> bool {
    match op {
        Op::Zero { .. } => true,
        Op::Const { bits, .. } => !f32::from_bits(*bits).is_nan(),
        _ => false,
    }
}

fn xmm(v: V) -> Register {
    Register::XMM0 + u32::from(v.0)
}

fn ymm(v: V) -> Register {
    Register::YMM0 + u32::from(v.0)
}

struct Emitter<'a> {
    mk: &'a MicroKernel,
    asm: Assembler<'a>,
    pointers: Pointers<'a>,
    /// For each operation still to come, what is needed after it.
    demand: std::vec::IntoIter<Demand>,
    /// Registers whose last write, on every path, [was no NaN](writes_ordered).
    ordered: [bool; REGISTERS as usize],
}

impl Emitter<'_> {
    fn put(&mut self, instruction: Result<Instruction, IcedError>) -> Result<(), EmitError> {
        self.asm.put(instruction)
    }

    /// A loop of several iterations.
    fn repeat(&mut self, trips: u64, why: &str, body: &[Inst]) -> Result<(), EmitError> {
        // What the body writes otherwise may be NaN in the second iteration; after the loop it may be known again.
        for d in body.iter().filter(|i| !writes_ordered(&i.op)).filter_map(|i| i.op.defined()) {
            self.ordered[usize::from(d.0)] = false;
        }
        self.asm.note(why);
        self.pointers.enter_loop(&mut self.asm, trips, body)?;
        self.asm.align(LOOP_ALIGN);
        let head = self.asm.offset();
        body.iter().try_for_each(|i| self.inst(i))?;
        self.asm.note(format!("{why}: next"));
        self.pointers.leave_loop(&mut self.asm, trips, head)
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), EmitError> {
        let demand = self.demand.next().unwrap_or_default();
        self.asm.note(inst.why.clone());
        match inst.op {
            // The 128-bit form zeroes the whole register, and Zen 1 splits the other.
            Op::Zero { d } => self.put(Instruction::with3(Code::VEX_Vxorps_xmm_xmm_xmmm128, xmm(d), xmm(d), xmm(d)))?,
            Op::Const { d, bits } => self.constant(d, bits)?,
            Op::Load { d, src, lanes } => match self.operand(src)? {
                (DType::F32, src) => self.load(d, src, lanes, demand.of(d) > lanes)?,
                (DType::Bf16, src) => self.load_bf16(d, src, lanes)?,
            },
            Op::LoadLanes { d, src, count } => match self.operand(src)? {
                (DType::F32, src) => self.load_lanes(d, src, count)?,
                (DType::Bf16, src) => self.load_lanes_bf16(d, src, count)?,
            },
            Op::Broadcast { d, src } => match self.operand(src)? {
                (DType::F32, src) => self.put(Instruction::with2(Code::VEX_Vbroadcastss_ymm_m32, ymm(d), src))?,
                (DType::Bf16, src) => self.broadcast_bf16(d, src)?,
            },
            Op::Store { s, dst, lanes } => match self.operand(dst)? {
                (DType::F32, dst) => self.store(s, dst, lanes, demand.of(s) == 0)?,
                (DType::Bf16, dst) => self.with_temporaries(&[s], demand, |e, t| e.store_bf16(s, dst, lanes, t))?,
            },
            Op::Fma { d, a, b } => self.lanewise(Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256, d, a, b)?,
            Op::Binary { f, d, a, b } => self.binary(f, d, a, b, demand)?,
            Op::Unary { f: Unary::Move, d, a } if d == a => {}
            Op::Unary { f: Unary::Move, d, a } => {
                self.put(Instruction::with2(Code::VEX_Vmovaps_ymm_ymmm256, ymm(d), ymm(a)))?;
            }
            Op::Unary { f: Unary::Sqrt, d, a } => {
                self.put(Instruction::with2(Code::VEX_Vsqrtps_ymm_ymmm256, ymm(d), ymm(a)))?;
            }
            Op::Unary { f: Unary::Abs, d, a } => {
                self.with_constant(Code::VEX_Vandps_ymm_ymm_ymmm256, d, a, MAGNITUDE)?;
            }
            Op::Shift { f, d, a, by } => {
                let code = match f {
                    Shift::Left => Code::VEX_Vpslld_ymm_ymm_imm8,
                    Shift::RightSigned => Code::VEX_Vpsrad_ymm_ymm_imm8,
                };
                self.put(Instruction::with3(code, ymm(d), ymm(a), u32::from(by)))?;
            }
            Op::PairAdd { d, a, b } => {
                self.lanewise(Code::VEX_Vhaddps_ymm_ymm_ymmm256, d, a, b)?;
                self.interleave_halves(d)?;
            }
            Op::Permute { f, bits, d, a, b } => self.permute(f, bits, d, a, b, demand)?,
            _ => return Err(error(self.mk, format!("no such operation: {:?}", inst.op))),
        }
        if let Some(d) = inst.op.defined() {
            self.ordered[usize::from(d.0)] = writes_ordered(&inst.op);
        }
        Ok(())
    }

    /// The memory at `addr` and what it holds.
    fn operand(&mut self, addr: Addr) -> Result<(DType, MemoryOperand), EmitError> {
        let dtype = self.mk.params[usize::from(addr.param.0)].dtype;
        Ok((dtype, self.pointers.operand(&mut self.asm, addr)?))
    }

    fn lanewise(&mut self, code: Code, d: V, a: V, b: V) -> Result<(), EmitError> {
        self.put(Instruction::with3(code, ymm(d), ymm(a), ymm(b)))
    }

    /// A lanewise operation whose second operand is `bits` in all lanes.
    fn with_constant(&mut self, code: Code, d: V, a: V, bits: u32) -> Result<(), EmitError> {
        self.asm.put_constant(&[bits; LANES as usize], |b| Instruction::with3(code, ymm(d), ymm(a), b))
    }

    /// Calls `emit` with registers that it may overwrite, none of which is in `operands`: dead ones, or live ones that
    /// are put back afterwards.
    fn with_temporaries<const N: usize>(
        &mut self,
        operands: &[V],
        demand: Demand,
        emit: impl FnOnce(&mut Self, [V; N]) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        let live = (0..REGISTERS).map(V).filter(|v| demand.of(*v) > 0 && !operands.contains(v));
        let mut temporaries = demand.free_besides(operands).chain(live);
        // Three operands and two temporaries at most, of 16.
        let temporaries = [(); N].map(|()| temporaries.next().expect("there are more registers"));
        let saved = || temporaries.iter().enumerate().filter(|(_, v)| demand.of(**v) > 0);
        // The red zone has 128 bytes.
        let slot = |i: usize| MemoryOperand::with_base_displ(Register::RSP, -32 * (i as i64 + 1));
        for (i, v) in saved() {
            self.put(Instruction::with2(Code::VEX_Vmovups_ymmm256_ymm, slot(i), ymm(*v)))?;
        }
        emit(self, temporaries)?;
        for (i, v) in saved() {
            self.put(Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, ymm(*v), slot(i)))?;
        }
        Ok(())
    }

    fn constant(&mut self, d: V, bits: u32) -> Result<(), EmitError> {
        match bits {
            0 => self.put(Instruction::with3(Code::VEX_Vxorps_xmm_xmm_xmmm128, xmm(d), xmm(d), xmm(d))),
            u32::MAX => self.lanewise(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, d, d, d),
            _ => self.asm.put_constant(&[bits], |m| Instruction::with2(Code::VEX_Vbroadcastss_ymm_m32, ymm(d), m)),
        }
    }

    fn binary(&mut self, f: Binary, d: V, a: V, b: V, demand: Demand) -> Result<(), EmitError> {
        let code = match f {
            Binary::Add => Code::VEX_Vaddps_ymm_ymm_ymmm256,
            Binary::Sub => Code::VEX_Vsubps_ymm_ymm_ymmm256,
            Binary::Mul => Code::VEX_Vmulps_ymm_ymm_ymmm256,
            Binary::Div => Code::VEX_Vdivps_ymm_ymm_ymmm256,
            Binary::Max => return self.extremum(Code::VEX_Vmaxps_ymm_ymm_ymmm256, d, a, b, demand),
            Binary::Min => return self.extremum(Code::VEX_Vminps_ymm_ymm_ymmm256, d, a, b, demand),
            Binary::IAdd => Code::VEX_Vpaddd_ymm_ymm_ymmm256,
            Binary::ISub => Code::VEX_Vpsubd_ymm_ymm_ymmm256,
            Binary::And => Code::VEX_Vandps_ymm_ymm_ymmm256,
            Binary::Or => Code::VEX_Vorps_ymm_ymm_ymmm256,
            Binary::Xor => Code::VEX_Vxorps_ymm_ymm_ymmm256,
        };
        self.lanewise(code, d, a, b)
    }

    /// `vmaxps` or `vminps` with NaN of either operand.
    fn extremum(&mut self, code: Code, d: V, a: V, b: V, demand: Demand) -> Result<(), EmitError> {
        if self.ordered[usize::from(a.0)] {
            return self.lanewise(code, d, a, b);
        }
        if self.ordered[usize::from(b.0)] {
            return self.lanewise(code, d, b, a);
        }
        self.with_temporaries(&[d, a, b], demand, |e, [nan]| {
            let compare = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
            e.put(Instruction::with4(compare, ymm(nan), ymm(a), ymm(b), UNORDERED))?;
            e.lanewise(code, d, a, b)?;
            e.lanewise(Code::VEX_Vorps_ymm_ymm_ymmm256, d, d, nan)
        })
    }

    /// Swaps the two quadwords in the middle.
    fn interleave_halves(&mut self, d: V) -> Result<(), EmitError> {
        self.put(Instruction::with3(Code::VEX_Vpermpd_ymm_ymmm256_imm8, ymm(d), ymm(d), INTERLEAVE_HALVES))
    }

    /// A permutation by 32 or 64 bits.
    fn permute(&mut self, f: Permute, bits: u8, d: V, a: V, b: V, demand: Demand) -> Result<(), EmitError> {
        let (low, high) = match bits {
            32 => (Code::VEX_Vunpcklps_ymm_ymm_ymmm256, Code::VEX_Vunpckhps_ymm_ymm_ymmm256),
            _ => (Code::VEX_Vunpcklpd_ymm_ymm_ymmm256, Code::VEX_Vunpckhpd_ymm_ymm_ymmm256),
        };
        let halves = match f {
            Permute::ZipLow => LOW_HALVES,
            Permute::ZipHigh => HIGH_HALVES,
            // Unpacking alternates inside quadwords.
            Permute::TrnEven | Permute::TrnOdd if bits == 64 => {
                return self.lanewise(if f == Permute::TrnOdd { high } else { low }, d, a, b);
            }
            Permute::TrnEven | Permute::TrnOdd => {
                // Words are moved inside their pair, then blended.
                return self.with_temporaries(&[d, a, b], demand, |e, [t]| {
                    let blend = Code::VEX_Vblendps_ymm_ymm_ymmm256_imm8;
                    if f == Permute::TrnEven {
                        e.put(Instruction::with2(Code::VEX_Vmovsldup_ymm_ymmm256, ymm(t), ymm(b)))?;
                        return e.put(Instruction::with4(blend, ymm(d), ymm(a), ymm(t), ODD_WORDS));
                    }
                    e.put(Instruction::with2(Code::VEX_Vmovshdup_ymm_ymmm256, ymm(t), ymm(a)))?;
                    e.put(Instruction::with4(blend, ymm(d), ymm(t), ymm(b), ODD_WORDS))
                });
            }
            Permute::UzpEven | Permute::UzpOdd => {
                let odd = f == Permute::UzpOdd;
                if bits == 32 {
                    let (shuffle, which) = (Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8, if odd { ODD } else { EVEN });
                    self.put(Instruction::with4(shuffle, ymm(d), ymm(a), ymm(b), which))?;
                } else {
                    self.lanewise(if odd { high } else { low }, d, a, b)?;
                }
                return self.interleave_halves(d);
            }
        };
        self.with_temporaries(&[d, a, b], demand, |e, [t, u]| {
            e.lanewise(low, t, a, b)?;
            e.lanewise(high, u, a, b)?;
            let merge = Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8;
            e.put(Instruction::with4(merge, ymm(d), ymm(t), ymm(u), halves))
        })
    }
}

/// The operand `bytes` after `operand`.
fn beyond(operand: MemoryOperand, bytes: i64) -> MemoryOperand {
    memory(operand.base, operand.displacement + bytes)
}

#[cfg(test)]
mod tests;

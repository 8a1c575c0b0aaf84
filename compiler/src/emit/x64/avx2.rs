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
//! * **`max`**: `vmaxps` returns its second source if either source is NaN. Against a register known to be zero (relu)
//!   the other operand goes there and one instruction is exact. Otherwise the lanes in which either operand is NaN are
//!   set to all ones, which is a NaN, with a register that is dead at that point. Of +0 and -0 either may result.
//!
//! The function ends with `vzeroupper` and uses caller-saved registers only. Loop heads are aligned to 32 bytes, given
//! that the function is placed at a multiple of 64.

use iced_x86::{Code, IcedError, Instruction, MemoryOperand, Register};

use super::assembler::Assembler;
use super::demand::{Demand, demand_after};
use super::pointers::{MAX_PARAMS, Pointers, load_arguments};
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::{Binary, Inst, MicroKernel, Op, Stmt, V};
use crate::target::VectorIsa;

/// f32 lanes of a register.
const LANES: u16 = 8;
/// Vector registers.
const REGISTERS: u8 = 16;
/// Loop heads start at a multiple of this many bytes.
const LOOP_ALIGN: usize = 32;
/// Immediate of `vcmpps`: true if either operand is NaN.
const UNORDERED: u32 = 3;
/// Immediate of `vperm2f128 d, s, s`: high half, low half.
const SWAP_HALVES: u32 = 1;
/// Immediate of `vpermilps`: lanes 1, 2, 3 and 3 of each half.
const LANES_1_2_3: u32 = 0b11_11_10_01;
/// Immediate of `vinsertps`: replaces lane 2 and zeroes none.
const INTO_LANE_2: u32 = 2 << 4;

/// Emits `mk` as a function of up to six pointers, in order, or of a pointer to them, in the System V convention. It returns nothing. The bytes
/// depend on `mk` only; they are position independent and expect an address that is a multiple of 64.
///
/// # Errors
///
/// `mk` is for another instruction set, has more than 6 parameters, names a register, parameter or number of lanes that
/// does not exist, multiplies by element, spreads the operands of a loop further than displacements reach or over more
/// steps than there are caller-saved registers, or takes the maximum of two values of which neither is known to be zero
/// where none of the 16 registers is free.
pub fn emit(mk: &MicroKernel, arguments: Arguments) -> Result<Function, EmitError> {
    check(mk)?;
    let mut emitter = Emitter {
        mk,
        asm: Assembler::new(mk),
        pointers: Pointers::new(mk),
        demand: demand_after(mk).into_iter(),
        zeroed: [false; REGISTERS as usize],
    };
    if arguments == Arguments::Block {
        load_arguments(&mut emitter.asm, mk)?;
    }
    for stmt in &mk.body {
        match stmt {
            Stmt::Inst(i) => emitter.inst(i)?,
            Stmt::Loop { trips: 1, body, .. } => body.iter().try_for_each(|i| emitter.inst(i))?,
            Stmt::Loop { trips, why, body } => emitter.repeat(*trips, why, body)?,
        }
    }
    emitter.asm.note("return");
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
    require(mk.params.len() <= MAX_PARAMS, &|| format!("more than {MAX_PARAMS} parameters"))?;
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
            let by_element = matches!(op, Op::LoadLanes { .. } | Op::FmaLane { .. });
            require(!by_element, &|| format!("no multiply-add by element, broadcast instead: {op:?}"))?;
        }
    }
    Ok(())
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
    /// Registers whose last write, on every path, was [`Op::Zero`].
    zeroed: [bool; REGISTERS as usize],
}

impl Emitter<'_> {
    fn put(&mut self, instruction: Result<Instruction, IcedError>) -> Result<(), EmitError> {
        self.asm.put(instruction)
    }

    /// A loop of several iterations.
    fn repeat(&mut self, trips: u64, why: &str, body: &[Inst]) -> Result<(), EmitError> {
        // What the body writes otherwise is not zero in the second iteration; after the loop it may be again.
        for d in body.iter().filter(|i| !matches!(i.op, Op::Zero { .. })).filter_map(|i| i.op.defined()) {
            self.zeroed[usize::from(d.0)] = false;
        }
        self.asm.note(why);
        self.pointers.enter_loop(&mut self.asm, trips, body)?;
        self.asm.align(LOOP_ALIGN);
        let head = self.asm.offset();
        body.iter().try_for_each(|i| self.inst(i))?;
        self.asm.note(&format!("{why}: next"));
        self.pointers.leave_loop(&mut self.asm, trips, head)
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), EmitError> {
        let demand = self.demand.next().unwrap_or_default();
        self.asm.note(&inst.why);
        match inst.op {
            // The 128-bit form zeroes the whole register, and Zen 1 splits the other.
            Op::Zero { d } => self.put(Instruction::with3(Code::VEX_Vxorps_xmm_xmm_xmmm128, xmm(d), xmm(d), xmm(d)))?,
            Op::Load { d, src, lanes } => {
                let src = self.pointers.operand(&mut self.asm, src)?;
                self.load(d, src, lanes, demand.of(d) > lanes)?;
            }
            Op::Broadcast { d, src } => {
                let src = self.pointers.operand(&mut self.asm, src)?;
                self.put(Instruction::with2(Code::VEX_Vbroadcastss_ymm_m32, ymm(d), src))?;
            }
            Op::Store { s, dst, lanes } => {
                let dst = self.pointers.operand(&mut self.asm, dst)?;
                self.store(s, dst, lanes, demand.of(s) == 0)?;
            }
            Op::Fma { d, a, b } => self.lanewise(Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256, d, a, b)?,
            Op::Binary { f: Binary::Add, d, a, b } => self.lanewise(Code::VEX_Vaddps_ymm_ymm_ymmm256, d, a, b)?,
            Op::Binary { f: Binary::Max, d, a, b } => self.max(&inst.op, d, a, b, demand)?,
            _ => return Err(error(self.mk, format!("no such operation: {:?}", inst.op))),
        }
        if let Some(d) = inst.op.defined() {
            self.zeroed[usize::from(d.0)] = matches!(inst.op, Op::Zero { .. });
        }
        Ok(())
    }

    fn lanewise(&mut self, code: Code, d: V, a: V, b: V) -> Result<(), EmitError> {
        self.put(Instruction::with3(code, ymm(d), ymm(a), ymm(b)))
    }

    /// Loads `lanes` lanes. The others become 0 if `zero_rest` and hold anything otherwise.
    fn load(&mut self, d: V, src: MemoryOperand, lanes: u16, zero_rest: bool) -> Result<(), EmitError> {
        if lanes == LANES {
            return self.put(Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, ymm(d), src));
        }
        if lanes <= 4 {
            return self.load_low(d, src, lanes);
        }
        let insert = Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8;
        if zero_rest {
            self.load_low(d, beyond(src, 16), lanes - 4)?;
            self.put(Instruction::with4(insert, ymm(d), ymm(d), xmm(d), 1))?;
        } else {
            self.put(match lanes {
                5 => Instruction::with2(Code::VEX_Vbroadcastss_ymm_m32, ymm(d), beyond(src, 16)),
                6 => Instruction::with2(Code::VEX_Vbroadcastsd_ymm_m64, ymm(d), beyond(src, 16)),
                // The last 4 of the 7.
                _ => Instruction::with2(Code::VEX_Vbroadcastf128_ymm_m128, ymm(d), beyond(src, 12)),
            })?;
            if lanes == 7 {
                let permute = Code::VEX_Vpermilps_ymm_ymmm256_imm8;
                self.put(Instruction::with3(permute, ymm(d), ymm(d), LANES_1_2_3))?;
            }
        }
        self.put(Instruction::with4(insert, ymm(d), ymm(d), src, 0))
    }

    /// Loads 1 to 4 lanes and zeroes the others.
    fn load_low(&mut self, d: V, src: MemoryOperand, lanes: u16) -> Result<(), EmitError> {
        let code = match lanes {
            1 => Code::VEX_Vmovss_xmm_m32,
            4 => Code::VEX_Vmovups_xmm_xmmm128,
            _ => Code::VEX_Vmovsd_xmm_m64,
        };
        self.put(Instruction::with2(code, xmm(d), src))?;
        if lanes == 3 {
            let insert = Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8;
            self.put(Instruction::with4(insert, xmm(d), xmm(d), beyond(src, 8), INTO_LANE_2))?;
        }
        Ok(())
    }

    /// Stores the first `lanes` lanes of `s`, which may be overwritten if it is `dead`.
    fn store(&mut self, s: V, dst: MemoryOperand, lanes: u16, dead: bool) -> Result<(), EmitError> {
        if lanes == LANES {
            return self.put(Instruction::with2(Code::VEX_Vmovups_ymmm256_ymm, dst, ymm(s)));
        }
        if lanes < 4 {
            return self.store_low(s, dst, lanes);
        }
        self.put(Instruction::with2(Code::VEX_Vmovups_xmmm128_xmm, dst, xmm(s)))?;
        if lanes == 4 {
            return Ok(());
        }
        if dead {
            self.put(Instruction::with3(Code::VEX_Vextractf128_xmmm128_ymm_imm8, xmm(s), ymm(s), 1))?;
            return self.store_low(s, beyond(dst, 16), lanes - 4);
        }
        let swap =
            || Instruction::with4(Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, ymm(s), ymm(s), ymm(s), SWAP_HALVES);
        self.put(swap())?;
        self.store_low(s, beyond(dst, 16), lanes - 4)?;
        self.put(swap())
    }

    /// Stores the first 1 to 3 lanes of `s`.
    fn store_low(&mut self, s: V, dst: MemoryOperand, lanes: u16) -> Result<(), EmitError> {
        if lanes == 1 {
            return self.put(Instruction::with2(Code::VEX_Vmovss_m32_xmm, dst, xmm(s)));
        }
        self.put(Instruction::with2(Code::VEX_Vmovlps_m64_xmm, dst, xmm(s)))?;
        if lanes == 3 {
            let third = Instruction::with3(Code::VEX_Vextractps_rm32_xmm_imm8, beyond(dst, 8), xmm(s), 2);
            self.put(third)?;
        }
        Ok(())
    }

    fn max(&mut self, op: &Op, d: V, a: V, b: V, demand: Demand) -> Result<(), EmitError> {
        const VMAXPS: Code = Code::VEX_Vmaxps_ymm_ymm_ymmm256;
        if self.zeroed[usize::from(a.0)] {
            return self.lanewise(VMAXPS, d, a, b);
        }
        if self.zeroed[usize::from(b.0)] {
            return self.lanewise(VMAXPS, d, b, a);
        }
        let nan = demand.free_besides(&[d, a, b]);
        let nan = nan.ok_or_else(|| error(self.mk, format!("no free register for NaN in {op:?}")))?;
        let compare = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
        self.put(Instruction::with4(compare, ymm(nan), ymm(a), ymm(b), UNORDERED))?;
        self.lanewise(VMAXPS, d, a, b)?;
        self.lanewise(Code::VEX_Vorps_ymm_ymm_ymmm256, d, d, nan)
    }
}

/// The operand `bytes` after `operand`.
fn beyond(operand: MemoryOperand, bytes: i64) -> MemoryOperand {
    MemoryOperand::with_base_displ(operand.base, operand.displacement + bytes)
}

#[cfg(test)]
mod tests;

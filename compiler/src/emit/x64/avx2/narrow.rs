//! Loads and stores of bf16 and f16, which registers hold widened to f32.
//!
//! F16C converts f16 in both directions.
//!
//! A bf16 is the upper half of an f32, so widening is a zero extension and a shift. Narrowing adds 0x7fff, and 1 more if
//! the last bit that stays is set, which rounds to nearest, ties to even; a NaN instead gets its quiet bit set, for the
//! bits that go may be all that make it one.

use iced_x86::{Code, Instruction, MemoryOperand};
use kiln_ir::DType;

use super::{Avx2, xmm, ymm};
use crate::emit::EmitError;
use crate::emit::x64::emitter::{Arithmetic, Emitter, Isa, Narrow, QUIET, ROUND, UNORDERED, beyond};
use crate::microkernel::V;

/// Immediate of `vcvtps2ph`: rounds to nearest, ties to even, whatever the mode is.
const TO_NEAREST: u32 = 0;
/// Immediate of `vpermq`: quadwords 0 and 2, the words that `vpackusdw` makes of the two halves.
const PACKED: u32 = 0b10_00;

impl Narrow for Emitter<'_, Avx2> {
    fn load_narrow(&mut self, d: V, src: MemoryOperand, lanes: u16, dtype: DType) -> Result<(), EmitError> {
        match dtype {
            DType::F16 => self.load_f16(d, src, lanes),
            DType::F32 | DType::Bf16 => self.load_bf16(d, src, lanes),
        }
    }

    fn load_lanes_narrow(&mut self, d: V, src: MemoryOperand, count: u8, dtype: DType) -> Result<(), EmitError> {
        self.load_narrow(d, src, count.into(), dtype)?;
        self.repeat_low(d)
    }

    fn broadcast_narrow(&mut self, d: V, src: MemoryOperand, dtype: DType) -> Result<(), EmitError> {
        self.put(Instruction::with2(Avx2::CODES.broadcast_words, ymm(d), src))?;
        match dtype {
            DType::F16 => self.put(Instruction::with2(Code::VEX_Vcvtph2ps_ymm_xmmm128, ymm(d), xmm(d))),
            DType::F32 | DType::Bf16 => self.shift(Avx2::CODES.shift_left, d, d, 16),
        }
    }

    fn store_narrow(
        &mut self,
        s: V,
        dst: MemoryOperand,
        lanes: u16,
        dtype: DType,
        temps: &[V],
    ) -> Result<(), EmitError> {
        match dtype {
            DType::F16 => self.store_f16(s, dst, lanes, temps),
            DType::F32 | DType::Bf16 => self.store_bf16(s, dst, lanes, temps),
        }
    }
}

impl Emitter<'_, Avx2> {
    fn load_f16(&mut self, d: V, src: MemoryOperand, lanes: u16) -> Result<(), EmitError> {
        match lanes {
            4 => return self.put(Instruction::with2(Code::VEX_Vcvtph2ps_xmm_xmmm64, xmm(d), src)),
            8 => return self.put(Instruction::with2(Code::VEX_Vcvtph2ps_ymm_xmmm128, ymm(d), src)),
            1 => {
                self.put(Instruction::with3(Code::VEX_Vpxor_xmm_xmm_xmmm128, xmm(d), xmm(d), xmm(d)))?;
                self.put(Instruction::with4(Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, xmm(d), xmm(d), src, 0))?;
            }
            _ => self.load_words(d, src, lanes)?,
        }
        self.put(match lanes {
            ..4 => Instruction::with2(Code::VEX_Vcvtph2ps_xmm_xmmm64, xmm(d), xmm(d)),
            _ => Instruction::with2(Code::VEX_Vcvtph2ps_ymm_xmmm128, ymm(d), xmm(d)),
        })
    }

    fn store_f16(&mut self, s: V, dst: MemoryOperand, lanes: u16, temps: &[V]) -> Result<(), EmitError> {
        let [t] = self.temps(temps)?;
        self.put(Instruction::with3(Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8, xmm(t), ymm(s), TO_NEAREST))?;
        self.store_words(t, dst, lanes)
    }

    fn load_bf16(&mut self, d: V, src: MemoryOperand, lanes: u16) -> Result<(), EmitError> {
        if lanes == 1 {
            // As the odd one of two words: widened already.
            self.put(Instruction::with3(Code::VEX_Vpxor_xmm_xmm_xmmm128, xmm(d), xmm(d), xmm(d)))?;
            return self.put(Instruction::with4(Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, xmm(d), xmm(d), src, 1));
        }
        match lanes {
            4 => self.put(Instruction::with2(Code::VEX_Vpmovzxwd_xmm_xmmm64, xmm(d), src))?,
            8 => self.put(Instruction::with2(Code::VEX_Vpmovzxwd_ymm_xmmm128, ymm(d), src))?,
            _ => {
                self.load_words(d, src, lanes)?;
                self.put(match lanes {
                    ..4 => Instruction::with2(Code::VEX_Vpmovzxwd_xmm_xmmm64, xmm(d), xmm(d)),
                    _ => Instruction::with2(Code::VEX_Vpmovzxwd_ymm_xmmm128, ymm(d), xmm(d)),
                })?;
            }
        }
        self.put(match lanes {
            ..=4 => Instruction::with3(Code::VEX_Vpslld_xmm_xmm_imm8, xmm(d), xmm(d), 16),
            _ => Instruction::with3(Code::VEX_Vpslld_ymm_ymm_imm8, ymm(d), ymm(d), 16),
        })
    }

    fn store_bf16(&mut self, s: V, dst: MemoryOperand, lanes: u16, temps: &[V]) -> Result<(), EmitError> {
        let [t, u] = self.temps(temps)?;
        let unordered = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
        self.put(Instruction::with4(unordered, ymm(u), ymm(s), ymm(s), UNORDERED))?;
        self.put(Instruction::with3(Code::VEX_Vpslld_ymm_ymm_imm8, ymm(t), ymm(s), 15))?;
        self.put(Instruction::with3(Code::VEX_Vpsrld_ymm_ymm_imm8, ymm(t), ymm(t), 31))?;
        self.with_constant(Code::VEX_Vpaddd_ymm_ymm_ymmm256, t, t, ROUND)?;
        self.lanewise(Code::VEX_Vpandn_ymm_ymm_ymmm256, t, u, t)?;
        self.with_constant(Code::VEX_Vpand_ymm_ymm_ymmm256, u, u, QUIET)?;
        self.lanewise(Code::VEX_Vpaddd_ymm_ymm_ymmm256, t, t, s)?;
        self.lanewise(Code::VEX_Vpor_ymm_ymm_ymmm256, t, t, u)?;
        self.put(Instruction::with3(Code::VEX_Vpsrld_ymm_ymm_imm8, ymm(t), ymm(t), 16))?;
        self.lanewise(Code::VEX_Vpackusdw_ymm_ymm_ymmm256, t, t, t)?;
        if lanes > 4 {
            self.put(Instruction::with3(Code::VEX_Vpermq_ymm_ymmm256_imm8, ymm(t), ymm(t), PACKED))?;
        }
        self.store_words(t, dst, lanes)
    }
}

impl Emitter<'_, Avx2> {
    /// Loads 2 to 7 words as they are, zeros behind them.
    fn load_words(&mut self, d: V, src: MemoryOperand, words: u16) -> Result<(), EmitError> {
        let mut at = if words < 4 { 2 } else { 4 };
        let code = if words < 4 { Code::VEX_Vmovd_xmm_rm32 } else { Code::VEX_Vmovq_xmm_xmmm64 };
        self.put(Instruction::with2(code, xmm(d), src))?;
        if words - at >= 2 {
            let (insert, from) = (Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8, beyond(src, 2 * i64::from(at)));
            self.put(Instruction::with4(insert, xmm(d), xmm(d), from, u32::from(at / 2)))?;
            at += 2;
        }
        if words > at {
            let (insert, from) = (Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, beyond(src, 2 * i64::from(at)));
            self.put(Instruction::with4(insert, xmm(d), xmm(d), from, u32::from(at)))?;
        }
        Ok(())
    }

    /// Stores the first 1 to 8 words of `s`.
    fn store_words(&mut self, s: V, dst: MemoryOperand, words: u16) -> Result<(), EmitError> {
        let mut at = match words {
            8 => return self.put(Instruction::with2(Code::VEX_Vmovdqu_xmmm128_xmm, dst, xmm(s))),
            4.. => {
                self.put(Instruction::with2(Code::VEX_Vmovq_xmmm64_xmm, dst, xmm(s)))?;
                4
            }
            2.. => {
                self.put(Instruction::with2(Code::VEX_Vmovd_rm32_xmm, dst, xmm(s)))?;
                2
            }
            _ => 0,
        };
        if words - at >= 2 {
            let (extract, to) = (Code::VEX_Vpextrd_rm32_xmm_imm8, beyond(dst, 2 * i64::from(at)));
            self.put(Instruction::with3(extract, to, xmm(s), u32::from(at / 2)))?;
            at += 2;
        }
        if words > at {
            let (extract, to) = (Code::VEX_Vpextrw_r32m16_xmm_imm8, beyond(dst, 2 * i64::from(at)));
            self.put(Instruction::with3(extract, to, xmm(s), u32::from(at)))?;
        }
        Ok(())
    }
}

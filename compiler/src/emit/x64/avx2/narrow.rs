//! Loads and stores of elements of one and two bytes, which registers hold widened: bf16 and f16 to f32, s8 and u8 to s32.
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
use crate::microkernel::{Shift, V};

/// Immediate of `vcvtps2ph`: rounds to nearest, ties to even, whatever the mode is.
const TO_NEAREST: u32 = 0;
/// Immediate of `vpermq`: quadwords 0 and 2, the words that `vpackusdw` makes of the two halves.
const PACKED: u32 = 0b10_00;

/// The instructions that widen the low 4 and the low 8 elements of a register, or those in memory. Those of bf16 leave the
/// bits in the lower halves of the lanes.
fn widen(dtype: DType) -> [Code; 2] {
    match dtype {
        DType::F16 => [Code::VEX_Vcvtph2ps_xmm_xmmm64, Code::VEX_Vcvtph2ps_ymm_xmmm128],
        DType::Bf16 => [Code::VEX_Vpmovzxwd_xmm_xmmm64, Code::VEX_Vpmovzxwd_ymm_xmmm128],
        DType::S8 => [Code::VEX_Vpmovsxbd_xmm_xmmm32, Code::VEX_Vpmovsxbd_ymm_xmmm64],
        DType::U8 => [Code::VEX_Vpmovzxbd_xmm_xmmm32, Code::VEX_Vpmovzxbd_ymm_xmmm64],
        DType::S16 => [Code::VEX_Vpmovsxwd_xmm_xmmm64, Code::VEX_Vpmovsxwd_ymm_xmmm128],
        DType::F32 | DType::S32 => unreachable!("four bytes"),
    }
}

/// The registers that a store to memory of this type overwrites.
pub(super) fn store_temps(dtype: DType) -> u8 {
    match dtype {
        DType::F32 | DType::S32 | DType::S8 | DType::U8 | DType::S16 => 0,
        DType::F16 => 1,
        DType::Bf16 => 2,
    }
}

impl Narrow for Emitter<'_, Avx2> {
    fn load_narrow(&mut self, d: V, src: MemoryOperand, lanes: u16, dtype: DType) -> Result<(), EmitError> {
        let [half, whole] = widen(dtype);
        match lanes {
            1 if dtype == DType::Bf16 => {
                // As the odd one of two words: widened already.
                self.put(Instruction::with3(Code::VEX_Vpxor_xmm_xmm_xmmm128, xmm(d), xmm(d), xmm(d)))?;
                return self.put(Instruction::with4(Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, xmm(d), xmm(d), src, 1));
            }
            4 => self.put(Instruction::with2(half, xmm(d), src))?,
            8 => self.put(Instruction::with2(whole, ymm(d), src))?,
            _ => {
                self.load_bytes(d, src, lanes as usize * dtype.bytes())?;
                self.put(match lanes {
                    ..4 => Instruction::with2(half, xmm(d), xmm(d)),
                    _ => Instruction::with2(whole, ymm(d), xmm(d)),
                })?;
            }
        }
        if dtype != DType::Bf16 {
            return Ok(());
        }
        self.put(match lanes {
            ..=4 => Instruction::with3(Code::VEX_Vpslld_xmm_xmm_imm8, xmm(d), xmm(d), 16),
            _ => Instruction::with3(Code::VEX_Vpslld_ymm_ymm_imm8, ymm(d), ymm(d), 16),
        })
    }

    fn load_lanes_narrow(&mut self, d: V, src: MemoryOperand, count: u8, dtype: DType) -> Result<(), EmitError> {
        self.load_narrow(d, src, count.into(), dtype)?;
        self.repeat_low(d)
    }

    fn broadcast_narrow(&mut self, d: V, src: MemoryOperand, dtype: DType) -> Result<(), EmitError> {
        match dtype {
            DType::Bf16 => {
                self.put(Instruction::with2(Avx2::CODES.broadcast_words, ymm(d), src))?;
                return self.shift(Avx2::shift(Shift::Left), d, d, 16);
            }
            DType::S8 | DType::U8 => {
                self.put(Instruction::with2(Code::VEX_Vpbroadcastb_ymm_xmmm8, ymm(d), src))?;
            }
            DType::F16 | DType::S16 => self.put(Instruction::with2(Avx2::CODES.broadcast_words, ymm(d), src))?,
            DType::F32 | DType::S32 => unreachable!("four bytes"),
        }
        self.put(Instruction::with2(widen(dtype)[1], ymm(d), xmm(d)))
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
            DType::Bf16 => self.store_bf16(s, dst, lanes, temps),
            DType::F32 | DType::S32 | DType::S8 | DType::U8 | DType::S16 => {
                Err(self.error(format!("a store that narrows to {dtype}")))
            }
        }
    }
}

impl Emitter<'_, Avx2> {
    fn store_f16(&mut self, s: V, dst: MemoryOperand, lanes: u16, temps: &[V]) -> Result<(), EmitError> {
        let [t] = self.temps(temps)?;
        self.put(Instruction::with3(Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8, xmm(t), ymm(s), TO_NEAREST))?;
        self.store_words(t, dst, lanes)
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
    /// Loads 1 to 15 bytes as they are, zeros behind them.
    fn load_bytes(&mut self, d: V, src: MemoryOperand, bytes: usize) -> Result<(), EmitError> {
        let mut at = 0;
        for (piece, insert) in [
            (8, Code::INVALID),
            (4, Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8),
            (2, Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8),
            (1, Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8),
        ] {
            if bytes & piece == 0 {
                continue;
            }
            match (at, piece) {
                (0, 8) => self.put(Instruction::with2(Code::VEX_Vmovq_xmm_xmmm64, xmm(d), src))?,
                (0, 4) => self.put(Instruction::with2(Code::VEX_Vmovd_xmm_rm32, xmm(d), src))?,
                _ => {
                    if at == 0 {
                        self.put(Instruction::with3(Code::VEX_Vpxor_xmm_xmm_xmmm128, xmm(d), xmm(d), xmm(d)))?;
                    }
                    let index = (at / piece) as u32;
                    self.put(Instruction::with4(insert, xmm(d), xmm(d), beyond(src, at as i64), index))?;
                }
            }
            at += piece;
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

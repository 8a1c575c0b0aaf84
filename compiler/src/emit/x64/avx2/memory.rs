//! Loads and stores of f32.

use iced_x86::{Code, Instruction, MemoryOperand};

use super::{Avx2, xmm, ymm};
use crate::emit::EmitError;
use crate::emit::x64::emitter::{Emitter, Memory, beyond};
use crate::microkernel::V;

/// Immediate of `vperm2f128 d, s, s`: high half, low half.
const SWAP_HALVES: u32 = 1;
/// Immediate of `vpermilps`: lanes 1, 2, 3 and 3 of each half.
const LANES_1_2_3: u32 = 0b11_11_10_01;
/// Immediate of `vinsertps`: replaces lane 2 and zeroes none.
const INTO_LANE_2: u32 = 2 << 4;

impl Memory for Emitter<'_, Avx2> {
    fn load(&mut self, d: V, src: MemoryOperand, lanes: u16, zero_rest: bool) -> Result<(), EmitError> {
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

    fn load_lanes(&mut self, d: V, src: MemoryOperand, count: u8) -> Result<(), EmitError> {
        if count == 4 {
            return self.put(Instruction::with2(Code::VEX_Vbroadcastf128_ymm_m128, ymm(d), src));
        }
        self.load_low(d, src, count.into())?;
        self.repeat_low(d)
    }

    fn store(&mut self, s: V, dst: MemoryOperand, lanes: u16, dead: bool) -> Result<(), EmitError> {
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
}

impl Emitter<'_, Avx2> {
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

    /// Copies the lower half of `d` to its upper half.
    pub(super) fn repeat_low(&mut self, d: V) -> Result<(), EmitError> {
        let insert = Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8;
        self.put(Instruction::with4(insert, ymm(d), ymm(d), xmm(d), 1))
    }
}

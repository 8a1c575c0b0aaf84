//! AVX2 with FMA: registers of 8 lanes.
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

mod memory;
mod narrow;

use iced_x86::{Code, Instruction, Register};
use kiln_ir::DType;

use super::emitter::{Arithmetic, Codes, Emitter, Isa, UNORDERED};
use crate::emit::EmitError;
use crate::microkernel::assign::Need;
use crate::microkernel::{MicroKernel, Permute, V};

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

/// The instruction set. Nothing is prepared for a micro-kernel.
pub(super) struct Avx2;

impl Isa for Avx2 {
    const LANES: u16 = 8;
    const REGISTERS: u8 = 16;
    const COLUMN: usize = 0;
    const CODES: Codes = Codes {
        load: Code::VEX_Vmovups_ymm_ymmm256,
        store: Code::VEX_Vmovups_ymmm256_ymm,
        broadcast: Code::VEX_Vbroadcastss_ymm_m32,
        fma: Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256,
        integer_multiply: Code::VEX_Vpmulld_ymm_ymm_ymmm256,
        broadcast_words: Code::VEX_Vpbroadcastw_ymm_xmmm16,
        multiply_pairs: Code::VEX_Vpmaddwd_ymm_ymm_ymmm256,
        dot: None,
        shifts: [
            [Code::VEX_Vpsllw_ymm_ymm_imm8, Code::VEX_Vpsrlw_ymm_ymm_imm8],
            [Code::VEX_Vpslld_ymm_ymm_imm8, Code::VEX_Vpsrld_ymm_ymm_imm8],
        ],
    };
    // As AVX-512's, which reads twice as much in the same time.
    const AHEAD: i64 = 8 << 10;

    const EXTREMUM_TEMPS: u8 = 1;
    const PAIR_ADD_TEMPS: u8 = 0;

    fn new(_mk: &MicroKernel) -> Self {
        Avx2
    }

    fn store_temps(dtype: DType) -> u8 {
        narrow::store_temps(dtype)
    }

    fn permute_need(f: Permute, bits: u8) -> Need {
        let temps = match f {
            Permute::ZipLow | Permute::ZipHigh => 2,
            Permute::TrnEven | Permute::TrnOdd => u8::from(bits == 32),
            Permute::UzpEven | Permute::UzpOdd => 0,
        };
        Need { temps, is_apart: false }
    }

    fn register(v: V) -> Register {
        ymm(v)
    }
}

fn xmm(v: V) -> Register {
    Register::XMM0 + v.0
}

fn ymm(v: V) -> Register {
    Register::YMM0 + v.0
}

impl Emitter<'_, Avx2> {
    /// Swaps the two quadwords in the middle.
    fn interleave_halves(&mut self, d: V) -> Result<(), EmitError> {
        self.put(Instruction::with3(Code::VEX_Vpermpd_ymm_ymmm256_imm8, ymm(d), ymm(d), INTERLEAVE_HALVES))
    }
}

impl Arithmetic for Emitter<'_, Avx2> {
    fn prepare(&mut self) -> Result<(), EmitError> {
        Ok(())
    }

    fn zero(&mut self, d: V) -> Result<(), EmitError> {
        // The 128-bit form zeroes the whole register, and Zen 1 splits the other.
        self.put(Instruction::with3(Code::VEX_Vxorps_xmm_xmm_xmmm128, xmm(d), xmm(d), xmm(d)))
    }

    fn ones(&mut self, d: V) -> Result<(), EmitError> {
        self.lanewise(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, d, d, d)
    }

    fn with_constant(&mut self, code: Code, d: V, a: V, bits: u32) -> Result<(), EmitError> {
        self.put_constant(&[bits; Avx2::LANES as usize], |b| Instruction::with3(code, ymm(d), ymm(a), b))
    }

    fn extremum(&mut self, code: Code, d: V, a: V, b: V, temps: &[V]) -> Result<(), EmitError> {
        let [nan] = self.temps(temps)?;
        let compare = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
        self.put(Instruction::with4(compare, ymm(nan), ymm(a), ymm(b), UNORDERED))?;
        self.lanewise(code, d, a, b)?;
        self.lanewise(Code::VEX_Vorps_ymm_ymm_ymmm256, d, d, nan)
    }

    fn pair_add(&mut self, d: V, a: V, b: V, _temps: &[V]) -> Result<(), EmitError> {
        self.lanewise(Code::VEX_Vhaddps_ymm_ymm_ymmm256, d, a, b)?;
        self.interleave_halves(d)
    }

    fn permute(&mut self, f: Permute, bits: u8, d: V, a: V, b: V, temps: &[V]) -> Result<(), EmitError> {
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
                let [t] = self.temps(temps)?;
                let blend = Code::VEX_Vblendps_ymm_ymm_ymmm256_imm8;
                if f == Permute::TrnEven {
                    self.put(Instruction::with2(Code::VEX_Vmovsldup_ymm_ymmm256, ymm(t), ymm(b)))?;
                    return self.put(Instruction::with4(blend, ymm(d), ymm(a), ymm(t), ODD_WORDS));
                }
                self.put(Instruction::with2(Code::VEX_Vmovshdup_ymm_ymmm256, ymm(t), ymm(a)))?;
                return self.put(Instruction::with4(blend, ymm(d), ymm(t), ymm(b), ODD_WORDS));
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
        let [t, u] = self.temps(temps)?;
        self.lanewise(low, t, a, b)?;
        self.lanewise(high, u, a, b)?;
        let merge = Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8;
        self.put(Instruction::with4(merge, ymm(d), ymm(t), ymm(u), halves))
    }
}

#[cfg(test)]
mod tests;

//! Loads and stores.
//!
//! A bf16 is the upper half of an f32, so widening is a zero extension and a shift. Narrowing adds 0x7fff, and 1 more if
//! the last bit that stays is set, which rounds to nearest, ties to even; a NaN instead gets its quiet bit set, for the
//! bits that go may be all that make it one.

use iced_x86::{Code, Instruction, MemoryOperand};
use kiln_ir::DType;

use super::mask::{SCRATCH, is_masked, merging, zeroing};
use super::{Avx512, xmm, ymm, zmm};
use crate::emit::EmitError;
use crate::emit::x64::emitter::{Arithmetic, Emitter, Isa, Memory, Narrow, QUIET, ROUND};
use crate::microkernel::{Binary, Shift, V};

/// Immediate of `vcvtps2ph`: rounds to nearest, ties to even, whatever the mode is.
const TO_NEAREST: u32 = 0;
/// Immediate of `vshuff32x4`: the first 128 bits four times.
const FIRST_QUAD: u32 = 0;

impl Memory for Emitter<'_, Avx512> {
    fn load(&mut self, d: V, src: MemoryOperand, lanes: u16, _zero_rest: bool) -> Result<(), EmitError> {
        match lanes {
            4 => self.put(Instruction::with2(Code::EVEX_Vmovups_xmm_k1z_xmmm128, xmm(d), src)),
            8 => self.put(Instruction::with2(Code::EVEX_Vmovups_ymm_k1z_ymmm256, ymm(d), src)),
            _ => {
                let mask = self.mask(lanes)?;
                self.put(zeroing(Instruction::with2(Avx512::CODES.load, zmm(d), src), mask))
            }
        }
    }

    fn load_lanes(&mut self, d: V, src: MemoryOperand, count: u8) -> Result<(), EmitError> {
        if count == 4 {
            return self.put(Instruction::with2(Code::EVEX_Vbroadcastf32x4_zmm_k1z_m128, zmm(d), src));
        }
        self.load(d, src, count.into(), true)?;
        self.repeat_first(d)
    }

    fn store(&mut self, s: V, dst: MemoryOperand, lanes: u16, _dead: bool) -> Result<(), EmitError> {
        match lanes {
            4 => self.put(Instruction::with2(Code::EVEX_Vmovups_xmmm128_k1z_xmm, dst, xmm(s))),
            8 => self.put(Instruction::with2(Code::EVEX_Vmovups_ymmm256_k1z_ymm, dst, ymm(s))),
            _ => {
                let mask = self.mask(lanes)?;
                self.put(merging(Instruction::with2(Avx512::CODES.store, dst, zmm(s)), mask))
            }
        }
    }
}

/// The instruction that widens the elements in the low part of a register, or those in memory. Those of bf16 it leaves in the
/// lower halves of the lanes.
fn widen(dtype: DType) -> Code {
    match dtype {
        DType::F16 => Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae,
        DType::Bf16 => Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256,
        DType::S8 => Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128,
        DType::U8 => Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128,
        DType::S16 => Code::EVEX_Vpmovsxwd_zmm_k1z_ymmm256,
        DType::F32 | DType::S32 => unreachable!("four bytes"),
    }
}

/// The registers that a store to memory of this type overwrites.
pub(super) fn store_temps(dtype: DType) -> u8 {
    match dtype {
        DType::F32 | DType::F16 | DType::S32 | DType::S8 | DType::U8 | DType::S16 => 0,
        DType::Bf16 => 1,
    }
}

impl Narrow for Emitter<'_, Avx512> {
    fn load_narrow(&mut self, d: V, src: MemoryOperand, lanes: u16, dtype: DType) -> Result<(), EmitError> {
        let load = Instruction::with2(widen(dtype), zmm(d), src);
        if is_masked(dtype, lanes) {
            let mask = self.mask(lanes)?;
            self.put(zeroing(load, mask))?;
        } else {
            self.put(load)?;
        }
        if dtype == DType::Bf16 { self.shift(Avx512::shift(Shift::Left), d, d, 16) } else { Ok(()) }
    }

    fn load_lanes_narrow(&mut self, d: V, src: MemoryOperand, count: u8, dtype: DType) -> Result<(), EmitError> {
        self.load_narrow(d, src, count.into(), dtype)?;
        self.repeat_first(d)
    }

    fn broadcast_narrow(&mut self, d: V, src: MemoryOperand, dtype: DType) -> Result<(), EmitError> {
        let (broadcast, low) = match dtype {
            DType::S8 | DType::U8 => (Code::EVEX_Vpbroadcastb_zmm_k1z_xmmm8, xmm(d)),
            DType::Bf16 | DType::F16 | DType::S16 => (Avx512::CODES.broadcast_words, ymm(d)),
            DType::F32 | DType::S32 => unreachable!("four bytes"),
        };
        self.put(Instruction::with2(broadcast, zmm(d), src))?;
        if dtype == DType::Bf16 {
            return self.shift(Avx512::shift(Shift::Left), d, d, 16);
        }
        self.put(Instruction::with2(widen(dtype), zmm(d), low))
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
            DType::F16 => {}
            DType::Bf16 => return self.store_bf16(s, dst, lanes, temps),
            DType::F32 | DType::S32 | DType::S8 | DType::U8 | DType::S16 => {
                return Err(self.error(format!("a store that narrows to {dtype}")));
            }
        }
        let store = Instruction::with3(Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae, dst, zmm(s), TO_NEAREST);
        if !is_masked(dtype, lanes) {
            return self.put(store);
        }
        let mask = self.mask(lanes)?;
        self.put(merging(store, mask))
    }
}

impl Emitter<'_, Avx512> {
    fn store_bf16(&mut self, s: V, dst: MemoryOperand, lanes: u16, temps: &[V]) -> Result<(), EmitError> {
        let shift_right = Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8;
        let [t] = self.temps(temps)?;
        self.shift(Avx512::shift(Shift::Left), t, s, 15)?;
        self.shift(shift_right, t, t, 31)?;
        self.with_constant(Avx512::binary(Binary::IAdd), t, t, ROUND)?;
        self.lanewise(Avx512::binary(Binary::IAdd), t, t, s)?;
        self.compare_unordered(s, s)?;
        self.put_constant(&[QUIET], |mut quiet| {
            quiet.is_broadcast = true;
            merging(Instruction::with3(Avx512::binary(Binary::Or), zmm(t), zmm(s), quiet), SCRATCH)
        })?;
        self.shift(shift_right, t, t, 16)?;
        let store = Instruction::with2(Code::EVEX_Vpmovdw_ymmm256_k1z_zmm, dst, zmm(t));
        if !is_masked(DType::Bf16, lanes) {
            return self.put(store);
        }
        let mask = self.mask(lanes)?;
        self.put(merging(store, mask))
    }
}

impl Emitter<'_, Avx512> {
    /// Copies the first 128 bits of `d` to the others.
    fn repeat_first(&mut self, d: V) -> Result<(), EmitError> {
        let shuffle = Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
        self.put(Instruction::with4(shuffle, zmm(d), zmm(d), zmm(d), FIRST_QUAD))
    }
}

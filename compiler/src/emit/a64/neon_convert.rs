//! NEON's conversions between element types in memory and the words of registers. A new element type is an arm of each function.

use kiln_ir::DType;

use super::function::Code;
use super::inst::Inst;
use super::neon_bf16;
use super::operand::{Imm, V};
use super::vectors::v;
use crate::emit::EmitError;

/// Appends what makes words of the first elements of `d`.
pub fn widen(code: &mut Code, d: V, dtype: DType) {
    let n = d;
    let insts: &[Inst] = match dtype {
        DType::F32 | DType::S32 => &[],
        DType::Bf16 => &[Inst::Shll { d, n }],
        DType::F16 => &[Inst::Fcvtl { d, n }],
        DType::S16 => &[Inst::Sxtl4s { d, n }],
        DType::S8 => &[Inst::Sxtl8h { d, n }, Inst::Sxtl4s { d, n }],
        DType::U8 => &[Inst::Uxtl8h { d, n }, Inst::Uxtl4s { d, n }],
    };
    insts.iter().for_each(|inst| code.asm.push(*inst));
}

/// Appends what makes equal words of equal elements in all of `d`, if [`widen`] does not: a shift, which needs no other register.
pub fn widen_equal(code: &mut Code, d: V, dtype: DType) {
    match dtype {
        DType::Bf16 => code.asm.push(Inst::Shl4s { d, n: d, i: Imm::new(16).expect("below 32") }),
        dtype => widen(code, d, dtype),
    }
}

/// The register with the elements that the words of `s` become, which is one of `temps` if they are converted.
pub fn narrow(code: &mut Code, s: u8, dtype: DType, temps: &[u8]) -> Result<u8, EmitError> {
    match dtype {
        DType::F32 | DType::S32 => Ok(s),
        DType::Bf16 => neon_bf16::narrow_low(code, s, temps),
        DType::F16 => {
            let [d, ..] = *temps else { return Err(code.no_temps()) };
            code.asm.push(Inst::Fcvtn { d: v(d), n: v(s) });
            Ok(d)
        }
        DType::S8 | DType::U8 | DType::S16 => Err(code.error(format!("a store that narrows to {dtype}"))),
    }
}

/// Registers that [`narrow`] needs, with or without instructions for bf16.
pub fn temps(dtype: DType, has_bf16: bool) -> u8 {
    match dtype {
        DType::F32 | DType::S32 | DType::S8 | DType::U8 | DType::S16 => 0,
        DType::F16 => 1,
        DType::Bf16 => 2 - u8::from(has_bf16),
    }
}

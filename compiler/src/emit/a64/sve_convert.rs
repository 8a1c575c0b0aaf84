//! SVE's conversions between element types in memory and the words of registers. A new element type is an arm of each function.

use kiln_ir::DType;

use super::function::{Code, Resolved};
use super::inst::Inst;
use super::operand::{Disp, Imm, MulVl, P7, Right, ScalarDisp, X, Z};
use super::sve_bf16;
use super::sve_predicates::Predicates;
use super::vectors::z;
use crate::emit::EmitError;

/// The load of an element into each word. [`widen`] makes words of what it leaves.
pub fn load(dtype: DType, t: Z, g: P7, place: Resolved, whole: i64) -> Inst {
    match (place, dtype) {
        (Resolved::Displaced { n, by }, DType::F32 | DType::S32) => Inst::Ld1wS { t, g, n, i: mul_vl(by, whole) },
        (Resolved::Indexed { n, m }, DType::F32 | DType::S32) => Inst::Ld1wIndexedS { t, g, n, m },
        (Resolved::Displaced { n, by }, DType::Bf16 | DType::F16 | DType::S16) => {
            Inst::Ld1hS { t, g, n, i: mul_vl(by, whole) }
        }
        (Resolved::Indexed { n, m }, DType::Bf16 | DType::F16 | DType::S16) => Inst::Ld1hIndexedS { t, g, n, m },
        (Resolved::Displaced { n, by }, DType::S8) => Inst::Ld1sbS { t, g, n, i: mul_vl(by, whole) },
        (Resolved::Indexed { n, m }, DType::S8) => Inst::Ld1sbIndexedS { t, g, n, m },
        (Resolved::Displaced { n, by }, DType::U8) => Inst::Ld1bS { t, g, n, i: mul_vl(by, whole) },
        (Resolved::Indexed { n, m }, DType::U8) => Inst::Ld1bIndexedS { t, g, n, m },
    }
}

/// The load of one element into all words. [`widen`] makes words of what it leaves.
pub fn broadcast(dtype: DType, t: Z, n: X, by: i64) -> Inst {
    let g = Predicates::ALL;
    match dtype {
        DType::F32 | DType::S32 => Inst::Ld1rwS { t, g, n, i: ScalarDisp::new(by).expect("the place is in reach") },
        DType::Bf16 | DType::F16 | DType::S16 => Inst::Ld1rhS { t, g, n, i: scalar(by) },
        DType::S8 => Inst::Ld1rsbS { t, g, n, i: scalar(by) },
        DType::U8 => Inst::Ld1rbS { t, g, n, i: scalar(by) },
    }
}

/// Appends what makes words of elements in their low parts, as loads leave them.
pub fn widen(code: &mut Code, d: Z, dtype: DType) {
    match dtype {
        DType::F32 | DType::S32 | DType::S8 | DType::U8 => {}
        DType::Bf16 => code.asm.push(Inst::LslS { d, n: d, i: Imm::new(16).expect("below 32") }),
        DType::F16 => code.asm.push(Inst::FcvtHToS { d, g: Predicates::ALL, n: d }),
        DType::S16 => {
            code.asm.push(Inst::LslS { d, n: d, i: Imm::new(16).expect("below 32") });
            code.asm.push(Inst::AsrS { d, n: d, i: Right::new(16).expect("in range") });
        }
    }
}

/// The register whose words' low parts are the elements that the words of `s` become: one of `temps` if they are converted.
pub fn narrow(code: &mut Code, s: u8, dtype: DType, temps: &[u8]) -> Result<u8, EmitError> {
    let temp = temps.first().copied().ok_or_else(|| code.no_temps());
    match dtype {
        DType::F32 | DType::S32 => Ok(s),
        DType::Bf16 => temp.and_then(|d| sve_bf16::round(code, s, d).map(|()| d)),
        DType::F16 => {
            let d = temp?;
            code.asm.push(Inst::FcvtSToH { d: z(d), g: Predicates::ALL, n: z(s) });
            Ok(d)
        }
        DType::S8 | DType::U8 | DType::S16 => Err(code.error(format!("a store that narrows to {dtype}"))),
    }
}

/// A distance in registers.
pub fn mul_vl(bytes: i64, whole: i64) -> MulVl {
    MulVl::new(bytes / whole).expect("the place is in reach")
}

fn scalar<const LOW: i32, const HIGH: i32, const STEP: i32>(by: i64) -> Disp<LOW, HIGH, STEP> {
    Disp::new(by).expect("the place is in reach")
}

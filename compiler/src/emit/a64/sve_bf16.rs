//! SVE's rounding from f32 to bf16, with or without instructions for it.

use super::function::Code;
use super::inst::Inst;
use super::operand::{Imm, Right, ZSize};
use super::sve_predicates::Predicates;
use super::vectors::z;
use crate::emit::EmitError;

/// Appends what sets each word of `d` to that of `s` rounded to bf16. `d` is not `s`.
pub fn round(code: &mut Code, s: u8, d: u8) -> Result<(), EmitError> {
    let (d, n, g) = (z(d), z(s), Predicates::ALL);
    if code.has_bf16() {
        return code.push_extension(Inst::BfcvtH { d, g, n });
    }
    let nan = Predicates::SCRATCH;
    let insts = [
        // Half of the last place, less one bit if ties go down.
        Inst::LslS { d, n, i: Imm::new(15).expect("below 32") },
        Inst::LsrS { d, n: d, i: Right::new(31).expect("in range") },
        Inst::AddImm8S { d, i: Imm::new(0x7f00).expect("in range") },
        Inst::AddImmS { d, i: Imm::new(0xff).expect("in range") },
        Inst::AddS { d, n: d, m: n },
        // NaNs are not rounded but made quiet.
        Inst::FcmuoS { d: nan.into(), g, n, m: n },
        Inst::MovMergedS { d, g: nan.into(), n },
        Inst::FmaxS { d, g: nan, m: d },
        Inst::LsrS { d, n: d, i: Right::new(16).expect("in range") },
    ];
    insts.into_iter().for_each(|i| code.asm.push(i));
    Ok(())
}

/// [`Op::Narrow`](crate::microkernel::Op::Narrow).
pub fn narrow(code: &mut Code, d: u8, a: u8, b: u8, t: u8) -> Result<(), EmitError> {
    round(code, a, d)?;
    round(code, b, t)?;
    code.asm.push(Inst::Uzp1Z { d: z(d), n: z(d), m: z(t), s: ZSize::new(16).expect("a size") });
    Ok(())
}

/// [`Op::NarrowPairs`](crate::microkernel::Op::NarrowPairs).
pub fn narrow_pairs(code: &mut Code, d: u8, a: u8, b: u8, temps: &[u8]) -> Result<(), EmitError> {
    round(code, a, d)?;
    if code.has_bf16() {
        return code.push_extension(Inst::BfcvtntH { d: z(d), g: Predicates::ALL, n: z(b) });
    }
    let [t, ..] = *temps else { return Err(code.no_temps()) };
    round(code, b, t)?;
    code.asm.push(Inst::LslS { d: z(t), n: z(t), i: Imm::new(16).expect("below 32") });
    code.asm.push(Inst::OrrZ { d: z(d), n: z(d), m: z(t) });
    Ok(())
}

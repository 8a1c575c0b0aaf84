//! NEON's rounding from f32 to bf16, with or without instructions for it.

use super::function::Code;
use super::inst::Inst;
use super::operand::{Arrangement, Imm, Right};
use super::vectors::v;
use crate::emit::EmitError;

/// Rounds the 4 f32 of `s` to the low half of a register of `temps`, which it returns.
pub fn narrow_low(code: &mut Code, s: u8, temps: &[u8]) -> Result<u8, EmitError> {
    let [d, ..] = *temps else { return Err(code.no_temps()) };
    if code.has_bf16() {
        code.push_extension(Inst::Bfcvtn { d: v(d), n: v(s) })?;
    } else {
        let [n, m] = addends(code, s, pair(code, temps)?);
        code.asm.push(Inst::Addhn4h { d: v(d), n: v(n), m: v(m) });
    }
    Ok(d)
}

/// [`Op::Narrow`].
pub fn narrow(code: &mut Code, [d, a, b]: [u8; 3], temps: &[u8]) -> Result<(), EmitError> {
    let d_ = v(d);
    if code.has_bf16() {
        code.push_extension(Inst::Bfcvtn { d: d_, n: v(a) })?;
        return code.push_extension(Inst::Bfcvtn2 { d: d_, n: v(b) });
    }
    let temps = pair(code, temps)?;
    let [n, m] = addends(code, a, temps);
    code.asm.push(Inst::Addhn4h { d: d_, n: v(n), m: v(m) });
    let [n, m] = addends(code, b, temps);
    code.asm.push(Inst::Addhn8h { d: d_, n: v(n), m: v(m) });
    Ok(())
}

/// [`Op::NarrowPairs`].
pub fn narrow_pairs(code: &mut Code, [d, a, b]: [u8; 3], temps: &[u8]) -> Result<(), EmitError> {
    let [t, ..] = *temps else { return Err(code.no_temps()) };
    let (d, t) = (v(d), v(t));
    if code.has_bf16() {
        code.push_extension(Inst::Bfcvtn { d, n: v(a) })?;
        code.push_extension(Inst::Bfcvtn { d: t, n: v(b) })?;
    } else {
        let temps = pair(code, temps)?;
        let [n, m] = addends(code, a, temps);
        code.asm.push(Inst::Addhn4h { d, n: v(n), m: v(m) });
        let [n, m] = addends(code, b, temps);
        code.asm.push(Inst::Addhn4h { d: t, n: v(n), m: v(m) });
    }
    code.asm.push(Inst::Zip1V { d, n: d, m: t, s: Arrangement::new(16).expect("a size") });
    Ok(())
}

fn pair(code: &Code, temps: &[u8]) -> Result<[u8; 2], EmitError> {
    temps.try_into().map_err(|_| code.no_temps())
}

/// Appends what sets the registers of `to` to numbers whose sums' high halves are the f32 of `x` rounded to bf16: `x`
/// with NaNs made quiet, and half of the last place, less one bit if ties go down; nothing for NaN.
fn addends(code: &mut Code, x: u8, to: [u8; 2]) -> [u8; 2] {
    let (x, [value, half]) = (v(x), to.map(v));
    let insts = [
        Inst::Shl4s { d: value, n: x, i: Imm::new(15).expect("below 32") },
        Inst::Movi7fff { d: half },
        Inst::Usra4s { d: half, n: value, i: Right::new(31).expect("in range") },
        Inst::Fcmeq4s { d: value, n: x, m: x },
        Inst::And16b { d: half, n: half, m: value },
        Inst::Fmax4s { d: value, n: x, m: x },
    ];
    insts.into_iter().for_each(|i| code.asm.push(i));
    to
}

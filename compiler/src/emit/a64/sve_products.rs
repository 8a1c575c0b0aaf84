//! SVE's products of factors that are narrower than a lane.

use super::function::Code;
use super::inst::Inst;
use super::operand::{Imm, Z7};
use super::vectors::z;
use crate::emit::EmitError;
use crate::microkernel::{Factors, V};

/// [`Op::Mmla`](crate::microkernel::Op::Mmla).
pub fn blocks(code: &Code, f: Factors, [d, a, b]: [V; 3]) -> Result<Inst, EmitError> {
    let (d, n, m) = (z(d.0 as u8), z(a.0 as u8), z(b.0 as u8));
    Ok(match f {
        Factors::Bf16 => Inst::BfmmlaS { d, n, m },
        Factors::S8 => Inst::SmmlaS { d, n, m },
        Factors::U8 => Inst::UmmlaS { d, n, m },
        Factors::U8S8 => Inst::UsmmlaS { d, n, m },
        Factors::S8U8 | Factors::S16 => return Err(code.no_product(f)),
    })
}

/// [`Op::Dot`](crate::microkernel::Op::Dot). The unsigned factors of USDOT are the first.
pub fn words(code: &Code, f: Factors, [d, a, b]: [V; 3]) -> Result<Inst, EmitError> {
    let (d, n, m) = (z(d.0 as u8), z(a.0 as u8), z(b.0 as u8));
    Ok(match f {
        Factors::Bf16 => Inst::BfdotS { d, n, m },
        Factors::S8 => Inst::SdotS { d, n, m },
        Factors::U8 => Inst::UdotS { d, n, m },
        Factors::U8S8 => Inst::UsdotS { d, n, m },
        Factors::S8U8 => Inst::UsdotS { d, n: m, m: n },
        Factors::S16 => return Err(code.no_product(f)),
    })
}

/// [`Op::DotLane`](crate::microkernel::Op::DotLane).
pub fn by_element(code: &Code, f: Factors, [d, a]: [V; 2], m: Z7, i: Imm<0, 3, 1>) -> Result<Inst, EmitError> {
    let (d, n) = (z(d.0 as u8), z(a.0 as u8));
    Ok(match f {
        Factors::Bf16 => Inst::BfdotIndexedS { d, n, m, i },
        Factors::S8 => Inst::SdotIndexedS { d, n, m, i },
        Factors::U8 => Inst::UdotIndexedS { d, n, m, i },
        Factors::U8S8 => Inst::UsdotIndexedS { d, n, m, i },
        Factors::S8U8 => Inst::SudotIndexedS { d, n, m, i },
        Factors::S16 => return Err(code.no_product(f)),
    })
}

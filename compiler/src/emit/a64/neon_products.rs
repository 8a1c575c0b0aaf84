//! NEON's products of factors that are narrower than a lane.

use super::function::Code;
use super::inst::Inst;
use super::operand::{Imm, UpperLane};
use super::vectors::v;
use crate::emit::EmitError;
use crate::microkernel::{Factors, V};

/// [`Op::Mmla`](crate::microkernel::Op::Mmla).
pub fn blocks(code: &Code, f: Factors, [d, a, b]: [V; 3]) -> Result<Inst, EmitError> {
    let (d, n, m) = (v(d.0 as u8), v(a.0 as u8), v(b.0 as u8));
    Ok(match f {
        Factors::Bf16 => Inst::Bfmmla { d, n, m },
        Factors::S8 => Inst::Smmla { d, n, m },
        Factors::U8 => Inst::Ummla { d, n, m },
        Factors::U8S8 => Inst::Usmmla { d, n, m },
        Factors::S8U8 | Factors::S16 => return Err(code.no_product(f)),
    })
}

/// [`Op::Dot`](crate::microkernel::Op::Dot). The unsigned factors of USDOT are the first.
pub fn words(code: &Code, f: Factors, [d, a, b]: [V; 3]) -> Result<Inst, EmitError> {
    let (d, n, m) = (v(d.0 as u8), v(a.0 as u8), v(b.0 as u8));
    Ok(match f {
        Factors::Bf16 => Inst::Bfdot { d, n, m },
        Factors::S8 => Inst::Sdot { d, n, m },
        Factors::U8 => Inst::Udot { d, n, m },
        Factors::U8S8 => Inst::Usdot { d, n, m },
        Factors::S8U8 => Inst::Usdot { d, n: m, m: n },
        Factors::S16 => return Err(code.no_product(f)),
    })
}

/// [`Op::DotLane`](crate::microkernel::Op::DotLane).
pub fn by_element(code: &Code, f: Factors, [d, a, b]: [V; 3], lane: u8) -> Result<Inst, EmitError> {
    let (d, n, m) = (v(d.0 as u8), v(a.0 as u8), v(b.0 as u8));
    if let Some(i) = Imm::new(lane.into()) {
        return Ok(match f {
            Factors::Bf16 => Inst::BfdotLow { d, n, m, i },
            Factors::S8 => Inst::SdotLow { d, n, m, i },
            Factors::U8 => Inst::UdotLow { d, n, m, i },
            Factors::U8S8 => Inst::UsdotLow { d, n, m, i },
            Factors::S8U8 => Inst::SudotLow { d, n, m, i },
            Factors::S16 => return Err(code.no_product(f)),
        });
    }
    let i = UpperLane::new(lane).ok_or_else(|| code.no_product(f))?;
    Ok(match f {
        Factors::Bf16 => Inst::BfdotHigh { d, n, m, i },
        Factors::S8 => Inst::SdotHigh { d, n, m, i },
        Factors::U8 => Inst::UdotHigh { d, n, m, i },
        Factors::U8S8 => Inst::UsdotHigh { d, n, m, i },
        Factors::S8U8 => Inst::SudotHigh { d, n, m, i },
        Factors::S16 => return Err(code.no_product(f)),
    })
}

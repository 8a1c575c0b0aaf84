//! The instructions of lanewise operations, for each instruction set. What the operations mean is in `microkernel/op/lanewise.rs`.

use iced_x86::Code;

use super::a64::inst::Inst;
use super::a64::operand::{Imm, P7, Right, V, Z};
use crate::microkernel::{Binary, Shift, Unary};

/// NEON's `d = f(n, m)`.
pub(super) fn neon_binary(f: Binary, d: V, n: V, m: V) -> Inst {
    match f {
        Binary::Add => Inst::Fadd4s { d, n, m },
        Binary::Sub => Inst::Fsub4s { d, n, m },
        Binary::Mul => Inst::Fmul4s { d, n, m },
        Binary::Div => Inst::Fdiv4s { d, n, m },
        Binary::Max => Inst::Fmax4s { d, n, m },
        Binary::Min => Inst::Fmin4s { d, n, m },
        Binary::IAdd => Inst::Add4s { d, n, m },
        Binary::ISub => Inst::Sub4s { d, n, m },
        Binary::And => Inst::And16b { d, n, m },
        Binary::Or if n == m => Inst::Mov16b { d, n },
        Binary::Or => Inst::Orr16b { d, n, m },
        Binary::Xor => Inst::Eor16b { d, n, m },
    }
}

/// NEON's `d = f(n)`.
pub(super) fn neon_unary(f: Unary, d: V, n: V) -> Inst {
    match f {
        Unary::Move => Inst::Mov16b { d, n },
        Unary::Sqrt => Inst::Fsqrt4s { d, n },
        Unary::Abs => Inst::Fabs4s { d, n },
    }
}

/// NEON's shift of `n` by 1 to 31 bits.
pub(super) fn neon_shift(f: Shift, d: V, n: V, by: u8) -> Inst {
    match f {
        Shift::Left => Inst::Shl4s { d, n, i: Imm::new(by.into()).expect("shifts are checked") },
        Shift::RightSigned => Inst::Sshr4s { d, n, i: Right::new(by).expect("shifts are checked") },
    }
}

/// How SVE computes an operation of two operands.
pub(super) enum SveBinary {
    /// `d = f(n, m)`.
    Plain(Inst),
    /// `d = f(d, m)`, and `d = f(m, d)`.
    Destructive(fn(Z, P7, Z) -> Inst, fn(Z, P7, Z) -> Inst),
}

/// SVE's `d = f(n, m)`.
pub(super) fn sve_binary(f: Binary, d: Z, n: Z, m: Z) -> SveBinary {
    SveBinary::Plain(match f {
        Binary::Add => Inst::FaddS { d, n, m },
        Binary::Sub => Inst::FsubS { d, n, m },
        Binary::Mul => Inst::FmulS { d, n, m },
        Binary::Div => {
            return SveBinary::Destructive(|d, g, m| Inst::FdivS { d, g, m }, |d, g, m| Inst::FdivrS { d, g, m });
        }
        // The maximum does not depend on the order of its operands.
        Binary::Max => {
            return SveBinary::Destructive(|d, g, m| Inst::FmaxS { d, g, m }, |d, g, m| Inst::FmaxS { d, g, m });
        }
        Binary::Min => {
            return SveBinary::Destructive(|d, g, m| Inst::FminS { d, g, m }, |d, g, m| Inst::FminS { d, g, m });
        }
        Binary::IAdd => Inst::AddS { d, n, m },
        Binary::ISub => Inst::SubS { d, n, m },
        Binary::And => Inst::AndZ { d, n, m },
        Binary::Or if n == m => Inst::MovZ { d, n },
        Binary::Or => Inst::OrrZ { d, n, m },
        Binary::Xor => Inst::EorZ { d, n, m },
    })
}

/// SVE's `d = f(n)`, where `g` governs all lanes.
pub(super) fn sve_unary(f: Unary, d: Z, g: P7, n: Z) -> Inst {
    match f {
        Unary::Move => Inst::MovZ { d, n },
        Unary::Sqrt => Inst::FsqrtS { d, g, n },
        Unary::Abs => Inst::FabsS { d, g, n },
    }
}

/// SVE's shift of `n` by 1 to 31 bits.
pub(super) fn sve_shift(f: Shift, d: Z, n: Z, by: u8) -> Inst {
    match f {
        Shift::Left => Inst::LslS { d, n, i: Imm::new(by.into()).expect("shifts are checked") },
        Shift::RightSigned => Inst::AsrS { d, n, i: Right::new(by).expect("shifts are checked") },
    }
}

/// The instructions of AVX2 and of AVX-512. Those of a maximum or minimum give the second source if either is NaN.
pub(super) fn x86_binary(f: Binary) -> [Code; 2] {
    match f {
        Binary::Add => [Code::VEX_Vaddps_ymm_ymm_ymmm256, Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er],
        Binary::Sub => [Code::VEX_Vsubps_ymm_ymm_ymmm256, Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er],
        Binary::Mul => [Code::VEX_Vmulps_ymm_ymm_ymmm256, Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er],
        Binary::Div => [Code::VEX_Vdivps_ymm_ymm_ymmm256, Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er],
        Binary::Max => [Code::VEX_Vmaxps_ymm_ymm_ymmm256, Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae],
        Binary::Min => [Code::VEX_Vminps_ymm_ymm_ymmm256, Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae],
        Binary::IAdd => [Code::VEX_Vpaddd_ymm_ymm_ymmm256, Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32],
        Binary::ISub => [Code::VEX_Vpsubd_ymm_ymm_ymmm256, Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32],
        Binary::And => [Code::VEX_Vandps_ymm_ymm_ymmm256, Code::EVEX_Vandps_zmm_k1z_zmm_zmmm512b32],
        Binary::Or => [Code::VEX_Vorps_ymm_ymm_ymmm256, Code::EVEX_Vorps_zmm_k1z_zmm_zmmm512b32],
        Binary::Xor => [Code::VEX_Vxorps_ymm_ymm_ymmm256, Code::EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32],
    }
}

/// How x86 computes an operation of one operand.
pub(super) enum X86Unary {
    /// An instruction of AVX2 and of AVX-512.
    One([Code; 2]),
    /// The bits of the operand that are set in a mask.
    Mask(u32),
}

/// The instructions of AVX2 and of AVX-512, or the bits of the operand that stay.
pub(super) fn x86_unary(f: Unary) -> X86Unary {
    match f {
        Unary::Move => X86Unary::One([Code::VEX_Vmovaps_ymm_ymmm256, Code::EVEX_Vmovaps_zmm_k1z_zmmm512]),
        Unary::Sqrt => X86Unary::One([Code::VEX_Vsqrtps_ymm_ymmm256, Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er]),
        Unary::Abs => X86Unary::Mask(u32::MAX >> 1),
    }
}

/// The instructions of AVX2 and of AVX-512, which shift by an immediate.
pub(super) fn x86_shift(f: Shift) -> [Code; 2] {
    match f {
        Shift::Left => [Code::VEX_Vpslld_ymm_ymm_imm8, Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8],
        Shift::RightSigned => [Code::VEX_Vpsrad_ymm_ymm_imm8, Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8],
    }
}

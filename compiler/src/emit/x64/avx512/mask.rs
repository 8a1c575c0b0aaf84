//! Masks: which lanes an instruction loads, stores or changes.
//!
//! Masked lanes are not accessed, whatever their address. The masks that a micro-kernel needs stay in `k1` to `k6`, those of loops
//! before others; [`SCRATCH`] holds what is compared, and masks for which no register is left.

use iced_x86::{Code, IcedError, Instruction, Register};
use kiln_ir::DType;

use super::Avx512;
use crate::emit::EmitError;
use crate::emit::x64::emitter::{Emitter, Isa};
use crate::microkernel::{Inst, MicroKernel, Op, Stmt};

/// Holds a mask until the next operation.
pub(super) const SCRATCH: Register = Register::K7;
/// Masks that stay in registers, from `k1` on: `k0` means no mask.
const RESIDENT: usize = 6;

/// The numbers of lanes whose masks stay in registers.
pub(super) struct Masks(Vec<u16>);

impl Masks {
    /// Those of `mk`.
    pub(super) fn of(mk: &MicroKernel) -> Self {
        let lanes_of = |i: &Inst| {
            // One element needs no mask, and those that are not converted get theirs where they are accessed.
            let touched = i.op.touched().filter(|t| !t.raw && !matches!(i.op, Op::Broadcast { .. }))?;
            let (lanes, dtype) = (touched.elements, mk.params[usize::from(touched.addr.param.0)].dtype);
            is_masked(dtype, lanes).then_some(lanes)
        };
        let insts = |in_loops: bool| {
            mk.body.iter().flat_map(move |s| match s {
                Stmt::Loop { body, .. } if in_loops => body.as_slice(),
                Stmt::Inst(i) if !in_loops => std::slice::from_ref(i),
                Stmt::Loop { .. } | Stmt::Inst(_) => &[],
            })
        };
        let mut resident = vec![];
        for lanes in insts(true).chain(insts(false)).filter_map(lanes_of) {
            if resident.len() < RESIDENT && !resident.contains(&lanes) {
                resident.push(lanes);
            }
        }
        Masks(resident)
    }
}

/// True if the first `lanes` lanes need a mask: others are the moves of a register.
pub(super) fn is_masked(dtype: DType, lanes: u16) -> bool {
    lanes < Avx512::LANES && (dtype.is_narrow() || !matches!(lanes, 4 | 8))
}

impl Emitter<'_, Avx512> {
    /// Loads the masks that stay.
    pub(super) fn load_masks(&mut self) -> Result<(), EmitError> {
        for (i, lanes) in self.isa.masks.0.clone().into_iter().enumerate() {
            self.note("lanes of a partial vector");
            self.load_mask(Register::K1 + i as u32, lanes)?;
        }
        Ok(())
    }

    /// A register with the mask of the first `lanes` lanes.
    pub(super) fn mask(&mut self, lanes: u16) -> Result<Register, EmitError> {
        match self.isa.masks.0.iter().position(|l| *l == lanes) {
            Some(i) => Ok(Register::K1 + i as u32),
            None => self.load_mask(SCRATCH, lanes).map(|()| SCRATCH),
        }
    }

    fn load_mask(&mut self, k: Register, lanes: u16) -> Result<(), EmitError> {
        self.put_constant(&[(1 << lanes) - 1], |m| Instruction::with2(Code::VEX_Kmovw_kr_km16, k, m))
    }
}

/// `instruction` where `mask` is set; elsewhere the result stays, in a register or in memory.
pub(super) fn merging(instruction: Result<Instruction, IcedError>, mask: Register) -> Result<Instruction, IcedError> {
    let mut instruction = instruction?;
    instruction.set_op_mask(mask);
    Ok(instruction)
}

/// `instruction` where `mask` is set, and 0 elsewhere.
pub(super) fn zeroing(instruction: Result<Instruction, IcedError>, mask: Register) -> Result<Instruction, IcedError> {
    let mut instruction = merging(instruction, mask)?;
    instruction.set_zeroing_masking(true);
    Ok(instruction)
}

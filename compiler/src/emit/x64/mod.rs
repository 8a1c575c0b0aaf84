//! x86-64 micro-kernels, encoded with `iced-x86`: vector register `vN` is `ymmN` or `zmmN`.
//!
//! `emitter` goes through a micro-kernel and knows what all instruction sets have; `avx2` and `avx512` choose the
//! instructions of the rest. `pointers` turns addresses into base registers and displacements, `demand` finds the lanes of
//! vector registers that are needed, and `assembler` holds the bytes.

mod assembler;
mod avx2;
mod avx512;
mod demand;
mod emitter;
mod pointers;
mod stream;

pub use pointers::MAX_PARAMS;

use super::{Arguments, EmitError, Function};
use crate::microkernel::MicroKernel;
use crate::microkernel::assign::Need;
use crate::target::{Target, VectorIsa};

/// Emits `mk` as a function of up to [`MAX_PARAMS`] pointers, in order, or of a pointer to any number of them, in the System V
/// convention. It returns nothing. The bytes depend on `mk` and the extensions of `target` only; they are position independent and expect an address that
/// is a multiple of 64.
///
/// # Errors
///
/// `mk` is for another instruction set, names a register, parameter or number of lanes that does not exist, has an operation
/// that x86 lacks (products by element or of blocks, other permutations by 8 and 16 bits than one), accesses parts of words without
/// converting, or spreads the operands
/// of a loop further than displacements reach or over more streams than there are registers for pointers.
pub fn emit(mk: &MicroKernel, target: &Target, arguments: Arguments) -> Result<Function, EmitError> {
    match mk.isa {
        VectorIsa::Avx512 => emitter::Emitter::<avx512::Avx512>::emit(mk, target, arguments),
        VectorIsa::Avx2 => emitter::Emitter::<avx2::Avx2>::emit(mk, target, arguments),
        VectorIsa::Neon | VectorIsa::Sve => Err(error(mk, format!("it is written for {}", mk.isa))),
    }
}

/// The registers that the operations of a program of AVX-512 need besides their own.
pub(super) fn needs_of_avx512(program: &MicroKernel) -> Vec<Need> {
    emitter::needs::<avx512::Avx512>(program)
}

/// The registers that the operations of a program of AVX2 need besides their own.
pub(super) fn needs_of_avx2(program: &MicroKernel) -> Vec<Need> {
    emitter::needs::<avx2::Avx2>(program)
}

/// The error of emitting `mk` that `what` describes.
fn error(mk: &MicroKernel, what: impl Into<String>) -> EmitError {
    EmitError { name: mk.name.clone(), isa: mk.isa, what: what.into() }
}

//! Emitters: from micro-kernels and loop nests to relocatable machine code.
//!
//! One emitter per vector instruction set, chosen in [`micro_kernel`]; the driver around the micro-kernels is Cranelift's
//! on every target ([`clif::driver`]).

pub mod a64;
pub mod clif;
mod lanewise;
pub mod x64;

use std::sync::Arc;

use crate::microkernel::assign::Need;
use crate::microkernel::build::BuildError;
use crate::microkernel::{MicroKernel, assign, check_assignment};
use crate::target::{Feature, Target, VectorIsa, VectorUnit};

/// A function's machine code before linking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Symbol.
    pub name: String,
    /// Code, then constants if it has any.
    pub bytes: Vec<u8>,
    /// Bytes of `bytes` that are instructions; what follows is data.
    pub code_len: usize,
    /// Places that refer to other functions.
    pub relocs: Vec<Reloc>,
    /// Why the code is there, by ascending offset; a note holds until the next one.
    pub notes: Vec<Note>,
}

/// The reason for the instructions from `offset` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Byte offset in the function.
    pub offset: u32,
    /// For people.
    pub text: Arc<str>,
}

/// A place in a function that a linker fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloc {
    /// Byte offset in the function.
    pub offset: u32,
    /// The way to fill it in.
    pub kind: RelocKind,
    /// Symbol referred to.
    pub symbol: String,
    /// Added to the symbol's address.
    pub addend: i64,
}

/// The two forms of a direct call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocKind {
    /// 32-bit displacement from the end of the field.
    X86CallPcRel4,
    /// `BL`: 26-bit word displacement.
    Arm64Call,
}

/// A micro-kernel that its emitter cannot express: always a defect of the schedule or the builder that made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot emit `{name}` for {isa}: {what}")]
pub struct EmitError {
    /// The micro-kernel or function.
    pub name: String,
    /// The instruction set.
    pub isa: VectorIsa,
    /// The operation, and why it cannot be expressed.
    pub what: String,
}

/// The way in which a micro-kernel receives its pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arguments {
    /// A C function of one pointer per parameter. On AArch64, of at most [`a64::REGISTER_PARAMS`].
    Registers,
    /// A C function of one pointer, to the pointers: a nest of a single tile needs no driver, its micro-kernel is the entry.
    Block,
}

/// The way in which a driver passes a micro-kernel's pointers.
pub fn arguments(mk: &MicroKernel) -> Arguments {
    let most = match mk.isa {
        VectorIsa::Sve | VectorIsa::Neon => a64::REGISTER_PARAMS,
        VectorIsa::Avx512 | VectorIsa::Avx2 => x64::MAX_PARAMS,
    };
    if mk.params.len() <= most { Arguments::Registers } else { Arguments::Block }
}

/// The registers that the operations of `program` need besides their own on `unit`, in order.
pub fn needs(program: &MicroKernel, unit: &VectorUnit) -> Vec<Need> {
    match unit.isa {
        VectorIsa::Sve => a64::sve::needs(program, unit.features.has(Feature::Bf16)),
        VectorIsa::Neon => a64::neon::needs(program, unit.features.has(Feature::Bf16)),
        VectorIsa::Avx512 => x64::needs_of_avx512(program),
        VectorIsa::Avx2 => x64::needs_of_avx2(program),
    }
}

/// The program of values `program` with registers of `unit`. With `debug_assertions` or the feature `checked`, the assignment is
/// [proved](check_assignment).
pub fn assigned(program: &MicroKernel, unit: &VectorUnit) -> Result<MicroKernel, BuildError> {
    let needs = needs(program, unit);
    let assigned = assign(program, unit, &needs)?;
    if cfg!(any(debug_assertions, feature = "checked")) {
        check_assignment(program, &assigned.kernel, &assigned.origins, &needs)?;
    }
    Ok(assigned.kernel)
}

/// Emits `mk` for its instruction set as a position-independent C function.
pub fn micro_kernel(mk: &MicroKernel, target: &Target, arguments: Arguments) -> Result<Function, EmitError> {
    match mk.isa {
        VectorIsa::Sve => a64::sve::emit(mk, target, arguments),
        VectorIsa::Neon => a64::neon::emit(mk, target, arguments),
        VectorIsa::Avx512 | VectorIsa::Avx2 => x64::emit(mk, target, arguments),
    }
}

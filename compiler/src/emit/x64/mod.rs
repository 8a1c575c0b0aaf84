//! x86-64 micro-kernels, encoded with `iced-x86`.
//!
//! [`avx2`] translates operations to instructions; `pointers` turns addresses into base registers and displacements,
//! `demand` finds the vector registers, and lanes of them, that need not be kept, and `assembler` holds the bytes.

pub mod avx2;

mod assembler;
mod demand;
mod pointers;

pub use pointers::MAX_PARAMS;

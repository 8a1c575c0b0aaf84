//! AArch64 emitter for what Cranelift does not have: the Scalable Vector Extension.
//!
//! [`inst`] is the instruction table, one row per instruction, [`operand`] the types its rows are written in, [`asm`] a
//! buffer with labels, `address` the choice of address registers for a loop, and [`sve`] the emitter proper. To add an
//! instruction, add a row; its tests against other assemblers come with it (`tests/a64_oracle.rs`).

mod address;
pub mod asm;
pub mod inst;
pub mod operand;
pub mod sve;

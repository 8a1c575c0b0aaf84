//! AArch64 emitter of micro-kernels: NEON and the Scalable Vector Extension.
//!
//! [`inst`] is the instruction table, one row per instruction, [`operand`] the types its rows are written in, [`asm`] a
//! buffer with labels. `function` is what all micro-kernels share, with `roles`, the use of general registers, `address`,
//! the choice of address registers for a loop, `frame`, the stack,
//! and `pool`, constants. [`neon`] and [`sve`] translate operations, `sve_memory` loads and stores, `neon_bf16` and `sve_bf16` those that round.
//! To add an instruction, add a row; its tests against other assemblers come with it (`tests/a64_oracle.rs`).

mod address;
pub mod asm;
mod frame;
mod function;
pub mod inst;
pub mod neon;
mod neon_bf16;
mod neon_convert;
mod neon_products;
pub mod operand;
mod pool;
mod roles;
pub mod sve;
mod sve_bf16;
mod sve_convert;
mod sve_memory;
mod sve_predicates;
mod sve_products;
mod vectors;

pub use roles::{MAX_PARAMS, REGISTER_PARAMS};

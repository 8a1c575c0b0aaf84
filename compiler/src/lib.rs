//! Kiln's compiler: from a problem to machine code for any supported target, on any host.

#![forbid(unsafe_code)]

pub mod artifact;
pub mod emit;
mod link;
mod listing;
pub mod lower;
pub mod microkernel;
mod pipeline;
pub mod schedule;
pub mod target;

pub use artifact::{Artifact, Stage};
pub use pipeline::{CompileError, Options, compile};
pub use target::Target;

//! Micro-kernels as a user of the crate meets them: text, verifier, interpreter and checker agree with each other.

#[path = "../common/definition.rs"]
mod definition;
mod kernels;
mod text;
mod tile;

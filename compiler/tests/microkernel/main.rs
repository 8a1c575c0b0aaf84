//! Micro-kernels as a user of the crate meets them: text, verifier, interpreter and tile checker agree with each other.

mod kernels;
mod text;
mod tile;
#[path = "../common/tile.rs"]
mod tile_reference;

//! Shared by integration tests.

pub mod assembler;

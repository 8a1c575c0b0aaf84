//! Whole networks on Kiln's kernels.

pub mod arch;
pub mod ops;

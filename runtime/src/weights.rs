//! Constant weights, packed once for the kernels that read them.

mod budget;
mod cache;
mod id;
mod packed;
mod packing;
mod storage;

pub(crate) use budget::PackedBudget;
pub use id::WeightsId;
pub use packed::PackedWeights;
pub(crate) use packed::{PackedCache, Registration};
pub(crate) use packing::{Packing, describe};

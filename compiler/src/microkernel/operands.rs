//! The effects of an operation: the registers it reads and writes, the memory it reaches.

use super::{Addr, Op, V};

/// The memory an operation reads or writes in one trip: `elements` consecutive elements of `addr`'s parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// First element.
    pub addr: Addr,
    /// Number of consecutive elements.
    pub elements: u16,
    /// Written, not read.
    pub store: bool,
}

impl Op {
    /// The register that holds the result, if any. Accumulators are written and [used](Op::used).
    pub fn defined(&self) -> Option<V> {
        match *self {
            Op::Zero { d }
            | Op::Const { d, .. }
            | Op::Load { d, .. }
            | Op::LoadLanes { d, .. }
            | Op::Broadcast { d, .. }
            | Op::LoadRaw { d, .. }
            | Op::LoadRawQuad { d, .. }
            | Op::Fma { d, .. }
            | Op::FmaLane { d, .. }
            | Op::Binary { d, .. }
            | Op::Unary { d, .. }
            | Op::Shift { d, .. }
            | Op::PairAdd { d, .. }
            | Op::Mmla { d, .. }
            | Op::Dot2 { d, .. }
            | Op::Dot2Lane { d, .. }
            | Op::Narrow { d, .. }
            | Op::NarrowPairs { d, .. }
            | Op::Permute { d, .. } => Some(d),
            Op::Store { .. } | Op::StoreRaw { .. } => None,
        }
    }

    /// The register that is overwritten without holding a result, if any.
    pub fn clobbered(&self) -> Option<V> {
        match *self {
            Op::Narrow { t, .. } | Op::NarrowPairs { t, .. } => Some(t),
            _ => None,
        }
    }

    /// The registers read, in operand order.
    pub fn used(&self) -> impl Iterator<Item = V> {
        let used = match *self {
            Op::Zero { .. }
            | Op::Const { .. }
            | Op::Load { .. }
            | Op::LoadLanes { .. }
            | Op::Broadcast { .. }
            | Op::LoadRaw { .. }
            | Op::LoadRawQuad { .. } => [None; 3],
            Op::Store { s, .. } | Op::StoreRaw { s, .. } => [Some(s), None, None],
            Op::Fma { d, a, b }
            | Op::FmaLane { d, a, b, .. }
            | Op::Mmla { d, a, b }
            | Op::Dot2 { d, a, b }
            | Op::Dot2Lane { d, a, b, .. } => [Some(d), Some(a), Some(b)],
            Op::Binary { a, b, .. }
            | Op::PairAdd { a, b, .. }
            | Op::Narrow { a, b, .. }
            | Op::NarrowPairs { a, b, .. }
            | Op::Permute { a, b, .. } => [Some(a), Some(b), None],
            Op::Unary { a, .. } | Op::Shift { a, .. } => [Some(a), None, None],
        };
        used.into_iter().flatten()
    }

    /// The memory touched, if any.
    pub fn touched(&self) -> Option<Touched> {
        let (addr, elements, store) = match *self {
            Op::Load { src, lanes, .. } => (src, lanes, false),
            Op::LoadLanes { src, count, .. } => (src, count.into(), false),
            Op::Broadcast { src, .. } => (src, 1, false),
            Op::LoadRaw { src, elements, .. } | Op::LoadRawQuad { src, elements, .. } => (src, elements, false),
            Op::Store { dst, lanes, .. } => (dst, lanes, true),
            Op::StoreRaw { dst, elements, .. } => (dst, elements, true),
            _ => return None,
        };
        Some(Touched { addr, elements, store })
    }

    /// True if memory is read or written as bf16 that are not converted.
    pub fn is_raw(&self) -> bool {
        matches!(self, Op::LoadRaw { .. } | Op::LoadRawQuad { .. } | Op::StoreRaw { .. })
    }

    /// Multiply-adds of a whole problem per 128 bits of the register that the operation makes: 0 for all but the products.
    pub fn macs_per_quad(&self) -> u64 {
        match self {
            Op::Fma { .. } | Op::FmaLane { .. } => 4,
            Op::Dot2 { .. } | Op::Dot2Lane { .. } => 8,
            Op::Mmla { .. } => 16,
            _ => 0,
        }
    }
}

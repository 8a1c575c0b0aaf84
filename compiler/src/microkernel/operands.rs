//! What an operation touches: the registers it reads and writes, the memory it reaches.

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
    /// The register written, if any. Accumulators of [`Op::Fma`] and [`Op::FmaLane`] are written and [used](Op::used).
    pub fn defined(&self) -> Option<V> {
        match *self {
            Op::Zero { d }
            | Op::Load { d, .. }
            | Op::LoadLanes { d, .. }
            | Op::Broadcast { d, .. }
            | Op::Fma { d, .. }
            | Op::FmaLane { d, .. }
            | Op::Add { d, .. }
            | Op::Max { d, .. } => Some(d),
            Op::Store { .. } => None,
        }
    }

    /// The registers read, in operand order.
    pub fn used(&self) -> impl Iterator<Item = V> {
        let used = match *self {
            Op::Zero { .. } | Op::Load { .. } | Op::LoadLanes { .. } | Op::Broadcast { .. } => [None; 3],
            Op::Store { s, .. } => [Some(s), None, None],
            Op::Fma { d, a, b } | Op::FmaLane { d, a, b, .. } => [Some(d), Some(a), Some(b)],
            Op::Add { a, b, .. } | Op::Max { a, b, .. } => [Some(a), Some(b), None],
        };
        used.into_iter().flatten()
    }

    /// The memory touched, if any.
    pub fn touched(&self) -> Option<Touched> {
        match *self {
            Op::Load { src, lanes, .. } => Some(Touched { addr: src, elements: lanes, store: false }),
            Op::LoadLanes { src, count, .. } => Some(Touched { addr: src, elements: count.into(), store: false }),
            Op::Broadcast { src, .. } => Some(Touched { addr: src, elements: 1, store: false }),
            Op::Store { dst, lanes, .. } => Some(Touched { addr: dst, elements: lanes, store: true }),
            Op::Zero { .. } | Op::Fma { .. } | Op::FmaLane { .. } | Op::Add { .. } | Op::Max { .. } => None,
        }
    }
}

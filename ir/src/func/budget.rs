//! What may be computed before a function is called.

use super::op::{Structured, TensorOp};
use super::types::TensorType;

/// Limits of what is computed of constants ahead of calls. A network stays far below them; a function that was made to take
/// forever, or all memory, does not.
#[derive(Debug)]
pub struct Budget {
    work: u64,
    bytes: u64,
    most: u64,
}

impl Default for Budget {
    /// 2^30 steps, some seconds, and 4 GiB of results.
    fn default() -> Self {
        Self { work: 1 << 30, bytes: 4 << 30, most: Self::MOST_BYTES }
    }
}

impl Budget {
    /// Bytes of one result, at most.
    pub const MOST_BYTES: u64 = 256 << 20;

    /// So many steps, and so many bytes of results together.
    pub fn limited(work: u64, bytes: u64) -> Self {
        Self { work, bytes, most: bytes }
    }

    /// As much as there is.
    pub fn unlimited() -> Self {
        Self { work: u64::MAX, bytes: u64::MAX, most: u64::MAX }
    }

    /// Whether an operation that gives a `ty` may be computed; if so, its work is taken from what is left.
    pub fn spend(&mut self, op: &TensorOp, operands: &[&TensorType], ty: &TensorType) -> bool {
        let read: u64 = operands.iter().map(|t| t.elements()).fold(0, u64::saturating_add);
        // In double precision, an operation may be wider inside than its result is.
        let inside = ty.elements().max(read);
        let work = ty.elements().saturating_mul(steps(op, operands)).max(inside);
        inside.saturating_mul(8) <= self.most.saturating_mul(4) && self.take(work, ty.bytes())
    }

    /// Takes so many steps and bytes of a result from what is left, if there are as many.
    pub fn take(&mut self, work: u64, bytes: u64) -> bool {
        let is_allowed = bytes <= self.most && work <= self.work && bytes <= self.bytes;
        if is_allowed {
            self.work -= work;
            self.bytes -= bytes;
        }
        is_allowed
    }
}

/// Steps for each element of a result.
fn steps(op: &TensorOp, operands: &[&TensorType]) -> u64 {
    let TensorOp::Structured(op) = op else { return 1 };
    let product = |dims: &[u64]| dims.iter().fold(1, |all: u64, n| all.saturating_mul(*n));
    match op {
        Structured::Matmul {} => operands[0].shape().last().copied().unwrap_or(1),
        Structured::Conv { .. } => product(&operands[1].shape()[1..]),
        Structured::ConvTranspose { .. } => operands[1].elements(),
        Structured::Pool { kernel, .. } | Structured::MaxPoolIndices { kernel, .. } => product(kernel),
        Structured::Lrn { size, .. } => *size,
        Structured::Det {} => operands[0].elements(),
        Structured::GridSample { .. } => 64,
        Structured::RoiAlign { samples: 0, .. } => product(&operands[0].shape()[2..]),
        Structured::RoiAlign { samples, .. } => samples.saturating_mul(*samples),
        Structured::TopK { axis, .. } => 64 - operands[0].shape()[*axis as usize].leading_zeros() as u64,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::func::ElementType;

    #[test]
    fn work_and_bytes_run_out() {
        let square = |n: u64| TensorType::new(ElementType::F32, [n, n]).unwrap();
        let spend = |budget: &mut Budget, n: u64| {
            let ty = square(n);
            budget.spend(&Structured::Matmul {}.into(), &[&ty, &ty], &ty)
        };
        let mut budget = Budget::default();
        assert!(spend(&mut budget, 512));
        assert!(!spend(&mut budget, 1024), "2^30 steps are more than what is left");
        assert!((0..7).all(|_| spend(&mut budget, 512)) && !spend(&mut budget, 512));
        let mut budget = Budget::default();
        assert!(!budget.take(1, Budget::MOST_BYTES + 1));
        assert!((0..16).all(|_| budget.take(1, Budget::MOST_BYTES)) && !budget.take(1, 1));
    }
}

//! Matrix product: `dst[.., m, n] = sum over k of lhs[.., m, k] * rhs[.., k, n]`, with batch dimensions that broadcast.

use std::fmt;

use super::{Axes, dim};
use crate::layout::MAX_RANK;
use crate::problem::{ProblemError, Role};

/// The most batch dimensions.
pub const MAX_BATCH: usize = MAX_RANK - 2;

/// The shape of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matmul {
    rank: u8,
    /// Batch dimensions of lhs and rhs; equal, or one of them 1.
    batch: [[u64; MAX_BATCH]; 2],
    /// Rows of `lhs` and `dst`.
    pub m: u64,
    /// Columns of `lhs`, rows of `rhs`.
    pub k: u64,
    /// Columns of `rhs` and `dst`.
    pub n: u64,
}

impl Matmul {
    /// The product of an `m x k` by a `k x n` matrix.
    pub fn new(m: u64, k: u64, n: u64) -> Self {
        Self { rank: 2, batch: [[1; MAX_BATCH]; 2], m, k, n }
    }

    /// The same with batch dimensions in front. They must be as many on both sides, at most [`MAX_BATCH`], and equal or 1.
    pub fn batched(self, lhs: &[u64], rhs: &[u64]) -> Result<Self, ProblemError> {
        let fail = |why: String| ProblemError::Descriptor { word: format!("{lhs:?}:{rhs:?}"), why };
        if lhs.len() != rhs.len() || lhs.len() > MAX_BATCH {
            return Err(fail(format!(
                "expected the same number of batch dimensions on both sides, at most {MAX_BATCH}"
            )));
        }
        if let Some((a, b)) = lhs.iter().zip(rhs).find(|(a, b)| a != b && **a != 1 && **b != 1) {
            return Err(fail(format!("batch dimensions {a} and {b} do not broadcast: expected equal ones, or a 1")));
        }
        let mut shape = Self { rank: 2 + lhs.len() as u8, ..self };
        shape.batch[0][..lhs.len()].copy_from_slice(lhs);
        shape.batch[1][..rhs.len()].copy_from_slice(rhs);
        Ok(shape)
    }

    /// Parses benchdnn's descriptor, `[BATCHx...]MxK:[BATCHx...]KxN`, with or without the result's dimensions, which follow, and
    /// with or without a name behind it (`n"name"`).
    pub fn parse(descriptor: &str) -> Result<Self, ProblemError> {
        let word = without_name(descriptor);
        let fail = |why: String| ProblemError::Descriptor { word: descriptor.into(), why };
        let Some((lhs, rhs)) = word.split_once(':') else {
            return Err(fail("expected `MxK:KxN`, for example `128x768:768x3072`".into()));
        };
        let dims = |s: &str| s.split('x').map(|d| dim(d, descriptor)).collect::<Result<Vec<_>, _>>();
        let (rhs, dst) = rhs.split_once(':').map_or((rhs, None), |(rhs, dst)| (rhs, Some(dst)));
        let (lhs, rhs, dst) = (dims(lhs)?, dims(rhs)?, dst.map(dims).transpose()?);
        for side in [&lhs, &rhs] {
            if !(2..=MAX_RANK).contains(&side.len()) {
                let text = side.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
                return Err(fail(format!("`{text}` has {} dimension(s); expected 2 to {MAX_RANK}", side.len())));
            }
        }
        let ([lhs_batch @ .., m, k], [rhs_batch @ .., k2, n]) = (&lhs[..], &rhs[..]) else {
            unreachable!("both have two dimensions at least")
        };
        if lhs_batch.len() != rhs_batch.len() {
            return Err(fail(format!("lhs has {} dimension(s) and rhs {}: expected as many", lhs.len(), rhs.len())));
        }
        if k != k2 {
            return Err(ProblemError::Inner { lhs: *k, rhs: *k2, word: descriptor.into() });
        }
        let shape = Self::new(*m, *k, *n).batched(lhs_batch, rhs_batch)?;
        match dst {
            Some(dst) if dst != shape.shape(Role::Dst) => {
                let own = shape.shape(Role::Dst).iter().map(u64::to_string).collect::<Vec<_>>().join("x");
                Err(fail(format!("the result of these factors is {own}")))
            }
            _ => Ok(shape),
        }
    }

    /// Batch dimensions of the result.
    pub fn batch(&self) -> Vec<u64> {
        (0..usize::from(self.rank) - 2)
            .map(|i| {
                let [a, b] = [self.batch[0][i], self.batch[1][i]];
                // A zero is told to the caller as it is.
                if a == 1 { b } else { a }
            })
            .collect()
    }

    /// The shape of an operand.
    pub fn shape(&self, role: Role) -> Vec<u64> {
        let batch = usize::from(self.rank) - 2;
        match role {
            Role::Lhs => [&self.batch[0][..batch], &[self.m, self.k]].concat(),
            Role::Rhs => [&self.batch[1][..batch], &[self.k, self.n]].concat(),
            Role::Dst | Role::Post(_) => [&self.batch()[..], &[self.m, self.n]].concat(),
        }
    }

    /// Which dimension of an operand is which axis of the product.
    pub fn axes(&self, role: Role) -> Axes {
        let batch = usize::from(self.rank) - 2;
        let side = usize::from(role == Role::Rhs);
        let all = self.batch();
        let has = |i: &usize| matches!(role, Role::Dst | Role::Post(_)) || self.batch[side][*i] == all[*i];
        Axes { batch: (0..batch).map(|i| Some(i).filter(has)).collect(), row: vec![batch], col: vec![batch + 1] }
    }
}

/// A descriptor without benchdnn's name: `12x128x64:12x64x128_n"encoder"`.
pub(crate) fn without_name(descriptor: &str) -> &str {
    let end = descriptor.find("n\"").unwrap_or(descriptor.len());
    descriptor[..end].trim_end_matches('_')
}

impl fmt::Display for Matmul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = |role| self.shape(role).iter().map(u64::to_string).collect::<Vec<_>>().join("x");
        write!(f, "{}:{}", dims(Role::Lhs), dims(Role::Rhs))
    }
}

//! What a problem must be beyond its words.

use super::{MAX_ELEMENTS, Op, Problem, ProblemError, Role, TAGGED};
use crate::epilogue::PostOp;
use crate::layout::Tag;

const CONV_TAGS: &str = "a convolution reads and writes `axb`, channels innermost, or `abx`, channels first";

impl Problem {
    /// The problem, if there is a meaning to all of it.
    pub(super) fn validate(self) -> Result<Self, ProblemError> {
        let rank = self.shared.op.shape(Role::Dst).len();
        for op in self.shared.epilogue.operands() {
            if let PostOp::BiasMask(mask) | PostOp::Add(mask) | PostOp::Mul(mask) = op
                && let Some(dim) = mask.dims().find(|d| *d >= rank)
            {
                let letter = |d: usize| char::from(b'a' + d as u8);
                let (dim, last) = (letter(dim), letter(rank - 1));
                return Err(ProblemError::Mask { op: op.to_string(), dim, rank, last });
            }
        }
        if let Op::Convolution(_) = self.shared.op {
            self.validate_broadcast()?;
        }
        let mut operands = self.operands();
        for o in &operands {
            let text = || o.shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
            if o.shape.contains(&0) {
                return Err(ProblemError::ZeroDim(format!("a dimension of {} ({})", o.name, text())));
            }
            let elements = o.shape.iter().try_fold(1u64, |all, d| all.checked_mul(*d));
            if elements.is_none_or(|e| e > MAX_ELEMENTS) {
                return Err(ProblemError::TooLarge { what: format!("{} of {}", o.name, text()) });
            }
        }
        let work = self.batch().iter().chain(&self.extents()).try_fold(2u64, |all, d| all.checked_mul(*d));
        if work.is_none() {
            return Err(ProblemError::TooLarge { what: format!("the work of {self}") });
        }
        let tag_error = |at: usize, why: &str| {
            Err(ProblemError::Tag { name: TAGGED[at].1, tag: self.shared.tags[at].to_string(), why: why.into() })
        };
        if let Op::Convolution(_) = self.shared.op {
            let is = |at: usize, words: &[&str]| {
                let rank = self.shared.op.shape(TAGGED[at].0).len();
                words.iter().any(|word| Tag::parse(word, rank) == Some(self.shared.tags[at]))
            };
            return match () {
                () if !is(0, &["axb", "abx"]) => tag_error(0, CONV_TAGS),
                () if !is(1, &["abx"]) => tag_error(1, "weights of a convolution have the plain order, `abx`"),
                () if !is(2, &["axb", "abx"]) => tag_error(2, CONV_TAGS),
                () => Ok(self),
            };
        }
        // Sums over several dimensions must run over one in memory, in both factors alike.
        operands.truncate(2);
        for (at, o) in operands.iter().enumerate() {
            let (axes, strides) = (self.shared.op.axes(o.role), o.strides());
            let mut sums = if o.role == Role::Lhs { axes.col } else { axes.row };
            sums.retain(|d| o.shape[*d] > 1);
            if sums.windows(2).any(|w| strides[w[0]] != strides[w[1]] * o.shape[w[1]]) {
                return tag_error(
                    at,
                    "the dimensions that are summed over must be in their own order, next to one another",
                );
            }
        }
        // Vectors are along rows or columns of the result.
        let axes = self.shared.op.axes(Role::Dst);
        let shape = self.shared.op.shape(Role::Dst);
        let innermost = self.shared.tags[2].order().rfind(|d| shape[*d] > 1);
        let [m, n, _] = self.extents();
        if (m > 1 || n > 1) && innermost.is_some_and(|d| axes.batch.contains(&Some(d))) {
            return tag_error(2, "a batch dimension is innermost: rows or columns of the result must be");
        }
        Ok(self)
    }

    /// Whether kernels of a convolution can read the tensors of post-ops: pixels are one axis.
    fn validate_broadcast(&self) -> Result<(), ProblemError> {
        let shape = self.shared.op.shape(Role::Dst);
        let space: Vec<usize> = (2..shape.len()).filter(|d| shape[*d] > 1).collect();
        for (n, op) in (0..).zip(self.shared.epilogue.operands()) {
            let fail = |why: String| Err(ProblemError::Broadcast { op: op.to_string(), why });
            if op == PostOp::BiasRow {
                return fail("a convolution has no rows: expected bias, one per output channel, or bias:MASK".into());
            }
            let dims = self.post_dims(n);
            let named = space.iter().filter(|d| dims.contains(d)).count();
            if named != 0 && named != space.len() {
                let all: String = space.iter().map(|d| char::from(b'a' + *d as u8)).collect();
                return fail(format!("expected all of the spatial dimensions `{all}` in the mask, or none"));
            }
        }
        Ok(())
    }
}

//! The text of a family, and what its free number is.

use kiln_ir::{Op, Operand, Problem, ProblemError, Role};

use crate::error::RuntimeError;

/// A problem's text with a `?` for each place of the free number.
pub(super) struct Pattern<'a>(pub(super) &'a str);

/// Values that a family is looked at for: the first that is a problem. The window of a convolution may want many.
const PROBES: [u64; 5] = [2, 8, 32, 128, 512];

impl Pattern<'_> {
    pub(super) fn error(&self, why: impl Into<String>) -> RuntimeError {
        RuntimeError::Family { pattern: self.0.into(), why: why.into() }
    }

    /// The member for a value.
    pub(super) fn problem(&self, n: u64) -> Result<Problem, RuntimeError> {
        if !self.0.contains('?') {
            return Err(self.error("expected a `?` in place of the free number, as in `ip f32 mb?ic768oc3072`"));
        }
        self.0.replace('?', &n.to_string()).parse().map_err(|e: ProblemError| self.error(e.to_string()))
    }

    /// For each operand, the bytes from one step of the free number to the next where it is the outermost dimension in memory,
    /// and 0 where the operand does not depend on it. `None` if it is elsewhere, or the steps are not independent.
    ///
    /// Fails if the number is no size: general code has all else from other members.
    pub(super) fn slices(&self) -> Result<Option<Vec<usize>>, RuntimeError> {
        let pair = |n| Ok::<_, RuntimeError>((n, self.problem(n)?, self.problem(n + 1)?));
        let first = PROBES.into_iter().find_map(|n| pair(n).ok());
        let (n, one, next) = first.map_or_else(|| pair(PROBES[0]), Ok)?;
        if !differ_in_sizes(&one, &next) {
            return Err(self.error(
                "`?` may stand for sizes: not for a kernel, stride, dilation, padding or number of groups, not for channels \
                 of groups, nor for a number of a post-op",
            ));
        }
        let stride = |(a, b): (Operand, Operand)| {
            if a.shape == b.shape {
                // Of a dimension of the result, so a result without it is summed over it.
                return (a.role != Role::Dst && a.strides() == b.strides()).then_some(0);
            }
            let (shape, larger) = (a.memory_shape(), b.memory_shape());
            let is_outermost = shape[0] == n && larger[0] == n + 1 && shape[1..] == larger[1..];
            let outermost =
                a.layout.tag().order().next().filter(|_| is_outermost && a.layout.tag() == b.layout.tag())?;
            // The others are where they were.
            let same = |d: usize| a.shape[d] == 1 || a.strides()[d] == b.strides()[d];
            (0..a.shape.len()).all(same).then(|| a.strides()[outermost] as usize * a.dtype.bytes())
        };
        let operands = one.operands().into_iter().zip(next.operands());
        let is_summed = one.extents()[2] != next.extents()[2];
        let slices = if is_summed { None } else { operands.map(stride).collect() };
        if slices.is_none() && !one.operands().iter().chain(&next.operands()).all(Operand::is_dense) {
            return Err(self.error(
                "strides are of members whose free number is the outermost dimension in memory of each tensor that has it: \
                 others are computed on copies, and copies are dense",
            ));
        }
        Ok(slices)
    }
}

/// True if two problems are the same but for extents that can be filled up with zeros.
fn differ_in_sizes(a: &Problem, b: &Problem) -> bool {
    let is_size = match (a.op(), b.op()) {
        (Op::Convolution(a), Op::Convolution(b)) => {
            let windows = |c: &kiln_ir::op::Convolution| c.space3().map(|s| (s.kernel, s.stride, s.dilation, s.pad));
            windows(&a) == windows(&b) && a.g == b.g && (a.g == 1 || (a.ic, a.oc) == (b.ic, b.oc))
        }
        (Op::Matmul(_), Op::Matmul(_)) | (Op::InnerProduct(_), Op::InnerProduct(_)) => true,
        _ => false,
    };
    is_size && a.epilogue() == b.epilogue()
}

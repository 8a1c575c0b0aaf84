//! What a problem must be beyond its words.

use super::{DTypes, LAID_OUT, MAX_ELEMENTS, Op, Operand, Problem, ProblemError, Role};
use crate::dtype::DType;
use crate::epilogue::PostOp;
use crate::strides::is_nested;

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
        let operands = self.operands();
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
        self.validate_integers()?;
        self.validate_layouts(&operands)?;
        Ok(self)
    }

    /// Whether sums of integers fit in their type, and whether there are kernels for what is done with them.
    fn validate_integers(&self) -> Result<(), ProblemError> {
        let DTypes { src, weights, .. } = self.shared.dtypes;
        if !src.is_integer() {
            return Ok(());
        }
        let fail = |why: String| Err(ProblemError::Integers { dtypes: self.shared.dtypes.to_string(), why });
        if let Op::Convolution(_) = self.shared.op {
            return fail("kernels multiply integers in `matmul` and `ip`, not in `conv`".into());
        }
        if !self.shared.epilogue.ops().is_empty() || self.accumulates() {
            return fail("sums of integers are stored as they are: expected no post-ops and no `beta=1`".into());
        }
        let magnitude = |dtype| if dtype == DType::U8 { 255 } else { 128u64 };
        let [.., k] = self.extents();
        let most = u64::from(i32::MAX.unsigned_abs()) / (magnitude(src) * magnitude(weights));
        if k > most {
            return fail(format!("a sum of {k} products can exceed 32 bits: expected K of at most {most}"));
        }
        Ok(())
    }

    /// Whether kernels can read and write the operands where they are.
    fn validate_layouts(&self, operands: &[Operand]) -> Result<(), ProblemError> {
        let (lhs, rhs, dst) = (&operands[0], &operands[1], &operands[operands.len() - 1]);
        if !is_nested(&dst.shape, &dst.strides()) {
            return self.layout_error(
                2,
                "elements of the result overlap or are mixed up: expected each stride to reach past all elements of the \
                 dimensions with smaller ones",
            );
        }
        if let Op::Convolution(_) = self.shared.op {
            return self.validate_convolution(rhs, dst);
        }
        // Sums over several dimensions must run over one in memory, in both factors alike.
        for (at, o) in [lhs, rhs].into_iter().enumerate() {
            let axes = self.shared.op.axes(o.role);
            let sums = if o.role == Role::Lhs { axes.col } else { axes.row };
            if !is_one_axis(o, &sums) {
                return self.layout_error(
                    at,
                    "the dimensions that are summed over must be in their own order, next to one another",
                );
            }
        }
        // Vectors are along rows or columns of the result; those of a single row or column, of any stride, are of one element.
        let (axes, strides) = (self.shared.op.axes(Role::Dst), dst.strides());
        let longer = |dims: &[usize]| dims.iter().copied().find(|d| dst.shape[*d] > 1);
        if let (Some(row), Some(col)) = (longer(&axes.row), longer(&axes.col))
            && strides[row] != 1
            && strides[col] != 1
        {
            let is_batch = |d: usize| axes.batch.contains(&Some(d)) && dst.shape[d] > 1 && strides[d] == 1;
            let why = match (0..dst.shape.len()).any(is_batch) {
                true => "a batch dimension is innermost: rows or columns of the result must be",
                false => {
                    "rows or columns of the result must be next to one another: expected a stride of 1 along either"
                }
            };
            return self.layout_error(2, why);
        }
        Ok(())
    }

    fn validate_convolution(&self, rhs: &Operand, dst: &Operand) -> Result<(), ProblemError> {
        if !rhs.is_dense() || !rhs.layout.tag().is_plain() {
            return self.layout_error(1, "weights of a convolution are dense, in the plain order `abx`");
        }
        let strides = dst.strides();
        let pixels: Vec<usize> = (2..dst.shape.len()).collect();
        if !is_one_axis(dst, &pixels) {
            return self.layout_error(
                2,
                "the pixels of an image of the result must be evenly apart, line after line: expected `axb`, channels innermost, \
                 `abx`, channels first, or strides with gaps between pixels, channels or images",
            );
        }
        let is_unit = |d: usize| dst.shape[d] == 1 || strides[d] == 1;
        if !is_unit(1) && pixels.iter().rfind(|d| dst.shape[**d] > 1).is_none_or(|d| strides[*d] != 1) {
            return self.layout_error(
                2,
                "channels or pixels of the result must be next to one another: expected `axb`, `abx`, or a stride of 1 along \
                 either",
            );
        }
        Ok(())
    }

    /// The error that no kernel takes an operand's layout.
    fn layout_error(&self, at: usize, why: &str) -> Result<(), ProblemError> {
        let (layout, (_, tag, name)) = (self.shared.layouts[at], LAID_OUT[at]);
        Err(match layout.gaps() {
            Some(strides) => ProblemError::Strides { name, strides: strides.to_string(), why: why.into() },
            None => ProblemError::Tag { name: tag, tag: layout.tag().to_string(), why: why.into() },
        })
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

/// Whether an operand's dimensions are one axis: in their own order, each continuing the next.
fn is_one_axis(operand: &Operand, dims: &[usize]) -> bool {
    let strides = operand.strides();
    let long: Vec<usize> = dims.iter().copied().filter(|d| operand.shape[*d] > 1).collect();
    long.windows(2).all(|w| strides[w[0]] == strides[w[1]] * operand.shape[w[1]])
}

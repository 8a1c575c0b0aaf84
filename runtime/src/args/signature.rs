//! The arguments that a kernel expects.

use std::sync::Arc;

use kiln_compiler::packed::PackedLayout;
use kiln_ir::elements::Elements;
use kiln_ir::{DType, Problem, Role};

use super::tensor::Input;
use crate::error::RuntimeError;
use crate::weights::{PackedWeights, describe};

/// The operands of a kernel, against which the arguments of each call are checked.
pub(crate) struct Signature {
    pub(super) problem: Problem,
    pub(super) slots: Box<[Slot]>,
    pub(super) packed: Option<PackedOperand>,
}

/// One operand in the order of the kernel's entry.
pub(super) struct Slot {
    pub(super) role: Role,
    name: Box<str>,
    dtype: DType,
    /// Elements from the first to one past the last.
    span: u64,
    /// Without gaps: memory of another length is another tensor.
    is_dense: bool,
    pub(super) is_bias: bool,
}

/// Weights that the kernel reads packed.
pub(super) struct PackedOperand {
    layout: Arc<PackedLayout>,
    /// Byte at which each region starts.
    offsets: Vec<u64>,
    /// The regions whose pointers follow those of the operands, in order.
    pub(super) further: Vec<usize>,
}

impl Signature {
    /// Of a kernel for `problem` that reads its weights in `layout`.
    pub(crate) fn new(problem: &Problem, layout: Option<&PackedLayout>) -> Self {
        let posts: Vec<_> = problem.epilogue().operands().collect();
        let slots = problem
            .operands()
            .iter()
            .map(|o| Slot {
                role: o.role,
                name: o.name.as_str().into(),
                dtype: o.dtype,
                span: o.span(),
                is_dense: o.is_dense(),
                is_bias: matches!(o.role, Role::Post(n) if posts.get(usize::from(n)).is_some_and(|p| p.is_bias())),
            })
            .collect();
        let packed = layout.map(|layout| {
            let (offsets, _) = layout.region_offsets();
            PackedOperand { layout: Arc::new(layout.clone()), offsets, further: layout.further_arguments() }
        });
        Self { problem: problem.clone(), slots, packed }
    }

    #[cold]
    pub(super) fn other_problem(&self, viewed: &Problem) -> RuntimeError {
        let expected = format!("views with the strides of `{}`", self.problem);
        RuntimeError::Argument { name: "lhs".into(), expected, got: format!("views that are those of `{viewed}`") }
    }

    /// The reason why the result's memory has to be initialised before the call; `None` if a call reads none of it and writes all of it.
    pub(super) fn needs_initialised(&self) -> Option<&'static str> {
        let has_gaps = self.slots.iter().any(|slot| slot.role == Role::Dst && !slot.is_dense);
        match (self.problem.accumulates(), has_gaps) {
            (true, _) => Some("adds to what it holds"),
            (_, true) => Some("leaves gaps between its elements as they are"),
            _ => None,
        }
    }

    /// The error for a tensor that no post-op reads.
    #[cold]
    pub(super) fn surplus(&self, is_bias: bool) -> RuntimeError {
        let posts = self.slots.iter().filter(|s| matches!(s.role, Role::Post(_))).count();
        let name = if is_bias { "bias" } else { "post_op" };
        let expected = match posts {
            0 => "none: no post-op of the problem reads a tensor".to_owned(),
            1 => "one: a single post-op of the problem reads a tensor".to_owned(),
            n => format!("{n}: so many post-ops of the problem read a tensor"),
        };
        RuntimeError::Argument { name: name.into(), expected, got: "one more".into() }
    }

    pub(crate) fn layout(&self) -> Option<&Arc<PackedLayout>> {
        self.packed.as_ref().map(|p| &p.layout)
    }

    /// The elements of `weights`. Fails unless these are the problem's right operand as it lies in memory.
    pub(crate) fn weights<'a>(&self, weights: Input<'a>) -> Result<Elements<'a>, RuntimeError> {
        let slot = self.slots.iter().find(|s| s.role == Role::Rhs).expect("every problem has weights");
        let Input::Plain(values) = weights else { return Err(slot.mismatch("packed weights".into())) };
        slot.check(values.dtype(), values.len()).map(|()| values)
    }
}

impl Slot {
    #[inline]
    pub(super) fn check(&self, dtype: DType, len: usize) -> Result<(), RuntimeError> {
        let is_long_enough = if self.is_dense { len as u64 == self.span } else { len as u64 >= self.span };
        if dtype == self.dtype && is_long_enough {
            return Ok(());
        }
        Err(self.mismatch(format!("{len} of {dtype}")))
    }

    #[cold]
    pub(super) fn mismatch(&self, got: String) -> RuntimeError {
        let least = if self.is_dense { "" } else { "at least " };
        let expected = format!("{least}{} elements of {}", self.span, self.dtype);
        RuntimeError::Argument { name: self.name.to_string(), expected, got }
    }
}

impl PackedOperand {
    #[inline]
    pub(super) fn region(&self, weights: &PackedWeights, region: usize) -> Result<*mut u8, RuntimeError> {
        let theirs = &weights.packing().layout;
        if !Arc::ptr_eq(theirs, &self.layout) && **theirs != *self.layout {
            return Err(RuntimeError::Weights { expected: self.text(), got: describe(theirs) });
        }
        // Within the buffer: layouts are equal, and the buffer is as long as its layout says.
        Ok(weights.as_bytes()[self.offsets[region] as usize..].as_ptr().cast_mut())
    }

    #[cold]
    pub(super) fn text(&self) -> String {
        describe(&self.layout)
    }
}

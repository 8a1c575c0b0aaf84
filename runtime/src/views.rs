//! `ndarray` views as arguments, with their shapes and strides checked against the problem's.

use half::bf16;
use kiln_ir::{Operand, Problem, Role};
use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::args::{Args, Input, Output};
use crate::error::RuntimeError;

/// What tensors consist of: f32 and [`bf16`].
pub trait Element: Sized + 'static {
    /// As a tensor that is read.
    fn input(values: &[Self]) -> Input<'_>;
    /// As a tensor that is written.
    fn output(values: &mut [Self]) -> Output<'_>;
}

macro_rules! elements {
    ($($element:ty),*) => { $(
        impl Element for $element {
            fn input(values: &[Self]) -> Input<'_> {
                values.into()
            }

            fn output(values: &mut [Self]) -> Output<'_> {
                values.into()
            }
        }
    )* };
}
elements!(f32, bf16);

impl<'a> Args<'a> {
    /// The operands every problem has, as views with the dimensions that the problem's operands have, in their order; their
    /// strides are those of the problem's tags, so that a transposed view goes where a tag says so. Views with other shapes
    /// or strides are refused with what was expected; nothing is copied.
    pub fn of_views<S: Element, W: Element, T: Element>(
        problem: &Problem,
        lhs: ArrayView<'a, S, impl Dimension>,
        rhs: ArrayView<'a, W, impl Dimension>,
        dst: ArrayViewMut<'a, T, impl Dimension>,
    ) -> Result<Self, RuntimeError> {
        let operands = problem.operands();
        let of = |role| operands.iter().find(|o| o.role == role).expect("every problem has the three");
        let (lhs, rhs) = (input(of(Role::Lhs), lhs)?, input(of(Role::Rhs), rhs)?);
        let expected = of(Role::Dst);
        check(expected, dst.shape(), dst.strides())?;
        let dst = dst.into_slice_memory_order().ok_or_else(|| mismatch(expected, "gaps between elements".into()))?;
        Ok(Args::new(lhs, rhs, T::output(dst)))
    }

    /// The tensor of the next post-op that reads one, as a view like [those](Self::of_views) of the others.
    pub fn operand_view<T: Element>(
        self,
        problem: &Problem,
        view: ArrayView<'a, T, impl Dimension>,
    ) -> Result<Self, RuntimeError> {
        let next = self.operands_given();
        let operand =
            problem.operands().into_iter().find(|o| matches!(o.role, Role::Post(n) if usize::from(n) == next));
        match operand {
            Some(operand) => Ok(self.operand(input(&operand, view)?)),
            // The call says that there is one too many.
            None => Ok(self.operand(T::input(&[]))),
        }
    }
}

fn input<'a, T: Element>(operand: &Operand, view: ArrayView<'a, T, impl Dimension>) -> Result<Input<'a>, RuntimeError> {
    check(operand, view.shape(), view.strides())?;
    let values = view.to_slice_memory_order().ok_or_else(|| mismatch(operand, "gaps between elements".into()))?;
    Ok(T::input(values))
}

fn check(operand: &Operand, shape: &[usize], strides: &[isize]) -> Result<(), RuntimeError> {
    let is_shape = shape.iter().map(|n| *n as u64).eq(operand.shape.iter().copied());
    // Where there is one element the stride says nothing.
    let mut pairs = shape.iter().zip(strides.iter().zip(operand.strides()));
    if is_shape && pairs.all(|(extent, (own, expected))| *extent == 1 || u64::try_from(*own) == Ok(expected)) {
        return Ok(());
    }
    Err(mismatch(operand, format!("{shape:?} with strides {strides:?}")))
}

#[cold]
fn mismatch(operand: &Operand, got: String) -> RuntimeError {
    let expected = format!("{:?} with strides {:?} (`{}`)", operand.shape, operand.strides(), operand.tag);
    RuntimeError::Argument { name: operand.name.clone(), expected, got }
}

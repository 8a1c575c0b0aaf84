//! `ndarray` views as arguments, read and written where they are, and the problems of given views.
//!
//! ```
//! use kiln_jit::{Args, Problem, Runtime, views};
//! use ndarray::{Array2, s};
//!
//! let (lhs, weights) = (Array2::<f32>::ones((8, 6)), Array2::<f32>::ones((6, 7)));
//! let mut dst = Array2::<f32>::zeros((4, 10));
//! // Every second row of lhs, and seven of the ten columns of dst.
//! let (lhs, mut columns) = (lhs.slice(s![..;2, ..]), dst.slice_mut(s![.., 1..8]));
//!
//! let problem = views::matmul(&lhs, &weights.view(), &columns.view())?.relu().build()?;
//! assert_eq!(problem.to_string(), "matmul f32 4x6:6x7 strides=12x1::10x1 +relu");
//! let args = Args::of_views(&problem, lhs, weights.view(), columns.view_mut())?;
//! Runtime::builder().build()?.kernel(&problem)?.run(args)?;
//! assert_eq!(dst.row(3), ndarray::arr1(&[0.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 0.0, 0.0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use half::{bf16, f16};
use kiln_compiler::CompileError;
use kiln_ir::op::Matmul;
use kiln_ir::problem::Builder;
use kiln_ir::{DType, DTypes, Op, Operand, Problem, Role};
use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::args::{Args, Input, Output, Raw, RawWeights};
use crate::error::RuntimeError;
use crate::weights::PackedWeights;

/// The elements of tensors: f32, [`bf16`] and [`f16`], and no types of other crates, since views are read and written as the type that they say.
pub trait Element: sealed::Sealed + Sized + 'static {
    /// Its type in problems.
    const DTYPE: DType;

    /// As a tensor that is read.
    fn input(values: &[Self]) -> Input<'_>;
    /// As a tensor that is written.
    fn output(values: &mut [Self]) -> Output<'_>;
}

mod sealed {
    /// A trait that only this module implements.
    pub trait Sealed {}
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),*) => { $(
        impl sealed::Sealed for $element {}

        impl Element for $element {
            const DTYPE: DType = DType::$dtype;

            fn input(values: &[Self]) -> Input<'_> {
                values.into()
            }

            fn output(values: &mut [Self]) -> Output<'_> {
                values.into()
            }
        }
    )* };
}
elements!(f32 => F32, bf16 => Bf16, f16 => F16);

/// The product of views, without post-ops: rows and columns are the last two dimensions, those before them a batch, which may
/// have an extent of 1 on one side. Strides are the views'.
pub fn matmul<S: Element, W: Element, T: Element>(
    lhs: &ArrayView<'_, S, impl Dimension>,
    rhs: &ArrayView<'_, W, impl Dimension>,
    dst: &ArrayView<'_, T, impl Dimension>,
) -> Result<Builder, RuntimeError> {
    let dims = |shape: &[usize]| shape.iter().map(|n| *n as u64).collect::<Vec<u64>>();
    let (left, right) = (dims(lhs.shape()), dims(rhs.shape()));
    let ([left_batch @ .., m, k], [right_batch @ .., depth, n]) = (&left[..], &right[..]) else {
        let (name, got) = if left.len() < 2 { ("lhs", &left) } else { ("rhs", &right) };
        return Err(argument(name, "a matrix, perhaps with a batch before it", format!("a view of shape {got:?}")));
    };
    if k != depth {
        return Err(argument("rhs", &format!("{k} rows, as lhs has columns"), format!("{depth}")));
    }
    let op = Op::Matmul(Matmul::new(*m, *k, *n).batched(left_batch, right_batch).map_err(problem_error)?);
    if op.shape(Role::Dst) != dims(dst.shape()) {
        return Err(argument(
            "dst",
            &format!("a view of shape {:?}", op.shape(Role::Dst)),
            format!("{:?}", dst.shape()),
        ));
    }
    let builder = Builder::new(op).dtypes(DTypes { src: S::DTYPE, weights: W::DTYPE, dst: T::DTYPE });
    let builder = strided(builder, Role::Lhs, "lhs", lhs.shape(), lhs.strides())?;
    let builder = strided(builder, Role::Rhs, "rhs", rhs.shape(), rhs.strides())?;
    strided(builder, Role::Dst, "dst", dst.shape(), dst.strides())
}

/// `problem` with the strides of views in place of its own: the problem that reads and writes them where they are. Fails if
/// their shapes are not those of its operands.
pub fn with_strides<S: Element, W: Element, T: Element>(
    problem: &Problem,
    lhs: &ArrayView<'_, S, impl Dimension>,
    rhs: &ArrayView<'_, W, impl Dimension>,
    dst: &ArrayView<'_, T, impl Dimension>,
) -> Result<Problem, RuntimeError> {
    let mut builder = Builder::new(problem.op()).dtypes(problem.dtypes()).epilogue(problem.epilogue().ops().to_vec());
    if problem.accumulates() {
        builder = builder.accumulate();
    }
    if let Some(mode) = problem.fpmath() {
        builder = builder.math(mode);
    }
    let views = [
        (Role::Lhs, "lhs", lhs.shape(), lhs.strides()),
        (Role::Rhs, "rhs", rhs.shape(), rhs.strides()),
        (Role::Dst, "dst", dst.shape(), dst.strides()),
    ];
    for (role, name, shape, strides) in views {
        if !is_shape(&problem.op().shape(role), shape) {
            let expected = format!("a view of shape {:?}", problem.op().shape(role));
            return Err(argument(name, &expected, format!("{shape:?}")));
        }
        builder = strided(builder, role, name, shape, strides)?;
    }
    builder.build().map_err(problem_error)
}

/// A builder with the strides of a view.
fn strided(
    builder: Builder,
    role: Role,
    name: &str,
    shape: &[usize],
    strides: &[isize],
) -> Result<Builder, RuntimeError> {
    // Where there is one element the stride says nothing.
    let stride = |(extent, stride): (&usize, &isize)| if *extent == 1 { Some(0) } else { u64::try_from(*stride).ok() };
    match shape.iter().zip(strides).map(stride).collect::<Option<Vec<u64>>>() {
        Some(strides) => Ok(builder.strides(role, &strides)),
        None => Err(argument(name, "strides that are positive", format!("{shape:?} with strides {strides:?}"))),
    }
}

fn problem_error(e: kiln_ir::ProblemError) -> RuntimeError {
    CompileError::Problem(e).into()
}

impl<'a> Args<'a> {
    /// The operands every problem has, as views with the dimensions that the problem's operands have, in their order; their
    /// strides are those of the problem, by its tags or its `strides`, so that a transposed view goes where a tag says so and a
    /// part of an array where strides do. Views with other shapes or strides are refused with what was expected; nothing is
    /// copied. Kernels of another problem refuse views that have gaps. [`matmul`] and [`with_strides`] make the problem of given
    /// views.
    pub fn of_views<S: Element, W: Element, T: Element>(
        problem: &Problem,
        lhs: ArrayView<'a, S, impl Dimension>,
        rhs: ArrayView<'a, W, impl Dimension>,
        dst: ArrayViewMut<'a, T, impl Dimension>,
    ) -> Result<Self, RuntimeError> {
        let weights = of(problem, Role::Rhs);
        check::<W>(&weights, rhs.shape(), rhs.strides())?;
        let rhs = RawWeights::InPlace(raw(&weights, rhs.as_ptr().cast_mut().cast()));
        // SAFETY: the view borrows its elements for `'a`, and their places are those of the problem's operand, which were compared.
        unsafe { Self::of_views_and(problem, lhs, rhs, dst) }
    }

    /// [`of_views`](Self::of_views) for kernels that read packed weights.
    pub fn of_views_packed<S: Element, T: Element>(
        problem: &Problem,
        lhs: ArrayView<'a, S, impl Dimension>,
        rhs: &'a PackedWeights,
        dst: ArrayViewMut<'a, T, impl Dimension>,
    ) -> Result<Self, RuntimeError> {
        // SAFETY: packed weights are borrowed for `'a`.
        unsafe { Self::of_views_and(problem, lhs, RawWeights::Packed(rhs), dst) }
    }

    /// # Safety
    /// `rhs` points to the problem's right operand, which is borrowed for `'a`.
    unsafe fn of_views_and<S: Element, T: Element>(
        problem: &Problem,
        lhs: ArrayView<'a, S, impl Dimension>,
        rhs: RawWeights<'a>,
        mut dst: ArrayViewMut<'a, T, impl Dimension>,
    ) -> Result<Self, RuntimeError> {
        let (left, result) = (of(problem, Role::Lhs), of(problem, Role::Dst));
        check::<S>(&left, lhs.shape(), lhs.strides())?;
        check::<T>(&result, dst.shape(), dst.strides())?;
        let (lhs, dst) = (raw(&left, lhs.as_ptr().cast_mut().cast()), raw(&result, dst.as_mut_ptr().cast()));
        // SAFETY: a view borrows its elements for `'a`, that of `dst` alone, and their places are those of the problem's operand:
        // shape and positive strides were compared, so the first element is at the lowest address. The caller answers for `rhs`.
        // A kernel of this problem uses no other elements. One of another problem is refused by `viewed_as`, unless there are no
        // gaps: then the view has all of the span, which the call compares.
        let args = unsafe { Args::from_raw(lhs, rhs, dst) };
        // Memory without gaps is all the view's, whatever a kernel reads of it.
        let is_dense = problem.operands().iter().all(Operand::is_dense);
        Ok(if is_dense { args } else { args.viewed_as(problem) })
    }

    /// The tensor of the next post-op that reads one, as a view like [those](Self::of_views) of the others. It is dense.
    pub fn post_op_view<T: Element>(
        self,
        problem: &Problem,
        view: ArrayView<'a, T, impl Dimension>,
    ) -> Result<Self, RuntimeError> {
        let next = self.post_ops_given();
        let operand =
            problem.operands().into_iter().find(|o| matches!(o.role, Role::Post(n) if usize::from(n) == next));
        match operand {
            Some(operand) => {
                check::<T>(&operand, view.shape(), view.strides())?;
                let values = view.to_slice_memory_order();
                let values = values.ok_or_else(|| mismatch(&operand, "gaps between elements".into()))?;
                Ok(self.post_op(T::input(values)))
            }
            // The call says that there is one too many.
            None => Ok(self.post_op(T::input(&[]))),
        }
    }
}

/// The operand of a role that every problem has.
fn of(problem: &Problem, role: Role) -> Operand {
    problem.operands().into_iter().find(|o| o.role == role).expect("every problem has the three")
}

/// An operand by the address of its first element.
fn raw(operand: &Operand, first: *mut u8) -> Raw {
    Raw { first, dtype: operand.dtype, span: operand.span() as usize }
}

fn is_shape(expected: &[u64], shape: &[usize]) -> bool {
    shape.iter().map(|n| *n as u64).eq(expected.iter().copied())
}

/// True if a view is of the operand's elements.
fn check<T: Element>(operand: &Operand, shape: &[usize], strides: &[isize]) -> Result<(), RuntimeError> {
    if T::DTYPE != operand.dtype {
        let expected = format!("elements of {}", operand.dtype);
        return Err(argument(&operand.name, &expected, format!("elements of {}", T::DTYPE)));
    }
    // Where there is one element the stride says nothing.
    let mut pairs = shape.iter().zip(strides.iter().zip(operand.strides()));
    let is_strided =
        |(extent, (own, expected)): (&usize, (&isize, u64))| *extent == 1 || u64::try_from(*own) == Ok(expected);
    if is_shape(&operand.shape, shape) && pairs.all(is_strided) {
        return Ok(());
    }
    Err(mismatch(operand, format!("{shape:?} with strides {strides:?}")))
}

#[cold]
fn mismatch(operand: &Operand, got: String) -> RuntimeError {
    let why = if operand.is_dense() { format!(" (`{}`)", operand.layout.tag()) } else { String::new() };
    let expected = format!("{:?} with strides {:?}{why}", operand.shape, operand.strides());
    argument(&operand.name, &expected, got)
}

#[cold]
fn argument(name: &str, expected: &str, got: String) -> RuntimeError {
    RuntimeError::Argument { name: name.into(), expected: expected.into(), got }
}

//! The arguments of a call.

mod inline;
mod signature;
mod tensor;
mod weights;

use std::marker::PhantomData;

use inline::Inline;
use kiln_ir::{DType, Problem, Role};
pub(crate) use signature::Signature;
pub use tensor::{Input, Output};
pub use weights::PreparedWeights;

use crate::error::RuntimeError;
use crate::weights::PackedWeights;

/// A tensor by its address, where no slice may span it: between elements that are apart may be what others write.
#[derive(Clone, Copy, Debug)]
pub struct Raw {
    /// Its first element.
    pub first: *mut u8,
    /// The type of its elements.
    pub dtype: DType,
    /// Elements from the first to one past the last, gaps included.
    pub span: usize,
}

/// The weights of a call by address.
#[derive(Clone, Copy, Debug)]
pub enum RawWeights<'a> {
    /// Where they are.
    InPlace(Raw),
    /// In a kernel's own order.
    Packed(&'a PackedWeights),
}

/// The tensors of one call: the two factors and the result, then the tensors that post-ops read, in their order. Borrowing rules out
/// aliasing of the result; element types, lengths and number are checked by the call.
///
/// ```
/// use kiln_jit::{Args, Problem, Runtime};
///
/// let runtime = Runtime::builder().build()?;
/// let problem: Problem = "matmul f32 1x2:2x2 +bias+add:ab+relu".parse()?;
/// let (lhs, rhs, bias, residual) = ([1.0, 2.0], [1.0, 0.0, 0.0, 1.0], [10.0, -10.0], [0.5, 0.25]);
/// let mut dst = [0.0; 2];
/// runtime.kernel(&problem)?.run(Args::new(&lhs, &rhs, &mut dst).bias(&bias).post_op(&residual))?;
/// assert_eq!(dst, [11.5, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The result may be written to memory that is not initialised. When the call returns `Ok`, every element is:
///
/// ```
/// # use kiln_jit::{Args, Problem, Runtime};
/// # let runtime = Runtime::builder().build()?;
/// # let kernel = runtime.kernel(&"matmul f32 1x2:2x2".parse()?)?;
/// let mut dst: Vec<f32> = Vec::with_capacity(2);
/// kernel.run(Args::new(&[1.0, 2.0], &[1.0, 0.0, 0.0, 1.0], &mut dst.spare_capacity_mut()[..2]))?;
/// // SAFETY: the call succeeded, so it wrote both elements.
/// unsafe { dst.set_len(2) };
/// assert_eq!(dst, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A call gives [`RuntimeError::Argument`] for a tensor of another type or length than the problem says, for one that is missing and
/// for one too many; [`RuntimeError::Weights`] for weights that are not packed as the kernel reads them; and
/// [`RuntimeError::Uninitialised`] for memory of the result that has to be initialised: where the problem has `beta=1`, which reads it,
/// and where the result has strides with gaps, which are not written.
#[derive(Debug)]
pub struct Args<'a> {
    lhs: Tensor<Input<'a>>,
    rhs: Tensor<Input<'a>>,
    post: Inline<Post<'a>, INLINE>,
    dst: Tensor<Output<'a>>,
    /// The problem whose strides the raw tensors were found to have; `None` if someone answers for that.
    viewed: Option<Problem>,
}

/// An operand of a call.
#[derive(Clone, Copy, Debug)]
enum Tensor<T> {
    Whole(T),
    Raw(Raw),
}

// SAFETY: a raw tensor is one that was borrowed for as long as the arguments, or whose owner answers for it as if it were
// (`Args::from_raw`): what slices may do on other threads, they may.
unsafe impl<T: Send> Send for Tensor<T> {}
// SAFETY: as above; nothing is read or written through a shared reference to it.
unsafe impl<T: Sync> Sync for Tensor<T> {}

/// The tensor of a post-op, and whether it was said to be a bias.
#[derive(Clone, Copy, Debug)]
struct Post<'a> {
    tensor: Input<'a>,
    is_bias: bool,
}

impl<'a> Args<'a> {
    /// The tensors that every problem has: `dst` becomes the product of `lhs` and `rhs`, which are source and weights of an inner product
    /// or a convolution. It is overwritten, or added to where the problem has `beta=1`. `rhs` may be what
    /// [`Kernel::prepare_weights`](crate::Kernel::prepare_weights) gives, or [packed](PackedWeights), where the kernel
    /// [reads such weights](crate::Kernel::weights_layout).
    pub fn new(lhs: impl Into<Input<'a>>, rhs: impl Into<Input<'a>>, dst: impl Into<Output<'a>>) -> Self {
        Self::of(Tensor::Whole(lhs.into()), Tensor::Whole(rhs.into()), Tensor::Whole(dst.into()))
    }

    /// The operands every problem has, by address.
    ///
    /// # Safety
    /// During `'a`, where these are arguments of a kernel, the elements that the operand has in the kernel's problem can be
    /// read, or written in `dst`'s case, at these addresses, which are aligned for them. Nobody else writes them, or uses those
    /// of `dst`, and `dst` has no element of an input. Of gaps between elements nothing is asked. The call checks types, and
    /// that each span is as long as the operand's.
    pub unsafe fn from_raw(lhs: Raw, rhs: RawWeights<'a>, dst: Raw) -> Self {
        let rhs = match rhs {
            RawWeights::InPlace(raw) => Tensor::Raw(raw),
            RawWeights::Packed(packed) => Tensor::Whole(Input::Packed(packed)),
        };
        Self::of(Tensor::Raw(lhs), rhs, Tensor::Raw(dst))
    }

    fn of(lhs: Tensor<Input<'a>>, rhs: Tensor<Input<'a>>, dst: Tensor<Output<'a>>) -> Self {
        let nothing = Post { tensor: Input::from(&[0f32; 0]), is_bias: false };
        Self { lhs, rhs, post: Inline::new(nothing), dst, viewed: None }
    }

    /// The same for kernels of `problem` alone, whose strides the raw tensors have.
    #[cfg(feature = "ndarray")]
    pub(crate) fn viewed_as(self, problem: &Problem) -> Self {
        Self { viewed: Some(problem.clone()), ..self }
    }

    /// The tensor of the next post-op that reads one, which must be a bias.
    pub fn bias(mut self, bias: impl Into<Input<'a>>) -> Self {
        self.post.push(Post { tensor: bias.into(), is_bias: true });
        self
    }

    /// The tensor of the next post-op that reads one, such as the residual of `+add:ab`. For a bias, [`bias`](Self::bias) also checks that
    /// the post-op is one.
    pub fn post_op(mut self, tensor: impl Into<Input<'a>>) -> Self {
        self.post.push(Post { tensor: tensor.into(), is_bias: false });
        self
    }

    /// Tensors of post-ops so far.
    #[cfg(feature = "ndarray")]
    pub(crate) fn post_ops_given(&self) -> usize {
        self.post.as_slice().len()
    }

    /// Pointers in the order of the kernel's entry, if every tensor is what the kernel expects and none is missing or too many.
    #[inline]
    pub(crate) fn pointers(mut self, expected: &Signature) -> Result<Pointers<'a>, RuntimeError> {
        if let Some(viewed) = self.viewed.as_ref().filter(|viewed| !viewed.eq_ignoring_fpmath(&expected.problem)) {
            return Err(expected.other_problem(viewed));
        }
        let mut pointers = Inline::new(std::ptr::null_mut());
        let mut post = self.post.as_slice().iter();
        for slot in &expected.slots {
            let input = match slot.role {
                Role::Lhs => self.lhs,
                Role::Rhs => match (self.rhs, &expected.packed) {
                    (Tensor::Whole(Input::Packed(weights)), Some(packed)) => {
                        pointers.push(packed.region(weights, 0)?);
                        continue;
                    }
                    (Tensor::Whole(Input::Packed(_)), None) => {
                        return Err(slot.mismatch("packed weights: this kernel reads them in place".into()));
                    }
                    (_, Some(packed)) => {
                        return Err(RuntimeError::Weights {
                            expected: packed.text(),
                            got: "weights that are not packed".into(),
                        });
                    }
                    (rhs, None) => rhs,
                },
                Role::Post(_) => match post.next() {
                    Some(Post { is_bias: true, .. }) if !slot.is_bias => {
                        return Err(slot.mismatch("a bias; `Args::post_op` passes other tensors".into()));
                    }
                    Some(p) => Tensor::Whole(p.tensor),
                    None => return Err(slot.mismatch("none".into())),
                },
                Role::Dst => {
                    let (pointer, dtype, len, is_initialised) = match &mut self.dst {
                        Tensor::Whole(output) => {
                            let (first, len, is_initialised) = output.raw();
                            (first, output.dtype, len, is_initialised)
                        }
                        Tensor::Raw(raw) => (raw.first, raw.dtype, raw.span, true),
                    };
                    slot.check(dtype, len)?;
                    if !is_initialised && let Some(why) = expected.needs_initialised() {
                        return Err(RuntimeError::Uninitialised { problem: Box::new(expected.problem.clone()), why });
                    }
                    pointers.push(pointer);
                    continue;
                }
            };
            let plain = match input {
                Tensor::Whole(input) => input.plain(),
                Tensor::Raw(raw) => Some((raw.first, raw.dtype, raw.span)),
            };
            let Some((pointer, dtype, len)) = plain else {
                return Err(slot.mismatch("packed weights".into()));
            };
            slot.check(dtype, len)?;
            pointers.push(pointer);
        }
        if let Some(more) = post.next() {
            return Err(expected.surplus(more.is_bias));
        }
        if let (Some(packed), Tensor::Whole(Input::Packed(weights))) = (&expected.packed, self.rhs) {
            for region in &packed.further {
                pointers.push(packed.region(weights, *region)?);
            }
        }
        Ok(Pointers { all: pointers, tensors: PhantomData })
    }
}

/// Pointers without an allocation for up to so many.
const INLINE: usize = 8;

/// Checked arguments of a kernel, which borrow the tensors that they point to.
#[derive(Debug)]
pub struct Pointers<'a> {
    all: Inline<*mut u8, INLINE>,
    tensors: PhantomData<Args<'a>>,
}

impl Pointers<'_> {
    /// One pointer per argument of the kernel's entry, in order.
    #[inline]
    pub fn as_slice(&self) -> &[*mut u8] {
        self.all.as_slice()
    }
}

/// The pointers of one call for the threads that it is divided among.
pub(crate) struct Divided<'a>(&'a [*mut u8]);

// SAFETY: the threads of a call only copy the pointers. What they do with what these point to is theirs to argue: they share
// what is read, and write distinct elements of `dst`.
unsafe impl Sync for Divided<'_> {}

impl<'a> Divided<'a> {
    pub(crate) fn new(pointers: &'a [*mut u8]) -> Self {
        Divided(pointers)
    }

    pub(crate) fn pointers(&self) -> &[*mut u8] {
        self.0
    }
}
#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn name_of(problem: &str, args: Args<'_>) -> String {
        let problem: Problem = problem.parse().unwrap();
        match args.pointers(&Signature::new(&problem, None)) {
            Ok(pointers) => format!("{} pointers", pointers.as_slice().len()),
            Err(RuntimeError::Argument { name, .. }) => name,
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn tensors_are_matched_in_the_order_of_the_chain() {
        const PROBLEM: &str = "matmul bf16:bf16:f32 2x3:3x4 +bias+add:ab+mul:b";
        let (lhs, rhs, bias, add, mul) = ([bf16::ONE; 6], [bf16::ONE; 12], [1.0f32; 4], [1.0; 8], vec![1.0; 4]);
        let mut dst = vec![0.0; 8];
        let mut args = |n: usize| {
            let args = Args::new(&lhs, &rhs, &mut dst);
            let args = if n > 0 { args.bias(&bias) } else { args };
            let args = if n > 1 { args.post_op(&add) } else { args };
            let args = if n > 2 { args.post_op(&mul) } else { args };
            let args = if n > 3 { args.post_op(&mul) } else { args };
            name_of(PROBLEM, args)
        };
        assert_eq!([0, 1, 2, 3, 4].map(&mut args), ["bias", "add", "mul", "6 pointers", "post_op"]);
        let swapped = Args::new(&lhs, &rhs, &mut dst).bias(&bias).bias(&add);
        assert_eq!(name_of(PROBLEM, swapped), "add");
        let wrong = Args::new(&add[..6], &rhs, &mut dst).bias(&bias).post_op(&add).post_op(&mul);
        assert_eq!(name_of(PROBLEM, wrong), "lhs");
        let mut short = [bf16::ONE; 8];
        let wrong = Args::new(&lhs, &rhs, &mut short).bias(&bias).post_op(&add).post_op(&mul);
        assert_eq!(name_of(PROBLEM, wrong), "dst");
    }

    #[test]
    fn a_chain_of_32_operands_has_35_pointers() {
        let problem = format!("matmul f32 1x1:1x1 {}", "+add:ab".repeat(32));
        let one = [1.0];
        let mut dst = [0.0];
        let args = (0..32).fold(Args::new(&one, &one, &mut dst), |args, _| args.post_op(&one));
        assert_eq!(name_of(&problem, args), "35 pointers");
    }
}

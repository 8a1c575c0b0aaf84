//! The arguments of a call.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Arc;

use half::{bf16, f16};
use kiln_compiler::packed::{PackedLayout, Weights};
use kiln_ir::{DType, Problem, Role};

use crate::error::RuntimeError;
use crate::weights::PackedWeights;

/// A tensor that a call reads, in the memory order its operand has in the problem. Made [from](From) slices, arrays and vectors of `f32`,
/// [`bf16`] and [`f16`](struct@f16), from [`PackedWeights`] and from [`PreparedWeights`](crate::PreparedWeights). The slice of a dense operand has as many
/// elements as the operand; that of an operand with strides begins with its first element and reaches to its last at least.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// f32.
    F32(&'a [f32]),
    /// bf16.
    Bf16(&'a [bf16]),
    /// f16.
    F16(&'a [f16]),
    /// Weights in a kernel's own order.
    Packed(&'a PackedWeights),
}

/// The tensor that a call writes. Made [from](From) slices, arrays and vectors of `f32`, [`bf16`] and [`f16`](struct@f16), and from slices and
/// arrays of [`MaybeUninit`] of these: memory that nobody has written yet, as [`Args`] says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output<'a> {
    /// f32.
    F32(&'a mut [f32]),
    /// bf16.
    Bf16(&'a mut [bf16]),
    /// f16.
    F16(&'a mut [f16]),
    /// f32 in memory that need not be initialised.
    UninitF32(&'a mut [MaybeUninit<f32>]),
    /// bf16 in memory that need not be initialised.
    UninitBf16(&'a mut [MaybeUninit<bf16>]),
    /// f16 in memory that need not be initialised.
    UninitF16(&'a mut [MaybeUninit<f16>]),
}

macro_rules! tensors {
    ($($element:ty => $variant:ident, $uninit:ident);*) => { $(
        impl<'a> From<&'a [$element]> for Input<'a> {
            fn from(values: &'a [$element]) -> Self {
                Input::$variant(values)
            }
        }
        impl<'a> From<&'a Vec<$element>> for Input<'a> {
            fn from(values: &'a Vec<$element>) -> Self {
                Input::$variant(values)
            }
        }
        impl<'a, const N: usize> From<&'a [$element; N]> for Input<'a> {
            fn from(values: &'a [$element; N]) -> Self {
                Input::$variant(values)
            }
        }
        impl<'a> From<&'a mut [$element]> for Output<'a> {
            fn from(values: &'a mut [$element]) -> Self {
                Output::$variant(values)
            }
        }
        impl<'a> From<&'a mut Vec<$element>> for Output<'a> {
            fn from(values: &'a mut Vec<$element>) -> Self {
                Output::$variant(values)
            }
        }
        impl<'a, const N: usize> From<&'a mut [$element; N]> for Output<'a> {
            fn from(values: &'a mut [$element; N]) -> Self {
                Output::$variant(values)
            }
        }
        impl<'a> From<&'a mut [MaybeUninit<$element>]> for Output<'a> {
            fn from(values: &'a mut [MaybeUninit<$element>]) -> Self {
                Output::$uninit(values)
            }
        }
        impl<'a, const N: usize> From<&'a mut [MaybeUninit<$element>; N]> for Output<'a> {
            fn from(values: &'a mut [MaybeUninit<$element>; N]) -> Self {
                Output::$uninit(values)
            }
        }
    )* };
}
tensors!(f32 => F32, UninitF32; bf16 => Bf16, UninitBf16; f16 => F16, UninitF16);

impl<'a> From<&'a PackedWeights> for Input<'a> {
    fn from(weights: &'a PackedWeights) -> Self {
        Input::Packed(weights)
    }
}

impl Input<'_> {
    /// Pointer, element type and length; `None` of packed weights.
    fn plain(self) -> Option<(*mut u8, DType, usize)> {
        match self {
            Input::F32(v) => Some((v.as_ptr().cast_mut().cast(), DType::F32, v.len())),
            Input::Bf16(v) => Some((v.as_ptr().cast_mut().cast(), DType::Bf16, v.len())),
            Input::F16(v) => Some((v.as_ptr().cast_mut().cast(), DType::F16, v.len())),
            Input::Packed(_) => None,
        }
    }
}

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
        let nothing = Post { tensor: Input::F32(&[]), is_bias: false };
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
                        Tensor::Whole(Output::F32(v)) => (v.as_mut_ptr().cast(), DType::F32, v.len(), true),
                        Tensor::Whole(Output::Bf16(v)) => (v.as_mut_ptr().cast(), DType::Bf16, v.len(), true),
                        Tensor::Whole(Output::F16(v)) => (v.as_mut_ptr().cast(), DType::F16, v.len(), true),
                        Tensor::Whole(Output::UninitF32(v)) => (v.as_mut_ptr().cast(), DType::F32, v.len(), false),
                        Tensor::Whole(Output::UninitBf16(v)) => (v.as_mut_ptr().cast(), DType::Bf16, v.len(), false),
                        Tensor::Whole(Output::UninitF16(v)) => (v.as_mut_ptr().cast(), DType::F16, v.len(), false),
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
            return Err(surplus(more.is_bias, expected));
        }
        if let (Some(packed), Tensor::Whole(Input::Packed(weights))) = (&expected.packed, self.rhs) {
            for region in &packed.further {
                pointers.push(packed.region(weights, *region)?);
            }
        }
        Ok(Pointers { all: pointers, tensors: PhantomData })
    }
}

/// What a kernel expects of its arguments.
pub(crate) struct Signature {
    problem: Problem,
    slots: Box<[Slot]>,
    packed: Option<Packed>,
}

struct Slot {
    role: Role,
    name: Box<str>,
    dtype: DType,
    /// Elements from the first to one past the last.
    span: u64,
    /// Without gaps: memory of another length is another tensor.
    is_dense: bool,
    is_bias: bool,
}

struct Packed {
    layout: Arc<PackedLayout>,
    /// Byte at which each region starts.
    offsets: Vec<u64>,
    /// The regions whose pointers follow those of the operands, in order.
    further: Vec<usize>,
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
            Packed { layout: Arc::new(layout.clone()), offsets, further: layout.further_arguments() }
        });
        Self { problem: problem.clone(), slots, packed }
    }

    #[cold]
    fn other_problem(&self, viewed: &Problem) -> RuntimeError {
        let expected = format!("views with the strides of `{}`", self.problem);
        RuntimeError::Argument { name: "lhs".into(), expected, got: format!("views that are those of `{viewed}`") }
    }

    /// Why the result's memory has to be initialised before the call; `None` if a call reads none of it and writes all of it.
    fn needs_initialised(&self) -> Option<&'static str> {
        let has_gaps = self.slots.iter().any(|slot| slot.role == Role::Dst && !slot.is_dense);
        match (self.problem.accumulates(), has_gaps) {
            (true, _) => Some("adds to what it holds"),
            (_, true) => Some("leaves gaps between its elements as they are"),
            _ => None,
        }
    }

    pub(crate) fn layout(&self) -> Option<&Arc<PackedLayout>> {
        self.packed.as_ref().map(|p| &p.layout)
    }

    /// Whether `weights` are the problem's right operand as it lies in memory.
    pub(crate) fn weights<'a>(&self, weights: Input<'a>) -> Result<Weights<'a>, RuntimeError> {
        let slot = self.slots.iter().find(|s| s.role == Role::Rhs).expect("every problem has weights");
        let (dtype, len, values) = match weights {
            Input::F32(v) => (DType::F32, v.len(), Weights::F32(v)),
            Input::Bf16(v) => (DType::Bf16, v.len(), Weights::Bf16(v)),
            Input::F16(v) => (DType::F16, v.len(), Weights::F16(v)),
            Input::Packed(_) => return Err(slot.mismatch("packed weights".into())),
        };
        slot.check(dtype, len).map(|()| values)
    }
}

impl Slot {
    #[inline]
    fn check(&self, dtype: DType, len: usize) -> Result<(), RuntimeError> {
        let is_long_enough = if self.is_dense { len as u64 == self.span } else { len as u64 >= self.span };
        if dtype == self.dtype && is_long_enough {
            return Ok(());
        }
        Err(self.mismatch(format!("{len} of {dtype}")))
    }

    #[cold]
    fn mismatch(&self, got: String) -> RuntimeError {
        let least = if self.is_dense { "" } else { "at least " };
        let expected = format!("{least}{} elements of {}", self.span, self.dtype);
        RuntimeError::Argument { name: self.name.to_string(), expected, got }
    }
}

impl Packed {
    #[inline]
    fn region(&self, weights: &PackedWeights, region: usize) -> Result<*mut u8, RuntimeError> {
        let theirs = &weights.packing().layout;
        if !Arc::ptr_eq(theirs, &self.layout) && **theirs != *self.layout {
            return Err(RuntimeError::Weights { expected: self.text(), got: describe(theirs) });
        }
        // Within the buffer: layouts are equal, and the buffer is as long as its layout says.
        Ok(weights.as_bytes()[self.offsets[region] as usize..].as_ptr().cast_mut())
    }

    #[cold]
    fn text(&self) -> String {
        describe(&self.layout)
    }
}

/// A layout in the words of an error message.
pub(crate) fn describe(layout: &PackedLayout) -> String {
    let regions = layout.regions.iter().map(|r| {
        let interleave = if r.shape.interleave > 1 { format!(" by {}", r.shape.interleave) } else { String::new() };
        format!("{} to {} in panels of {}{interleave}", r.start, r.end, r.width)
    });
    let batch = layout.batch.iter().map(|b| format!("{b} x ")).collect::<String>();
    let regions = regions.collect::<Vec<_>>().join(", ");
    let taps = if layout.taps > 1 { format!("{} taps of ", layout.taps) } else { String::new() };
    format!("{} weights of {batch}{taps}{}x{} packed with columns {regions}", layout.dtype(), layout.k, layout.n)
}

#[cold]
fn surplus(is_bias: bool, expected: &Signature) -> RuntimeError {
    let posts = expected.slots.iter().filter(|s| matches!(s.role, Role::Post(_))).count();
    let name = if is_bias { "bias" } else { "post_op" };
    let expected = match posts {
        0 => "none: no post-op of the problem reads a tensor".to_owned(),
        1 => "one: a single post-op of the problem reads a tensor".to_owned(),
        n => format!("{n}: so many post-ops of the problem read a tensor"),
    };
    RuntimeError::Argument { name: name.into(), expected, got: "one more".into() }
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

/// A list that allocates from its `N + 1`st element on.
#[derive(Debug)]
struct Inline<T, const N: usize> {
    len: usize,
    first: [T; N],
    /// All elements, once there are more than `N`.
    all: Vec<T>,
}

impl<T: Copy, const N: usize> Inline<T, N> {
    #[inline]
    fn new(filler: T) -> Self {
        Self { len: 0, first: [filler; N], all: Vec::new() }
    }

    #[inline]
    fn push(&mut self, value: T) {
        if self.len < N {
            self.first[self.len] = value;
        } else {
            self.spill(value);
        }
        self.len += 1;
    }

    #[cold]
    fn spill(&mut self, value: T) {
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.push(value);
    }

    #[inline]
    fn as_slice(&self) -> &[T] {
        if self.len <= N { &self.first[..self.len] } else { &self.all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_keeps_its_order() {
        let mut list = Inline::<u32, 3>::new(0);
        for n in 0..10 {
            assert_eq!(list.as_slice(), (0..n).collect::<Vec<_>>());
            assert_eq!(list.all.capacity() > 0, n > 3);
            list.push(n);
        }
    }

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

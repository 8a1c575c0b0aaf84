//! Kernels and their calls.

use std::ffi::{CString, c_char};
use std::sync::{Arc, OnceLock};

use ::kiln_jit::{Args, Kernel, RawWeights, RuntimeError};
use kiln_ir::Role;

use crate::error::{Error, free, guard, kiln_status};
use crate::pointers::{Given, Growing, Out, array, fill, given, reference};
use crate::runtime::{kiln_request, kiln_runtime};
use crate::strings::c_string;
use crate::tensor::{TensorMemory, kiln_dtype, kiln_tensor, kiln_tensor_mut};
use crate::weights::kiln_packed_weights;

/// Machine code for one problem, and what a call of it needs.
#[derive(Clone)]
pub struct kiln_kernel {
    pub(crate) kernel: Arc<Kernel>,
    /// Made when first asked for.
    told: OnceLock<Told>,
}

/// The data that pointers given to C point to.
#[derive(Clone)]
struct Told {
    problem: CString,
    operands: Vec<Operand>,
}

#[derive(Clone)]
struct Operand {
    name: CString,
    shape: Vec<u64>,
    strides: Vec<u64>,
}

impl kiln_kernel {
    fn told(&self) -> &Told {
        self.told.get_or_init(|| {
            let problem = self.kernel.problem();
            let operand = |o: &kiln_ir::Operand| Operand {
                name: c_string(&o.name),
                shape: o.shape.to_vec(),
                strides: o.strides().to_vec(),
            };
            let operands = problem.operands().iter().map(operand).collect();
            Told { problem: c_string(&problem.to_string()), operands }
        })
    }
}

/// Facts about a kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_kernel_info {
    /// The size of this struct, which the caller sets.
    pub struct_size: usize,
    /// The canonical text of the problem. It names the runtime's `fpmath` where the problem named none and the runtime's is not
    /// strict. Valid as long as the handle.
    pub problem: *const c_char,
    /// Machine code, in bytes.
    pub code_bytes: usize,
    /// Independent tasks that a call may be divided into.
    pub tasks: u64,
    /// Temporary memory of each thread in a call, in bytes.
    pub scratch_bytes: usize,
    /// The size of weights packed for this kernel, in bytes; 0 if it reads them in place and takes no packed ones.
    pub packed_bytes: usize,
    /// Operands, which `kiln_kernel_operand` describes.
    pub operands: usize,
    /// The predicted speed on one thread, as a fraction of what the target's arithmetic and memory allow.
    pub predicted_fraction: f64,
}

// SAFETY: C's layout, its size first.
unsafe impl Growing for kiln_kernel_info {
    const FIRST: usize = 64;
}

/// The role of an operand.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum kiln_role {
    /// The left operand, the source.
    KILN_LHS = 0,
    /// The right operand, the weights.
    KILN_RHS = 1,
    /// The tensor of a post-op that is a bias.
    KILN_BIAS = 2,
    /// The tensor of another post-op.
    KILN_POST = 3,
    /// The result.
    KILN_DST = 4,
}

/// Facts about an operand.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_operand_info {
    /// The size of this struct, which the caller sets.
    pub struct_size: usize,
    /// Its name in messages, such as "lhs" or "bias". Valid as long as the kernel's handle.
    pub name: *const c_char,
    /// Its description.
    pub role: kiln_role,
    /// The type of its elements.
    pub dtype: kiln_dtype,
    /// The number of elements of a tensor. Where it has strides: from the first to one past the last, gaps included.
    pub elements: usize,
    /// The number of its dimensions.
    pub rank: usize,
    /// Its dimensions, in the problem's order. Valid as long as the kernel's handle.
    pub shape: *const u64,
    /// Elements between neighbours along each dimension. Valid as long as the kernel's handle.
    pub strides: *const u64,
}

// SAFETY: C's layout, its size first.
unsafe impl Growing for kiln_operand_info {
    const FIRST: usize = 56;
}

/// The tensor of a post-op.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_post_tensor {
    /// The tensor.
    pub tensor: kiln_tensor,
    /// If not 0, the post-op must be a bias.
    pub is_bias: i32,
}

/// The tensors of one call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_args {
    /// The size of this struct, which the caller sets.
    pub struct_size: usize,
    /// The source.
    pub lhs: kiln_tensor,
    /// The weights, if they are not packed; else all zero.
    pub rhs: kiln_tensor,
    /// The weights, if the kernel takes packed ones; else NULL.
    pub packed: *const kiln_packed_weights,
    /// The tensors of the post-ops that read one, in the problem's order; NULL if there are none.
    pub post: *const kiln_post_tensor,
    /// Their number.
    pub post_count: usize,
    /// The result. Overwritten, or added to where the problem has `beta=1`. Overlaps nothing else of the call.
    pub dst: kiln_tensor_mut,
}

// SAFETY: C's layout, its size first.
unsafe impl Growing for kiln_args {
    const FIRST: usize = 104;
}

// SAFETY: numbers and pointers.
unsafe impl Given for kiln_args {}

/// The kernel of a problem: cached, from a pack, or compiled now. `flags` is 0 or `KILN_CONSTANT_WEIGHTS`. Threads that ask for
/// the same at once share one compilation.
///
/// The text is parsed each time: a program that makes many calls keeps the kernel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_kernel_create(
    runtime: *const kiln_runtime,
    problem: *const c_char,
    flags: u32,
    kernel: *mut *mut kiln_kernel,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (out, runtime) = unsafe { (Out::new(kernel, "kernel")?, reference(runtime, "runtime")?) };
        // SAFETY: the header's rules.
        let (problem, options) = unsafe { kiln_request { problem, flags }.read()? };
        let kernel = runtime.runtime.kernel_with(&problem, &options)?;
        out.give(kiln_kernel { kernel, told: OnceLock::new() });
        Ok(())
    })
}

/// Another handle to the same kernel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_kernel_clone(kernel: *const kiln_kernel, clone: *mut *mut kiln_kernel) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (out, kernel) = unsafe { (Out::new(clone, "clone")?, reference(kernel, "kernel")?) };
        out.give(kernel.clone());
        Ok(())
    })
}

/// Frees a handle. The code goes with the last one, once the cache has let go of it too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_kernel_free(kernel: *mut kiln_kernel) {
    // SAFETY: the header's rules.
    unsafe { free(kernel) }
}

/// Describes a kernel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_kernel_describe(kernel: *const kiln_kernel, info: *mut kiln_kernel_info) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let handle = unsafe { reference(kernel, "kernel")? };
        let (kernel, told) = (&*handle.kernel, handle.told());
        let facts = kiln_kernel_info {
            struct_size: 0,
            problem: told.problem.as_ptr(),
            code_bytes: kernel.code_bytes(),
            tasks: kernel.tasks(),
            scratch_bytes: kernel.scratch_bytes(),
            packed_bytes: kernel.weights_layout().map_or(0, |layout| layout.bytes() as usize),
            operands: told.operands.len(),
            predicted_fraction: kernel.predicted_fraction(),
        };
        // SAFETY: the header's rules.
        unsafe { fill(info, "info", facts) }
    })
}

/// Describes the operand at a place, from 0: lhs, rhs, those of post-ops in the problem's order, dst.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_kernel_operand(
    kernel: *const kiln_kernel,
    index: usize,
    info: *mut kiln_operand_info,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let handle = unsafe { reference(kernel, "kernel")? };
        let (problem, all) = (handle.kernel.problem(), &handle.told().operands);
        let (Some(operand), Some(told)) = (problem.operands().into_iter().nth(index), all.get(index)) else {
            let why = format!("{index}: the kernel has {} operands", all.len());
            return Err(Error::argument("index", why));
        };
        let is_bias = |n: u8| problem.epilogue().operands().nth(n.into()).is_some_and(|post| post.is_bias());
        let role = match operand.role {
            Role::Lhs => kiln_role::KILN_LHS,
            Role::Rhs => kiln_role::KILN_RHS,
            Role::Post(n) if is_bias(n) => kiln_role::KILN_BIAS,
            Role::Post(_) => kiln_role::KILN_POST,
            Role::Dst => kiln_role::KILN_DST,
        };
        let facts = kiln_operand_info {
            struct_size: 0,
            name: told.name.as_ptr(),
            role,
            dtype: operand.dtype.into(),
            elements: operand.span() as usize,
            rank: told.shape.len(),
            shape: told.shape.as_ptr(),
            strides: told.strides.as_ptr(),
        };
        // SAFETY: the header's rules.
        unsafe { fill(info, "info", facts) }
    })
}

/// Computes `dst`. Types, numbers of elements, alignment, overlap with `dst` and the number of tensors are checked. Large problems
/// are divided among the runtime's threads, with the same result bit for bit. After a failure `dst` may be written in part.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_kernel_run(kernel: *const kiln_kernel, args: *const kiln_args) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { run(kernel, args, Kernel::run) }
}

/// `kiln_kernel_run` on the calling thread alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_kernel_run_serial(kernel: *const kiln_kernel, args: *const kiln_args) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { run(kernel, args, Kernel::run_serial) }
}

type Call = fn(&Kernel, Args<'_>) -> Result<(), RuntimeError>;

/// # Safety
/// The header's rules.
unsafe fn run(kernel: *const kiln_kernel, args: *const kiln_args, call: Call) -> kiln_status {
    guard(|| {
        // SAFETY: the caller's.
        let kernel = unsafe { reference(kernel, "kernel")? };
        // SAFETY: the caller's.
        unsafe { with_args(args, |args| call(&kernel.kernel, args)) }
    })
}

/// Makes a call with the tensors of `args`.
///
/// # Safety
/// The header's rules.
pub(crate) unsafe fn with_args(
    args: *const kiln_args,
    call: impl FnOnce(Args<'_>) -> Result<(), RuntimeError>,
) -> Result<(), Error> {
    // SAFETY: the caller's.
    let args = unsafe { given(args, "args")? };
    let dst = TensorMemory::of_output(&args.dst, "dst")?;
    let input = |tensor: &kiln_tensor, name: std::fmt::Arguments<'_>| {
        let memory = TensorMemory::of_input(tensor, name)?;
        if memory.overlaps(&dst) { Err(Error::argument(name, "overlaps dst")) } else { Ok(memory) }
    };
    let lhs = input(&args.lhs, format_args!("lhs"))?;
    let rhs = match (args.packed.is_null(), args.rhs.data.is_null()) {
        (true, _) => RawWeights::InPlace(input(&args.rhs, format_args!("rhs"))?.raw()),
        // SAFETY: the caller's.
        (false, true) => RawWeights::Packed(unsafe { &reference(args.packed, "packed")?.0 }),
        (false, false) => return Err(Error::argument("rhs", "both weights as they are and packed ones")),
    };
    // SAFETY: the caller's.
    let post = unsafe { array(args.post, args.post_count, "post")? };
    // SAFETY: not null, aligned, and as long as the caller says, who lets nobody else write the elements; no input overlaps `dst`.
    let mut all = unsafe { Args::from_raw(lhs.raw(), rhs, dst.raw()) };
    for (n, post) in post.iter().enumerate() {
        // SAFETY: as long as the caller says; tensors of post-ops have no gaps, and nobody writes this one, since it does not overlap
        // `dst`.
        let tensor = unsafe { input(&post.tensor, format_args!("post[{n}]"))?.input() };
        all = if post.is_bias != 0 { all.bias(tensor) } else { all.post_op(tensor) };
    }
    Ok(call(all)?)
}

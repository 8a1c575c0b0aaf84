//! Packing of weights for kernels.

use crate::error::{guard, kiln_status};
use crate::kernel::kiln_kernel;
use crate::pointers::{Out, reference};
use crate::runtime::kiln_runtime;
use crate::tensor::{TensorMemory, kiln_tensor};
use crate::weights::kiln_packed_weights;

/// Packs weights, given as the problem's right operand, for this kernel and all others that read theirs in the same order;
/// calls check that. Nobody writes the weights meanwhile, nor what lies between them. `KILN_INVALID_ARGUMENT` if the kernel reads them in
/// place: its `packed_bytes` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_kernel_pack_weights(
    kernel: *const kiln_kernel,
    weights: *const kiln_tensor,
    packed: *mut *mut kiln_packed_weights,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (out, kernel) = unsafe { (Out::new(packed, "packed")?, reference(kernel, "kernel")?) };
        // SAFETY: the header's rules.
        let weights = unsafe { TensorMemory::of_input(reference(weights, "weights")?, "weights")?.input() };
        out.give(kiln_packed_weights(kernel.kernel.pack_weights(weights)?));
        Ok(())
    })
}

/// Weights packed for a kernel: those of before, if a handle to them is left, else packed now, as by
/// `kiln_kernel_pack_weights`. Threads that ask for the same at once share one packing.
///
/// `id` says which weights these are: the caller gives the same number to the same values only, as long as a handle to them is
/// left. The values are not looked at where the number is known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_packed_weights(
    runtime: *const kiln_runtime,
    kernel: *const kiln_kernel,
    id: u64,
    weights: *const kiln_tensor,
    packed: *mut *mut kiln_packed_weights,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (out, runtime) = unsafe { (Out::new(packed, "packed")?, reference(runtime, "runtime")?) };
        // SAFETY: the header's rules.
        let kernel = unsafe { reference(kernel, "kernel")? };
        // SAFETY: the header's rules.
        let weights = unsafe { TensorMemory::of_input(reference(weights, "weights")?, "weights")?.input() };
        out.give(kiln_packed_weights(runtime.runtime.packed_weights(&kernel.kernel, id.into(), weights)?));
        Ok(())
    })
}

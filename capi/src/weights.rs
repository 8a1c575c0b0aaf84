//! Packed weights.

use ::kiln_jit::PackedWeights;

use crate::error::{free, guard, kiln_status, or_default};
use crate::kernel::kiln_kernel;
use crate::pointers::{Out, reference};
use crate::runtime::kiln_runtime;
use crate::tensor::{Memory, kiln_tensor};

/// Constant weights in the order in which kernels read them.
#[derive(Clone)]
pub struct kiln_packed_weights(pub(crate) PackedWeights);

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
        let weights = unsafe { Memory::of_input(reference(weights, "weights")?, "weights")?.input() };
        out.give(kiln_packed_weights(runtime.runtime.packed_weights(&kernel.kernel, id.into(), weights)?));
        Ok(())
    })
}

/// Another handle to the same weights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_packed_weights_clone(
    packed: *const kiln_packed_weights,
    clone: *mut *mut kiln_packed_weights,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (out, packed) = unsafe { (Out::new(clone, "clone")?, reference(packed, "packed")?) };
        out.give(packed.clone());
        Ok(())
    })
}

/// Frees a handle. The memory goes with the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_packed_weights_free(packed: *mut kiln_packed_weights) {
    // SAFETY: the header's rules.
    unsafe { free(packed) }
}

/// Their size in bytes; 0 of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_packed_weights_bytes(packed: *const kiln_packed_weights) -> usize {
    // SAFETY: the header's rules.
    or_default(0, || Ok(unsafe { reference(packed, "packed")? }.0.bytes()))
}

//! Handles to packed weights.

use ::kiln_jit::PackedWeights;

use crate::error::{free, guard, kiln_status, or_default};
use crate::pointers::{Out, reference};

/// Constant weights in the order in which kernels read them.
#[derive(Clone)]
pub struct kiln_packed_weights(pub(crate) PackedWeights);

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

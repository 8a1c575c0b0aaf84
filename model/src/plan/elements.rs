//! The elements of constant weights, and the numbers that a caller gives them.

use kiln_ir::elements::{Elements, OwnedElements};
use kiln_ir::func::Tensor;
use kiln_jit::Input as Operand;

/// A function that gives some constants numbers.
pub(super) type Identify<'a> = Option<&'a (dyn Fn(&Tensor) -> Option<u64> + Sync)>;

/// Calls with weights as an operand.
pub(super) fn with_elements<T>(weights: &Tensor, call: impl FnOnce(Operand<'_>) -> T) -> T {
    let dtype = weights.ty().element().dtype().expect("weights of kernels are f32, bf16 or f16");
    match Elements::from_bytes(dtype, weights.data()) {
        Ok(elements) => call(elements.into()),
        // Those of files lie anywhere.
        Err(_) => {
            let owned = OwnedElements::from_bytes(dtype, weights.data()).expect("a tensor has whole elements");
            call(owned.as_elements().into())
        }
    }
}

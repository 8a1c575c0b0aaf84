//! The elements of constant weights, and the numbers that a caller gives them.

use kiln_ir::func::Tensor;
use kiln_jit::{Input as Operand, bf16, f16};

/// A function that gives some constants numbers.
pub(super) type Identify<'a> = Option<&'a (dyn Fn(&Tensor) -> Option<u64> + Sync)>;

/// Calls with weights as an operand.
pub(super) fn with_elements<T>(weights: &Tensor, call: impl FnOnce(Operand<'_>) -> T) -> T {
    if let Some(elements) = weights.elements::<f32>() {
        return call(Operand::F32(&elements));
    }
    if let Some(elements) = weights.elements::<bf16>() {
        return call(Operand::Bf16(&elements));
    }
    call(Operand::F16(&weights.elements::<f16>().expect("kernels have f32, bf16 and f16")))
}

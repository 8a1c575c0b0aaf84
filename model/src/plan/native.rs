//! Vectorised code for operations that networks often have.

use kiln_ir::func::{TensorOp, TensorType};

use super::Action;

/// The code of an operation, if there is such.
pub(super) fn action(
    _layer: &str,
    _op: &TensorOp,
    _operands: &[&TensorType],
    _result: &TensorType,
) -> Option<Box<dyn Action>> {
    None
}

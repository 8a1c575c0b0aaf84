//! Any operation on any elements, without haste: what the interpreter says.

use bytes::Bytes;
use kiln_ir::func::{Mismatch, Tensor, TensorOp, TensorType};

use super::action::{Action, Input};
use super::threads::RuntimeThreads;
use crate::error::ModelError;

/// An operation that the interpreter computes.
pub(super) struct Interpreted {
    layer: String,
    op: TensorOp,
    operands: Vec<TensorType>,
    result: TensorType,
}

impl Interpreted {
    pub(super) fn new(layer: &str, op: &TensorOp, operands: &[&TensorType], result: &TensorType) -> Self {
        let operands = operands.iter().map(|t| (*t).clone()).collect();
        Interpreted { layer: layer.into(), op: op.clone(), operands, result: result.clone() }
    }
}

impl Action for Interpreted {
    fn run(
        &self,
        _: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        _: &mut [u8],
    ) -> Result<(), ModelError> {
        let tensors: Vec<Tensor> = self
            .operands
            .iter()
            .zip(inputs)
            .map(|(ty, bytes)| {
                let bytes = bytes.expect("the interpreter does not write over operands");
                Tensor::new(ty.clone(), Bytes::copy_from_slice(bytes)).expect("places are as long as their types say")
            })
            .collect();
        let result = self.op.apply(&tensors.iter().collect::<Vec<_>>());
        let result = result.map_err(|source| match source.cause {
            // What an operand contains is the caller's, or the file's.
            Mismatch::Index { index, extent } => ModelError::Index { layer: self.layer.clone(), index, extent },
            _ => ModelError::Operation { layer: self.layer.clone(), source: Box::new(source) },
        })?;
        debug_assert_eq!(result.ty(), &self.result);
        dst.copy_from_slice(result.data());
        Ok(())
    }
}

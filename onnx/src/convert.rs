//! Tensors of ONNX as tensors of functions: the same bytes.

use bytes::Bytes;
use kiln_ir::func;

use crate::tensor::{ElementType, Tensor};

/// A type of ONNX that functions do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensors of {0} cannot be computed with")]
pub struct NotComputable(pub ElementType);

/// A tensor of ONNX that functions do not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// Its type.
    #[error(transparent)]
    Element(#[from] NotComputable),
    /// Its shape.
    #[error(transparent)]
    Type(#[from] func::TypeError),
    /// Its elements.
    #[error(transparent)]
    Length(#[from] func::WrongLength),
}

impl TryFrom<ElementType> for func::ElementType {
    type Error = NotComputable;

    fn try_from(dtype: ElementType) -> Result<Self, NotComputable> {
        Ok(match dtype {
            ElementType::F32 => Self::F32,
            ElementType::F16 => Self::F16,
            ElementType::Bf16 => Self::Bf16,
            ElementType::F64 => Self::F64,
            ElementType::I8 => Self::I8,
            ElementType::U8 => Self::U8,
            ElementType::I16 => Self::I16,
            ElementType::U16 => Self::U16,
            ElementType::I32 => Self::I32,
            ElementType::U32 => Self::U32,
            ElementType::I64 => Self::I64,
            ElementType::U64 => Self::U64,
            ElementType::Bool => Self::Bool,
            ElementType::String => return Err(NotComputable(dtype)),
        })
    }
}

impl TryFrom<&Tensor> for func::Tensor {
    type Error = ConvertError;

    /// Shares the elements, if the machine has the byte order of files.
    fn try_from(tensor: &Tensor) -> Result<Self, ConvertError> {
        let element = func::ElementType::try_from(tensor.dtype)?;
        let shape: Vec<u64> = tensor.shape.iter().map(|d| *d as u64).collect();
        let mut data = tensor.data.clone();
        if cfg!(target_endian = "big") {
            data = data.chunks(element.bytes()).flat_map(|e| e.iter().rev().copied()).collect::<Bytes>();
        }
        // Files may have any byte for true.
        if element == func::ElementType::Bool && data.iter().any(|b| *b > 1) {
            data = data.iter().map(|b| u8::from(*b != 0)).collect();
        }
        Ok(func::Tensor::new(func::TensorType::new(element, shape)?, data)?)
    }
}

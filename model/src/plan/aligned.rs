//! Tensors at addresses from which their elements may be read.

use kiln_ir::func::{Tensor, TensorType};

/// The same elements at an address that they may be read from; `None` if they are at one.
pub(crate) fn realigned(given: &Tensor) -> Option<Tensor> {
    let is_aligned = (given.data().as_ptr() as usize).is_multiple_of(given.ty().element().bytes());
    (!is_aligned).then(|| tensor(given.ty(), given.data()))
}

/// A tensor with a copy of these bytes, aligned for its elements.
pub(super) fn tensor(ty: &TensorType, data: &[u8]) -> Tensor {
    let words = bytemuck::pod_collect_to_vec::<u8, u64>(data);
    let bytes = bytes::Bytes::from_owner(Words(words)).slice(..data.len());
    Tensor::new(ty.clone(), bytes).expect("places are as long as their types say")
}

/// Memory that is aligned for every element.
pub(super) struct Words(pub(super) Vec<u64>);

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

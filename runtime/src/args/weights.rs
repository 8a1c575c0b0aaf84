//! Weights that a caller gives: as a kernel reads them, packed for the code of a package, and known by their content.

use std::sync::Arc;

use kiln_compiler::Package;
use kiln_ir::DType;
use kiln_ir::elements::OwnedElements;
use twox_hash::XxHash3_128;

use super::signature::Signature;
use super::tensor::Input;
use crate::error::RuntimeError;
use crate::weights::{PackedBudget, PackedWeights, Packing, WeightsId};

/// Constant weights as a kernel reads them: packed, where it was compiled for that and gains from it, else as they are.
/// [`Kernel::prepare_weights`](crate::Kernel::prepare_weights) and [`Family::prepare_weights`](crate::Family::prepare_weights) make them,
/// once for all calls, and [`Args::new`](crate::Args::new) takes a reference to them. A clone shares the memory.
#[derive(Clone, Debug)]
pub struct PreparedWeights<'a>(Prepared<'a>);

#[derive(Clone, Debug)]
enum Prepared<'a> {
    Borrowed(Input<'a>),
    Owned(Arc<OwnedElements>),
    Packed(PackedWeights),
}

impl<'a> PreparedWeights<'a> {
    /// Weights that are read where they are.
    pub(crate) fn in_place(values: Input<'a>) -> Self {
        Self(Prepared::Borrowed(values))
    }

    /// Weights in a kernel's own order.
    pub(crate) fn of_packed(weights: PackedWeights) -> Self {
        Self(Prepared::Packed(weights))
    }

    /// The packed copy, if the kernel reads one: then the values that it was made of are not needed any more.
    pub fn packed(&self) -> Option<&PackedWeights> {
        match &self.0 {
            Prepared::Packed(packed) => Some(packed),
            _ => None,
        }
    }

    /// The same without borrowing the values, for a layer that keeps its weights: they are copied if the kernel reads them in place.
    pub fn into_owned(self) -> PreparedWeights<'static> {
        PreparedWeights(match self.0 {
            Prepared::Borrowed(Input::Plain(values)) => {
                let owned = OwnedElements::from_bytes(values.dtype(), values.as_bytes());
                Prepared::Owned(Arc::new(owned.expect("whole elements")))
            }
            Prepared::Borrowed(Input::Packed(packed)) => Prepared::Packed(packed.clone()),
            Prepared::Owned(values) => Prepared::Owned(values),
            Prepared::Packed(packed) => Prepared::Packed(packed),
        })
    }
}

impl<'a> From<&'a PreparedWeights<'_>> for Input<'a> {
    fn from(weights: &'a PreparedWeights<'_>) -> Self {
        match &weights.0 {
            Prepared::Borrowed(values) => *values,
            Prepared::Owned(values) => Input::Plain(values.as_elements()),
            Prepared::Packed(packed) => Input::Packed(packed),
        }
    }
}

impl PackedWeights {
    /// Packs `weights`, given as the problem's right operand, for the code of a package, whatever target that is for: packing is a copy,
    /// which any machine makes, byte for byte the same. They do not count towards the limit of a runtime.
    ///
    /// Fails for weights of another length or type than the problem's, and if the code reads its weights where they are.
    pub fn for_package<'a>(package: &Package, weights: impl Into<Input<'a>>) -> Result<Self, RuntimeError> {
        let problem = &package.facts().problem;
        let packing =
            Packing::of(package).ok_or_else(|| RuntimeError::NotPacked { problem: Box::new(problem.clone()) })?;
        let values = Signature::new(problem, package.packed_layout()).weights(weights.into())?;
        Self::pack(&packing, values, &Arc::new(PackedBudget::new(usize::MAX)), None)
    }
}

impl WeightsId {
    /// By their content: XXH3-128 of type and values, which takes as long as reading them. Different weights have different ids
    /// but for a chance of 2^-128; whoever chooses values on purpose can make two that do not.
    pub fn of<'a>(weights: impl Into<Input<'a>>) -> Self {
        Self::of_hash(match weights.into() {
            Input::Plain(v) => {
                let seed = if v.dtype() == DType::F32 { 0 } else { 15 + v.dtype() as u64 };
                XxHash3_128::oneshot_with_seed(seed, v.as_bytes())
            }
            Input::Packed(packed) => XxHash3_128::oneshot_with_seed(1, packed.as_bytes()),
        })
    }
}

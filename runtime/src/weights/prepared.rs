//! Weights as a kernel reads them, packed or not.

use std::sync::Arc;

use half::{bf16, f16};

use super::PackedWeights;
use crate::args::Input;

/// Constant weights as a kernel reads them: packed, where it was compiled for that and gains from it, else as they are.
/// [`Kernel::prepare_weights`](crate::Kernel::prepare_weights) and [`Family::prepare_weights`](crate::Family::prepare_weights) make them,
/// once for all calls, and [`Args::new`](crate::Args::new) takes a reference to them. A clone shares the memory.
#[derive(Clone, Debug)]
pub struct PreparedWeights<'a>(Prepared<'a>);

#[derive(Clone, Debug)]
enum Prepared<'a> {
    Borrowed(Input<'a>),
    F32(Arc<[f32]>),
    Bf16(Arc<[bf16]>),
    F16(Arc<[f16]>),
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
            Prepared::Borrowed(Input::F32(values)) => Prepared::F32(values.into()),
            Prepared::Borrowed(Input::Bf16(values)) => Prepared::Bf16(values.into()),
            Prepared::Borrowed(Input::F16(values)) => Prepared::F16(values.into()),
            Prepared::Borrowed(Input::Packed(packed)) => Prepared::Packed(packed.clone()),
            Prepared::F32(values) => Prepared::F32(values),
            Prepared::Bf16(values) => Prepared::Bf16(values),
            Prepared::F16(values) => Prepared::F16(values),
            Prepared::Packed(packed) => Prepared::Packed(packed),
        })
    }
}

impl<'a> From<&'a PreparedWeights<'_>> for Input<'a> {
    fn from(weights: &'a PreparedWeights<'_>) -> Self {
        match &weights.0 {
            Prepared::Borrowed(values) => *values,
            Prepared::F32(values) => Input::F32(values),
            Prepared::Bf16(values) => Input::Bf16(values),
            Prepared::F16(values) => Input::F16(values),
            Prepared::Packed(packed) => Input::Packed(packed),
        }
    }
}

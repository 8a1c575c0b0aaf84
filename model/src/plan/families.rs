//! Kernels for any length: families with one free number, as steps.

use std::sync::Arc;

use kiln_ir::func::Tensor;
use kiln_ir::{DType, Problem};
use kiln_runtime::{self as rt, FamilyOptions, PackedWeights, Runtime, RuntimeError};

use super::constants::Constant;
use super::kernels::{arguments, with_elements};
use super::{Action, Input, RuntimeThreads};
use crate::error::ModelError;

/// A family, and its weights if they are constant.
#[derive(Clone)]
pub(crate) struct Family {
    pub family: Arc<rt::Family>,
    pub packed: Option<PackedWeights>,
}

/// Families by their patterns: layers of one shape share one.
pub(crate) struct Families<'a> {
    runtime: &'a Runtime,
    made: Vec<(String, bool, Arc<rt::Family>)>,
}

impl<'a> Families<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        Families { runtime, made: vec![] }
    }

    /// The family of a pattern, for numbers up to `max`, with constant weights or without. `layers` of the network are of it: as
    /// many calls of it are one of the network.
    pub(crate) fn get(
        &mut self,
        pattern: &str,
        max: u64,
        weights: Option<&Tensor>,
        layers: u32,
    ) -> Result<Family, RuntimeError> {
        let constant = weights.is_some();
        let known = self.made.iter().find(|(p, c, _)| p == pattern && *c == constant);
        let family = match known {
            Some((_, _, family)) => Arc::clone(family),
            None => {
                let hot_calls = FamilyOptions::default().hot_calls.saturating_mul(layers);
                let options = FamilyOptions { constant_weights: constant, max, hot_calls };
                let family = Arc::new(self.runtime.family(pattern, &options)?);
                self.made.push((pattern.into(), constant, Arc::clone(&family)));
                family
            }
        };
        let packed = match weights.filter(|_| family.weights_layout().is_some()) {
            None => None,
            Some(weights) => {
                let id = Constant::Is(weights.clone()).id();
                Some(with_elements(weights, |elements| family.packed_weights(id, elements))?)
            }
        };
        Ok(Family { family, packed })
    }

    /// All families.
    pub(crate) fn into_all(self) -> Vec<Arc<rt::Family>> {
        self.made.into_iter().map(|(_, _, family)| family).collect()
    }
}

impl Family {
    /// The member for a number as a step.
    pub(crate) fn action(&self, layer: &str, n: u64, problem: &Problem) -> FamilyAction {
        let elements = problem.operands().iter().map(|o| o.dtype).collect();
        FamilyAction { layer: layer.into(), of: self.clone(), n, elements }
    }
}

/// A member of a family with its weights.
pub(crate) struct FamilyAction {
    layer: String,
    of: Family,
    n: u64,
    /// Types of operands and result, in the problem's order.
    elements: Vec<DType>,
}

impl Action for FamilyAction {
    fn reads(&self, operand: usize) -> bool {
        operand != 1 || self.of.packed.is_none()
    }

    fn packed_bytes(&self) -> usize {
        self.of.packed.as_ref().map_or(0, PackedWeights::bytes)
    }

    fn run(
        &self,
        _: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        _: &mut [u8],
    ) -> Result<(), ModelError> {
        let args = arguments(&self.elements, self.of.packed.as_ref(), inputs, dst);
        self.of.family.run(self.n, args).map_err(|source| ModelError::Kernel { layer: self.layer.clone(), source })
    }
}

//! Kernels for any sizes: families with one free number, as steps.

use std::sync::Arc;

use kiln_ir::func::Tensor;
use kiln_ir::{DType, Problem};
use kiln_jit::{self as rt, FamilyOptions, PackedWeights, Runtime, RuntimeError};

use super::action::{Action, Input};
use super::constants::Constant;
use super::elements::with_elements;
use super::kernels::arguments;
use super::threads::RuntimeThreads;
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

    /// The family of a pattern, for numbers up to `max`, with constant weights or without. `calls` of it are one of the network.
    pub(crate) fn get(
        &mut self,
        pattern: &str,
        max: u64,
        weights: Option<&Tensor>,
        calls: u32,
    ) -> Result<Family, RuntimeError> {
        let constant = weights.is_some();
        let known = self.made.iter().find(|(p, c, _)| p == pattern && *c == constant);
        let family = match known {
            Some((_, _, family)) => Arc::clone(family),
            None => {
                let hot_calls = FamilyOptions::default().hot_calls.saturating_mul(calls);
                let options = FamilyOptions { constant_weights: constant, max, hot_calls };
                let family = Arc::new(self.runtime.family(pattern, &options)?);
                self.made.push((pattern.into(), constant, Arc::clone(&family)));
                family
            }
        };
        let packed = match weights.filter(|_| family.weights_layout().is_some()) {
            None => None,
            Some(weights) => {
                let id = Constant::Is(weights.clone()).id(None);
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

impl FamilyAction {
    /// The same for each of several equal parts of the operands, one after the other, but for those that are shared.
    pub(crate) fn repeated(self, times: u64, is_shared: Vec<bool>) -> RepeatedAction {
        RepeatedAction { action: self, times: times as usize, is_shared }
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

/// Calls of one member of a family for parts of operands that lie one after the other.
pub(crate) struct RepeatedAction {
    action: FamilyAction,
    times: usize,
    /// Which operands are the same for all calls, in the problem's order; the result is not.
    is_shared: Vec<bool>,
}

impl Action for RepeatedAction {
    fn reads(&self, operand: usize) -> bool {
        self.action.reads(operand)
    }

    fn packed_bytes(&self) -> usize {
        self.action.packed_bytes()
    }

    fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        _: &mut [u8],
    ) -> Result<(), ModelError> {
        let part = |bytes: usize| bytes / self.times.max(1);
        for (at, dst) in dst.chunks_mut(part(dst.len()).max(1)).enumerate() {
            let of_part = |(input, is_shared): (&Option<_>, &bool)| {
                let is_shared = *is_shared;
                input.map(|bytes: &[u8]| match is_shared {
                    true => bytes,
                    false => &bytes[at * part(bytes.len())..][..part(bytes.len())],
                })
            };
            let inputs: Vec<Input<'_>> = inputs.iter().zip(&self.is_shared).map(of_part).collect();
            self.action.run(threads, &inputs, dst, &mut [])?;
        }
        Ok(())
    }
}

//! The registers of an operation.

use super::role::Effect;
use crate::microkernel::V;

/// The registers of an operation and what it does to them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::microkernel) struct Operands {
    used: [V; 3],
    count: u8,
    /// The register that holds the result.
    pub defined: Option<V>,
    /// The operand whose elements are taken one by one.
    pub scalars: Option<V>,
    /// The result is added to what its register held.
    pub accumulates: bool,
    /// The result is written before all operands are read.
    pub is_early: bool,
}

impl Operands {
    /// The registers that are read, in operand order.
    #[inline]
    pub fn used(&self) -> &[V] {
        &self.used[..usize::from(self.count)]
    }

    /// Adds a field.
    #[inline]
    pub fn add(&mut self, effect: Effect, register: Option<V>) {
        let Some(v) = register else { return };
        if effect.defined {
            self.defined = Some(v);
            self.is_early = effect.early;
            self.accumulates = effect.used;
        }
        if effect.scalars {
            self.scalars = Some(v);
        }
        if effect.used
            && let Some(slot) = self.used.get_mut(usize::from(self.count))
        {
            *slot = v;
            self.count += 1;
        }
    }
}

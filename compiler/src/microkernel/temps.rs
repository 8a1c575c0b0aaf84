//! Registers that an operation overwrites besides its result.

use super::V;

/// The registers that the instructions of an operation need besides those that the operation names: none, one or two. Their contents
/// are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Temps {
    len: u8,
    registers: [V; Temps::MOST],
}

impl Temps {
    /// The most registers.
    pub const MOST: usize = 2;

    /// No register.
    pub const NONE: Temps = Temps { len: 0, registers: [V(0); Temps::MOST] };

    /// These registers; `None` if there are too many.
    pub fn new(registers: &[V]) -> Option<Temps> {
        let mut temps = Temps::NONE;
        temps.registers.get_mut(..registers.len())?.copy_from_slice(registers);
        temps.len = registers.len() as u8;
        Some(temps)
    }

    /// The registers.
    pub fn as_slice(&self) -> &[V] {
        &self.registers[..usize::from(self.len)]
    }
}

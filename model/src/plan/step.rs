//! A step of a plan, and the places that it reads and writes.

use kiln_ir::func::{Origins, TensorOp, TensorType};

use super::action::{Action, Code};

/// Memory that a value is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// The caller's, by the position of the argument.
    Argument(usize),
    /// A constant's.
    Constant(usize),
    /// A buffer of the arena.
    Buffer(usize),
}

/// Where a value's bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(super) home: Home,
    pub(super) offset: usize,
    pub(super) bytes: usize,
}

/// One operation of a plan.
pub(crate) struct Step {
    /// The position of the value that it computes.
    pub(super) value: usize,
    pub layer: String,
    pub origins: Origins,
    pub text: String,
    pub op: TensorOp,
    pub ty: TensorType,
    pub code: Code,
    pub(super) inputs: Vec<Place>,
    pub(super) output: usize,
    /// The buffer that it works in, if it does.
    pub(super) scratch: Option<usize>,
    pub in_place: Option<usize>,
    pub action: Box<dyn Action>,
}

impl Step {
    /// Bytes of each operand.
    pub(crate) fn input_bytes(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().map(|place| place.bytes)
    }

    /// True if an operand is a constant.
    pub(crate) fn is_constant(&self, operand: usize) -> bool {
        self.inputs.get(operand).is_some_and(|place| matches!(place.home, Home::Constant(_)))
    }
}

//! The code of a step.

use std::sync::Arc;

use kiln_ir::Problem;
use kiln_jit::{Kernel, Package};

use super::threads::RuntimeThreads;
use crate::error::ModelError;

/// The operand of a step: a value's bytes, or `None` where they lie in what it writes.
pub(crate) type Input<'a> = Option<&'a [u8]>;

/// The code of a step.
pub(crate) trait Action: Send + Sync {
    /// True if the result may be written where this operand lies, which is as large.
    fn in_place(&self, _operand: usize) -> bool {
        false
    }

    /// True if this operand is read; not what the action has in a form of its own.
    fn reads(&self, _operand: usize) -> bool {
        true
    }

    /// The kernel that it calls, if it does.
    fn kernel(&self) -> Option<&Arc<Kernel>> {
        None
    }

    /// The problem of that kernel, also where there is none to call.
    fn problem(&self) -> Option<&Problem> {
        self.kernel().map(|kernel| kernel.problem())
    }

    /// The code of that kernel where it is not loaded.
    fn package(&self) -> Option<&Arc<Package>> {
        None
    }

    /// Bytes of what it has in a form of its own.
    fn packed_bytes(&self) -> usize {
        0
    }

    /// Bytes of constants that it reads where they are.
    fn constant_bytes(&self) -> usize {
        0
    }

    /// Bytes of memory that it works in besides.
    fn scratch_bytes(&self) -> usize {
        0
    }

    /// Computes the result, with as much memory to work in as it asks for. Bytes are aligned to the elements of their types, and
    /// those of `scratch` for vectors.
    fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<(), ModelError>;
}

/// The kind of code that computes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// A compiled kernel.
    Kernel,
    /// Vectorised code for this operation.
    Native,
    /// The steps of a branch or a loop, one after another.
    Control,
    /// The interpreter: an operation, or a type of elements, that networks seldom have.
    Interpreter,
}

//! Calls without checks, for timing the kernel itself.

#![allow(unsafe_code)]

use kiln_jit::{Kernel, Pointers, RuntimeError};

use crate::tensors::Tensors;

/// A kernel with arguments that were checked, on the thread that checked them.
pub struct Unchecked<'a> {
    kernel: &'a Kernel,
    pointers: Pointers<'a>,
}

impl<'a> Unchecked<'a> {
    /// Checks the arguments by a first, checked call.
    pub fn new(kernel: &'a Kernel, tensors: &'a mut Tensors) -> Result<Self, RuntimeError> {
        kernel.run_serial(tensors.args())?;
        Ok(Self { kernel, pointers: kernel.pointers(tensors.args())? })
    }

    /// Computes the result.
    #[inline]
    pub fn call(&self) -> Result<(), RuntimeError> {
        // SAFETY: this kernel checked the pointers, which borrow the tensors, the result exclusively, as long as `self` lives.
        // They are raw, so `self` stays on the thread whose vector length the call in `new` checked.
        unsafe { self.kernel.run_unchecked(self.pointers.as_slice()) }
    }
}

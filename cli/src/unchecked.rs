//! Calls without checks, for timing the kernel itself.

#![allow(unsafe_code)]

use std::marker::PhantomData;

use kiln_ir::Role;
use kiln_runtime::{Kernel, RuntimeError};

use crate::tensors::Tensors;

/// A kernel with the arguments it was checked for, on the thread that made it.
pub struct Unchecked<'a> {
    kernel: &'a Kernel,
    pointers: Vec<*mut u8>,
    tensors: PhantomData<&'a mut Tensors>,
}

impl<'a> Unchecked<'a> {
    /// Checks by a first, checked call.
    pub fn new(kernel: &'a Kernel, tensors: &'a mut Tensors) -> Result<Self, RuntimeError> {
        kernel.run_serial(tensors.args())?;
        let mut pointer = |role| match role {
            Role::Lhs => tensors.lhs.as_mut_ptr(),
            Role::Rhs => tensors.rhs.as_mut_ptr(),
            Role::Bias => tensors.bias.as_mut().map_or(std::ptr::null_mut(), |b| b.as_mut_ptr()),
            Role::Dst => tensors.dst.as_mut_ptr(),
        };
        let pointers = kernel.problem().operands().iter().map(|o| pointer(o.role).cast()).collect();
        Ok(Self { kernel, pointers, tensors: PhantomData })
    }

    /// Computes the result.
    #[inline]
    pub fn call(&self) -> Result<(), RuntimeError> {
        // SAFETY: `new` made these pointers from tensors that a checked call took, in operand order; they are borrowed
        // exclusively as long as `self` lives, and do not overlap. `self` holds raw pointers, so it stays on the thread
        // whose vector length that call checked.
        unsafe { self.kernel.run_unchecked(&self.pointers) }
    }
}

//! General code for a number that is free anywhere: kernels for powers of two, on copies filled up with zeros.
//!
//! Zeros add nothing to a sum over the free number, and rows and columns beyond the problem's are not copied back.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use kiln_compiler::Options;
use kiln_ir::{Operand, Problem, Role};

use super::Pattern;
use crate::args::Pointers;
use crate::error::RuntimeError;
use crate::kernel::{Kernel, Shared};
use crate::runtime::Runtime;

pub(super) struct Padded {
    /// For powers of two, one after the other, up to [`max`](Self::max).
    kernels: Vec<Arc<Kernel>>,
    operands: Vec<Vec<Operand>>,
    /// The logarithm of the first, from which on there are problems.
    first: u32,
}

impl Padded {
    pub(super) fn new(runtime: &Runtime, pattern: &Pattern<'_>, max: u64) -> Result<Self, RuntimeError> {
        let most = max.max(1).checked_next_power_of_two().unwrap_or(1 << 63).ilog2();
        // A window may not fit in a small image.
        let first = (0..most).find(|log| pattern.problem(1 << log).is_ok()).unwrap_or(most);
        let mut padded = Padded { kernels: vec![], operands: vec![], first };
        for size in (first..=most).map(|log| 1 << log) {
            let problem = pattern.problem(size)?;
            padded.kernels.push(runtime.kernel_with(&problem, &Options::default())?);
            padded.operands.push(problem.operands());
        }
        Ok(padded)
    }

    pub(super) fn kernels(&self) -> &[Arc<Kernel>] {
        &self.kernels
    }

    /// The largest value there is code for.
    pub(super) fn max(&self) -> u64 {
        1 << (self.first as usize + self.kernels.len() - 1)
    }

    /// Calls the least kernel that `n` fits in, at most [`max`](Self::max).
    pub(super) fn run(
        &self,
        shared: &Shared,
        problem: &Problem,
        n: u64,
        pointers: &Pointers<'_>,
    ) -> Result<(), RuntimeError> {
        let log = n.next_power_of_two().ilog2().max(self.first);
        let at = (log - self.first) as usize;
        let (kernel, padded) = (&self.kernels[at], &self.operands[at]);
        if n == 1 << log {
            // SAFETY: the pointers were checked against the signature of this very problem.
            return unsafe { kernel.run_slice(pointers.as_slice()) };
        }
        let operands = problem.operands();
        let (mut copies, mut moved) = (vec![], vec![]);
        for ((own, large), pointer) in operands.iter().zip(padded).zip(pointers.as_slice()) {
            if own.shape == large.shape {
                moved.push(*pointer);
                continue;
            }
            let mut copy = shared.scratch_for(large.len() as usize * large.dtype.bytes())?;
            if own.role != Role::Dst || problem.accumulates() {
                copy.fill(0);
                // SAFETY: the pointer is to as many elements as the operand has, checked; nobody writes them meanwhile.
                let from = unsafe { std::slice::from_raw_parts(*pointer, bytes(own)) };
                common_runs(own, large, |small, large| copy[large].copy_from_slice(&from[small]));
            }
            moved.push(copy.as_mut_ptr());
            copies.push((own, large, *pointer, copy));
        }
        // SAFETY: each pointer is to as many elements as the padded problem's operand has: the caller's, where these are as many,
        // or a copy's. `dst` has the free number and is a copy.
        unsafe { kernel.run_slice(&moved) }?;
        for (own, large, pointer, copy) in &mut copies {
            if own.role == Role::Dst {
                // SAFETY: the pointer is to as many elements as `dst` has, checked, and this call's alone. They need not be initialised.
                let to = unsafe { std::slice::from_raw_parts_mut(pointer.cast::<MaybeUninit<u8>>(), bytes(own)) };
                common_runs(own, large, |small, large| {
                    to[small].write_copy_of_slice(&copy[large]);
                });
            }
        }
        Ok(())
    }
}

fn bytes(operand: &Operand) -> usize {
    operand.len() as usize * operand.dtype.bytes()
}

/// Calls `copy` for each run of elements that both operands have, with its bytes in the small one and in the large one.
fn common_runs(small: &Operand, large: &Operand, mut copy: impl FnMut(Range<usize>, Range<usize>)) {
    let element = small.dtype.bytes();
    let (shape, pitch) = (small.memory_shape(), large.memory_shape());
    let run = shape.last().map_or(1, |n| *n as usize) * element;
    let rows: u64 = shape[..shape.len().saturating_sub(1)].iter().product();
    for row in 0..rows {
        // The row's index in the large operand, outermost dimension first.
        let (mut left, mut at, mut stride) = (row, 0, *pitch.last().unwrap_or(&1));
        for (extent, large) in shape.iter().zip(&pitch).rev().skip(1) {
            at += left % extent * stride;
            left /= extent;
            stride *= large;
        }
        let (in_small, in_large) = (row as usize * run, at as usize * element);
        copy(in_small..in_small + run, in_large..in_large + run);
    }
}

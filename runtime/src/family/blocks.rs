//! General code for a free outermost dimension: kernels for a few sizes, one after the other.

use std::sync::Arc;

use kiln_compiler::Options;

use super::pattern::Pattern;
use super::steps::advanced;
use crate::args::Pointers;
use crate::error::RuntimeError;
use crate::kernel::Kernel;
use crate::runtime::Runtime;

/// The sizes, largest first. A value takes at most three kernels of each but the first.
const SIZES: [u64; 4] = [64, 16, 4, 1];

pub(super) struct Blocks {
    /// Ascending, that of one step first.
    kernels: Vec<Arc<Kernel>>,
    /// Of each kernel.
    sizes: Vec<u64>,
    strides: Vec<usize>,
}

impl Blocks {
    pub(super) fn new(
        runtime: &Runtime,
        pattern: &Pattern<'_>,
        strides: Vec<usize>,
        options: &Options,
    ) -> Result<Self, RuntimeError> {
        let mut blocks = Blocks { kernels: vec![], sizes: vec![], strides };
        // All read the same weights, in the layout that the most steps want.
        let [most, ..] = SIZES;
        let layout = runtime.kernel_with(&pattern.problem(most)?, options)?.weights_layout().cloned().map(Arc::new);
        let options = Options { constant_weights: layout.is_some(), weights_layout: layout, ..Options::default() };
        for size in SIZES.into_iter().rev() {
            match runtime.kernel_with(&pattern.problem(size)?, &options) {
                Ok(kernel) => {
                    blocks.kernels.push(kernel);
                    blocks.sizes.push(size);
                }
                // The layout does not suit so few; with one step there must be code.
                Err(e) if size == 1 => return Err(e),
                Err(_) => {}
            }
        }
        Ok(blocks)
    }

    pub(super) fn kernels(&self) -> &[Arc<Kernel>] {
        &self.kernels
    }

    pub(super) fn run(&self, n: u64, pointers: &Pointers<'_>) -> Result<(), RuntimeError> {
        let (mut at, mut moved) = (0, Vec::with_capacity(pointers.as_slice().len()));
        for (kernel, size) in self.kernels.iter().zip(&self.sizes).rev() {
            while n - at >= *size {
                advanced(pointers.as_slice(), &self.strides, at, &mut moved);
                // SAFETY: the pointers are those of a call with `n` steps, checked; steps `at..at + size` are among them, and
                // lie `stride` bytes apart in each operand that has them, as they would in operands of `size` steps.
                unsafe { kernel.run_slice(&moved) }?;
                at += size;
            }
        }
        Ok(())
    }
}

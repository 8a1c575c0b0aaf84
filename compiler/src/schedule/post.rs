//! The cost of the post-ops of a contraction.

use kiln_ir::{Contraction, PostOp};

use crate::microkernel::program::Program;
use crate::target::VectorUnit;

/// The operations and registers that the post-ops of a contraction take, whatever the schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct PostCost {
    operations: usize,
    /// Constants, each of which a register can hold for all vectors.
    constants: usize,
    /// Registers for what is computed of one vector, the vector itself among them.
    temporaries: usize,
}

impl PostCost {
    /// `None` if there are no post-ops.
    pub fn of(c: &Contraction) -> Option<Self> {
        let chain: Vec<PostOp> = c.post.iter().map(|(op, _)| *op).collect();
        if chain.is_empty() {
            return None;
        }
        let program = Program::of(&chain);
        let operands = c.post.iter().filter(|(_, v)| v.is_some()).count();
        Some(Self {
            operations: program.executed() + operands,
            constants: program.constants().len(),
            temporaries: program.temporaries(),
        })
    }

    /// Operations on each vector of the result, on average, if the tile has `sums` of them. Sums for which there is no register are stored
    /// and loaded once, and constants for which there is none are loaded for each vector.
    pub fn per_vector(self, unit: &VectorUnit, sums: u64) -> f64 {
        let needed = sums as usize + self.temporaries.saturating_sub(1) + self.constants;
        let missing = needed.saturating_sub(unit.registers.into());
        let stored = missing.min(sums as usize);
        self.operations as f64 + 2.0 * stored as f64 / sums as f64 + (missing - stored) as f64
    }
}

//! The table of operations. `operations!` in `table.rs` makes an enum of it and all that follows from a row: the registers that an
//! operation reads and writes, the memory it reaches, its text, its meaning and what counts of it.

mod domain;
mod kinds;
mod lanewise;
mod operands;
mod role;
mod table;

pub use domain::{Domain, Registers};
pub use kinds::{Factors, Permute};
pub use lanewise::{Binary, Shift, Unary};
pub(in crate::microkernel) use operands::Operands;
pub use role::{MAX_SLOTS, Rule};
pub use table::Op;

use kiln_ir::DType;

use super::Addr;

/// The memory an operation reads or writes in one trip: `elements` consecutive elements of `addr`'s parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// First element.
    pub addr: Addr,
    /// Number of consecutive elements.
    pub elements: u16,
    /// Written, not read.
    pub store: bool,
    /// Elements stay as they are in memory: two bf16 or four integers of 8 bits are a word.
    pub raw: bool,
}

impl Touched {
    /// Elements, or bytes of what is not converted, in memory of elements of type `dtype`.
    pub fn extent(&self, dtype: DType) -> u32 {
        u32::from(self.elements) * if self.raw { dtype.bytes() as u32 } else { 1 }
    }
}

/// The part that an operation has in the [counts](super::counts) of a micro-kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads memory.
    Load,
    /// Writes memory.
    Store,
    /// Multiplies and adds to accumulators. Holds the number of the problem's multiply-adds that it makes in each 128 bits of its result.
    Product(u64),
    /// Computes one floating-point result a lane.
    Arithmetic,
    /// Moves, converts, or works on bits.
    Other,
}

/// The lanes of its operands on which a lane of an operation's result depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// The same lane of each.
    Same,
    /// Others too.
    Any,
}

impl Op {
    /// True if memory is read or written as elements that are not converted.
    pub fn is_raw(&self) -> bool {
        self.touched().is_some_and(|t| t.raw)
    }

    /// Multiply-adds of a whole problem per 128 bits of the register that the operation makes: 0 for all but the products.
    pub fn macs_per_quad(&self) -> u64 {
        if let Kind::Product(macs) = self.kind() { macs } else { 0 }
    }
}

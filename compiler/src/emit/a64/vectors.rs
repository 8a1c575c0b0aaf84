//! Vector registers by number.

use super::operand::{V, Z};

/// NEON's register `n`, which is below 32.
pub fn v(n: u8) -> V {
    V::new(n).expect("numbers of registers are checked")
}

/// SVE's register `n`, which is below 32.
pub fn z(n: u8) -> Z {
    Z::new(n).expect("numbers of registers are checked")
}

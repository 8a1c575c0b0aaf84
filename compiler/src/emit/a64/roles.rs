//! The purpose of each general register in the whole function.
//!
//! Parameters have *homes*, registers that hold their pointers throughout. Up to [`REGISTER_PARAMS`] parameters each
//! have one, `x0` to `x7`. Of more, the first [`HOMES`] have one, and the others' pointers are loaded from the block of
//! pointers, whose own address stays in a register, where they are needed.
//!
//! Never used are x17, x18, which belongs to the platform, x29 and x30.

use super::operand::X;
use crate::microkernel::P;

/// Most parameters of a function that receives its pointers in registers.
pub const REGISTER_PARAMS: usize = 8;

/// Most parameters of any function: as many as can be named.
pub const MAX_PARAMS: usize = 256;

/// Parameters that have a home where not all can.
const HOMES: u8 = 4;

/// Set and used within the translation of one operation, to address memory.
pub const SCRATCH: X = X::new(15).unwrap();

/// Set and used within a few instructions: a number on its way to another register.
pub const NUMBER: X = X::new(16).unwrap();

const POOL: X = X::new(14).unwrap();
const BLOCK: X = X::new(HOMES).unwrap();

/// The use of registers in a function.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    homes: u8,
    block: bool,
    pool: bool,
}

impl Roles {
    /// The roles in a function of `params` parameters, with or without a pool of constants; `None` if it has too many
    /// parameters.
    pub fn new(params: usize, pool: bool) -> Option<Roles> {
        if params > MAX_PARAMS {
            return None;
        }
        let block = params > REGISTER_PARAMS;
        Some(Roles { homes: if block { HOMES } else { params as u8 }, block, pool })
    }

    /// The register that holds `param`'s pointer throughout, if one does.
    pub fn home(&self, param: P) -> Option<X> {
        if param.0 < self.homes { X::new(param.0) } else { None }
    }

    /// The number of parameters that have a home: the first ones.
    pub fn homes(&self) -> u8 {
        self.homes
    }

    /// The register that holds the address of the block of pointers, if not all parameters have a home.
    pub fn block(&self) -> Option<X> {
        self.block.then_some(BLOCK)
    }

    /// The register that holds the address of the pool of constants, if there is one.
    pub fn pool(&self) -> Option<X> {
        self.pool.then_some(POOL)
    }

    /// The registers that are free between loops and need not be saved.
    pub fn for_anchors(&self) -> Vec<X> {
        let first = if self.block { HOMES + 1 } else { REGISTER_PARAMS as u8 };
        self.free(first).collect()
    }

    /// The registers for loops, those that need not be saved first.
    pub fn for_loops(&self) -> Vec<X> {
        let first = self.homes + u8::from(self.block);
        self.free(first).chain((19..29).filter_map(X::new)).collect()
    }

    fn free(&self, first: u8) -> impl Iterator<Item = X> {
        let pool = self.pool();
        (first..15).filter_map(X::new).filter(move |x| Some(*x) != pool)
    }
}

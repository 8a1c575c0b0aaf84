//! The registers of a unit: which are free, and whose value the others hold.

use std::ops::{BitAnd, BitOr, Not};

use super::super::V;
use crate::target::VectorUnit;

/// A set of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    /// No register.
    pub const NONE: Set = Set(0);

    /// Registers `0..count`, of which there are at most 64.
    pub fn below(count: u8) -> Set {
        Set(u64::MAX.checked_shr(64 - u32::from(count.min(64))).unwrap_or(0))
    }

    /// One register, below 64.
    pub fn of(register: u8) -> Set {
        Set(1 << register)
    }

    /// Tells whether a register is among them.
    pub fn has(self, register: u8) -> bool {
        self.0 >> register & 1 == 1
    }

    /// The number of registers.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The first of them from a register on, the one after the last being the first. There is one.
    pub fn first_from(self, register: u8) -> u8 {
        ((self.0.rotate_right(register.into()).trailing_zeros() + u32::from(register)) % 64) as u8
    }

    /// Calls `f` with each.
    pub fn each(self, mut f: impl FnMut(u8)) {
        let mut rest = self.0;
        while rest != 0 {
            f(rest.trailing_zeros() as u8);
            rest &= rest - 1;
        }
    }
}

impl BitAnd for Set {
    type Output = Set;

    fn bitand(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }
}

impl BitOr for Set {
    type Output = Set;

    fn bitor(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }
}

impl Not for Set {
    type Output = Set;

    fn not(self) -> Set {
        Set(!self.0)
    }
}

/// The registers.
pub(super) struct Registers {
    all: Set,
    free: Set,
    owners: [Option<V>; 64],
    /// Those that are left for operands by element as long as there are others.
    reserved: Set,
    /// Those that the function must save before it changes them and has not changed yet.
    preserved: Set,
    /// The register behind the one that was taken last.
    next: u8,
}

impl Registers {
    /// All registers of a unit, free.
    pub fn new(unit: &VectorUnit, reserved: Set) -> Self {
        let preserved = unit.isa.preserved_registers().map(Set::of).fold(Set::NONE, BitOr::bitor);
        let all = Set::below(unit.registers);
        Registers { all, free: all, owners: [None; 64], reserved, preserved, next: 0 }
    }

    /// Those that are free.
    pub fn free(&self) -> Set {
        self.free
    }

    /// The value in a register.
    pub fn owner(&self, register: u8) -> Option<V> {
        self.owners[usize::from(register)]
    }

    /// Takes a free register of a class: in turn, so that what writes it need not wait for what reads it, but rather one that need not be
    /// saved, and rather none that is reserved for operands by element.
    pub fn take(&mut self, class: Set) -> Option<u8> {
        let free = self.free & class;
        let (others, preserved) = (!self.reserved, !self.preserved);
        let rather = match class == self.all {
            true => [free & others & preserved, free & others, free & preserved, free],
            false => [free & self.reserved, free & preserved, free, free],
        };
        let among = rather.into_iter().find(|set| *set != Set::NONE)?;
        let r = among.first_from(self.next);
        self.next = (r + 1) % 64;
        self.claim(r);
        Some(r)
    }

    /// Takes this register.
    pub fn claim(&mut self, register: u8) {
        self.free = self.free & !Set::of(register);
        self.preserved = self.preserved & !Set::of(register);
    }

    /// Puts a value into a register that was taken.
    pub fn own(&mut self, register: u8, v: V) {
        self.owners[usize::from(register)] = Some(v);
    }

    /// Gives a register back.
    pub fn give(&mut self, register: u8) {
        self.owners[usize::from(register)] = None;
        self.free = self.free | Set::of(register);
    }
}

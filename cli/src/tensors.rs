//! The operands of a problem in memory.

use std::ops::{Deref, DerefMut};

use kiln_ir::{Problem, Role};
use kiln_runtime::Args;

use crate::data::{self, Integers};
use crate::error::Error;

/// Tensors start on a cache line.
const ALIGN: usize = 64;

/// Floats that start on a cache line.
#[derive(Debug, Default)]
pub struct Buffer {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeros, or `None` without the memory.
    fn zeros(len: usize) -> Option<Self> {
        let padded = len.checked_add(ALIGN / size_of::<f32>())?;
        let mut data: Vec<f32> = Vec::new();
        data.try_reserve_exact(padded).ok()?;
        data.resize(padded, 0.0);
        let start = data.as_ptr().align_offset(ALIGN);
        Some(Self { data, start, len })
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// One buffer per operand.
#[derive(Debug)]
pub struct Tensors {
    /// Left operand.
    pub lhs: Buffer,
    /// Right operand.
    pub rhs: Buffer,
    /// The bias, if the problem has one.
    pub bias: Option<Buffer>,
    /// The result.
    pub dst: Buffer,
}

impl Tensors {
    /// Zeros of the problem's sizes. Fails unless there is memory for them and for two references in double precision.
    pub fn zeros(problem: &Problem) -> Result<Self, Error> {
        let operands = problem.operands();
        let bytes = operands
            .iter()
            .map(|o| o.len() * if o.role == Role::Dst { 4 + 2 * 8 } else { 4 })
            .fold(0u64, u64::saturating_add);
        let memory = || Error::Memory { problem: problem.to_string(), bytes };
        if available_memory().is_some_and(|available| bytes > available) {
            return Err(memory());
        }
        let mut tensors = Self { lhs: Buffer::default(), rhs: Buffer::default(), bias: None, dst: Buffer::default() };
        for o in &operands {
            let buffer = Buffer::zeros(o.len() as usize).ok_or_else(memory)?;
            match o.role {
                Role::Lhs => tensors.lhs = buffer,
                Role::Rhs => tensors.rhs = buffer,
                Role::Bias => tensors.bias = Some(buffer),
                Role::Dst => tensors.dst = buffer,
            }
        }
        Ok(tensors)
    }

    /// Fills the inputs with [`data::reals`].
    pub fn fill_reals(&mut self, seed: u64) {
        self.inputs().into_iter().for_each(|(role, values)| data::reals(values, seed, role));
    }

    /// Fills the inputs with [`Integers`].
    pub fn fill_integers(&mut self, seed: u64, integers: Integers) {
        self.inputs().into_iter().for_each(|(role, values)| integers.fill(values, seed, role));
    }

    /// Fills the result with NaN, so that an element that a kernel forgets, or reads, shows.
    pub fn poison(&mut self) {
        self.dst.fill(f32::NAN);
    }

    /// The tensors as arguments of a call.
    pub fn args(&mut self) -> Args<'_> {
        let args = Args::new(&self.lhs, &self.rhs, &mut self.dst);
        match &self.bias {
            Some(bias) => args.bias(bias),
            None => args,
        }
    }

    /// The bias, or nothing.
    pub fn bias_or_empty(&self) -> &[f32] {
        self.bias.as_deref().unwrap_or_default()
    }

    fn inputs(&mut self) -> Vec<(Role, &mut [f32])> {
        let mut all: Vec<(Role, &mut [f32])> = vec![(Role::Lhs, &mut self.lhs), (Role::Rhs, &mut self.rhs)];
        if let Some(bias) = &mut self.bias {
            all.push((Role::Bias, bias));
        }
        all
    }
}

/// Bytes that the machine can give without swapping, where it tells. Asking the allocator is not enough: it promises what
/// the operating system later kills the process for.
fn available_memory() -> Option<u64> {
    mem_available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_as_long_as_operands() {
        let problem: Problem = "matmul f32 3x5:5x7 +bias".parse().unwrap();
        let t = Tensors::zeros(&problem).unwrap();
        for (buffer, len) in [(&t.lhs, 15), (&t.rhs, 35), (t.bias.as_ref().unwrap(), 7), (&t.dst, 21)] {
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % ALIGN, 0);
        }
    }

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:        8123456 kB\nMemFree:          100000 kB\nMemAvailable:    4000000 kB\n";
        assert_eq!(mem_available(text), Some(4_096_000_000));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
        assert!(available_memory().is_none_or(|bytes| bytes > 1 << 20));
    }
}

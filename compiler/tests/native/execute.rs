//! Calls of emitted code.

use std::mem::transmute;

use kiln_compiler::emit::Arguments;
use kiln_compiler::microkernel::MicroKernel;
use kiln_ir::DType;

use super::memory::{Guarded, Placement};

type P = *mut u8;

/// What `data`, a slice for each parameter, becomes.
pub fn run(code: &[u8], arguments: Arguments, placement: Placement, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut code = Guarded::code(code);
    let mut memory: Vec<Guarded> = data.iter().map(|d| Guarded::new(d, placement)).collect();
    let pointers: Vec<P> = memory.iter_mut().map(Guarded::pointer).collect();
    let entry = code.pointer();
    // SAFETY: the code is a function of as many pointers, or of a pointer to them, to the memory its micro-kernel's regions
    // describe, which lives until the end.
    unsafe {
        let p = |i: usize| pointers.get(i).copied().unwrap_or(std::ptr::null_mut());
        match arguments {
            // Arguments that are not expected do no harm.
            Arguments::Registers => {
                transmute::<P, extern "C" fn(P, P, P, P, P, P)>(entry)(p(0), p(1), p(2), p(3), p(4), p(5));
            }
            Arguments::Block => transmute::<P, extern "C" fn(*const P)>(entry)(pointers.as_ptr()),
        }
    }
    memory.iter_mut().map(Guarded::contents).collect()
}

/// The first element that differs. NaN is NaN.
pub fn difference(mk: &MicroKernel, expected: &[Vec<u8>], found: &[Vec<u8>]) -> Option<String> {
    let all = mk.params.iter().zip(expected.iter().zip(found));
    for (param, (expected, found)) in all {
        let size = param.dtype.bytes();
        for (i, (e, f)) in expected.chunks(size).zip(found.chunks(size)).enumerate() {
            let (e, f) = (word(param.dtype, e), word(param.dtype, f));
            if e != f && !(f32::from_bits(e).is_nan() && f32::from_bits(f).is_nan()) {
                return Some(format!("{}[{}]: {f:#010x} instead of {e:#010x}", param.name, i * size));
            }
        }
    }
    None
}

fn word(dtype: DType, bytes: &[u8]) -> u32 {
    dtype.widen(bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte)))
}

//! Linking: functions laid out one after another as a single position-independent image.

use std::ops::Range;

use crate::emit::{Function, Note, RelocKind};
use crate::target::Arch;

/// Functions start at multiples of this: a cache line, so that loop heads aligned in a function stay aligned.
pub const ALIGN: usize = 64;

/// Fills the gaps between functions: a byte that traps when executed.
pub fn filler(arch: Arch) -> u8 {
    match arch {
        Arch::Aarch64 => 0x00,
        Arch::X86_64 => 0xcc,
    }
}

/// A function in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Name: `driver` or a micro-kernel's.
    pub name: String,
    /// Bytes in the image.
    pub range: Range<usize>,
    /// Bytes of them that are instructions; constants follow.
    pub code_len: usize,
    /// Why the code is there.
    pub notes: Vec<Note>,
}

/// A call that cannot be linked: always a defect of an emitter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{from}` calls `{to}`: {why}")]
pub struct LinkError {
    from: String,
    to: String,
    why: &'static str,
}

/// Lays out `functions` in order and resolves their calls of one another. Gives the image and each function's range.
pub fn link(functions: &[Function], arch: Arch) -> Result<(Vec<u8>, Vec<Range<usize>>), LinkError> {
    let mut image: Vec<u8> = vec![];
    let mut ranges: Vec<Range<usize>> = vec![];
    for f in functions {
        image.resize(image.len().next_multiple_of(ALIGN), filler(arch));
        ranges.push(image.len()..image.len() + f.bytes.len());
        image.extend(&f.bytes);
    }
    for (f, range) in functions.iter().zip(&ranges) {
        for r in &f.relocs {
            let fail = |why| LinkError { from: f.name.clone(), to: r.symbol.clone(), why };
            let to =
                functions.iter().position(|g| g.name == r.symbol).ok_or_else(|| fail("there is no such function"))?;
            let at = range.start + r.offset as usize;
            let field = image.get_mut(at..at + 4).ok_or_else(|| fail("the call is outside its function"))?;
            let distance = ranges[to].start as i64 + r.addend - at as i64;
            match r.kind {
                RelocKind::X86CallPcRel4 => {
                    let distance = i32::try_from(distance).map_err(|_| fail("it is out of reach"))?;
                    field.copy_from_slice(&distance.to_le_bytes());
                }
                RelocKind::Arm64Call => {
                    let words = distance / 4;
                    if distance % 4 != 0 || !(-(1 << 25)..1 << 25).contains(&words) {
                        return Err(fail("it is out of reach"));
                    }
                    let word = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
                    let word = (word & !0x03ff_ffff) | (words as u32 & 0x03ff_ffff);
                    field.copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
    Ok((image, ranges))
}

//! A function under construction: instructions become bytes as they are added.
//!
//! Every branch of a micro-kernel goes backwards, so [`iced_x86::Encoder`] suffices, and the address of the next
//! instruction is known, which aligning loops needs. `CodeAssembler` keeps all instructions to choose the size of forward
//! branches. iced builds its tables on first use in a process, which takes about 0.6 ms.
//!
//! Constants lie behind the code and are addressed relative to the next instruction, by a displacement of 4 bytes that
//! [`Assembler::finish`] fills in.

use std::sync::Arc;

use iced_x86::{Code, Encoder, IcedError, Instruction, MemoryOperand, Register};

use crate::emit::{EmitError, Function, Note};
use crate::microkernel::MicroKernel;

/// The recommended multi-byte forms of NOP, Intel SDM volume 2B, "NOP".
const NOPS: [&[u8]; 9] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// The bytes of one function, growing.
pub(super) struct Assembler<'a> {
    mk: &'a MicroKernel,
    encoder: Encoder,
    len: usize,
    notes: Vec<Note>,
    /// The constants, each word of 4 bytes.
    pool: Vec<u32>,
    fixups: Vec<Fixup>,
}

/// A displacement to be filled in.
struct Fixup {
    /// Offset of its 4 bytes.
    field: usize,
    /// The offset that it counts from: that of the next instruction.
    next: usize,
    /// First word of the constant in the pool.
    word: usize,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(mk: &'a MicroKernel) -> Self {
        Assembler { mk, encoder: Encoder::new(64), len: 0, notes: vec![], pool: vec![], fixups: vec![] }
    }

    /// The offset of the next instruction.
    pub(super) fn offset(&self) -> usize {
        self.len
    }

    /// Appends an instruction.
    pub(super) fn put(&mut self, instruction: Result<Instruction, IcedError>) -> Result<(), EmitError> {
        self.len += instruction
            .and_then(|i| self.encoder.encode(&i, self.len as u64))
            .map_err(|e| super::error(self.mk, e.to_string()))?;
        Ok(())
    }

    /// Appends the instruction that `build` makes of an operand in memory that holds `words`.
    pub(super) fn put_constant(
        &mut self,
        words: &[u32],
        build: impl FnOnce(MemoryOperand) -> Result<Instruction, IcedError>,
    ) -> Result<(), EmitError> {
        let word = self.pool.windows(words.len()).position(|w| w == words).unwrap_or_else(|| {
            self.pool.extend(words);
            self.pool.len() - words.len()
        });
        let start = self.len;
        // For the encoder the displacement of an operand relative to RIP is its address.
        self.put(build(MemoryOperand::with_base_displ(Register::RIP, start as i64)))?;
        let field = start + self.encoder.get_constant_offsets().displacement_offset();
        self.fixups.push(Fixup { field, next: self.len, word });
        Ok(())
    }

    /// States why the next instructions are there.
    pub(super) fn note(&mut self, text: impl Into<Arc<str>>) {
        let text = text.into();
        let offset = self.len as u32;
        if self.notes.last().is_some_and(|n| n.offset == offset) {
            self.notes.pop();
        }
        if self.notes.last().is_none_or(|n| n.text != text) {
            self.notes.push(Note { offset, text });
        }
    }

    /// Appends NOPs up to a multiple of `align` bytes.
    pub(super) fn align(&mut self, align: usize) {
        let mut pad = self.len.next_multiple_of(align) - self.len;
        while pad > 0 {
            let nop = NOPS[pad.min(NOPS.len()) - 1];
            nop.iter().for_each(|b| self.encoder.write_u8(*b));
            self.len += nop.len();
            pad -= nop.len();
        }
    }

    /// Appends a jump to the earlier offset `target`, taken unless the zero flag is set.
    pub(super) fn jump_not_zero(&mut self, target: usize) -> Result<(), EmitError> {
        const SHORT_LEN: usize = 2;
        let short = self.len + SHORT_LEN - target <= 128;
        let code = if short { Code::Jne_rel8_64 } else { Code::Jne_rel32_64 };
        self.put(Instruction::with_branch(code, target as u64))
    }

    /// The function.
    pub(super) fn finish(mut self) -> Function {
        let mut bytes = self.encoder.take_buffer();
        let code_len = bytes.len();
        if !self.pool.is_empty() {
            bytes.resize(code_len.next_multiple_of(4), 0);
        }
        for Fixup { field, next, word } in &self.fixups {
            let displacement = (bytes.len() + 4 * word - next) as u32;
            bytes[*field..field + 4].copy_from_slice(&displacement.to_le_bytes());
        }
        bytes.extend(self.pool.iter().flat_map(|w| w.to_le_bytes()));
        Function { name: self.mk.name.clone(), bytes, code_len, relocs: vec![], notes: self.notes }
    }
}

//! AArch64, by Capstone.

use capstone::prelude::*;

use super::Line;

/// Instructions of 4 bytes; one that Capstone does not know is shown as its word.
pub(super) fn disassemble(code: &[u8], start: usize) -> Vec<Line> {
    let capstone = Capstone::new().arm64().mode(arch::arm64::ArchMode::Arm).build().ok();
    code.chunks_exact(4)
        .enumerate()
        .map(|(i, word)| {
            let offset = start + 4 * i;
            let decoded = capstone.as_ref().and_then(|c| c.disasm_count(word, offset as u64, 1).ok());
            match decoded.as_ref().and_then(|d| d.first()) {
                Some(insn) => line(offset, insn.mnemonic().unwrap_or_default(), insn.op_str().unwrap_or_default()),
                None => Line { offset, len: 4, text: "unknown".into(), refers_to: None, canonical: false },
            }
        })
        .collect()
}

fn line(offset: usize, mnemonic: &str, operands: &str) -> Line {
    let branches = mnemonic == "b"
        || mnemonic == "bl"
        || mnemonic.starts_with("b.")
        || ["cbz", "cbnz", "tbz", "tbnz", "adr"].contains(&mnemonic);
    let mut text = format!("{mnemonic:<7} {operands}").trim_end().to_owned();
    let mut refers_to = None;
    if branches
        && let Some((before, target)) = text.rsplit_once("#0x")
        && let Ok(target) = usize::from_str_radix(target, 16)
    {
        refers_to = Some(target);
        text = format!("{before}{{}}");
    }
    Line { offset, len: 4, text, refers_to, canonical: true }
}

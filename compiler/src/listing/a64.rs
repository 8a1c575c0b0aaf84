//! AArch64, by Capstone.

use capstone::prelude::*;

use super::Line;

/// Instructions of 4 bytes; one that Capstone does not know is shown as its bytes.
pub(super) fn disassemble(code: &[u8], start: usize) -> Vec<Line> {
    let capstone = Capstone::new().arm64().mode(arch::arm64::ArchMode::Arm).build().ok();
    code.chunks_exact(4)
        .enumerate()
        .map(|(i, word)| {
            let offset = start + 4 * i;
            let decoded = capstone.as_ref().and_then(|c| c.disasm_count(word, offset as u64, 1).ok());
            match decoded.as_ref().and_then(|d| d.first()) {
                Some(insn) => line(offset, insn.mnemonic().unwrap_or_default(), insn.op_str().unwrap_or_default()),
                None => {
                    Line { offset, len: 4, text: "unknown".into(), refers_to: None, canonical: false, padding: false }
                }
            }
        })
        .collect()
}

fn line(offset: usize, mnemonic: &str, operands: &str) -> Line {
    let branches = mnemonic.starts_with("b.") || ["b", "bl", "cbz", "cbnz", "tbz", "tbnz", "adr"].contains(&mnemonic);
    let mut operands = decimal(operands);
    let mut refers_to = None;
    if branches
        && let Some((before, target)) = operands.rsplit_once('#')
        && let Ok(target) = target.parse()
    {
        refers_to = Some(target);
        operands = format!("{before}{{}}");
    }
    let text = format!("{mnemonic:<7} {operands}").trim_end().to_owned();
    Line { offset, len: 4, text, refers_to, canonical: true, padding: mnemonic == "nop" }
}

/// Immediates in decimal, as offsets and strides are read; the masks among them do not fit 32 bits and stay as they are.
fn decimal(operands: &str) -> String {
    let mut parts = operands.split("0x");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len()));
        out += &u32::from_str_radix(digits, 16).map_or(format!("0x{digits}"), |n| n.to_string());
        out += rest;
    }
    out
}

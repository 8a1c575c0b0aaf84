//! Listings: an artifact as assembler source with the reason for each instruction.
//!
//! The text is disassembled from the image, so it shows what runs, and it assembles back to the image: branches go to
//! labels, and an instruction that assemblers would encode in another way is written as its bytes beside its text.

mod a64;
mod x86;

use std::collections::BTreeSet;

use crate::artifact::{Artifact, Symbol};
use crate::link::{ALIGN, filler};
use crate::target::Arch;

/// A disassembled instruction.
struct Line {
    /// Offset in the image.
    offset: usize,
    /// Length in bytes.
    len: usize,
    /// Mnemonic and operands; `{}` stands for the name of `refers_to`.
    text: String,
    /// An offset in the image that the text refers to by name.
    refers_to: Option<usize>,
    /// Assemblers choose this very encoding.
    canonical: bool,
}

/// Column at which comments start.
const COMMENT: usize = 52;

pub(crate) fn listing(artifact: &Artifact, bytes: bool) -> String {
    let arch = artifact.target().arch;
    let (header, comment) = match arch {
        Arch::Aarch64 => ("        .arch armv8.2-a+sve+bf16\n        .text\n", "//"),
        Arch::X86_64 => ("        .intel_syntax noprefix\n        .text\n", "#"),
    };
    let mut out = format!("{comment} {} @{}\n{comment} {}\n", artifact.problem(), artifact.target(), artifact.choice().schedule);
    out += header;
    for s in artifact.symbols() {
        out += &format!("        .balign {ALIGN}, {:#04x}\n", filler(arch));
        function(&mut out, artifact, s, comment, bytes);
    }
    out
}

fn function(out: &mut String, artifact: &Artifact, s: &Symbol, comment: &str, bytes: bool) {
    let code = &artifact.image()[s.range.start..s.range.start + s.code_len];
    let lines = match artifact.target().arch {
        Arch::Aarch64 => a64::disassemble(code, s.range.start),
        Arch::X86_64 => x86::disassemble(code, s.range.start),
    };
    let inside: BTreeSet<usize> =
        lines.iter().filter_map(|l| l.refers_to).filter(|t| s.range.contains(t) && *t != s.range.start).collect();
    let name_of = |target: usize| match inside.iter().position(|t| *t == target) {
        Some(i) => Some(format!(".L{}_{i}", s.name)),
        None => artifact.symbols().iter().find(|o| o.range.start == target).map(|o| o.name.clone()),
    };
    out.push_str(&format!("{}:\n", s.name));
    let mut notes = s.notes.iter().peekable();
    let mut reason = "";
    for l in &lines {
        if let Some(i) = inside.iter().position(|t| *t == l.offset) {
            out.push_str(&format!(".L{}_{i}:\n", s.name));
        }
        while let Some(n) = notes.next_if(|n| n.offset as usize + s.range.start <= l.offset) {
            reason = &n.text;
        }
        let raw = &artifact.image()[l.offset..l.offset + l.len];
        let name = l.refers_to.map(name_of);
        let text = match &name {
            Some(Some(name)) => l.text.replace("{}", name),
            _ => l.text.clone(),
        };
        let known = l.canonical && !matches!(name, Some(None));
        let (shown, reason) = if known { (text, reason.to_owned()) } else { (data(raw), format!("{text}: {reason}")) };
        let hex = if bytes { format!(" [{}]", hex(raw)) } else { String::new() };
        out.push_str(format!("        {shown:<COMMENT$}{comment} {reason}{hex}").trim_end());
        out.push('\n');
    }
    constants(out, artifact, s, &inside, comment);
}

/// What follows a function's instructions, label by label.
fn constants(out: &mut String, artifact: &Artifact, s: &Symbol, inside: &BTreeSet<usize>, comment: &str) {
    let mut at = s.range.start + s.code_len;
    while at < s.range.end {
        if let Some(i) = inside.iter().position(|t| *t == at) {
            out.push_str(&format!(".L{}_{i}:\n", s.name));
        }
        let next = inside.range(at + 1..).next().copied().unwrap_or(s.range.end);
        let end = (at + 16).min(next).min(s.range.end);
        let shown = data(&artifact.image()[at..end]);
        out.push_str(format!("        {shown:<COMMENT$}{comment} constants").trim_end());
        out.push('\n');
        at = end;
    }
}

fn data(bytes: &[u8]) -> String {
    format!(".byte {}", bytes.iter().map(|b| format!("{b:#04x}")).collect::<Vec<_>>().join(","))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

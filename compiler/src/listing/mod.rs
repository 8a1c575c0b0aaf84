//! Listings: an artifact as assembler source with the reason for each instruction.
//!
//! The text is disassembled from the image, so it shows what runs, and it assembles back to the image: branches go to
//! labels, and an instruction that assemblers would encode in another way is written as its bytes beside its text.

mod a64;
mod x86;

use std::collections::BTreeSet;

use crate::emit::Function;
use crate::link::{ALIGN, Symbol, filler};
use crate::target::{Arch, Target};

/// The code of a listing.
struct Code<'a> {
    arch: Arch,
    image: &'a [u8],
    symbols: &'a [Symbol],
}

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
    /// Does nothing but move what follows.
    padding: bool,
}

/// Width of the instructions' column; comments follow it.
const COMMENT: usize = 44;

/// The functions of an image for `target` as assembler source, behind comments that say what it is: names and texts, whose lines are
/// comments of their own. With `bytes`, each line shows them.
pub(crate) fn listing(
    header: &[(&str, &str)],
    target: &Target,
    image: &[u8],
    symbols: &[Symbol],
    bytes: bool,
) -> String {
    let (comment, syntax) = syntax(target);
    let mut out = String::new();
    for (name, text) in header {
        out += &format!("{comment} {name:<9} {}\n", text.replace('\n', &format!("\n{comment}           ")));
    }
    out += &format!("        {syntax}\n        .text\n");
    let code = Code { arch: target.arch, image, symbols };
    for s in symbols {
        // The word form for AArch64: LLVM 14 takes a fill of one zero byte to mean NOPs.
        let align = if target.arch == Arch::Aarch64 { ".balignl" } else { ".balign" };
        out += &format!("\n        {align} {ALIGN}, {:#04x}\n", filler(target.arch));
        function(&mut out, &code, s, comment, bytes);
    }
    out
}

/// A function that is not linked, as assembler source that assembles to its bytes; with `bytes`, each line shows them.
pub fn function_listing(f: &Function, target: &Target, bytes: bool) -> String {
    let (comment, syntax) = syntax(target);
    let (range, notes) = (0..f.bytes.len(), f.notes.clone());
    let symbol = Symbol { name: f.name.clone(), range, code_len: f.code_len, notes };
    let mut out = format!("        {syntax}\n        .text\n");
    let code = Code { arch: target.arch, image: &f.bytes, symbols: std::slice::from_ref(&symbol) };
    function(&mut out, &code, &symbol, comment, bytes);
    out
}

/// The mark that starts comments, and the directive that chooses instructions and syntax.
fn syntax(target: &Target) -> (&'static str, String) {
    match target.arch {
        Arch::Aarch64 => {
            let sve = if target.sve_bits().is_some() { "+sve" } else { "" };
            let features: String = target.features().iter().map(|f| format!("+{}", f.name())).collect();
            // The version that the extensions belong to.
            let version = if target.features().is_empty() { "armv8-a" } else { "armv8.2-a" };
            ("//", format!(".arch {version}{sve}{features}"))
        }
        Arch::X86_64 => ("#", ".intel_syntax noprefix".into()),
    }
}

fn function(out: &mut String, listed: &Code, s: &Symbol, comment: &str, bytes: bool) {
    let code = &listed.image[s.range.start..s.range.start + s.code_len];
    let lines = match listed.arch {
        Arch::Aarch64 => a64::disassemble(code, s.range.start),
        Arch::X86_64 => x86::disassemble(code, s.range.start),
    };
    let inside: BTreeSet<usize> =
        lines.iter().filter_map(|l| l.refers_to).filter(|t| s.range.contains(t) && *t != s.range.start).collect();
    let name_of = |target: usize| match inside.iter().position(|t| *t == target) {
        Some(i) => Some(format!(".L{}_{i}", s.name)),
        None => listed.symbols.iter().find(|o| o.range.start == target).map(|o| o.name.clone()),
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
        let raw = &listed.image[l.offset..l.offset + l.len];
        let name = l.refers_to.map(name_of);
        let text = match &name {
            Some(Some(name)) => l.text.replace("{}", name),
            _ => l.text.clone(),
        };
        let known = l.canonical && !matches!(name, Some(None));
        let why = if l.padding { "aligns what follows" } else { reason };
        let (shown, why) =
            if known { (text, why.to_owned()) } else { (data(raw), format!("{}: {why}", spaced(&text))) };
        let hex = if bytes { format!(" [{}]", hex(raw)) } else { String::new() };
        out.push_str(format!("        {shown:<COMMENT$} {comment} {why}{hex}").trim_end());
        out.push('\n');
    }
    constants(out, listed, s, &inside, comment);
}

/// The data behind a function's instructions, label by label.
fn constants(out: &mut String, listed: &Code, s: &Symbol, inside: &BTreeSet<usize>, comment: &str) {
    let mut at = s.range.start + s.code_len;
    while at < s.range.end {
        if let Some(i) = inside.iter().position(|t| *t == at) {
            out.push_str(&format!(".L{}_{i}:\n", s.name));
        }
        let next = inside.range(at + 1..).next().copied().unwrap_or(s.range.end);
        let end = (at + 8).min(next).min(s.range.end);
        let shown = data(&listed.image[at..end]);
        out.push_str(format!("        {shown:<COMMENT$} {comment} constants").trim_end());
        out.push('\n');
        at = end;
    }
}

fn data(bytes: &[u8]) -> String {
    format!(".byte {}", bytes.iter().map(|b| format!("{b:#04x}")).collect::<Vec<_>>().join(","))
}

/// `text` with single spaces.
fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

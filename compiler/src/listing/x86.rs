//! x86-64, by iced-x86, in Intel syntax.
//!
//! An instruction often has several encodings and assemblers choose one. Pseudo prefixes in braces, which GNU as and LLVM
//! share, ask for another: `{disp8}` and `{disp32}` for the size of a displacement, `{vex3}` for the long VEX prefix, `{evex}` for
//! the EVEX prefix where a VEX prefix would do.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter, Instruction, IntelFormatter, Mnemonic, NumberBase, OpKind,
    Register,
};

use super::Line;

/// Column of the first operand.
const OPERANDS: usize = 13;

pub(super) fn disassemble(code: &[u8], start: usize) -> Vec<Line> {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_first_operand_char_index(OPERANDS as u32);
    options.set_space_after_operand_separator(true);
    options.set_space_between_memory_add_operators(true);
    options.set_number_base(NumberBase::Decimal);
    options.set_show_branch_size(false);
    options.set_rip_relative_addresses(true);
    Decoder::with_ip(64, code, start as u64, DecoderOptions::NONE)
        .iter()
        .map(|i| {
            let at = i.ip() as usize - start;
            line(&i, &code[at..at + i.len()], &mut formatter)
        })
        .collect()
}

fn line(i: &Instruction, bytes: &[u8], formatter: &mut IntelFormatter) -> Line {
    let arithmetic = matches!(i.mnemonic(), Mnemonic::Add | Mnemonic::Sub | Mnemonic::Cmp | Mnemonic::And);
    formatter.options_mut().set_signed_immediate_operands(arithmetic);
    let mut text = String::new();
    formatter.format(i, &mut text);
    let canonical = !i.is_invalid() && !is_load_form(i, bytes) && !has_shorter_immediate(i, bytes);
    let mut line = Line { offset: i.ip() as usize, len: i.len(), text, refers_to: None, canonical, padding: false };
    match i.flow_control() {
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call => branch(&mut line, i),
        _ if i.is_ip_rel_memory_operand() => {
            line.refers_to = Some(i.ip_rel_memory_address() as usize);
            if let (Some(open), Some(close)) = (line.text.find("[rip"), line.text.find(']')) {
                line.text.replace_range(open..=close, "[rip + {}]");
            }
        }
        _ if i.mnemonic() == Mnemonic::Nop => {
            line.padding = true;
            line.text = nop(bytes).unwrap_or(line.text);
            line.canonical = nop(bytes).is_some();
        }
        _ if is_swapped_for_short_vex(i, bytes) => line.text.insert_str(0, "{vex3} "),
        _ if needs_no_evex(i, bytes) => line.text.insert_str(0, "{evex} "),
        _ => {}
    }
    line
}

fn branch(line: &mut Line, i: &Instruction) {
    let target = i.near_branch_target() as usize;
    // Assemblers take the short form, of 2 bytes, wherever it reaches. It would move a target that follows too.
    let from = if target > line.offset { line.offset + line.len } else { line.offset + 2 };
    let reaches = i8::try_from(target as i64 - from as i64).is_ok();
    let long = i.flow_control() != FlowControl::Call && line.len > 2 && reaches;
    let mnemonic = line.text.split(' ').next().unwrap_or_default();
    let mnemonic = format!("{}{mnemonic}", if long { "{disp32} " } else { "" });
    line.text = format!("{mnemonic:<0$}{{}}", OPERANDS.max(mnemonic.len() + 1));
    line.refers_to = Some(target);
}

/// The text of the recommended forms of NOP (Intel SDM volume 2B, "NOP"): their displacements are 0, which assemblers
/// leave out unless asked.
fn nop(bytes: &[u8]) -> Option<String> {
    let (prefix, operand) = match bytes {
        [0x90] => return Some("nop".into()),
        [0x66, 0x90] => return Some(format!("{:<OPERANDS$}ax, ax", "xchg")),
        [0x0f, 0x1f, 0x00] => ("", "dword ptr [rax]"),
        [0x0f, 0x1f, 0x40, 0] => ("{disp8} ", "dword ptr [rax]"),
        [0x0f, 0x1f, 0x44, 0, 0] => ("{disp8} ", "dword ptr [rax + rax]"),
        [0x66, 0x0f, 0x1f, 0x44, 0, 0] => ("{disp8} ", "word ptr [rax + rax]"),
        [0x0f, 0x1f, 0x80, 0, 0, 0, 0] => ("{disp32} ", "dword ptr [rax]"),
        [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0] => ("{disp32} ", "dword ptr [rax + rax]"),
        [0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0] => ("{disp32} ", "word ptr [rax + rax]"),
        _ => return None,
    };
    Some(format!("{:<OPERANDS$}{operand}", format!("{prefix}nop")))
}

/// Opcode byte of an instruction without an escape, after the operand size and REX prefixes.
fn opcode(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|b| !matches!(b, 0x66 | 0x40..=0x4f))
}

fn is_register(i: &Instruction, operand: u32) -> bool {
    i.op_count() > operand && i.op_kind(operand) == OpKind::Register
}

/// Between two registers, integer arithmetic and moves have a load and a store form. Assemblers choose the store form;
/// only GNU as can be asked for the other.
fn is_load_form(i: &Instruction, bytes: &[u8]) -> bool {
    let load = opcode(bytes).is_some_and(|b| matches!(b, 0x8a | 0x8b) || (b < 0x40 && matches!(b & 7, 2 | 3)));
    load && is_register(i, 0) && is_register(i, 1)
}

/// With immediates, assemblers choose the opcodes that imply the accumulator over the general ones, and one byte over
/// four. Neither assembler can be asked for anything else.
fn has_shorter_immediate(i: &Instruction, bytes: &[u8]) -> bool {
    let accumulator = matches!(i.op0_register(), Register::AL | Register::AX | Register::EAX | Register::RAX);
    let fits = |imm: u64| i8::try_from(imm as i64).is_ok();
    let fits_byte = i.try_immediate(i.op_count().saturating_sub(1)).is_ok_and(fits);
    let to_accumulator = is_register(i, 0) && accumulator;
    match opcode(bytes) {
        Some(0x80) => to_accumulator,
        Some(0x81) => to_accumulator || fits_byte,
        Some(0x69) => fits_byte,
        Some(0xf6 | 0xf7) => to_accumulator && i.mnemonic() == Mnemonic::Test,
        _ => false,
    }
}

/// True if an instruction with an EVEX prefix has nothing that takes one.
fn needs_no_evex(i: &Instruction, bytes: &[u8]) -> bool {
    // In 64-bit mode nothing else starts so.
    const EVEX: u8 = 0x62;
    let of_evex = |r: Register| r.is_zmm() || r.is_k() || (r.is_vector_register() && r.number() >= 16);
    bytes[0] == EVEX
        && !i.has_op_mask()
        && !i.is_broadcast()
        && !(0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && of_evex(i.op_register(n)))
}

/// Only the first source can be one of registers 8 to 15 after a 2-byte VEX prefix. LLVM swaps the sources of
/// operations that allow it for that, and both assemblers turn a move into its store form.
fn is_swapped_for_short_vex(i: &Instruction, bytes: &[u8]) -> bool {
    let &[0xc4, second, third, _, modrm, ..] = bytes else { return false };
    // R, X, B and vvvv are stored inverted; the 2-byte prefix has no X, B, map and W.
    let (r, b, map) = (second & 0x80 == 0, second & 0x20 == 0, second & 0x1f);
    let (w, first_is_high) = (third & 0x80 != 0, third & 0x40 == 0);
    let between_registers = modrm >> 6 == 3;
    let swaps = match i.mnemonic() {
        Mnemonic::Vmovups | Mnemonic::Vmovaps | Mnemonic::Vmovdqu | Mnemonic::Vmovdqa | Mnemonic::Vmovss => !r,
        Mnemonic::Vaddps | Mnemonic::Vmulps | Mnemonic::Vandps | Mnemonic::Vorps | Mnemonic::Vxorps => !first_is_high,
        Mnemonic::Vpaddd | Mnemonic::Vpand | Mnemonic::Vpor | Mnemonic::Vpxor | Mnemonic::Vpcmpeqd => !first_is_high,
        Mnemonic::Vcmpps | Mnemonic::Vpmaddwd => !first_is_high,
        _ => false,
    };
    swaps && between_registers && b && map == 1 && !w
}

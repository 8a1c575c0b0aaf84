//! x86-64, by iced-x86, in Intel syntax.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Formatter, Instruction, IntelFormatter, OpKind, Register};

use super::Line;

pub(super) fn disassemble(code: &[u8], start: usize) -> Vec<Line> {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_space_after_operand_separator(true);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_leading_zeros(false);
    options.set_branch_leading_zeros(false);
    options.set_uppercase_hex(false);
    options.set_small_hex_numbers_in_decimal(true);
    options.set_space_between_memory_add_operators(true);
    options.set_show_branch_size(false);
    options.set_rip_relative_addresses(true);
    Decoder::with_ip(64, code, start as u64, DecoderOptions::NONE)
        .iter()
        .map(|i| line(&i, &mut formatter))
        .collect()
}

fn line(i: &Instruction, formatter: &mut IntelFormatter) -> Line {
    let mut text = String::new();
    formatter.format(i, &mut text);
    let (offset, len) = (i.ip() as usize, i.len());
    let mut line = Line { offset, len, text, refers_to: None, canonical: canonical(i) };
    match i.flow_control() {
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call => {
            let target = i.near_branch_target();
            let mnemonic = line.text.split(' ').next().unwrap_or_default().to_owned();
            // Assemblers take the short form wherever it reaches.
            let reaches = i8::try_from(target as i64 - (offset + 2) as i64).is_ok();
            let long = i.flow_control() != FlowControl::Call && len > 2 && reaches;
            line.text = format!("{}{mnemonic} {{}}", if long { "{disp32} " } else { "" });
            line.refers_to = Some(target as usize);
        }
        _ if i.is_ip_rel_memory_operand() => {
            line.refers_to = Some(i.ip_rel_memory_address() as usize);
            if let (Some(open), Some(close)) = (line.text.find("[rip"), line.text.find(']')) {
                line.text.replace_range(open..=close, "[rip + {}]");
            }
        }
        _ => {}
    }
    line
}

/// Whether GNU as and LLVM choose this encoding for its text: the store form between two registers, the shortest
/// immediate, no padding instructions.
fn canonical(i: &Instruction) -> bool {
    let registers = i.op_count() == 2 && i.op0_kind() == OpKind::Register && i.op1_kind() == OpKind::Register;
    let load_form = matches!(
        i.code(),
        Code::Add_r64_rm64
            | Code::Sub_r64_rm64
            | Code::And_r64_rm64
            | Code::Or_r64_rm64
            | Code::Xor_r64_rm64
            | Code::Cmp_r64_rm64
            | Code::Mov_r64_rm64
            | Code::Add_r32_rm32
            | Code::Sub_r32_rm32
            | Code::And_r32_rm32
            | Code::Or_r32_rm32
            | Code::Xor_r32_rm32
            | Code::Cmp_r32_rm32
            | Code::Mov_r32_rm32
    );
    let accumulator = matches!(i.op0_register(), Register::RAX | Register::EAX) && i.op0_kind() == OpKind::Register;
    let long_immediate = matches!(
        i.code(),
        Code::Add_rm64_imm32
            | Code::Sub_rm64_imm32
            | Code::And_rm64_imm32
            | Code::Or_rm64_imm32
            | Code::Xor_rm64_imm32
            | Code::Cmp_rm64_imm32
            | Code::Add_rm32_imm32
            | Code::Sub_rm32_imm32
            | Code::And_rm32_imm32
            | Code::Or_rm32_imm32
            | Code::Xor_rm32_imm32
            | Code::Cmp_rm32_imm32
    );
    let nop = matches!(i.code(), Code::Nop_rm16 | Code::Nop_rm32 | Code::Nop_rm64 | Code::Nopw | Code::Nopd | Code::Nopq);
    !(load_form && registers) && !(long_immediate && accumulator) && !(nop && i.len() > 1)
}

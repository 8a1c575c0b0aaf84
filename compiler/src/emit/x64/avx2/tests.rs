use iced_x86::{Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register};
use kiln_ir::DType;

use crate::emit::x64::{self, error};
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::{
    Access, Addr, Binary, Factors, Inst, MicroKernel, Op, P, Param, Permute, Region, Shift, Stmt, Temps, V,
};
use crate::target::{Target, VectorIsa};

fn target() -> Target {
    "x86-64-v3".parse().unwrap()
}

fn kernel(params: usize, body: Vec<Stmt>) -> MicroKernel {
    let region = Region { rows: 1, row_bytes: 1 << 20, row_stride: 1 << 20 };
    let param = |i| Param { name: format!("p{i}"), dtype: DType::F32, access: Access::ReadWrite, region };
    let params = (0..params).map(param).collect();
    MicroKernel { name: "uk".into(), isa: VectorIsa::Avx2, lanes: 8, registers: 16, params, body }
}

fn emit(mk: &MicroKernel) -> Result<Function, EmitError> {
    x64::emit(mk, &target(), Arguments::Registers)
}

#[test]
fn an_entry_loads_its_pointers_and_its_own_last() {
    let body = vec![Stmt::Inst(insts(&[Op::Zero { d: V(0) }]).remove(0))];
    let texts: Vec<String> = decode(&x64::emit(&kernel(3, body), &target(), Arguments::Block).unwrap())
        .iter()
        .map(ToString::to_string)
        .collect();
    let loads = ["mov rdx,[rdi+10h]", "mov rsi,[rdi+8]", "mov rdi,[rdi]"];
    assert_eq!(texts[..3], loads);
}

fn at(param: u8, offset: i64, step: i64) -> Addr {
    Addr { param: P(param), offset, step }
}

fn insts(ops: &[Op]) -> Vec<Inst> {
    ops.iter().map(|op| Inst { op: *op, temps: temps(op), why: format!("{op:?}").into() }).collect()
}

/// The first registers from `v2` on that an operation does not name, for those that may need some.
fn temps(op: &Op) -> Temps {
    let needs = matches!(op, Op::Binary { f: Binary::Max | Binary::Min, .. } | Op::Permute { .. } | Op::Store { .. });
    let free: Vec<V> = (2..).map(V).filter(|v| !op.used().chain(op.defined()).any(|u| u == *v)).take(2).collect();
    if needs { Temps::new(&free).unwrap() } else { Temps::NONE }
}

fn straight(ops: &[Op]) -> Vec<Stmt> {
    insts(ops).into_iter().map(Stmt::Inst).collect()
}

fn repeat(trips: u64, ops: &[Op]) -> Stmt {
    Stmt::Loop { trips, why: "k".into(), body: insts(ops) }
}

fn decode(f: &Function) -> Vec<Instruction> {
    let decoded: Vec<_> = Decoder::with_ip(64, &f.bytes[..f.code_len], 0, DecoderOptions::NONE).into_iter().collect();
    assert!(decoded.iter().all(|i| !i.is_invalid()));
    decoded
}

/// The instructions of `body` as code, without the `vzeroupper` and `ret` that end every function.
fn codes(body: Vec<Stmt>) -> Vec<Code> {
    let f = emit(&kernel(4, body)).unwrap();
    let mut codes: Vec<_> = decode(&f).iter().map(Instruction::code).collect();
    assert_eq!(codes.split_off(codes.len() - 2), [Code::VEX_Vzeroupper, Code::Retnq]);
    codes
}

fn listing(body: Vec<Stmt>) -> Vec<String> {
    listing_of(&kernel(4, body))
}

fn listing_of(mk: &MicroKernel) -> Vec<String> {
    decode(&emit(mk).unwrap()).iter().map(ToString::to_string).collect()
}

/// A 6x16 tile over `k`, one step an iteration, `last_lanes` lanes in the second vector of a row.
fn tile_6x16(k: u64, last_lanes: u16) -> Vec<Stmt> {
    let acc = |m: u32, v: u32| V(m * 2 + v);
    let tile = || (0..6u32).flat_map(|m| [(m, 0), (m, 1)]);
    let lanes = |v: u32| if v == 0 { 8 } else { last_lanes };
    let mut body = straight(&tile().map(|(m, v)| Op::Zero { d: acc(m, v) }).collect::<Vec<_>>());
    let mut step: Vec<_> =
        (0..2).map(|v| Op::Load { d: V(12 + v), src: at(1, i64::from(v) * 32, 256), lanes: lanes(v) }).collect();
    for m in 0..6 {
        step.push(Op::Broadcast { d: V(14), src: at(0, i64::from(m) * 4096, 4) });
        step.extend((0..2).map(|v| Op::Fma { d: acc(m, v), a: V(12 + v), b: V(14) }));
    }
    body.push(repeat(k, &step));
    body.extend(straight(&[Op::Zero { d: V(14) }]));
    for (m, v) in tile() {
        let dst = at(2, i64::from(m) * 4096 + i64::from(v) * 32, 0);
        body.extend(straight(&[
            Op::Binary { f: Binary::Max, d: acc(m, v), a: acc(m, v), b: V(14) },
            Op::Store { s: acc(m, v), dst, lanes: lanes(v) },
        ]));
    }
    body
}

#[test]
fn a_tile_is_one_instruction_an_operation() {
    let f = emit(&kernel(3, tile_6x16(512, 8))).unwrap();
    let count = |m| decode(&f).iter().filter(|i| i.mnemonic() == m).count();
    assert_eq!(count(Mnemonic::Vfmadd231ps), 12);
    assert_eq!(count(Mnemonic::Vbroadcastss), 6);
    assert_eq!(count(Mnemonic::Vmovups), 2 + 12);
    assert_eq!(count(Mnemonic::Vmaxps), 12);
    assert_eq!(count(Mnemonic::Vxorps), 13);
    assert_eq!(count(Mnemonic::Add), 2, "one pointer bump an operand");
    assert_eq!((f.code_len, f.relocs.len()), (f.bytes.len(), 0));
    assert_eq!(f, emit(&kernel(3, tile_6x16(512, 8))).unwrap());
}

#[test]
fn the_loop_is_aligned_and_closed_over_its_body() {
    let f = emit(&kernel(3, tile_6x16(512, 8))).unwrap();
    let code = decode(&f);
    let jump = code.iter().position(|i| i.mnemonic() == Mnemonic::Jne).unwrap();
    let head = code.iter().position(|i| i.ip() == code[jump].near_branch_target()).unwrap();
    assert_eq!(code[head].ip() % 32, 0);
    assert_eq!(jump - head, 2 + 6 + 12 + 2 + 1);
    assert_eq!(code[jump - 1].to_string(), "dec eax");
    assert!(code.iter().any(|i| i.to_string() == "mov eax,200h"));
}

#[test]
fn only_named_and_caller_saved_registers_are_written() {
    let f = emit(&kernel(3, tile_6x16(512, 5))).unwrap();
    let mut info = InstructionInfoFactory::new();
    let mut vectors = std::collections::BTreeSet::new();
    for i in decode(&f).iter().filter(|i| !matches!(i.mnemonic(), Mnemonic::Vzeroupper | Mnemonic::Ret)) {
        for r in info.info(i).used_registers().iter().filter(|r| r.access() != OpAccess::Read) {
            let full = r.register().full_register();
            if r.register().is_vector_register() {
                vectors.insert(full.number());
            } else {
                assert!([Register::RAX, Register::RDI, Register::RSI].contains(&full), "{i}");
            }
        }
    }
    assert_eq!(vectors, (0..15).collect());
}

#[test]
fn partial_loads_read_their_lanes_and_zero_the_rest_if_needed() {
    let load = |lanes, stored| {
        let load = Op::Load { d: V(3), src: at(1, 256, 0), lanes };
        let mut text = listing(straight(&[load, Op::Store { s: V(3), dst: at(2, 0, 0), lanes: stored }]));
        text.truncate(text.iter().position(|t| t.contains("[rdx]")).unwrap());
        text
    };
    for stored in [4, 8] {
        assert_eq!(load(1, stored), ["vmovss xmm3,[rsi+100h]"]);
        assert_eq!(load(2, stored), ["vmovsd xmm3,[rsi+100h]"]);
        assert_eq!(load(3, stored), ["vmovsd xmm3,[rsi+100h]", "vinsertps xmm3,xmm3,[rsi+108h],20h"]);
        assert_eq!(load(4, stored), ["vmovups xmm3,[rsi+100h]"]);
    }
    assert_eq!(load(8, 8), ["vmovups ymm3,[rsi+100h]"]);
    let low = "vinsertf128 ymm3,ymm3,[rsi+100h],0";
    assert_eq!(load(5, 5), ["vbroadcastss ymm3,[rsi+110h]", low]);
    assert_eq!(load(6, 6), ["vbroadcastsd ymm3,[rsi+110h]", low]);
    assert_eq!(load(7, 7), ["vbroadcastf128 ymm3,[rsi+10Ch]", "vpermilps ymm3,ymm3,0F9h", low]);
    let up = "vinsertf128 ymm3,ymm3,xmm3,1";
    assert_eq!(load(5, 8), ["vmovss xmm3,[rsi+110h]", up, low]);
    assert_eq!(load(6, 7), ["vmovsd xmm3,[rsi+110h]", up, low]);
    assert_eq!(load(7, 8), ["vmovsd xmm3,[rsi+110h]", "vinsertps xmm3,xmm3,[rsi+118h],20h", up, low]);
}

#[test]
fn the_next_iteration_may_need_zeroed_lanes() {
    let load = Op::Load { d: V(0), src: at(0, 0, 32), lanes: 5 };
    let store = |s, lanes| Op::Store { s: V(s), dst: at(1, 0, 32), lanes };
    let copy = |d, a| Op::Binary { f: Binary::Add, d: V(d), a: V(a), b: V(9) };
    let zeroes = |body: &[Op]| listing(vec![repeat(4, body)]).iter().any(|t| t.starts_with("vmovss xmm0"));
    assert!(!zeroes(&[load, store(0, 5)]));
    assert!(zeroes(&[load, copy(1, 0), store(1, 6)]));
    // Two iterations on, through v2.
    assert!(zeroes(&[store(2, 8), copy(2, 1), copy(1, 0), load]));
    assert!(!zeroes(&[store(2, 5), copy(2, 1), copy(1, 0), load]));
}

#[test]
fn partial_stores_are_cut_into_moves() {
    let store = |lanes| {
        let mut text = listing(straight(&[Op::Store { s: V(9), dst: at(2, 256, 0), lanes }]));
        text.truncate(text.len() - 2);
        text
    };
    assert_eq!(store(1), ["vmovss [rdx+100h],xmm9"]);
    assert_eq!(store(2), ["vmovlps [rdx+100h],xmm9"]);
    assert_eq!(store(3), ["vmovlps [rdx+100h],xmm9", "vextractps [rdx+108h],xmm9,2"]);
    assert_eq!(store(4), ["vmovups [rdx+100h],xmm9"]);
    let upper = ["vmovups [rdx+100h],xmm9", "vextractf128 xmm9,ymm9,1"];
    assert_eq!(store(5), [&upper[..], &["vmovss [rdx+110h],xmm9"]].concat());
    assert_eq!(store(6), [&upper[..], &["vmovlps [rdx+110h],xmm9"]].concat());
    assert_eq!(store(7), [&upper[..], &["vmovlps [rdx+110h],xmm9", "vextractps [rdx+118h],xmm9,2"]].concat());
    assert_eq!(store(8), ["vmovups [rdx+100h],ymm9"]);
}

#[test]
fn a_live_value_survives_its_partial_store() {
    use Code::*;
    let store = Op::Store { s: V(9), dst: at(2, 0, 0), lanes: 5 };
    let swap = VEX_Vperm2f128_ymm_ymm_ymmm256_imm8;
    let kept = [VEX_Vmovups_xmmm128_xmm, swap, VEX_Vmovss_m32_xmm, swap];
    let again = Op::Store { s: V(9), dst: at(2, 64, 0), lanes: 8 };
    assert_eq!(codes(straight(&[store, again]))[..4], kept);
    // Read by the next iteration only.
    let add = Op::Binary { f: Binary::Add, d: V(9), a: V(9), b: V(1) };
    let looped = codes(vec![repeat(3, &[add, store])]);
    assert!(looped.windows(4).any(|w| w == kept), "{looped:?}");
    // Written first by the next iteration.
    let looped = codes(vec![repeat(3, &[Op::Zero { d: V(9) }, store])]);
    assert!(looped.contains(&VEX_Vextractf128_xmmm128_ymm_imm8), "{looped:?}");
}

#[test]
fn max_returns_nan_of_either_operand() {
    let zero = Op::Zero { d: V(1) };
    // VMAXPS returns its last operand if either is NaN.
    let relu = |a, b| listing(straight(&[zero, Op::Binary { f: Binary::Max, d: V(0), a: V(a), b: V(b) }]))[1].clone();
    assert_eq!(relu(0, 1), "vmaxps ymm0,ymm1,ymm0");
    assert_eq!(relu(1, 0), "vmaxps ymm0,ymm1,ymm0");
    let clamp = |bits| {
        let min = Op::Binary { f: Binary::Min, d: V(0), a: V(0), b: V(1) };
        listing(straight(&[Op::Const { d: V(1), bits }, min]))[1].clone()
    };
    assert_eq!(clamp(6f32.to_bits()), "vminps ymm0,ymm1,ymm0");
    assert_eq!(clamp(f32::NAN.to_bits()), "vcmpunordps ymm2,ymm0,ymm1");
    let max = Op::Binary { f: Binary::Max, d: V(0), a: V(0), b: V(1) };
    let general = ["vcmpunordps ymm2,ymm0,ymm1", "vmaxps ymm0,ymm0,ymm1", "vorps ymm0,ymm0,ymm2"];
    assert_eq!(listing(straight(&[max]))[..3], general);
    let overwritten = Op::Broadcast { d: V(1), src: at(0, 0, 0) };
    assert_eq!(listing(straight(&[zero, overwritten, max]))[2..5], general);
    // Zero in the first iteration only.
    let looped = listing([straight(&[zero]), vec![repeat(2, &[max, overwritten])]].concat());
    assert!(looped.contains(&general[0].to_owned()), "{looped:?}");
}

#[test]
fn pointers_are_biased_bumped_and_accounted_for() {
    let load = |d, offset, step| Op::Load { d: V(d), src: at(0, offset, step), lanes: 8 };
    let loads: Vec<_> = (0..8).map(|v| load(v, i64::from(v) * 32, 256)).collect();
    let mut body = vec![repeat(10, &loads)];
    body.extend(straight(&[load(8, 0, 0), load(9, 2560, 0)]));
    let text = listing(body);
    assert_eq!(text[0], "sub rdi,0FFFFFFFFFFFFFF80h");
    for expected in ["vmovups ymm0,[rdi-80h]", "vmovups ymm4,[rdi]", "vmovups ymm7,[rdi+60h]", "add rdi,100h"] {
        assert!(text.contains(&expected.to_owned()), "{expected} in {text:?}");
    }
    // The pointer is 128 + 10 * 256 bytes on.
    assert_eq!(text[text.len() - 4], "vmovups ymm8,[rdi-0A80h]");
    assert_eq!(text[text.len() - 3], "vmovups ymm9,[rdi-80h]");
}

#[test]
fn steps_of_one_parameter_take_a_register_each() {
    let load = |d, offset, step| Op::Load { d: V(d), src: at(0, offset, step), lanes: 8 };
    let text = listing(vec![repeat(10, &[load(0, 0, 0), load(1, 0, 32), load(2, 0, 64)])]);
    let expected = ["[r11]", "[rdi]", "[r10]", "add rdi,20h", "add r10,40h"];
    assert!(expected.iter().all(|e| text.iter().any(|t| t.ends_with(e))), "{text:?}");
    let steps: Vec<_> = (0..6).map(|i| load(i, 0, i64::from(i) * 32)).collect();
    emit(&kernel(1, vec![repeat(10, &steps)])).unwrap();
    // More than are caller-saved: others are saved, and restored in reverse.
    let text = listing_of(&kernel(6, vec![repeat(10, &steps)]));
    assert_eq!(text[..3], ["push rbx", "push rbp", "push r12"]);
    assert_eq!(text[text.len() - 5..], ["pop r12", "pop rbp", "pop rbx", "vzeroupper", "ret"]);
    let steps: Vec<_> = (0..10).map(|i| load(i, 0, i64::from(i) * 32)).collect();
    assert!(emit(&kernel(6, vec![repeat(10, &steps)])).unwrap_err().what.contains("more registers"));
}

#[test]
fn pointers_beyond_the_arguments_are_loaded_from_the_block() {
    let load = |d, param, offset, step| Op::Load { d: V(d), src: at(param, offset, step), lanes: 8 };
    let mut body = straight(&[load(0, 6, 32, 0), load(1, 6, 64, 0), load(2, 5, 0, 0), load(3, 1, 0, 0)]);
    body.push(repeat(3, &[load(4, 5, 0, 32), load(5, 6, 0, 32)]));
    body.extend(straight(&[load(6, 5, 96, 0)]));
    let text: Vec<String> = decode(&x64::emit(&kernel(7, body), &target(), Arguments::Block).unwrap())
        .iter()
        .map(ToString::to_string)
        .collect();
    let entry = ["mov r9,rdi", "mov r8,[rdi+20h]", "mov rcx,[rdi+18h]", "mov rdx,[rdi+10h]"];
    assert_eq!(text[..4], entry);
    let straight = [
        "mov r11,[r9+30h]",
        "vmovups ymm0,[r11+20h]",
        "vmovups ymm1,[r11+40h]",
        "mov r11,[r9+28h]",
        "vmovups ymm2,[r11]",
        "vmovups ymm3,[rsi]",
        "mov r10,[r9+28h]",
        "mov r11,[r9+30h]",
        "mov eax,3",
    ];
    assert_eq!(text[6..15], straight);
    // The loop took the scratch register.
    assert_eq!(text[text.len() - 4..text.len() - 2], ["mov r11,[r9+28h]", "vmovups ymm6,[r11+60h]"]);
}

#[test]
fn constants_lie_behind_the_code_once() {
    let constant = |d, bits| Op::Const { d: V(d), bits };
    let ops = [constant(0, 7), constant(1, 9), constant(2, 7), constant(3, 0), constant(4, u32::MAX)];
    let f = emit(&kernel(1, straight(&ops))).unwrap();
    let code = decode(&f);
    let address = |i: usize| code[i].ip_rel_memory_address() as usize;
    let word = |at: usize| u32::from_le_bytes(f.bytes[at..at + 4].try_into().unwrap());
    assert_eq!([0, 1, 2].map(|i| word(address(i))), [7, 9, 7]);
    assert_eq!(address(0), address(2));
    assert_eq!(address(0), f.code_len.next_multiple_of(4));
    assert_eq!(f.bytes.len(), f.code_len.next_multiple_of(4) + 8);
    assert_eq!(code[3].to_string(), "vxorps xmm3,xmm3,xmm3");
    assert_eq!(code[4].to_string(), "vpcmpeqd ymm4,ymm4,ymm4");
}

#[test]
fn widening_is_lean() {
    let listing_bf16 = |op| {
        let mut mk = kernel(1, straight(&[op]));
        mk.params[0].dtype = DType::Bf16;
        let mut text = listing_of(&mk);
        text.truncate(text.len() - 2);
        text
    };
    let src = at(0, 0, 0);
    let load = |lanes| listing_bf16(Op::Load { d: V(1), src, lanes });
    let shift = "vpslld ymm1,ymm1,10h";
    assert_eq!(load(8), ["vpmovzxwd ymm1,[rdi]", shift]);
    assert_eq!(load(4), ["vpmovzxwd xmm1,[rdi]", "vpslld xmm1,xmm1,10h"]);
    assert_eq!(load(1), ["vpxor xmm1,xmm1,xmm1", "vpinsrw xmm1,xmm1,[rdi],1"]);
    let seven = ["vmovq xmm1,[rdi]", "vpinsrd xmm1,xmm1,[rdi+8],2", "vpinsrw xmm1,xmm1,[rdi+0Ch],6"];
    assert_eq!(load(7), [&seven[..], &["vpmovzxwd ymm1,xmm1", shift]].concat());
    assert_eq!(listing_bf16(Op::Broadcast { d: V(1), src }), ["vpbroadcastw ymm1,[rdi]", shift]);
}

#[test]
fn slots_lie_at_the_stack_pointer() {
    let ops = [Op::Zero { d: V(3) }, Op::Spill { s: V(3), slot: 1 }, Op::Reload { d: V(0), slot: 1 }];
    let max = Op::Binary { f: Binary::Max, d: V(1), a: V(1), b: V(0) };
    let text = listing(straight(&[&ops[..], &[max]].concat()));
    let expected = [
        "sub rsp,40h",
        "vxorps xmm3,xmm3,xmm3",
        "vmovups [rsp+20h],ymm3",
        "vmovups ymm0,[rsp+20h]",
        // The emitter remembers that the value in the slot is not a NaN, so the maximum is one instruction.
        "vmaxps ymm1,ymm0,ymm1",
        "add rsp,40h",
    ];
    assert_eq!(text[..6], expected);
}

#[test]
fn an_operation_without_its_temporary_registers_is_refused() {
    let max = Op::Binary { f: Binary::Max, d: V(0), a: V(0), b: V(1) };
    let error = emit(&kernel(1, vec![Stmt::Inst(Inst::new(max, ""))])).unwrap_err();
    assert!(error.what.contains("1 temporary"), "{error}");
}

#[test]
fn one_trip_is_straight_code() {
    let load = Op::Load { d: V(0), src: at(1, 8, 32), lanes: 8 };
    assert_eq!(codes(vec![repeat(1, &[load])]), [Code::VEX_Vmovups_ymm_ymmm256]);
}

#[test]
fn far_addresses_are_reached_or_refused() {
    let load = |offset, step| Op::Load { d: V(0), src: at(0, offset, step), lanes: 8 };
    let text = listing(straight(&[load(1 << 40, 0), load((1 << 40) + 32, 0)]));
    assert_eq!(text[..2], ["mov rax,10000000000h", "add rdi,rax"]);
    assert_eq!(text[2..4], ["vmovups ymm0,[rdi]", "vmovups ymm0,[rdi+20h]"]);
    let what = |ops: &[Op]| emit(&kernel(1, vec![repeat(2, ops)])).unwrap_err().what;
    assert!(what(&[load(0, 1 << 31)]).contains("step"));
    assert!(what(&[load(0, 4), load(1 << 32, 4)]).contains("2 GiB"));
    assert!(listing(vec![repeat(1 << 33, &[load(0, 4)])]).contains(&"dec rax".to_owned()));
}

#[test]
fn notes_give_the_reason_of_every_instruction() {
    let mk = kernel(3, tile_6x16(512, 5));
    let f = emit(&mk).unwrap();
    assert!(f.notes.is_sorted_by(|a, b| a.offset < b.offset));
    let reason = |i: &Instruction| f.notes.iter().rfind(|n| u64::from(n.offset) <= i.ip()).unwrap().text.as_ref();
    for i in decode(&f) {
        let expected = match i.mnemonic() {
            Mnemonic::Vfmadd231ps => "Fma",
            Mnemonic::Vinsertf128 => "Load",
            Mnemonic::Vextractf128 => "Store",
            Mnemonic::Mov | Mnemonic::Nop => "k",
            Mnemonic::Add | Mnemonic::Dec | Mnemonic::Jne => "k: next",
            Mnemonic::Vzeroupper | Mnemonic::Ret => "return",
            _ => continue,
        };
        assert!(reason(&i).starts_with(expected), "{i}: {}", reason(&i));
    }
}

#[test]
fn what_the_instruction_set_lacks_is_refused() {
    let refused = |change: &dyn Fn(&mut MicroKernel)| {
        let mut mk = kernel(1, straight(&[Op::Zero { d: V(0) }]));
        emit(&mk).unwrap();
        change(&mut mk);
        let e = emit(&mk).unwrap_err();
        assert_eq!(e, error(&mk, e.what.clone()));
        e.what
    };
    let with = |op: Op| refused(&|mk| mk.body = straight(&[op]));
    assert!(refused(&|mk| mk.isa = VectorIsa::Sve).contains("sve"));
    assert!(refused(&|mk| mk.lanes = 4).contains("not 4"));
    assert!(refused(&|mk| mk.registers = 17).contains("not 17"));
    assert!(refused(&|mk| mk.params = vec![mk.params[0].clone(); 7]).contains("parameters"));
    assert!(refused(&|mk| mk.body = vec![repeat(0, &[])]).contains("no trips"));
    assert!(with(Op::Zero { d: V(16) }).contains("v16"));
    assert!(with(Op::Broadcast { d: V(0), src: at(1, 0, 0) }).contains("no such parameter"));
    assert!(with(Op::Load { d: V(0), src: at(0, 0, 0), lanes: 9 }).contains("9 elements"));
    assert!(with(Op::Store { s: V(0), dst: at(0, 0, 0), lanes: 0 }).contains("0 elements"));
    assert!(with(Op::LoadLanes { d: V(0), src: at(0, 0, 0), count: 5 }).contains("5 elements"));
    let (d, a, b) = (V(0), V(1), V(2));
    assert!(with(Op::Permute { f: Permute::ZipLow, bits: 16, d, a, b }).contains("no such operation"));
    assert!(with(Op::Shift { f: Shift::Left, d, a, by: 32 }).contains("32 bits"));
    assert!(with(Op::Mmla { f: Factors::S8, d, a, b }).contains("no such operation on avx2"));
    assert!(with(Op::LoadRaw { d, src: at(0, 0, 0), elements: 8 }).contains("f32 that is not converted"));
    assert!(with(Op::FmaLane { d: V(0), a: V(1), b: V(2), lane: 0 }).contains("no such operation"));
}

use iced_x86::{Decoder, DecoderOptions};
use kiln_ir::DType;

use super::{WORDS, numbers};
use crate::emit::{Arguments, x64};
use crate::microkernel::{
    Access, Addr, Binary, Inst, MicroKernel, Op, P, Param, Permute, Region, Shift, Stmt, Temps, Unary, V,
};
use crate::target::{Target, VectorIsa};

fn target() -> Target {
    "x86-64-v4".parse().unwrap()
}

fn kernel(dtype: DType, body: Vec<Stmt>) -> MicroKernel {
    let region = Region { rows: 1, row_bytes: 1 << 20, row_stride: 1 << 20 };
    let param = |i| Param { name: format!("p{i}"), dtype, access: Access::ReadWrite, region };
    let params = (0..2).map(param).collect();
    MicroKernel { name: "uk".into(), isa: VectorIsa::Avx512, lanes: 16, registers: 32, params, body }
}

/// The hexadecimal bytes of each instruction and its text.
fn code(mk: &MicroKernel) -> Vec<(String, String)> {
    let f = x64::emit(mk, &target(), Arguments::Registers).unwrap();
    let decoder = Decoder::with_ip(64, &f.bytes[..f.code_len], 0, DecoderOptions::NONE);
    let hex = |at: usize, len: usize| f.bytes[at..at + len].iter().map(|b| format!("{b:02x}")).collect::<String>();
    decoder.into_iter().map(|i| (hex(i.ip() as usize, i.len()), i.to_string())).collect()
}

/// The instructions of `ops`, without the end of the function.
fn straight(dtype: DType, ops: &[Op]) -> Vec<(String, String)> {
    let temps = |op: &Op| match op {
        Op::Permute { .. } => Temps::new(&[V(0)]).unwrap(),
        Op::PairAdd { .. } => Temps::new(&[V(3), V(4)]).unwrap(),
        Op::Store { .. } => Temps::new(&[V(31)]).unwrap(),
        _ => Temps::NONE,
    };
    let body = ops.iter().map(|op| Stmt::Inst(Inst { op: *op, temps: temps(op), why: "".into() })).collect();
    let mut code = code(&kernel(dtype, body));
    code.truncate(code.len() - 2);
    code
}

fn texts(ops: &[Op]) -> Vec<String> {
    straight(DType::F32, ops).into_iter().map(|(_, text)| text).collect()
}

fn at(param: u8, offset: i64) -> Addr {
    Addr { param: P(param), offset, step: 0 }
}

/// The bytes that GNU as 2.40 makes of the texts.
#[test]
fn encodings_are_those_of_an_assembler() {
    let (d, a, b) = (V(17), V(3), V(30));
    let expect = |dtype, op: Op, expected: &[(&str, &str)]| {
        let found = straight(dtype, &[op]);
        let found: Vec<_> = found.iter().map(|(hex, text)| (hex.as_str(), text.as_str())).collect();
        assert_eq!(found, expected, "{op:?}");
    };
    let f32 = |op, hex, text| expect(DType::F32, op, &[(hex, text)]);
    f32(Op::Load { d, src: at(1, 64), lanes: 16 }, "62e17c48104e01", "vmovups zmm17,[rsi+40h]");
    f32(Op::Load { d, src: at(1, 65), lanes: 16 }, "62e17c48108e41000000", "vmovups zmm17,[rsi+41h]");
    f32(Op::Broadcast { d, src: at(1, 508) }, "62e27d48184e7f", "vbroadcastss zmm17,[rsi+1FCh]");
    f32(Op::Load { d, src: at(1, 32), lanes: 8 }, "62e17c28104e01", "vmovups ymm17,[rsi+20h]");
    f32(Op::LoadLanes { d, src: at(1, 16), count: 4 }, "62e27d481a4e01", "vbroadcastf32x4 zmm17,[rsi+10h]");
    f32(Op::Store { s: d, dst: at(1, 8128), lanes: 16 }, "62e17c48114e7f", "vmovups [rsi+1FC0h],zmm17");
    f32(Op::Fma { d, a, b }, "62826548b8ce", "vfmadd231ps zmm17,zmm3,zmm30");
    f32(Op::Zero { d }, "62a17500efc9", "vpxord xmm17,xmm17,xmm17");
    f32(Op::Const { d, bits: u32::MAX }, "62a3754025c9ff", "vpternlogd zmm17,zmm17,zmm17,0FFh");
    f32(Op::Unary { f: Unary::Move, d, a }, "62e17c4828cb", "vmovaps zmm17,zmm3");
    f32(Op::Unary { f: Unary::Sqrt, d, a }, "62e17c4851cb", "vsqrtps zmm17,zmm3");
    f32(Op::Shift { f: Shift::Left, d, a, by: 23 }, "62f1754072f317", "vpslld zmm17,zmm3,17h");
    f32(Op::Shift { f: Shift::RightSigned, d, a, by: 1 }, "62f1754072e301", "vpsrad zmm17,zmm3,1");
    f32(Op::Permute { f: Permute::TrnEven, bits: 64, d, a, b }, "6281e54814ce", "vunpcklpd zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::Add, d, a, b }, "6281644858ce", "vaddps zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::Sub, d, a, b }, "628164485cce", "vsubps zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::Mul, d, a, b }, "6281644859ce", "vmulps zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::Div, d, a, b }, "628164485ece", "vdivps zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::IAdd, d, a, b }, "62816548fece", "vpaddd zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::ISub, d, a, b }, "62816548face", "vpsubd zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::And, d, a, b }, "6281644854ce", "vandps zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::Or, d, a, b }, "6281644856ce", "vorps zmm17,zmm3,zmm30");
    f32(Op::Binary { f: Binary::Xor, d, a, b }, "6281644857ce", "vxorps zmm17,zmm3,zmm30");
    expect(
        DType::Bf16,
        Op::Load { d, src: at(1, 32), lanes: 16 },
        &[("62e27d48334e01", "vpmovzxwd zmm17,[rsi+20h]"), ("62b1754072f110", "vpslld zmm17,zmm17,10h")],
    );
    expect(
        DType::Bf16,
        Op::Broadcast { d, src: at(1, 2) },
        &[("62e27d48794e01", "vpbroadcastw zmm17,[rsi+2]"), ("62b1754072f110", "vpslld zmm17,zmm17,10h")],
    );
}

#[test]
fn partial_vectors_are_masked() {
    let load = |lanes| Op::Load { d: V(0), src: at(0, 0), lanes };
    let store = |lanes| Op::Store { s: V(0), dst: at(1, 0), lanes };
    let of_register = ["vmovups xmm0,[rdi]", "vmovups ymm0,[rdi]", "vmovups zmm0,[rdi]"];
    assert_eq!(texts(&[load(4), load(8), load(16)]), of_register);
    let text = texts(&[load(5), store(5), store(11)]);
    assert!(text[0].starts_with("kmovw k1,[") && text[1].starts_with("kmovw k2,["), "{text:?}");
    assert_eq!(text[2..], ["vmovups zmm0{k1}{z},[rdi]", "vmovups [rsi]{k1},zmm0", "vmovups [rsi]{k2},zmm0"]);
}

/// The masks of loops stay in registers, whatever stands before.
#[test]
fn masks_for_which_there_is_no_register_are_loaded_where_they_are_used() {
    let inst = |lanes, step| Inst::new(Op::Load { d: V(0), src: Addr { step, ..at(0, 0) }, lanes }, "");
    let mut body: Vec<Stmt> = [1, 2, 3, 5, 6, 7, 9].map(|lanes| Stmt::Inst(inst(lanes, 0))).into();
    body.push(Stmt::Loop { trips: 3, why: "k".into(), body: vec![inst(13, 64)] });
    let text: Vec<String> = code(&kernel(DType::F32, body)).into_iter().map(|(_, text)| text).collect();
    let count = |start: &str| text.iter().filter(|t| t.starts_with(start)).count();
    assert_eq!((count("kmovw k"), count("kmovw k7")), (8, 2));
    assert!(text.contains(&"vmovups zmm0{k1}{z},[rdi]".to_owned()), "{text:?}");
}

#[test]
fn max_returns_nan_of_either_operand() {
    let max = Op::Binary { f: Binary::Max, d: V(0), a: V(0), b: V(20) };
    let general = ["vcmpunordps k7,zmm0,zmm20", "vmaxps zmm0,zmm0,zmm20", "vpternlogd zmm0{k7},zmm0,zmm0,0FFh"];
    assert_eq!(texts(&[max]), general);
    let relu = texts(&[Op::Zero { d: V(20) }, max]);
    assert_eq!(relu, ["vpxord xmm20,xmm20,xmm20", "vmaxps zmm0,zmm20,zmm0"]);
}

#[test]
fn permutations_overwrite_what_they_may() {
    let zip = |d, a, b| texts(&[Op::Permute { f: Permute::ZipLow, bits: 32, d: V(d), a: V(a), b: V(b) }]);
    assert_eq!(zip(5, 1, 2)[1], "vpermi2ps zmm5,zmm1,zmm2");
    assert_eq!(zip(1, 1, 2)[1], "vpermt2ps zmm1,zmm0,zmm2");
    assert_eq!(zip(2, 1, 2)[1], "vpermt2ps zmm2,zmm0,zmm1");
    let odd = Op::Permute { f: Permute::TrnOdd, bits: 64, d: V(1), a: V(1), b: V(2) };
    assert_eq!(texts(&[odd]), ["vunpckhpd zmm1,zmm1,zmm2"]);
}

/// Every word of both registers is in one of the two results.
#[test]
fn pairs_of_permutations_lose_nothing() {
    let pairs =
        [(Permute::ZipLow, Permute::ZipHigh), (Permute::UzpEven, Permute::UzpOdd), (Permute::TrnEven, Permute::TrnOdd)];
    for (f, g) in pairs {
        for width in [1, 2] {
            let mut all = [numbers(f, width), numbers(g, width)].concat();
            all.sort_unstable();
            assert_eq!(all, (0..2 * WORDS as u32).collect::<Vec<_>>(), "{f:?}");
        }
    }
}

/// A sum of pairs takes two registers.
#[test]
fn pairs_are_added() {
    let add = texts(&[Op::PairAdd { d: V(0), a: V(1), b: V(2) }]);
    assert_eq!(add[1], "vpermi2ps zmm3,zmm1,zmm2");
    assert_eq!(add[3..], ["vpermi2ps zmm4,zmm1,zmm2", "vaddps zmm0,zmm3,zmm4"]);
}

#[test]
fn constants_are_broadcast_by_the_operation() {
    let text = texts(&[Op::Unary { f: Unary::Abs, d: V(0), a: V(1) }]);
    assert!(text[0].starts_with("vandps zmm0,zmm1,[") && text[0].ends_with("]{1to16}"), "{text:?}");
}

/// Panels that a loop reads from one end to the other are prefetched, if loads have ports to spare.
#[test]
fn streams_are_prefetched() {
    // Two vectors of a panel whose rows are `step` bytes apart, and `rows` elements of the other factor.
    let prefetched = |step: i64, rows: u32| {
        let inst = |op| Inst::new(op, "");
        let load = |d, offset| inst(Op::Load { d: V(d), src: Addr { param: P(1), offset, step }, lanes: 16 });
        let mut body = vec![load(0, 0), load(1, 64)];
        for row in 0..rows {
            let src = Addr { param: P(0), offset: 4096 * i64::from(row), step: 4 };
            body.push(inst(Op::Broadcast { d: V(2), src }));
            body.extend([0, 1].map(|c| inst(Op::Fma { d: V(3 + 2 * row + c), a: V(c), b: V(2) })));
        }
        let text = code(&kernel(DType::F32, vec![Stmt::Loop { trips: 9, why: "k".into(), body }]));
        text.into_iter().map(|(_, text)| text).filter(|t| t.starts_with("prefetch")).collect::<Vec<_>>()
    };
    // 16 KiB ahead.
    assert_eq!(prefetched(128, 13), ["prefetcht1 [rsi+4000h]", "prefetcht1 [rsi+4040h]"]);
    // Rows of a matrix that is not packed are no stream, and three rows have no ports to spare.
    assert_eq!(prefetched(4096, 13), [""; 0]);
    assert_eq!((prefetched(128, 4).len(), prefetched(128, 3).len()), (2, 0));
}

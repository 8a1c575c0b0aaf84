//! What can be seen of the SVE emitter's code without running it: it decodes, preserves what it must, and says why.

mod kernels;

use std::collections::BTreeSet;

use capstone::arch::{BuildsCapstone, arm64};
use kernels::*;
use kiln_compiler::emit::a64::sve;
use kiln_compiler::emit::{Arguments, Function};
use kiln_compiler::microkernel::{Access, MicroKernel, Op, P, Stmt, V};
use kiln_compiler::target::{Target, VectorIsa};

/// Any target will do: what is emitted here depends on the micro-kernel alone.
fn target() -> Target {
    "neoverse-v1".parse().unwrap()
}

fn emit(mk: &MicroKernel) -> Function {
    sve::emit(mk, &target(), Arguments::Registers).unwrap()
}

fn entry(mk: &MicroKernel) -> Function {
    sve::emit(mk, &target(), Arguments::Block).unwrap()
}

#[test]
fn an_entry_loads_its_pointers_and_its_own_last() {
    let texts = listing(&entry(&main_tile(8, 512)));
    assert_eq!(texts[..4], ["ldr x3, [x0, #0x18]", "ldr x2, [x0, #0x10]", "ldr x1, [x0, #8]", "ldr x0, [x0]"]);
}

/// One text for each instruction of `f`.
fn listing(f: &Function) -> Vec<String> {
    let capstone = capstone::Capstone::new().arm64().mode(arm64::ArchMode::Arm).build().unwrap();
    let decoded = capstone.disasm_all(&f.bytes[..f.code_len], 0).unwrap();
    assert_eq!(decoded.len() * 4, f.code_len, "{}: every word decodes", f.name);
    let text = |i: &capstone::Insn| format!("{} {}", i.mnemonic().unwrap(), i.op_str().unwrap_or_default());
    decoded.iter().map(|i| text(i).trim().to_owned()).collect()
}

/// The words between punctuation: registers, numbers, mnemonics.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
}

fn everything() -> impl Iterator<Item = MicroKernel> {
    [4, 8, 16].into_iter().flat_map(all)
}

#[test]
fn the_micro_kernels_of_these_tests_are_valid() {
    everything().for_each(|mk| mk.verify().unwrap());
}

#[test]
fn no_instruction_touches_reserved_registers() {
    for mk in everything() {
        for text in listing(&emit(&mk)) {
            assert!(words(&text).all(|w| !["x16", "x17", "x18", "x29", "x30"].contains(&w)), "{}: {text}", mk.name);
        }
    }
}

/// Every callee-saved register that an instruction between prologue and epilogue names, `d8` for `z8`, is stored before
/// and loaded after, at the same place in the frame; and nothing else is.
#[test]
fn what_the_caller_expects_unchanged_is_saved_and_restored() {
    for mk in everything() {
        let texts = listing(&emit(&mk));
        let of = |mnemonic: &'static str| texts.iter().filter_map(move |t| t.strip_prefix(mnemonic));
        let stores: Vec<&str> = of("stp ").collect();
        assert_eq!(stores, of("ldp ").collect::<Vec<_>>(), "{}", mk.name);
        assert!(texts[0].starts_with("sub sp, sp, #") && texts[texts.len() - 2] == texts[0].replacen("sub", "add", 1));
        assert_eq!(texts.last().unwrap(), "ret");

        let saved: BTreeSet<&str> = stores.iter().flat_map(|t| t.split(", [").next().unwrap().split(", ")).collect();
        let inside = texts.iter().filter(|t| !t.starts_with("stp") && !t.starts_with("ldp"));
        let mut used = BTreeSet::new();
        for word in inside.flat_map(|t| words(t)) {
            if let Some(z) = word.strip_prefix('z').and_then(|n| n.parse::<u8>().ok()).filter(|n| (8..16).contains(n)) {
                used.extend([format!("d{}", z & !1), format!("d{}", z | 1)]);
            }
            if let Some(x) = word.strip_prefix('x').and_then(|n| n.parse::<u8>().ok()).filter(|n| *n >= 19) {
                used.extend([format!("x{}", (x - 1) | 1), format!("x{}", ((x - 1) | 1) + 1)]);
            }
        }
        assert_eq!(saved, used.iter().map(String::as_str).collect(), "{}", mk.name);
    }
}

#[test]
fn the_main_tile_s_loop_has_few_integer_instructions() {
    let texts = listing(&emit(&main_tile(8, 512)));
    let end = texts.iter().position(|t| t.starts_with("cbnz")).unwrap();
    let start = texts.iter().position(|t| t.starts_with("ld1rqw")).unwrap();
    let count = |m: &str| texts[start..=end].iter().filter(|t| t.starts_with(m)).count();
    assert_eq!(["fmla", "ld1w", "ld1rqw", "add", "sub", "cbnz"].map(count), [96, 16, 6, 2, 1, 1]);
    assert_eq!(end + 1 - start, 122);
}

#[test]
fn notes_ascend_and_say_why() {
    for mk in everything() {
        let f = emit(&mk);
        assert_eq!(f.notes[0].offset, 0);
        assert!(f.notes.windows(2).all(|n| n[0].offset < n[1].offset && n[0].text != n[1].text), "{}", mk.name);
        assert!(f.notes.iter().all(|n| n.offset % 4 == 0 && n.offset < f.code_len as u32 && !n.text.is_empty()));
        assert!(f.relocs.is_empty() && f.code_len == f.bytes.len());
    }
    let notes = emit(&main_tile(8, 512)).notes;
    for text in
        ["k in 0..512 step 4", "next k in 0..512 step 4", "lhs + 2048", "relu", "c[5, vector 3]", "p0: all lanes"]
    {
        assert!(notes.iter().any(|n| *n.text == *text), "{text}");
    }
}

#[test]
fn what_cannot_be_emitted_is_an_error() {
    let error = |mk: &MicroKernel| sve::emit(mk, &target(), Arguments::Registers).unwrap_err().to_string();
    let with = |op| {
        let params = vec![param("x", Access::ReadWrite, 1, 64, 256)];
        kernel("bad", 8, params, vec![Stmt::Inst(inst(op, "bad"))])
    };
    let zero = with(Op::Zero { d: V(0) });
    let cases = [
        (with(Op::FmaLane { d: V(8), a: V(9), b: V(10), lane: 0 }), "v10"),
        (with(Op::FmaLane { d: V(8), a: V(9), b: V(7), lane: 4 }), "lane 4"),
        (with(Op::Zero { d: V(32) }), "v32"),
        (with(Op::Load { d: V(0), src: at(P(0), 0, 0), lanes: 9 }), "1 to 8"),
        (with(Op::Load { d: V(0), src: at(P(0), 0, 0), lanes: 0 }), "1 to 8"),
        (with(Op::LoadLanes { d: V(0), src: at(P(0), 0, 0), count: 5 }), "1 to 4"),
        (with(Op::Broadcast { d: V(0), src: at(P(1), 0, 0) }), "no parameter 1"),
        (with(Op::Broadcast { d: V(0), src: at(P(0), 2, 0) }), "multiple of 4"),
        (with(Op::Broadcast { d: V(0), src: at(P(0), i64::MIN, 0) }), "address space"),
        (MicroKernel { isa: VectorIsa::Neon, ..zero.clone() }, "neon"),
        (MicroKernel { lanes: 6, ..zero.clone() }, "6 lanes"),
        (MicroKernel { lanes: 128, ..zero.clone() }, "128 lanes"),
        (MicroKernel { params: vec![zero.params[0].clone(); 9], ..zero.clone() }, "9 parameters"),
        (
            MicroKernel { body: vec![Stmt::Loop { trips: 0, why: "k".into(), body: vec![] }], ..zero.clone() },
            "iterations",
        ),
    ];
    for (mk, what) in cases {
        let text = error(&mk);
        assert!(text.starts_with("cannot emit `bad` for sve: ") && text.contains(what), "{text}");
    }

    let load = |lanes| Stmt::Inst(inst(Op::Load { d: V(0), src: at(P(0), 0, 0), lanes }, "bad"));
    let counts = MicroKernel { lanes: 16, body: (1..9).map(load).collect(), ..zero.clone() };
    let remade = listing(&emit(&counts)).iter().filter(|t| t.starts_with("whilelo p7.s")).count();
    assert_eq!(remade, 2, "of 8 numbers of lanes, 6 have a predicate of their own");

    let moving = |i: i64| inst(Op::Broadcast { d: V(0), src: at(P(0), 0, 4 * i) }, "bad");
    let steps = Stmt::Loop { trips: 2, why: "k".into(), body: (1..40).map(moving).collect() };
    assert!(error(&MicroKernel { body: vec![steps], ..zero.clone() }).contains("39 different steps"));

    let long = vec![inst(Op::Zero { d: V(0) }, "bad"); 1 << 18];
    let long = Stmt::Loop { trips: 2, why: "k".into(), body: long };
    assert!(error(&MicroKernel { body: vec![long], ..zero }).contains("does not reach"));
}

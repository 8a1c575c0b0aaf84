//! Random micro-kernels of every operation: what the AArch64 emitters make of them against the interpreter.
//!
//! On AArch64 the code is executed, in memory with a guard on either side, for NEON and for SVE of the machine's vector
//! length; elsewhere it must only be emitted, and assemble back from its listing.

#[path = "../common/mod.rs"]
mod common;
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
mod execute;
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
#[path = "../common/f16.rs"]
mod f16;
mod generate;
#[path = "../a64_sve/kernels.rs"]
mod kernels;
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
mod machine;

use std::collections::BTreeSet;

use capstone::arch::{BuildsCapstone, arm64};
use common::assembler::Assembler;
use generate::{Machine, kernel};
use kiln_compiler::Target;
use kiln_compiler::emit::a64::REGISTER_PARAMS;
use kiln_compiler::emit::a64::{inst::Inst, sve};
use kiln_compiler::emit::{self, Arguments, Function};
use kiln_compiler::function_listing;
use kiln_compiler::microkernel::MicroKernel;
use kiln_compiler::target::{Arch, VectorIsa};

/// A target for `machine`.
fn target(machine: Machine) -> Target {
    let bits = 32 * if machine.isa == VectorIsa::Sve { machine.lanes } else { 4 };
    format!("sve{bits}{}", if machine.extensions { "+bf16+dotprod+i8mm" } else { "" }).parse().unwrap()
}

/// How kernels with this many parameters can be called; the seed decides where there is a choice.
fn arguments(mk: &MicroKernel, seed: u64) -> Arguments {
    if mk.params.len() > REGISTER_PARAMS || seed.is_multiple_of(2) { Arguments::Block } else { Arguments::Registers }
}

fn emitted(mk: &MicroKernel, machine: Machine, seed: u64) -> Function {
    mk.verify().unwrap_or_else(|e| panic!("seed {seed} {machine:?}: {e}"));
    emit::micro_kernel(mk, &target(machine), arguments(mk, seed))
        .unwrap_or_else(|e| panic!("seed {seed} {machine:?}: {e}\n{mk}"))
}

/// NEON and SVE of these lanes, with and without the instructions of extensions.
fn machines(lanes: &[u32]) -> Vec<Machine> {
    let neon = Machine { isa: VectorIsa::Neon, lanes: 4, extensions: true };
    let sve = lanes.iter().map(|lanes| Machine { isa: VectorIsa::Sve, lanes: *lanes, extensions: true });
    let with: Vec<Machine> = std::iter::once(neon).chain(sve).collect();
    with.iter().flat_map(|m| [*m, Machine { extensions: false, ..*m }]).collect()
}

#[test]
fn listings_assemble_back() {
    for assembler in Assembler::all(Arch::Aarch64) {
        for (n, machine) in machines(&[4, 8, 16, 64]).into_iter().enumerate() {
            // Functions one behind the other, as their labels differ only by name.
            for seed in 0..12 {
                let mut mk = kernel(seed, machine);
                mk.name = format!("random_{seed}");
                let f = emitted(&mk, machine, seed);
                let text = function_listing(&f, &target(machine), false);
                let code = assembler.assemble(&format!("random-{n}-{seed}"), &text);
                let differ = code.iter().zip(&f.bytes).position(|(a, b)| a != b);
                assert_eq!(differ, None, "{} {machine:?} seed {seed}\n{text}", assembler.command);
                assert!(code.len() >= f.bytes.len());
            }
        }
    }
}

/// One text for each instruction of `f`.
fn disassembled(f: &Function) -> Vec<String> {
    let capstone = capstone::Capstone::new().arm64().mode(arm64::ArchMode::Arm).build().unwrap();
    let decoded = capstone.disasm_all(&f.bytes[..f.code_len], 0).unwrap();
    assert_eq!(decoded.len() * 4, f.code_len, "every word decodes");
    decoded.iter().map(|i| format!("{} {}", i.mnemonic().unwrap(), i.op_str().unwrap()).trim().to_owned()).collect()
}

/// `text` with every number replaced by `N`.
fn shape(text: &str) -> String {
    let spelled = text.replace("{ ", "{").replace(" }", "}");
    let mut out = String::new();
    let mut characters = spelled.chars().peekable();
    while let Some(c) = characters.next() {
        if c.is_ascii_digit() || (c == '-' && characters.peek().is_some_and(char::is_ascii_digit)) {
            while characters.next_if(|c| c.is_ascii_hexdigit() || *c == 'x').is_some() {}
            out.push('N');
        } else {
            out.push(c);
        }
    }
    out
}

/// Rows of the table that nothing is emitted from would be tested for nothing.
#[test]
fn every_row_of_the_table_is_emitted() {
    let mut emitted_shapes = BTreeSet::new();
    // These reach further than memory is worth being mapped for.
    for mk in kernels::all(8) {
        let f = sve::emit(&mk, &"sve256".parse().unwrap(), Arguments::Block).unwrap();
        emitted_shapes.extend(disassembled(&f).iter().map(|t| shape(t)));
    }
    for machine in machines(&[4, 8, 16]) {
        for seed in 0..300 {
            let f = emitted(&kernel(seed, machine), machine, seed);
            emitted_shapes.extend(disassembled(&f).iter().map(|t| shape(t)));
        }
    }
    let name = |i: &Inst| format!("{i:?}").split(' ').next().unwrap().to_owned();
    let samples = Inst::samples();
    let rows: BTreeSet<String> = samples.iter().map(name).collect();
    let found = samples.iter().filter(|i| emitted_shapes.contains(&shape(&i.to_string()))).map(name).collect();
    assert_eq!(rows.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn no_instruction_touches_reserved_registers() {
    for (machine, seed) in machines(&[4, 8]).into_iter().flat_map(|m| (0..40).map(move |seed| (m, seed))) {
        for text in disassembled(&emitted(&kernel(seed, machine), machine, seed)) {
            let words = || text.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(words().all(|w| !["x17", "x18", "x29", "x30"].contains(&w)), "seed {seed}: {text}");
        }
    }
}

#[test]
fn instructions_of_extensions_need_a_target_that_has_them() {
    for machine in machines(&[4, 8]).into_iter().filter(|m| m.extensions) {
        for (feature, op) in [
            ("bf16", "mmla bf16 v1, v2"),
            ("bf16", "dot bf16 v1, v2"),
            ("bf16", "dot bf16 v1, v2.lane[3]"),
            ("i8mm", "mmla s8 v1, v2"),
            ("i8mm", "dot u8s8 v1, v2"),
            ("i8mm", "dot s8u8 v1, v2.lane[1]"),
        ] {
            let Machine { isa, lanes, .. } = machine;
            let zeros = "v0 = zero\n v1 = zero\n v2 = zero";
            let text = format!("microkernel k {isa} lanes={lanes} registers=3 {{\n {zeros}\n v0 = {op}\n}}");
            let mk: MicroKernel = text.parse().unwrap();
            let emit =
                |extensions| emit::micro_kernel(&mk, &target(Machine { extensions, ..machine }), Arguments::Registers);
            emit(true).unwrap();
            assert!(emit(false).unwrap_err().what.contains(&format!("no instructions of {feature}")));
        }
    }
}

#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
#[test]
fn machines_agree_with_the_interpreter() {
    let (sve, extensions) = machine::features();
    let lanes: Vec<u32> = sve.into_iter().collect();
    for machine in machines(&lanes).into_iter().filter(|m| extensions || !m.extensions) {
        for seed in 0..400 {
            let mk = kernel(seed, machine);
            let f = emitted(&mk, machine, seed);
            execute::check(&mk, &f, arguments(&mk, seed), seed)
                .unwrap_or_else(|e| panic!("seed {seed} {machine:?}: {e}\n{mk}"));
        }
    }
}

#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
#[test]
fn conversions_of_f16_are_by_its_definition() {
    let lanes: Vec<u32> = machine::features().0.into_iter().collect();
    for machine in machines(&lanes).into_iter().filter(|m| !m.extensions) {
        f16::check(machine.isa, machine.lanes as usize, |mk, data| {
            let f = emit::micro_kernel(mk, &target(machine), Arguments::Registers).unwrap();
            execute::run(&f, data)
        });
    }
}

/// The comparison can fail: of the kernels, each with one operation left out of what is interpreted, most differ.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
#[test]
fn a_missing_operation_is_noticed() {
    use kiln_compiler::microkernel::{Op, Stmt};
    let machine = Machine { isa: VectorIsa::Neon, lanes: 4, extensions: false };
    let mut noticed = 0;
    for seed in 0..40 {
        let mk = kernel(seed, machine);
        let mut other = mk.clone();
        // The last store.
        let at = other.body.iter().rposition(|s| matches!(s, Stmt::Inst(i) if matches!(i.op, Op::Store { .. })));
        other.body.remove(at.unwrap());
        let f = emitted(&mk, machine, seed);
        noticed += u32::from(execute::check(&other, &f, arguments(&mk, seed), seed).is_err());
    }
    assert!(noticed >= 36, "{noticed} of 40 are noticed");
}

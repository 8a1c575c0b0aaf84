//! Emitted code against the interpreter: random micro-kernels of everything an instruction set has are executed on this
//! machine, between inaccessible pages, and must leave what [`MicroKernel::interpret`] leaves, bit for bit. Only which NaN
//! a NaN is, and the sign of a zero that is a maximum or minimum of zeros, is left to implementations.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "../common/assembler.rs"]
mod assembler;
mod execute;
#[path = "../common/f16.rs"]
mod f16;
mod generate;
mod memory;
mod values;

use std::collections::BTreeSet;
use std::io::Write;

use assembler::Assembler;
use execute::{difference, run};
use generate::{Generator, Set};
use kiln_compiler::emit::{self, Arguments, Function};
use kiln_compiler::function_listing;
use kiln_compiler::microkernel::{Binary, MicroKernel, Op, Stmt};
use kiln_compiler::target::{Arch, Target, VectorIsa};
use memory::Placement;

const KERNELS: u64 = 4000;
const X86: [VectorIsa; 2] = [VectorIsa::Avx512, VectorIsa::Avx2];

fn target(isa: VectorIsa, vnni: bool) -> Target {
    let name = match (isa, vnni) {
        (VectorIsa::Avx512, true) => "x86-64-v4+vnni",
        (VectorIsa::Avx512, false) => "x86-64-v4",
        _ => "x86-64-v3",
    };
    name.parse().unwrap()
}

/// Whether this machine executes `isa`. One that does not is told of, past the test's own capture.
fn is_supported(isa: VectorIsa) -> bool {
    let supported = if isa == VectorIsa::Avx512 {
        // Machines differ in it, so its absence is no fault of theirs.
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    } else {
        let supported =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        assert!(supported || std::env::var_os("CI").is_none(), "CI must execute AVX2");
        supported
    };
    if !supported {
        let _ = writeln!(std::io::stderr(), "native: this machine has no {isa}: its code is emitted and not executed");
    }
    supported
}

/// Emits `mk`, runs it with pointers to either end of its memory and describes what differs from `meaning`'s result.
fn check(
    mk: &MicroKernel,
    meaning: &MicroKernel,
    target: &Target,
    arguments: Arguments,
    data: &[Vec<u8>],
) -> Option<String> {
    let function = emit::micro_kernel(mk, target, arguments).unwrap_or_else(|e| panic!("{e}\n{mk}"));
    let mut expected = data.to_vec();
    meaning.interpret(&mut expected.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    [Placement::Start, Placement::End].into_iter().find_map(|placement| {
        let found = run(&function.bytes, arguments, placement, data);
        difference(mk, &expected, &found)
    })
}

fn random_kernels(isa: VectorIsa) {
    let is_executed = is_supported(isa);
    let mut set = Set::default();
    for seed in 0..KERNELS {
        let vnni = isa == VectorIsa::Avx512 && seed % 3 == 0;
        let target = target(isa, vnni);
        let mut generator = Generator::new(seed);
        let mk = generator.kernel(isa, vnni);
        mk.verify().unwrap_or_else(|e| panic!("{e}\n{mk}"));
        set.add(&mk);
        let registers = mk.params.len() <= emit::x64::MAX_PARAMS && seed % 2 == 0;
        let arguments = if registers { Arguments::Registers } else { Arguments::Block };
        if !is_executed || (vnni && !is_x86_feature_detected!("avx512vnni")) {
            emit::micro_kernel(&mk, &target, arguments).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{mk}"));
            continue;
        }
        let data = values::memory(&mk, &mut generator.random);
        if let Some(difference) = check(&mk, &mk, &target, arguments, &data) {
            panic!("seed {seed}, {arguments:?}: {difference}\n{mk}");
        }
    }
    set.assert_complete(isa);
    let executed = if is_executed { KERNELS } else { 0 };
    let _ = writeln!(std::io::stderr(), "native: {isa}: {executed} of {KERNELS} random micro-kernels executed");
}

#[test]
fn avx2_computes_what_the_interpreter_does() {
    random_kernels(VectorIsa::Avx2);
}

#[test]
fn avx512_computes_what_the_interpreter_does() {
    random_kernels(VectorIsa::Avx512);
}

/// Replaces the first operation for which `change` has another.
fn changed(mk: &MicroKernel, change: impl Fn(&Op) -> Option<Op>) -> Option<MicroKernel> {
    let mut mk = mk.clone();
    let insts = mk.body.iter_mut().flat_map(|s| match s {
        Stmt::Inst(i) => std::slice::from_mut(i),
        Stmt::Loop { body, .. } => body.as_mut_slice(),
    });
    let (inst, op) = insts.into_iter().find_map(|i| change(&i.op).map(|op| (i, op)))?;
    inst.op = op;
    Some(mk)
}

/// Code that means something else must be told apart: from most kernels, as others overwrite what differs.
#[test]
fn other_code_is_found_out() {
    if !is_supported(VectorIsa::Avx2) {
        return;
    }
    let changes: [fn(&Op) -> Option<Op>; 5] = [
        |op| match *op {
            Op::Binary { f: Binary::Add, d, a, b } => Some(Op::Binary { f: Binary::Sub, d, a, b }),
            _ => None,
        },
        |op| match *op {
            Op::PairAdd { d, a, b } if a != b => Some(Op::PairAdd { d, a: b, b: a }),
            _ => None,
        },
        |op| match *op {
            Op::Load { d, src, lanes } if lanes > 1 => Some(Op::Load { d, src, lanes: lanes - 1 }),
            _ => None,
        },
        |op| match *op {
            Op::Const { d, bits } => Some(Op::Const { d, bits: bits ^ 0x0080_0000 }),
            _ => None,
        },
        |op| match *op {
            Op::Store { s, dst, lanes } if lanes > 1 => Some(Op::Store { s, dst, lanes: lanes - 1 }),
            _ => None,
        },
    ];
    for change in changes {
        let (mut tried, mut found) = (0, 0);
        for seed in 0..200 {
            let mut generator = Generator::new(seed);
            let mk = generator.kernel(VectorIsa::Avx2, false);
            let data = values::memory(&mk, &mut generator.random);
            let Some(other) = changed(&mk, change) else { continue };
            tried += 1;
            found +=
                usize::from(check(&other, &mk, &target(VectorIsa::Avx2, false), Arguments::Block, &data).is_some());
        }
        assert!(tried >= 20 && found * 8 >= tried, "{found} of {tried} are found");
    }
}

/// Every upper half of an f32, with lower halves around each place where rounding changes.
#[test]
fn narrowing_rounds_as_the_interpreter_does_bit_for_bit() {
    const LOWER: [u32; 8] = [0, 1, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff];
    let words: Vec<u8> = (0..=0xffff_u32).flat_map(|h| LOWER.map(|l| h << 16 | l)).flat_map(u32::to_le_bytes).collect();
    for isa in X86.into_iter().filter(|isa| is_supported(*isa)) {
        let lanes = usize::from(generate::lanes(isa));
        let bytes = words.len();
        let text = format!(
            "microkernel uk {isa} lanes={lanes} registers=16 {{
                param src: f32 read 1x{bytes} stride {bytes}
                param dst: bf16 write 1x{half} stride {half}
                loop {trips} {{
                    v0 = load src[0 + {step}*t] x{lanes}
                    store dst[0 + {half_step}*t], v0 x{lanes} with v1, v2
                }}
            }}",
            half = bytes / 2,
            trips = bytes / 4 / lanes,
            step = 4 * lanes,
            half_step = 2 * lanes,
        );
        let mk: MicroKernel = text.parse().unwrap();
        mk.verify().unwrap();
        let data = [words.clone(), vec![0; bytes / 2]];
        let function = emit::micro_kernel(&mk, &target(isa, false), Arguments::Registers).unwrap();
        let mut expected = data.to_vec();
        mk.interpret(&mut expected.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        let found = run(&function.bytes, Arguments::Registers, Placement::End, &data);
        assert!(expected == found, "{isa}");
    }
}

#[test]
fn conversions_of_f16_are_by_its_definition() {
    for isa in X86.into_iter().filter(|isa| is_supported(*isa)) {
        f16::check(isa, generate::lanes(isa).into(), |mk, data| {
            let function = emit::micro_kernel(mk, &target(isa, false), Arguments::Registers).unwrap();
            run(&function.bytes, Arguments::Registers, Placement::End, data)
        });
    }
}

/// The line of `f`'s listing for its byte `at`.
fn line_of(f: &Function, at: usize) -> String {
    let mut end = 0;
    let listing = function_listing(f, &"x86-64-v3".parse().unwrap(), true);
    let mut lines = listing.lines().filter_map(|l| Some((l, l.strip_suffix(']')?.rsplit_once(" [")?.1)));
    let found = lines.find(|(_, bytes)| {
        end += bytes.split(' ').count();
        end > at
    });
    found.map_or("constants".into(), |(line, _)| line.trim().to_owned())
}

/// Listings of random kernels assemble back, most instructions as text.
#[test]
fn listings_assemble_to_the_code() {
    for isa in X86 {
        let vnni = isa == VectorIsa::Avx512;
        let target = target(isa, vnni);
        let functions: Vec<_> = (0..300)
            .map(|seed| {
                let mk = Generator::new(seed).kernel(isa, vnni);
                emit::micro_kernel(&mk, &target, Arguments::Block).unwrap()
            })
            .collect();
        for assembler in Assembler::all(Arch::X86_64) {
            let (mut lines, mut raw, mut vnni_lines) = (0, BTreeSet::new(), 0);
            for (n, f) in functions.iter().enumerate() {
                let listing = function_listing(f, &target, false);
                let code = assembler.assemble(&format!("native-{isa}-{n}"), &listing);
                if let Some(at) = (0..f.bytes.len()).find(|&i| code.get(i) != Some(&f.bytes[i])) {
                    let (line, theirs) = (line_of(f, at), &code[at.min(code.len())..(at + 16).min(code.len())]);
                    panic!("{} differs at byte {at}: {line}\nit has {theirs:02x?}", assembler.command);
                }
                lines += listing.lines().count();
                vnni_lines += listing.lines().filter(|l| l.contains("vpdp") && !l.contains(".byte")).count();
                let is_raw = |l: &&str| l.contains(".byte") && !l.ends_with(" constants");
                raw.extend(listing.lines().filter(is_raw).map(str::to_owned));
            }
            assert!(!vnni || vnni_lines > 50, "{vnni_lines} lines of VNNI");
            assert!(raw.len() * 20 <= lines, "{isa}: {} of {lines} lines are bytes: {raw:#?}", raw.len());
        }
    }
}

//! K loops keep their sums in registers: no instruction from the first product of a loop to its last, nor around them, touches
//! the stack. The problems have loops of every form on every vector unit, the search finds as many products in a listing as the
//! micro-kernel has, and an access that is put into a loop is found.

#[path = "common/listing.rs"]
mod listing;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kiln_compiler::microkernel::{MicroKernel, Op, Stmt};
use kiln_compiler::schedule::Form;
use kiln_compiler::target::{Arch, VectorIsa};
use kiln_compiler::{Artifact, Options, Target, compile};
use listing::{instruction, loops, straight};

const TARGETS: [&str; 12] = [
    "armv8",
    "neoverse-n1",
    "neoverse-v1",
    "neoverse-v1-sve",
    "neoverse-v2",
    "sve128+bf16-neon",
    "sve512+bf16",
    "sve2048-neon",
    "x86-64-v3",
    "x86-64-v4",
    "x86-64-v4-avx512",
    "x86-64-v4+vnni",
];

/// Problems, and whether their weights are packed before: tiles of all sizes, of each form, in place and in panels, with
/// epilogues that spill their sums, with operands of bf16, with windows.
const PROBLEMS: &[(&str, bool)] = &[
    ("matmul f32 1x64:64x33", false),
    ("matmul f32 5x38:38x17 +bias", false),
    ("matmul f32 13x31:31x100 +bias+relu", false),
    ("matmul f32 128x768:768x768", false),
    ("matmul f32 512x512:512x517 +relu", false),
    ("matmul f32 97x89:89x83 stag=ba +bias+gelu_erf", false),
    ("matmul f32 12x256:256x2000 beta=1", true),
    ("matmul bf16 64x256:256x100 +bias", false),
    ("matmul s8:s8:s32 64x256:256x100", false),
    ("matmul s8:s8:s32 33x300:300x64 wtag=ba", true),
    ("ip u8:s8:s32 mb64ic768oc768", true),
    ("ip u8:s8:s32 mb1ic2048oc1000", false),
    ("matmul bf16:bf16:f32 33x300:300x64 wtag=ba", true),
    ("ip f32 mb1ic2048oc1000", false),
    ("ip f32 mb2ic2048oc64 +bias+gelu_tanh", false),
    ("ip bf16 mb1ic2048oc1000 +bias", false),
    ("ip f32 mb64ic768oc768 fpmath=bf16 +bias+gelu_erf", true),
    ("ip f32 mb64ic768oc768 fpmath=bf16", false),
    ("conv f32 mb1ic64ih28oc64kh3ph1 +bias+relu", true),
    ("conv f32 mb1ic64ih28oc64kh3ph1 stag=abx dtag=abx", false),
    ("conv f32 mb1ic64ih28oc64kh3ph1 fpmath=bf16", true),
    ("conv bf16 mb1ic64ih28oc64kh3ph1 +bias", true),
    ("conv f32 g64mb1ic64ih28oc64kh3ph1 +bias+relu", true),
];

/// Multiply-adds of listings, by the beginning of their mnemonics.
const PRODUCTS: [&str; 12] = [
    "fmla", "vfmadd", "bfmmla", "bfdot", "smmla", "usmmla", "sdot", "sudot", "mla ", "vpdpbusd", "vpdpwssd", "vpmaddwd",
];

static ARTIFACTS: LazyLock<Vec<Artifact>> = LazyLock::new(|| {
    let compiled = |target: &str| {
        let target: Target = target.parse().unwrap();
        let of = |&(problem, constant_weights): &(&str, bool)| {
            let options = Options { constant_weights, ..Options::default() };
            compile(&problem.parse().unwrap(), &target, &options).unwrap_or_else(|e| panic!("{problem} @{target}: {e}"))
        };
        PROBLEMS.iter().map(of).collect::<Vec<_>>()
    };
    TARGETS.iter().flat_map(|t| compiled(t)).collect()
});

/// The multiply-add that an instruction is.
fn product(line: &str) -> Option<&'static str> {
    // The assembler is asked for the long prefix, where it would swap operands for a short one.
    let line = line.trim_start_matches("{vex3} ");
    PRODUCTS.into_iter().find(|p| line.starts_with(p))
}

/// Whether an instruction names the stack pointer or the frame's, or is one that uses it unnamed.
fn touches_stack(line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|w| ["sp", "wsp", "x29", "rsp", "esp", "rbp", "ebp", "push", "pop"].contains(&w))
}

/// The first instruction of these that touches the stack.
fn spill<'a>(lines: &[&'a str]) -> Option<&'a str> {
    lines.iter().copied().find(|l| touches_stack(l))
}

/// The products that each loop of a micro-kernel has, and those outside of loops.
fn products_of(kernel: &MicroKernel) -> (Vec<usize>, usize) {
    let is_product = |op: &Op| op.macs_per_quad() > 0;
    let in_loop = |s: &Stmt| match s {
        Stmt::Loop { body, .. } => Some(body.iter().filter(|i| is_product(&i.op)).count()),
        Stmt::Inst(_) => None,
    };
    let outside = kernel.body.iter().filter(|s| matches!(s, Stmt::Inst(i) if is_product(&i.op))).count();
    (kernel.body.iter().filter_map(in_loop).collect(), outside)
}

/// What was looked at, so that nothing passes that was not.
#[derive(Default)]
struct Seen {
    /// Micro-kernels with products, and loops of theirs, by form and vector unit.
    kernels: BTreeMap<(String, VectorIsa), [usize; 2]>,
    /// Multiply-adds in loops, or in the straight code of depthwise sums, by mnemonic.
    products: BTreeMap<&'static str, usize>,
}

fn look(a: &Artifact, seen: &mut Seen) {
    let form = a.choice().schedule.form;
    let listing = a.listing(false);
    for kernel in a.micro_kernels() {
        let name = format!("{} @{}: {}", a.problem(), a.target(), kernel.name);
        let (in_loops, outside) = products_of(kernel);
        let mut bodies = loops(&listing, &kernel.name);
        let counted = |body: &Vec<&str>| body.iter().filter(|l| product(l).is_some()).count();
        // Every loop is found, so that none escapes the search.
        assert_eq!(bodies.iter().map(counted).collect::<Vec<_>>(), in_loops, "{name}\n{listing}");
        if form == Form::Depthwise && outside > 0 {
            // Taps are no loop: from the first product to the last.
            bodies.push(straight(&listing, &kernel.name, |l| product(l).is_some()));
        }
        if in_loops.iter().sum::<usize>() + outside > 0 {
            let count = seen.kernels.entry((format!("{form:?}"), kernel.isa)).or_default();
            *count = [count[0] + 1, count[1] + bodies.iter().filter(|b| counted(b) > 0).count()];
        }
        bodies.iter().flatten().filter_map(|l| product(l)).for_each(|p| *seen.products.entry(p).or_default() += 1);
        for body in &bodies {
            assert_eq!(spill(body), None, "{name} touches the stack among its products");
        }
    }
}

#[test]
fn no_k_loop_touches_the_stack() {
    let mut seen = Seen::default();
    ARTIFACTS.iter().for_each(|a| look(a, &mut seen));
    let loops = |form: Form, isa: VectorIsa| seen.kernels.get(&(format!("{form:?}"), isa)).map_or(0, |c| c[1]);
    for isa in VectorIsa::ALL {
        for form in [Form::Outer, Form::Dot, Form::Depthwise] {
            assert!(loops(form, *isa) > 0, "no loop of {form:?} on {isa}: {:?}", seen.kernels);
        }
    }
    for isa in [VectorIsa::Neon, VectorIsa::Sve] {
        assert!(loops(Form::Mmla, isa) > 0, "no loop of BFMMLA on {isa}: {:?}", seen.kernels);
    }
    for mnemonic in PRODUCTS {
        assert!(seen.products.get(mnemonic).is_some_and(|n| *n >= 16), "{mnemonic}: {:?}", seen.products);
    }
}

/// An access to the stack that is put behind the first product of any loop is found, whatever its form.
#[test]
fn an_access_to_the_stack_is_found() {
    let accesses = |arch| match arch {
        Arch::Aarch64 => {
            ["ldr q0, [sp, #16]", "str z3, [sp, #1, mul vl]", "stp d8, d9, [sp, #-16]!", "ldr x9, [x29, #8]"]
        }
        Arch::X86_64 => ["vmovups ymm0, [rsp+0x20]", "vmovups [rsp-0x40], zmm1", "mov rax, [rbp-8]", "push rax"],
    };
    let mut tried = 0;
    for a in ARTIFACTS.iter() {
        let listing = a.listing(false);
        let Some(kernel) = a.micro_kernels().iter().find(|k| products_of(k).0.iter().any(|n| *n > 0)) else { continue };
        for access in accesses(a.target().arch) {
            let mut lines: Vec<&str> = listing.lines().collect();
            let label = format!(".L{}_", kernel.name);
            let head = lines.iter().position(|l| l.starts_with(&label)).unwrap();
            let first = head + lines[head..].iter().position(|l| product(instruction(l)).is_some()).unwrap();
            let seeded = format!("        {access}  // seeded");
            lines.insert(first + 1, &seeded);
            let text = lines.join("\n");
            let found: Vec<_> = loops(&text, &kernel.name).iter().filter_map(|body| spill(body)).collect();
            assert_eq!(found, [access], "{} @{}", a.problem(), a.target());
            tried += 1;
        }
    }
    assert!(tried > 4 * TARGETS.len() * PROBLEMS.len() / 2, "only {tried} accesses were seeded");
}

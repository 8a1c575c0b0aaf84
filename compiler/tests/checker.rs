//! Every micro-kernel that a test compiles is proved, of every form and with everything that it can have; and every stage's text
//! form and the whole artifact repeat.

use std::io::Write;

use kiln_compiler::microkernel::MicroKernel;
use kiln_compiler::microkernel::check::Tally;
use kiln_compiler::schedule::Schedule;
use kiln_compiler::target::VectorIsa;
use kiln_compiler::{Artifact, Options, Target, compile};
use kiln_ir::{LoopNest, PostOp, Problem};

/// Every vector unit, several vector lengths, units that have a core to themselves, with and without BF16.
const TARGETS: [&str; 15] = [
    "armv8",
    "neoverse-n1",
    "neoverse-v1",
    "neoverse-v1-sve",
    "neoverse-v1-neon",
    "neoverse-v2",
    "sve128-neon",
    "sve128+bf16-neon",
    "sve512",
    "sve1024+bf16",
    "sve2048-neon",
    "x86-64-v3",
    "x86-64-v4",
    "x86-64-v4-avx512",
    "x86-64-v4+vnni-avx2",
];
const EPILOGUES: [&str; 4] = ["", " +bias", " +relu", " +bias+relu"];

/// Products of f32 from tiny to large.
fn products() -> Vec<(String, bool)> {
    let mut shapes = vec![];
    for m in [1, 2, 3, 5, 8, 13, 17, 64] {
        for n in [1, 3, 4, 8, 15, 17, 33, 100] {
            shapes.extend([1, 4, 7, 38].map(|k| [m, k, n]));
        }
    }
    shapes.extend([
        [128, 768, 768],
        [512, 512, 512],
        [512, 512, 517],
        [1024, 1024, 1024],
        [384, 64, 384],
        [64, 147, 1000],
    ]);
    shapes.extend([[1, 2048, 1000], [1000, 3, 1], [7, 1000, 7], [97, 89, 83], [12, 256, 2000]]);
    let text = |(i, [m, k, n]): (usize, [u64; 3])| (format!("matmul f32 {m}x{k}:{k}x{n}{}", EPILOGUES[i % 4]), false);
    shapes.into_iter().enumerate().map(text).collect()
}

/// What else there is: types, layouts, old values, windows, groups, copies, spills.
fn others() -> Vec<(String, bool)> {
    let mut all = vec![];
    for (problem, post) in [
        ("matmul bf16 13x64:64x33", " +bias+relu"),
        ("matmul s8:s8:s32 13x61:61x33", ""),
        ("matmul u8:s8:s32 33x70:70x33 stag=ba wtag=ba", ""),
        ("matmul s8:s8:s32 33x70:70x34 wtag=ba dtag=ba", ""),
        ("ip s8:s8:s32 mb37ic96oc50", ""),
        ("ip u8:s8:s32 mb5ic128oc90", ""),
        ("ip u8:s8:s32 mb1ic300oc70", ""),
        ("matmul u8:s8:s32 3x20x30:3x30x9", ""),
        ("matmul f16 13x64:64x33", " +bias+relu"),
        ("matmul f16:f16:f32 13x61:61x33 beta=1", " +add:ab"),
        ("matmul f32:f16:f32 5x70:70x33 fpmath=bf16", " +bias"),
        ("ip f16 mb2ic64oc5", " +mul:b"),
        ("ip f16 mb37ic70oc50", " +bias+add:ab"),
        ("matmul f16 33x70:70x33 stag=ba wtag=ba", ""),
        ("conv f16 mb1ic18ih13oc24kh3sh2ph1", " +bias+relu"),
        ("conv f16 g16mb1ic16ih11oc16kh5ph2", ""),
        ("matmul bf16:bf16:f32 13x61:61x33 beta=1", " +add:ab"),
        ("matmul f32:bf16:f32 5x70:70x33", " +bias"),
        ("matmul f32 33x70:70x33 stag=ba wtag=ba dtag=ba", " +bias:row"),
        ("matmul f32 33x70:70x33 wtag=ba beta=1", " +mul:b+add:a"),
        ("matmul bf16 33x70:70x33 stag=ba wtag=ba", ""),
        ("matmul f32 40x1100:1100x20 beta=1", " +relu"),
        ("matmul f32 3x20x30:3x30x9 fpmath=bf16", " +add:abc"),
        ("ip f32 mb1ic100oc33", ""),
        ("ip f32 mb3ic100oc7", " +bias+gelu_erf"),
        ("ip bf16 mb1ic101oc33", " +bias"),
        ("ip bf16 mb2ic64oc5", " +mul:b"),
        ("ip f32 mb37ic70oc50 fpmath=bf16", " +bias+gelu_tanh"),
        ("ip bf16 mb37ic70oc50", " +bias+add:ab"),
        ("ip f32 mb5ic70oc50 fpmath=any", " +scale:0.5+shift:1"),
        ("conv f32 mb1ic16ih9oc24kh3ph1", " +bias+relu"),
        ("conv f32 mb2ic5ih12oc7kh5ph2dh1", ""),
        ("conv f32 mb1ic16ih9oc24kh3ph1 fpmath=bf16", " +bias+add:abcd"),
        ("conv f32 mb1ic16ih9oc24kh3ph1 stag=abx dtag=abx fpmath=bf16", " +add:abcd"),
        ("conv f32 mb1ic6ih13oc24kh3sh2ph1 stag=abx dtag=abx", " +bias"),
        ("conv bf16 mb1ic18ih13oc24kh3sh2ph1", " +bias+relu"),
        ("conv bf16 mb1ic3ih13oc24kh3ph1 stag=abx dtag=abx", ""),
        ("conv f32 g21mb1ic21ih11oc21kh3ph1sh2", " +bias+hardswish"),
        ("conv bf16 g16mb1ic16ih11oc16kh5ph2", ""),
        ("conv f32 g40mb1ic40ih11oc40kh3ph1 beta=1", " +bias+gelu_erf"),
        ("ip f32 mb2ic100oc7 beta=1", " +bias+gelu_tanh"),
        ("ip f32 mb4ic300oc7", " +bias+gelu_tanh"),
        ("ip f32 mb3ic300oc3", " +gelu_erf+add:ab"),
        ("ip bf16:bf16:f32 mb1ic100oc7 beta=1", " +silu"),
        ("conv bf16 mb1ic16ih9oc24kh3ph1 stag=abx dtag=abx beta=1", " +bias"),
        ("conv f32 g3mb2ic15ih8oc12kh3ph1", " +relu"),
        ("conv f32 mb1ic64ih14oc64kh1 stag=abx dtag=abx beta=1", ""),
        ("conv f32 mb1ic4id5ih6iw7oc9kd3kh3kw3pd1ph1pw1 fpmath=bf16", ""),
    ] {
        all.extend([false, true].map(|packed| (format!("{problem}{post}"), packed)));
    }
    // Each post-op by itself, on a tile whose sums need half of the registers, and after another one.
    for post in post_ops() {
        all.push((format!("matmul f32 24x40:40x50 +{post}"), false));
        all.push((format!("matmul bf16:bf16:f32 7x40:40x19 +bias+{post}"), false));
    }
    all
}

/// Post-ops that take an argument; the others are listed by [`PostOp::plain`].
const WITH_ARGUMENTS: [&str; 7] =
    ["bias:row", "add:ab", "mul:ab", "scale:0.5", "shift:1.5", "leaky_relu:0.25", "clamp:-1:2"];

/// Every post-op there is.
fn post_ops() -> Vec<String> {
    PostOp::plain().map(|op| op.to_string()).chain(WITH_ARGUMENTS.map(str::to_owned)).collect()
}

/// Some of the products and of the others.
fn some() -> Vec<(String, bool)> {
    products().into_iter().step_by(7).chain(others().into_iter().step_by(5)).collect()
}

/// Calls `check` with every artifact of problems and targets; under emulation, which adds nothing here, with a few.
fn for_each_artifact(targets: &[&str], problems: &[(String, bool)], mut check: impl FnMut(&Artifact, &Options)) {
    let step = if std::env::var_os("KILN_TEST_RUNNER").is_some() { 23 } else { 1 };
    for target in targets {
        let target: Target = target.parse().unwrap();
        for (problem, constant_weights) in problems.iter().step_by(step) {
            let options = Options { constant_weights: *constant_weights, ..Options::default() };
            let problem: Problem = problem.parse().unwrap_or_else(|e| panic!("{problem}: {e}"));
            let a = compile(&problem, &target, &options).unwrap_or_else(|e| panic!("{problem} @{target}: {e}"));
            check(&a, &options);
        }
    }
}

/// Every form with what its micro-kernels can have.
const FORMS: [(&str, &[&str]); 7] = [
    (
        "outer",
        &[
            "window",
            "several runs",
            "bf16 factors",
            "bf16 result",
            "bf16 operand",
            "f16 factors",
            "f16 result",
            "f16 operand",
            "s8 factors",
            "u8 factors",
            "old values",
            "spill",
            "part of a vector",
        ],
    ),
    ("mmlabytes", &["s8 factors", "u8 factors", "rows in place", "part of a vector", "part of a group"]),
    ("quads", &["s8 factors", "u8 factors", "rows in place", "part of a vector", "part of a group"]),
    ("pairs", &["s16 factors", "part of a vector", "part of a group"]),
    (
        "dot",
        &[
            "bf16 factors",
            "bf16 result",
            "f16 factors",
            "f16 result",
            "bfdot",
            "old values",
            "spill",
            "part of a vector",
        ],
    ),
    (
        "mmla",
        &[
            "bfmmla",
            "window",
            "several runs",
            "rows in place",
            "rounding",
            "bf16 result",
            "bf16 operand",
            "old values",
            "spill",
            "part of a vector",
            "part of a group",
        ],
    ),
    (
        "depthwise",
        &[
            "window",
            "several runs",
            "bf16 factors",
            "bf16 result",
            "f16 factors",
            "f16 result",
            "old values",
            "spill",
            "part of a vector",
        ],
    ),
];

/// What copies do.
const COPIES: [&str; 10] = [
    "of bytes",
    "widened bytes",
    "into groups of rows along K",
    "into groups of rows across K",
    "into groups of neighbours along neither axis",
    "of bf16",
    "widened f16",
    "rounded",
    "widened",
    "transposed",
];

#[test]
fn every_kind_of_micro_kernel_is_proved() {
    let mut tally = Tally::default();
    for_each_artifact(&TARGETS, &[products(), others()].concat(), |a, _| {
        tally.add(a.checked().expect("the feature `checked` is on in tests"));
    });
    let mut kinds: Vec<String> = vec![];
    for (form, features) in FORMS {
        kinds.extend(features.iter().map(|f| format!("{form} {f}")));
        let has = |isa: VectorIsa| match form {
            "mmla" | "mmlabytes" => isa.is_a64(),
            "quads" => isa != VectorIsa::Avx2,
            "pairs" => !isa.is_a64(),
            _ => true,
        };
        let isas = VectorIsa::ALL.iter().filter(|isa| has(**isa));
        kinds.extend(isas.map(|isa| format!("{isa} {form}")));
    }
    kinds.extend(COPIES.iter().map(|c| format!("copy {c}")));
    kinds.extend(VectorIsa::ALL.iter().map(|isa| format!("{isa} copy")));
    kinds.extend(post_ops().iter().map(|op| format!("post {}", op.split(':').next().unwrap())));
    let missing: Vec<&String> = kinds.iter().filter(|kind| tally.of(kind) == 0).collect();
    let is_emulated = std::env::var_os("KILN_TEST_RUNNER").is_some();
    assert!(is_emulated || missing.is_empty(), "no micro-kernel was proved of {missing:?}; of others:\n{tally}");
    let all: u64 = ["outer", "dot", "mmla", "depthwise", "copy"].map(|kind| tally.of(kind)).iter().sum();
    // Past the test's own capture: a run that passed says what it proved.
    writeln!(std::io::stderr(), "checker: {all} micro-kernels of {} kinds proved", kinds.len()).unwrap();
}

fn name(a: &Artifact) -> String {
    format!("{} @{}", a.problem(), a.target())
}

#[test]
fn texts_parse_back() {
    for_each_artifact(&TARGETS, &some(), |a, _| {
        let schedule = a.choice().schedule.to_string();
        assert_eq!(schedule.parse::<Schedule>().as_ref(), Ok(&a.choice().schedule));
        // Text has no room for variables that rewrites left unused, so texts are compared.
        let nest = a.nest().to_string();
        assert_eq!(nest.parse::<LoopNest>().unwrap_or_else(|e| panic!("{e}\n{nest}")).to_string(), nest);
        for kernel in a.micro_kernels() {
            let text = kernel.to_string();
            assert_eq!(text.parse::<MicroKernel>().unwrap_or_else(|e| panic!("{e}\n{text}")), *kernel);
        }
    });
}

#[test]
fn artifacts_repeat() {
    for_each_artifact(&TARGETS, &some(), |a, options| {
        let c = a.contraction();
        for (schedule, _) in &a.choice().candidates {
            schedule.verify(c, a.target()).unwrap_or_else(|e| panic!("{}: {e}", name(a)));
        }
        let again = compile(a.problem(), a.target(), options).unwrap();
        assert_eq!(again.image(), a.image(), "{}", name(a));
        // The choice, given back as text, makes the same code.
        let schedule = Some(a.choice().schedule.to_string().parse().unwrap());
        let forced = compile(a.problem(), a.target(), &Options { schedule, ..options.clone() }).unwrap();
        assert_eq!(forced.image(), a.image(), "{}", name(a));
    });
}

/// Every candidate that was weighed can be lowered and emitted, not only the one that was chosen.
#[test]
fn every_candidate_compiles() {
    for_each_artifact(&TARGETS, &some(), |a, options| {
        for (schedule, _) in &a.choice().candidates {
            let options = Options { schedule: Some(schedule.clone()), ..options.clone() };
            compile(a.problem(), a.target(), &options).unwrap_or_else(|e| panic!("{} with {schedule}: {e}", name(a)));
        }
    });
}

//! Every micro-kernel that the compiler makes, against proofs that share no code with the builder: memory safety, and the
//! tile computed; and every stage's text form and the whole artifact repeat.

#[path = "common/tile.rs"]
mod tile_reference;

use std::collections::BTreeMap;

use kiln_compiler::microkernel::check::{DstSpec, LhsSpec, RhsSpec, TileSpec, check_tile};
use kiln_compiler::microkernel::{MicroKernel, P, Stmt as MicroStmt};
use kiln_compiler::schedule::{Form, Schedule};
use kiln_compiler::{Artifact, Options, Target, compile};
use kiln_ir::nest::{Init, Stmt, Tile};
use kiln_ir::{LoopNest, PostOp, Problem};

/// Every vector unit, several vector lengths, and units that have a core to themselves.
const TARGETS: [&str; 11] = [
    "armv8",
    "neoverse-n1",
    "neoverse-v1",
    "neoverse-v1-sve",
    "neoverse-v1-neon",
    "sve128-neon",
    "sve512",
    "sve2048-neon",
    "x86-64-v3",
    "x86-64-v3-avx2",
    "x86-64-v4",
];
const EPILOGUES: [&str; 4] = ["", " +bias", " +relu", " +bias+relu"];
/// Micro-kernels with more operations are not interpreted.
const INTERPRETED: u64 = 20_000;

/// Shapes from tiny to large: proofs do not execute anything, so size costs little.
fn problems() -> Vec<Problem> {
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
    let text = |(i, [m, k, n]): (usize, [u64; 3])| format!("matmul f32 {m}x{k}:{k}x{n}{}", EPILOGUES[i % 4]);
    shapes.into_iter().enumerate().map(|s| text(s).parse().unwrap()).collect()
}

/// Calls `check` with every artifact; under emulation, which adds nothing here, with a few.
fn for_each_artifact(check: impl Fn(&Artifact)) {
    let step = if std::env::var_os("KILN_TEST_RUNNER").is_some() { 23 } else { 1 };
    for target in TARGETS {
        let target: Target = target.parse().unwrap();
        for problem in problems().iter().step_by(step) {
            check(
                &compile(problem, &target, &Options::default()).unwrap_or_else(|e| panic!("{problem} @{target}: {e}")),
            );
        }
    }
}

fn name(a: &Artifact) -> String {
    format!("{} @{}", a.problem(), a.target())
}

/// The tiles of a nest and, for each, the micro-kernel it calls.
fn tiles<'a>(body: &'a [Stmt], calls: &mut impl Iterator<Item = Option<usize>>, out: &mut Vec<(&'a Tile, usize)>) {
    for s in body {
        match s {
            Stmt::Loop(l) => tiles(&l.body, calls, out),
            Stmt::Tile(t) => out.push((t, calls.next().flatten().expect("every tile calls a micro-kernel"))),
            Stmt::Pack(_) => drop(calls.next()),
            _ => {}
        }
    }
}

/// What the micro-kernel of a tile must compute. Parameters are lhs, rhs, the bias if there is one, dst.
fn spec(t: &Tile) -> TileSpec {
    let has = |op| t.post.iter().any(|(p, _)| *p == op);
    let bias = has(PostOp::Bias);
    assert_eq!((t.rhs.col, t.dst.col), (1, 1), "rows are contiguous");
    TileSpec {
        mr: t.m,
        nr: t.n,
        k: t.k,
        lhs: LhsSpec { param: P(0), row_stride: 4 * t.lhs.row, k_stride: 4 * t.lhs.col },
        rhs: RhsSpec { param: P(1), k_stride: 4 * t.rhs.row },
        dst: DstSpec { param: P(2 + u8::from(bias)), row_stride: 4 * t.dst.row },
        accumulate: t.init == Init::Load,
        bias: bias.then_some(P(2)),
        relu: has(PostOp::Relu),
    }
}

/// Each micro-kernel with what its tiles ask for, which differ only in place.
fn with_specs(a: &Artifact) -> Vec<(&MicroKernel, TileSpec)> {
    // The checker knows products of columns in lanes, and biases of columns.
    if a.choice().schedule.form != Form::Outer || a.contraction().swapped {
        return vec![];
    }
    let mut all = vec![];
    tiles(&a.nest().body, &mut a.calls().iter().copied(), &mut all);
    let mut pairs: BTreeMap<usize, TileSpec> = BTreeMap::new();
    for (t, kernel) in all {
        assert_eq!(*pairs.entry(kernel).or_insert(spec(t)), spec(t), "{}: tiles that differ share one", name(a));
    }
    pairs.into_iter().map(|(kernel, spec)| (&a.micro_kernels()[kernel], spec)).collect()
}

#[test]
fn every_micro_kernel_computes_its_tile() {
    for_each_artifact(|a| {
        for (kernel, spec) in with_specs(a) {
            kernel.verify().unwrap_or_else(|e| panic!("{}: {e}\n{kernel}", name(a)));
            check_tile(kernel, &spec).unwrap_or_else(|e| panic!("{}: {e}\n{spec:?}\n{kernel}", name(a)));
        }
    });
}

/// Small integers that repeat at no round period.
fn integers(len: u64, salt: u64) -> Vec<f32> {
    (0..len).map(|i| ((i.wrapping_mul(2_654_435_761) + salt * 40_503) >> 7 & 7) as f32 - 4.0).collect()
}

fn executed(kernel: &MicroKernel) -> u64 {
    let cost = |s: &MicroStmt| match s {
        MicroStmt::Inst(_) => 1,
        MicroStmt::Loop { trips, body, .. } => trips * body.len() as u64,
    };
    kernel.body.iter().map(cost).sum()
}

#[test]
fn every_interpreter_agrees_with_the_definition() {
    for_each_artifact(|a| {
        for (kernel, spec) in with_specs(a).into_iter().filter(|(k, _)| executed(k) <= INTERPRETED) {
            let mut memory: Vec<Vec<f32>> = (0..)
                .zip(&kernel.params)
                .map(|(salt, p)| integers(((p.region.rows - 1) * p.region.row_stride + p.region.row_bytes) / 4, salt))
                .collect();
            let expected = tile_reference::after(&spec, &memory);
            let mut args: Vec<&mut [f32]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
            kernel.interpret_f32(&mut args).unwrap_or_else(|e| panic!("{}: {e}\n{kernel}", name(a)));
            assert_eq!(memory[usize::from(spec.dst.param.0)], expected, "{}:\n{kernel}", name(a));
        }
    });
}

#[test]
fn texts_parse_back() {
    for_each_artifact(|a| {
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
    for_each_artifact(|a| {
        let c = a.contraction();
        for (schedule, _) in &a.choice().candidates {
            schedule.verify(c, a.target()).unwrap_or_else(|e| panic!("{}: {e}", name(a)));
        }
        let again = compile(a.problem(), a.target(), &Options::default()).unwrap();
        assert_eq!(again.image(), a.image(), "{}", name(a));
        // The choice, given back as text, makes the same code.
        let schedule = Some(a.choice().schedule.to_string().parse().unwrap());
        let forced = compile(a.problem(), a.target(), &Options { schedule, ..Options::default() }).unwrap();
        assert_eq!(forced.image(), a.image(), "{}", name(a));
    });
}

/// Every candidate that was weighed can be lowered and emitted, not only the one that was chosen.
#[test]
fn every_candidate_compiles() {
    for_each_artifact(|a| {
        for (schedule, _) in &a.choice().candidates {
            let options = Options { schedule: Some(schedule.clone()), ..Options::default() };
            compile(a.problem(), a.target(), &options).unwrap_or_else(|e| panic!("{} with {schedule}: {e}", name(a)));
        }
    });
}

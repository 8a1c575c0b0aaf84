//! Every stage of lowering means the same: after each rewrite, the interpreter of nests computes what the problem's reference says, on
//! integers that are exact in any order and in bf16. Convolutions take every rewrite; products are in `ir/tests/rewrites.rs`.

use half::{bf16, f16};
use kiln_compiler::lower::lower;
use kiln_compiler::packed::PackedLayout;
use kiln_compiler::schedule::{LhsAccess, Order, Parallel, RhsAccess, Rows, Schedule, rows};
use kiln_compiler::{Candidates, Target};
use kiln_ir::{Contraction, DType, LoopNest, Problem, Sums};

const PROBLEMS: &[&str] = &[
    "conv f32 mb1ic3ih7oc9kh3ph1 +bias+relu",
    "conv f32 mb2ic5ih6oc7kh5ph2dh1",
    "conv f32 mb1ic4ih9oc8kh3ph1 stag=abx dtag=abx +add:abcd",
    "conv f32 mb1ic4ih9oc8kh3ph1 stag=abx dtag=abx beta=1 +bias fpmath=bf16",
    "conv bf16 mb1ic6ih9oc8kh3sh2ph1 +bias",
    "conv bf16 mb1ic3ih8oc8kh3sh2ph1 stag=abx dtag=abx",
    "conv f32 mb1ic5ih9oc17kh3ph1 fpmath=bf16 +bias+add:abcd",
    "conv f32 g9mb1ic9ih8oc9kh3ph1sh2 +bias",
    "conv f32 g16mb2ic16ih5oc16kh3ph1 beta=1 dtag=abx",
    "conv f32 g3mb2ic6ih6oc12kh3ph1 +relu",
    "conv f32 mb1ic8ih9oc20kh1sh2 stag=abx dtag=abx +add:abcd",
    "conv bf16 mb1ic8ih9oc20kh1sh2 stag=abx dtag=abx",
    "conv f32 mb1ic3id4ih5iw4oc5kd3kh2kw3pd1ph1pw1 fpmath=bf16",
    "conv f32 mb2ic2iw25oc3kw3pw30sw2",
    "conv f32 mb1ic2ih5iw6oc3kh4kw1ph3pw-1",
    // Results of one pixel, or of one along an axis.
    "conv f32 mb1ic3ih1oc4kh7sh2ph3",
    "conv bf16 mb2ic5ih7iw8oc3ow1kh3kw3sh3sw2pw0dh1 dtag=abx beta=1",
    "conv f32 mb1ic3ih5iw9oc4oh1kh5kw3ph0pw1 +bias",
];

/// Schedules like those that are weighed, and others in which something is different.
fn schedules(c: &Contraction, problem: &Problem, target: &Target, packed: bool) -> Vec<Schedule> {
    let mut random = fastrand::Rng::with_seed(7);
    let candidates = Candidates::of(problem, target, packed).expect("it compiles").schedules;
    let mut all: Vec<Schedule> = vec![];
    for (s, _) in candidates.iter().step_by(candidates.len() / 3 + 1) {
        for _ in 0..5 {
            let mut s = s.clone();
            if random.bool() {
                s.rows = if s.rows == Rows::Line { Rows::Flat } else { Rows::Line };
            }
            s.parallel = random.choice([Parallel::None, Parallel::M, Parallel::N, Parallel::Mn, Parallel::Nm]).unwrap();
            let lhs = random.choice([LhsAccess::InPlace, LhsAccess::Block, LhsAccess::Shared]).unwrap();
            for r in &mut s.regions {
                r.order = if random.bool() { Order::NM } else { Order::MN };
                r.lhs = lhs;
                r.rhs = if packed { RhsAccess::Packed } else { RhsAccess::Block };
                r.kc = random.u64(1..=c.k).next_multiple_of(4).min(c.k);
                r.nc = r.nr * random.u64(1..=(r.end - r.start) / r.nr);
                r.mr = random.u64(1..=r.mr);
                let lines = c.window.as_ref().map_or(1, rows::block_pixels);
                r.mc = if s.rows == Rows::Flat { c.m } else { lines * random.u64(1..=(c.m / lines).max(1)) };
            }
            let fits = |s: &Schedule| s.verify(c, target).is_ok() && !all.contains(s);
            if let Some(s) = [s.clone(), Schedule { rows: Rows::Line, ..s }].into_iter().find(fits) {
                all.push(s);
            }
        }
    }
    all.into_iter().chain([candidates[0].0.clone()]).filter(|s| s.verify(c, target).is_ok()).collect()
}

/// Integers from -2 to 2.
fn integers(len: u64, salt: u64) -> Vec<f32> {
    (0..len).map(|i| ((i.wrapping_mul(2_654_435_761) + salt * 40_503) >> 7) as f32 % 5.0 - 2.0).collect()
}

/// The weights in panels, an argument for each region.
fn panels(c: &Contraction, layout: &PackedLayout, weights: &[f32]) -> Vec<Vec<f32>> {
    let mut bytes = vec![0; layout.bytes() as usize];
    layout.pack(&c.rhs, c.rhs_tap(), weights.into(), &mut bytes);
    let (starts, _) = layout.region_offsets();
    let region = |(start, elements): (u64, u64)| {
        let size = layout.dtype().bytes();
        let bytes = bytes[start as usize..].chunks(size).take(elements as usize);
        bytes
            .map(|b| match layout.dtype() {
                DType::F32 => f32::from_le_bytes(b.try_into().unwrap()),
                DType::Bf16 => bf16::from_le_bytes(b.try_into().unwrap()).to_f32(),
                _ => f16::from_le_bytes(b.try_into().unwrap()).to_f32(),
            })
            .collect()
    };
    starts.into_iter().zip(layout.region_elements()).map(region).collect()
}

/// The rewrites that have been checked, and how often each changed something.
#[derive(Default)]
struct Tally(std::collections::BTreeMap<&'static str, u64>);

fn check(problem: &Problem, c: &Contraction, target: &Target, schedule: &Schedule, tally: &mut Tally) {
    let arguments: Vec<Vec<f32>> =
        problem.operands().iter().zip(1..).map(|(o, salt)| integers(o.span(), salt)).collect();
    let slices: Vec<&[f32]> = arguments.iter().map(Vec::as_slice).collect();
    let reference = problem.reference(&slices, Sums::Exact).value;
    let layout = PackedLayout::of(c, schedule, target);
    let packed = layout.map(|layout| panels(c, &layout, &arguments[c.rhs.argument]));
    let unit = target.unit(schedule.isa).unwrap();
    let mut before = String::new();
    let mut is_packed = false;
    let nest = lower(problem, c, schedule, unit, |step, nest| {
        let at = || format!("after {step} of {problem} by {schedule} for {target}\n{nest}");
        nest.verify().unwrap_or_else(|e| panic!("{e} {}", at()));
        let text = nest.to_string();
        assert_eq!(text.parse::<LoopNest>().map(|n| n.to_string()), Ok(text.clone()), "{}", at());
        if text != before {
            *tally.0.entry(step).or_default() += 1;
        }
        before = text;
        is_packed |= step == "prepacked";
        let mut memory = arguments.clone();
        if let (Some(packed), true) = (&packed, is_packed) {
            memory[c.rhs.argument] = packed[0].clone();
            memory.extend_from_slice(&packed[1..]);
        }
        let mut args: Vec<&mut [f32]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
        nest.interpret(&mut args).unwrap_or_else(|e| panic!("{e} {}", at()));
        let dst = &memory[c.dst.argument];
        let dtype = problem.dtypes().dst;
        for (i, (got, want)) in dst.iter().zip(&reference).enumerate() {
            assert_eq!(dtype.round(*got), dtype.round(*want as f32), "element {i} {}", at());
        }
    })
    .unwrap_or_else(|e| panic!("{e}: {problem} by {schedule} for {target}"));
    nest.verify_tasks().unwrap_or_else(|e| panic!("{e}: {problem} by {schedule} for {target}\n{nest}"));
}

#[test]
fn every_stage_of_a_convolution_equals_the_reference() {
    let mut tally = Tally::default();
    for target in ["neoverse-n1", "neoverse-v1", "x86-64-v3"] {
        let target: Target = target.parse().unwrap();
        for problem in PROBLEMS {
            let problem: Problem = problem.parse().unwrap();
            for c in Contraction::ways(&problem).iter().filter(|c| c.window.is_some()) {
                for packed in [false, true] {
                    for schedule in schedules(c, &problem, &target, packed) {
                        check(&problem, c, &target, &schedule, &mut tally);
                    }
                }
            }
        }
    }
    let steps =
        ["build", "lines", "partition", "tile", "prepacked", "split_borders", "pack", "split_tails", "tensorize"];
    for step in steps.into_iter().chain(["divide"]) {
        assert!(tally.0.get(step).is_some_and(|n| *n >= 20), "{step} changed too little: {:?}", tally.0);
    }
}

use std::ops::Range;

use kiln_jit::compiler::work::{KINDS, Part};

use super::simulate::simulate;
use super::*;

fn of_kernel(package: &Package, threads: &[usize]) -> Result<Scaling, ScalingError> {
    Predictor::of_kernel(package)?.scaling(threads)
}

fn equal(range: Range<u64>) -> Part {
    Part { cycles: 100.0 * (range.end - range.start) as f64, copies: 0.0, bytes: [0.0; KINDS] }
}

#[test]
fn equal_tasks_take_as_long_as_the_largest_share() {
    for (tasks, threads) in [(1, 1), (1, 8), (7, 2), (8, 4), (9, 4), (64, 64), (65, 64), (196, 16), (500, 7)] {
        let spent = simulate(tasks, threads, &mut equal);
        let ceil = tasks.div_ceil(threads as u64) as f64;
        assert_eq!(spent.span, 100.0 * ceil, "{tasks} tasks, {threads} threads");
        assert_eq!(spent.cycles, 100.0 * tasks as f64);
        assert_eq!(spent.threads, threads.min(tasks as usize));
    }
}

#[test]
fn one_long_task_is_waited_for_and_others_take_the_rest() {
    let long = |at: u64| {
        move |range: Range<u64>| {
            let cycles = range.map(|task| if task == at { 1000.0 } else { 10.0 }).sum();
            Part { cycles, copies: 0.0, bytes: [0.0; KINDS] }
        }
    };
    // It is begun first, and meanwhile others do all of the rest.
    assert_eq!(simulate(64, 4, &mut long(0)).span, 1000.0 + 10.0);
    // It is the last piece of its share.
    assert_eq!(simulate(16, 2, &mut long(7)).span, 70.0 + 1000.0);
    // Two threads with 8 pieces each: the other one takes what is left of the slow one's.
    assert_eq!(simulate(16, 2, &mut long(0)).span, 1000.0);
}

#[test]
fn pieces_are_those_of_the_runtimes_threads() {
    let settings = kiln_team::Settings { members: 6, spin: std::time::Duration::ZERO, name: "test".into() };
    let team = kiln_team::Team::start(&settings).unwrap();
    for (tasks, threads) in [(3, 7), (7, 7), (100, 3), (1000, 7), (57, 2)] {
        let (taken, simulated) = (std::sync::Mutex::new(vec![]), std::cell::RefCell::new(vec![]));
        team.run(tasks, threads, &|range| taken.lock().unwrap().push((range.start, range.end)));
        let shares = threads.min(tasks as usize);
        let mut asked = 0;
        simulate(tasks, threads, &mut |range| {
            // It looks at each share before it takes pieces.
            asked += 1;
            if asked > shares {
                simulated.borrow_mut().push((range.start, range.end));
            }
            equal(range)
        });
        let (mut taken, mut simulated) = (taken.into_inner().unwrap(), simulated.into_inner());
        taken.sort_unstable();
        simulated.sort_unstable();
        assert_eq!(taken, simulated, "{tasks} tasks, {threads} threads");
    }
}

fn kernel(problem: &str, target: &str) -> Package {
    let options = kiln_jit::Options { constant_weights: true, ..Default::default() };
    let artifact = kiln_jit::compiler::compile(&problem.parse().unwrap(), &target.parse().unwrap(), &options).unwrap();
    Package::of(&artifact, &options)
}

const PROBLEMS: &[&str] = &[
    "matmul f32 128x768:768x3072 +bias",
    "matmul f32 128x768:768x3072 fpmath=bf16 +bias",
    "matmul f32 12x128x64:12x64x128",
    "conv f32 mb1ic256ih14oc256kh3ph1 stag=axb dtag=axb +bias+relu",
    "conv f32 mb1ic256ih14oc256kh3ph1 stag=axb dtag=axb fpmath=bf16 +bias+relu",
    "conv f32 mb1ic3ih224oc64kh7sh2ph3 stag=axb dtag=axb +bias+relu",
    "conv f32 g32mb1ic32ih56oc32kh3ph1 stag=axb dtag=axb +bias+relu",
    "ip f32 mb1ic2048oc1000 +bias",
    "matmul f32 13x31:31x37 +bias",
];
const TARGETS: &[&str] = &["neoverse-n1", "neoverse-v1", "neoverse-v2", "x86-64-v3", "x86-64-v4"];

/// One call for all tasks costs what is predicted, and calls for all parts of them the same but for copies.
#[test]
fn tasks_add_up_to_the_prediction() {
    let mut shared = 0;
    for target in TARGETS {
        for problem in PROBLEMS {
            let package = kernel(problem, target);
            let work = Work::of(&package).unwrap();
            let facts = package.facts();
            let phases: Vec<u64> = work.phases().collect();
            assert_eq!(phases.iter().sum::<u64>(), facts.tasks, "{problem} @{target}");
            shared += usize::from(phases.len() > 1);
            let parts_of = |parts: u64| {
                let of_phase = |(phase, tasks): (usize, u64)| {
                    let (parts, work) = (parts.min(tasks), &work);
                    (0..parts).map(move |at| work.part(phase, simulate::part(&(0..tasks), at, parts)))
                };
                phases.iter().copied().enumerate().flat_map(of_phase).collect::<Vec<Part>>()
            };
            let mut all = Part::default();
            for part in parts_of(1) {
                all.cycles += part.cycles;
                all.copies += part.copies;
                (0..KINDS).for_each(|kind| all.bytes[kind] += part.bytes[kind]);
            }
            let cycles = facts.cycles;
            assert!((all.cycles / cycles - 1.0).abs() < 1e-9, "{problem} @{target}: {} of {cycles}", all.cycles);
            for parts in [2, 3, 16, 61] {
                let calls = parts_of(parts).into_iter();
                let (mut sum, mut copies) = (0.0, 0.0);
                calls.for_each(|part| {
                    sum += part.cycles;
                    copies += part.copies;
                });
                let again = copies - all.copies;
                assert!(again > -1e-6 * cycles, "{problem} @{target}: {again}");
                assert!(((sum - again) / cycles - 1.0).abs() < 1e-6, "{problem} @{target}: {sum}, again {again}");
            }
            for (bytes, operand) in all.bytes.iter().zip(work.operands()) {
                assert!((bytes - operand as f64).abs() <= 1e-6 * operand as f64, "{problem} @{target}");
            }
        }
    }
    assert!(shared > 0, "no kernel has two phases");
}

#[test]
fn what_is_lost_adds_up_and_one_thread_is_the_prediction() {
    for target in TARGETS {
        for problem in PROBLEMS {
            let package = kernel(problem, target);
            let scaling = of_kernel(&package, &[1, 2, 3, 16, 64, 1024]).unwrap();
            let one = &scaling.rows[0];
            let of_step = scaling.chip.cycles(STEP_US);
            assert_eq!(one.cycles, package.facts().cycles + of_step);
            assert_eq!((one.speedup, one.lost), (1.0, Lost::default()));
            assert!(one.worst.is_empty());
            for row in &scaling.rows {
                let lost = row.cycles - one.cycles / row.threads as f64;
                assert!((lost - row.lost.total()).abs() < 1e-6 * one.cycles, "{problem} @{target}: {lost} {row:?}");
                for limit in Limit::ALL {
                    assert!(row.lost.to(*limit) > -1e-6 * one.cycles, "{problem} @{target}: {row:?}");
                }
            }
        }
    }
}

/// A row of tasks at an edge costs less than one of whole tiles.
#[test]
fn smaller_tiles_cost_less() {
    let work = Work::of(&kernel("matmul f32 128x768:768x3072 +bias", "neoverse-v1")).unwrap();
    let tasks = work.phases().next().unwrap();
    let costs: Vec<f64> = (0..tasks).map(|task| work.part(0, task..task + 1).cycles).collect();
    let (least, most) = costs.iter().fold((f64::MAX, 0.0), |(a, b): (f64, f64), c| (a.min(*c), b.max(*c)));
    assert!(least < 0.8 * most, "{least} {most}");
}

#[test]
fn operations_are_divided_as_their_code_divides_them() {
    let target: Target = "neoverse-v1".parse().unwrap();
    let chip = Chip::of(&target);
    let step = |units, worth, cycles| ModelledStep {
        layer: "x".into(),
        operation: "y".into(),
        tasks: Tasks::Operation(Operation::equal(units, worth, cycles)),
        reads: Reads::default(),
    };
    let lost = |step: ModelledStep, threads| Predictor::new(vec![step], 0, &target).row(threads).unwrap();
    // Too little for two threads.
    let small = lost(step(10, 100, 1000.0), 8);
    assert_eq!((small.lost.barrier, small.lost.imbalance), (0.0, 0.0));
    assert!((small.lost.serial - 7.0 / 8.0 * (1000.0 + chip.cycles(STEP_US))).abs() < 1e-6);
    // Not divided at all.
    assert!(lost(step(0, 0, 1e6), 8).speedup < 1.0 + 1e-9);
    // Equal units.
    let large = lost(step(1 << 16, 64, 1e7), 16);
    assert!(large.speedup > 15.0 && large.lost.barrier > 0.0, "{large:?}");
}

#[test]
fn bad_numbers_of_threads_are_refused() {
    let package = kernel("matmul f32 13x31:31x37", "neoverse-v1");
    assert!(matches!(of_kernel(&package, &[]), Err(ScalingError::NoThreads)));
    for wrong in [0, 1025] {
        let error = of_kernel(&package, &[1, wrong]).unwrap_err();
        assert!(matches!(error, ScalingError::Threads { threads } if threads == wrong));
        assert!(error.to_string().contains("from 1 to 1024"), "{error}");
    }
}

/// Threads beyond the cores compute nothing more, and there are no jumps from one number to the next.
#[test]
fn threads_beyond_the_cores_are_no_faster() {
    for target in TARGETS {
        for problem in PROBLEMS {
            let predictor = Predictor::of_kernel(&kernel(problem, target)).unwrap();
            let cores = predictor.chip().cores as usize;
            let row = |threads| predictor.row(threads).unwrap();
            let mut before = row(cores);
            assert!(!before.more_than_cores && before.speedup <= cores as f64, "{problem} @{target}: {before:?}");
            for threads in [cores + 1, 2 * cores, 1000, 1001, 1002, 1024] {
                let next = row(threads);
                assert!(
                    next.more_than_cores && next.cycles >= before.cycles,
                    "{problem} @{target}: {before:?} {next:?}"
                );
                before = next;
            }
        }
    }
}

#[test]
fn equal_steps_are_one_line() {
    let step = |layer: &str, operation: &str, cycles| ModelledStep {
        layer: layer.into(),
        operation: operation.into(),
        tasks: Tasks::Operation(Operation::equal(0, 0, cycles)),
        reads: Reads::default(),
    };
    let mut steps: Vec<ModelledStep> =
        (0..12).map(|n| step(&format!("encoder.layer.{n}.dense1"), "ip f32 mb8", 1e6)).collect();
    steps.extend((3..5).map(|n| step(&format!("ä{n}"), &format!("softmax %{n}, axis=1"), 2e6)));
    steps.push(step("encoder.layer.12.dense1", "ip f32 mb9", 1e6));
    let row = Predictor::new(steps, 0, &"neoverse-v1".parse().unwrap()).row(64).unwrap();
    let worst: Vec<_> = row.worst.iter().map(|w| (w.steps, w.layer.as_str(), w.operation.as_str())).collect();
    assert_eq!(
        worst,
        [
            (12, "encoder.layer.*.dense1", "ip f32 mb8"),
            (2, "ä*", "softmax %3, axis=1"),
            (1, "encoder.layer.12.dense1", "ip f32 mb9")
        ]
    );
    let sum: f64 = row.worst.iter().map(|w| w.lost.total()).sum();
    assert!((sum / row.lost.total() - 1.0).abs() < 1e-9, "{row:?}");
}

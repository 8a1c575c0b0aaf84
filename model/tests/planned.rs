//! Networks planned for a target are what compiled networks are there, on any machine and without a runtime.

use kiln_ir::problem::MathMode;
use kiln_model::arch::{ArchOptions, Architecture};
use kiln_model::runtime::{Feature, Target};
use kiln_model::{Bound, Memory, PlanOptions, PlannedNetwork, Runtime, StepInfo};

const NETWORKS: [&str; 3] = ["bert-tiny", "distilbert-tiny", "roberta-tiny"];

fn bound(name: &str) -> Bound {
    let architecture: Architecture = name.parse().unwrap();
    Bound::from_architecture(architecture, &ArchOptions { batch: 1, seq: Some(16) }).unwrap()
}

fn planned(bound: Bound, target: &Target, fpmath: MathMode) -> PlannedNetwork {
    bound.plan_for(target, &PlanOptions { fpmath, threads: 2, ..PlanOptions::default() }).unwrap()
}

/// The visible properties of steps and memory.
fn seen<'a>(steps: impl Iterator<Item = StepInfo<'a>>, memory: Memory) -> (Vec<String>, Memory) {
    let line = |s: StepInfo<'_>| {
        let problem = s.problem.map(ToString::to_string);
        format!("{} {} {} {:?} {:?} {:?} {}", s.layer, s.text, s.ty, s.code, problem, s.memory, s.is_in_place)
    };
    (steps.map(line).collect(), memory)
}

#[test]
fn a_plan_is_that_of_the_compiled_network() {
    for fpmath in [MathMode::Strict, MathMode::Any] {
        let runtime = Runtime::builder().threads(1).fpmath(fpmath).build().unwrap();
        for name in NETWORKS {
            let network = bound(name).compile(&runtime).unwrap();
            let planned = planned(bound(name), runtime.target(), fpmath);
            let (steps, memory) = seen(planned.steps(), planned.memory());
            assert_eq!((steps, memory), seen(network.steps(), network.memory()), "{name} {fpmath}");
            assert!(memory.code > 0);
            let problems: Vec<_> = network.kernels().iter().map(|k| k.problem()).collect();
            assert_eq!(planned.problems().collect::<Vec<_>>(), problems);
        }
    }
}

#[test]
fn every_target_has_a_plan() {
    let mut code = std::collections::BTreeSet::new();
    for target in ["armv8", "neoverse-v1", "neoverse-v2", "sve512+bf16", "x86-64-v3", "x86-64-v4"] {
        let target: Target = target.parse().unwrap();
        let planned = planned(bound("bert-tiny"), &target, MathMode::Bf16);
        assert!(planned.steps().all(|s| s.kernel.is_none()), "nothing can be called");
        assert!(planned.steps().filter(|s| s.problem.is_some()).count() >= 10);
        // BFMMLA reads panels.
        assert!(planned.memory().packed > 0 || !target.has(Feature::Bf16), "{target}");
        code.insert(planned.memory().code);
    }
    assert_eq!(code.len(), 6, "each target has code of its own");
}

/// The functions that a branch and a loop run have kernels of their own.
#[test]
fn functions_that_are_run_are_planned_too() {
    let text = "func @f(%h: f32[2x3], %x: f32[4x2x3], %c: bool[4]) -> f32[2x3] {
        %y = scan %h, %x, %c {trips=4 states=1 backward=[0,0]
            body=func @outer(%i: i64[], %h: f32[2x3], %x: f32[2x3], %c: bool[]) -> f32[2x3] {
                %w = constant f32[3x3] {0, 1, 0, 0, 0, 1, 1, 0, 0}
                %0 = if %c, %h, %x {
                    then=func @t(%h: f32[2x3], %x: f32[2x3]) -> f32[2x3] {
                        %w = constant f32[3x3] {0, 1, 0, 0, 0, 1, 1, 0, 0}
                        %0 = matmul %h, %w
                        %1 = add %0, %x
                        return %1
                    }
                    otherwise=func @e(%h: f32[2x3], %x: f32[2x3]) -> f32[2x3] { return %x }}
                %1 = matmul %0, %w
                return %1
            }
        }
        return %y
    }";
    let bound = || Bound::from_func(text.parse().unwrap());
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let network = bound().compile(&runtime).unwrap();
    let planned = planned(bound(), runtime.target(), runtime.fpmath());
    assert_eq!(seen(planned.steps(), planned.memory()), seen(network.steps(), network.memory()));
    assert_eq!(planned.problems().len(), 2);
}

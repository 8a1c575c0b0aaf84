//! Post-ops: each alone, and chains of random ones, on every target that this machine can execute, against formulas of the
//! harness.

use kiln_ir::{PostOp, Problem};
use kiln_jit::Options;
use kiln_tests::data::{Data, Random};
use kiln_tests::shapes::{self, Work};
use kiln_tests::{failures, targets};

/// Fixed, so that a failure repeats.
const SEED: u64 = 500;
const CHAINS: usize = 500;

fn chains(count: usize) -> Vec<Work> {
    let mut random = Random(SEED);
    (0..count).map(|_| shapes::random_chain(&mut random)).collect()
}

#[track_caller]
fn verify(work: &[Work]) {
    for target in targets::runnable() {
        let failures = failures(&target, work);
        let shown = failures.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(failures.is_empty(), "{} of {} failed on {target}:\n{shown}", failures.len(), work.len());
    }
}

#[test]
fn each_alone() {
    let with_arguments = [
        "bias:row",
        "bias:ab",
        "add:a",
        "add:b",
        "add:ab",
        "mul:a",
        "mul:b",
        "mul:ab",
        "scale:0.3",
        "shift:-1.5",
        "leaky_relu:0.01",
        "leaky_relu:-2",
        "clamp:-0.5:0.25",
        "clamp:0:6",
    ];
    let words = PostOp::plain().map(|op| op.to_string()).chain(with_arguments.map(String::from));
    let work = words.flat_map(|word| {
        // Few columns and many, a tail of a vector and none, short sums and such that leave every function's flat ends.
        [
            "matmul f32 5x7:7x13",
            "matmul bf16 4x16:16x32",
            "matmul f16 4x16:16x32",
            "matmul f32 3x600:600x21 dtag=ba",
            "ip bf16:bf16:f32 mb2ic9oc65",
        ]
        .map(|shape| (format!("{shape} +{word}").parse::<Problem>().unwrap(), Options::default()))
    });
    verify(&work.collect::<Vec<_>>());
}

#[test]
fn random_chains() {
    verify(&chains(if targets::emulated() { CHAINS / 5 } else { CHAINS }));
}

#[test]
fn a_chain_of_32_with_as_many_tensors() {
    let text = format!("matmul f32 7x9:9x19 {}", "+add:ab+mul:b".repeat(16));
    verify(&[(text.parse().unwrap(), Options::default())]);
}

/// A problem whose answers are left open proves nothing.
#[test]
fn most_answers_are_known() {
    let (mut all, mut open) = (0, 0);
    for (problem, _) in chains(CHAINS) {
        let bound = Data::reals(&problem, 1).expected().bound;
        all += bound.len();
        open += bound.iter().filter(|b| **b > 1e3).count();
    }
    assert!(open * 10 < all, "{open} of {all} elements may be anything");
}

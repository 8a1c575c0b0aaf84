//! Whole networks at random: whatever graph it is, what is compiled computes what its function means.

use std::collections::BTreeMap;

use kiln_ir::func::Def;
use kiln_tests::data::Random;
use kiln_tests::graph::{Choices, Graph, Outcome, check, check_flexible, check_onnx};
use kiln_tests::targets;

/// The bytes of a graph by number.
fn bytes(number: u64) -> Vec<u8> {
    let mut random = Random(number);
    (0..40 + random.below(200)).map(|_| random.bits() as u8).collect()
}

/// The result of a check. A panic becomes an error, so that the number of the graph is printed with it.
fn guarded<T>(check: impl FnOnce() -> Option<Result<T, String>>) -> Option<Result<T, String>> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
    outcome.unwrap_or_else(|_| Some(Err("panics".into())))
}

/// Graphs that are wrong: all are counted, and the first few told of.
#[derive(Default)]
struct Wrong {
    count: u64,
    told: Vec<String>,
}

impl Wrong {
    /// The graphs that were made, unless one is wrong.
    fn judge<T>(&mut self, outcome: Option<Result<T, String>>, graph: impl FnOnce() -> String) -> Option<T> {
        match outcome? {
            Ok(made) => Some(made),
            Err(why) => {
                const TOLD: usize = 5;
                self.count += 1;
                if self.told.len() < TOLD {
                    // Arguments may be long, and are the same each time.
                    let why: String = why.chars().take(1000).collect();
                    self.told.push(format!("{}: {why}", graph()));
                }
                None
            }
        }
    }

    fn none(self) {
        assert!(self.count == 0, "{} graphs are wrong, among them\n{}", self.count, self.told.join("\n\n"));
    }
}

/// The first graph and how many: `PROPTEST_CASES`, 300 by default, from `KILN_FIRST_GRAPH` on.
fn numbers() -> (u64, u64) {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |n| n.parse().expect("a number"));
    (number("KILN_FIRST_GRAPH", 0), number("PROPTEST_CASES", 300))
}

/// Each tenth graph, with a first axis that it is compiled for any length of.
#[test]
fn graphs_of_any_length_compute_what_their_functions_mean() {
    let (first, count) = numbers();
    let (mut checked, mut refused, mut wrong) = (0, 0, Wrong::default());
    for number in (first..first + count).filter(|n| n % 10 == 0) {
        let bytes = bytes(number);
        let outcome = guarded(|| check_flexible(&bytes));
        refused += u64::from(outcome.is_none());
        let graph =
            || format!("graph {number} for any length\n{}", Graph::of_length(&mut Choices::new(&bytes), 12).func);
        checked += u64::from(wrong.judge(outcome, graph).is_some());
    }
    println!("{checked} graphs for any length, {refused} refused");
    wrong.none();
    assert!(count < 256 || checked > refused, "{checked} graphs for any length, {refused} refused");
}

#[test]
fn graphs_compute_what_their_functions_mean() {
    let (first, count) = numbers();
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut all, mut imported, mut wrong) = (Outcome::default(), 0, Wrong::default());
    for number in first..first + count {
        let graph = Graph::of(&mut Choices::new(&bytes(number)));
        let as_made = wrong.judge(guarded(|| Some(check(&graph))), || format!("graph {number}\n{}", graph.func));
        // Every other one by way of a file, too.
        let written = Random(number).bits().to_le_bytes().repeat(8);
        let from_file =
            (number % 2 == 0).then(|| guarded(|| check_onnx(&graph, &mut Choices::new(&written)))).flatten();
        let from_file = wrong.judge(from_file, || format!("graph {number} from a file\n{}", graph.func));
        imported += u64::from(from_file.is_some());
        for outcome in as_made.into_iter().chain(from_file) {
            all.kernels += outcome.kernels;
            all.native += outcome.native;
            all.interpreted += outcome.interpreted;
            all.in_place += outcome.in_place;
            all.without_step += outcome.without_step;
        }
        for (_, value) in graph.func.values() {
            if let Def::Result { op, .. } = &value.def {
                *words.entry(op.name()).or_default() += 1;
            }
        }
    }
    println!("{count} graphs, {imported} of them from files too: {all:?} {words:?}");
    wrong.none();
    // The generator makes what it is for.
    if count >= 256 && !targets::emulated() {
        let missing = [
            "slice",
            "reshape",
            "transpose",
            "broadcast",
            "concat",
            "pad",
            "gather",
            "matmul",
            "conv",
            "conv_transpose",
        ];
        let missing =
            missing.into_iter().chain(["reduce", "softmax", "layer_norm", "batch_norm", "pool", "add", "mul", "where"]);
        let missing: Vec<_> = missing.filter(|word| !words.contains_key(word)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(imported >= count / 4, "{imported} graphs were files");
        let Outcome { kernels, native, interpreted, in_place, without_step } = all;
        assert!(
            [kernels, native, interpreted, in_place, without_step].iter().all(|n| *n as u64 >= count / 4),
            "{all:?}"
        );
    }
}

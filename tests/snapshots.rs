//! Every stage of the problems in `cases/problems.txt`, one snapshot per problem and target.
//!
//! `INSTA_UPDATE=always KILN_BLESS=1` accepts the present output and removes snapshots that nothing refers to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_compiler::{Artifact, Options, Stage, Target, compile};
use kiln_ir::Problem;

/// Each with the step through the list: what x86-64-v4 has of its own shows in a few.
const TARGETS: [(&str, usize); 4] = [("neoverse-n1", 1), ("neoverse-v1", 1), ("x86-64-v3", 1), ("x86-64-v4", 4)];
/// Longer listings are cut down to one K loop: a reviewer reads no more.
const LISTING_LINES: usize = 150;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}

/// The problems, and whether their weights are constant: a line that ends with `packed`.
fn problems() -> Vec<(Problem, bool)> {
    let cases = include_str!("cases/problems.txt");
    let lines = cases.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|l| {
            let (text, packed) = l.strip_suffix(" packed").map_or((l, false), |text| (text, true));
            (text.parse().unwrap_or_else(|e| panic!("cases/problems.txt: `{l}`: {e}")), packed)
        })
        .collect()
}

/// A file name that reads like the problem.
fn name((problem, packed): &(Problem, bool), target: &str) -> String {
    let text = problem.to_string().replace(" +", "+").replace([' ', ':'], "_");
    format!("{text}{}@{target}", if *packed { "_packed" } else { "" })
}

/// All stages where they are short enough to read, else what the schedule decided and the first K loop.
fn content(a: &Artifact) -> String {
    let listing = a.listing(false);
    let all = listing.lines().count() <= LISTING_LINES;
    let mut out = String::new();
    for (name, stage) in Stage::ALL {
        let text = match stage {
            Stage::MicroKernel | Stage::Lowering if !all => continue,
            Stage::Asm if !all => first_loop(a, &listing),
            _ => a.dump(*stage),
        };
        out += &format!("---- {name} ----\n{}\n\n", text.trim_end());
    }
    out
}

/// The first loop of the first micro-kernel that has one, with the label and the branch.
fn first_loop(a: &Artifact, listing: &str) -> String {
    for kernel in a.micro_kernels() {
        let label = format!(".L{}_0", kernel.name);
        let body: Vec<&str> = listing.lines().skip_while(|l| *l != format!("{label}:")).collect();
        let code =
            |l: &str| l.split(" // ").next().and_then(|l| l.split(" # ").next()).map(str::trim_end).map(str::to_owned);
        if let Some(end) = body.iter().position(|l| code(l).is_some_and(|code| code.ends_with(&label))) {
            return body[..=end].join("\n");
        }
    }
    "no loop".into()
}

#[test]
fn stages() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (target, step) in TARGETS {
            let parsed: Target = target.parse().unwrap();
            for problem in problems().into_iter().step_by(step) {
                let options = Options { constant_weights: problem.1, ..Options::default() };
                let artifact = compile(&problem.0, &parsed, &options).unwrap();
                insta::assert_snapshot!(name(&problem, target), content(&artifact));
            }
        }
    });
}

/// No file is left from a problem or target that is gone, none waits for review, and no two problems share one.
#[test]
fn every_snapshot_is_referred_to() {
    let problems = problems();
    let names = |(target, step): (&str, usize)| {
        problems.iter().step_by(step).map(|p| format!("{}.snap", name(p, target))).collect::<Vec<_>>()
    };
    let expected: Vec<String> = TARGETS.into_iter().flat_map(names).collect();
    let count = expected.len();
    let expected: BTreeSet<String> = expected.into_iter().collect();
    assert_eq!(expected.len(), count, "a problem is listed twice");
    let files = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let stale: Vec<String> = files.filter(|f| !expected.contains(f)).collect();
    if std::env::var_os("KILN_BLESS").is_some() {
        stale.iter().for_each(|f| std::fs::remove_file(folder().join(f)).unwrap());
    } else {
        assert!(stale.is_empty(), "no problem in cases/problems.txt refers to {stale:?}");
    }
}

#[test]
fn the_list_is_of_readable_size() {
    assert!((20..55).contains(&problems().len()), "about 45 problems, each of which shows something");
}

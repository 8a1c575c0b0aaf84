//! `kiln run`.

use crate::{SMALL, kiln, kiln_with_input};

#[test]
fn prints_what_it_promises() {
    let text = kiln(&["run", SMALL, "--repeat", "3"]).exits(0).says("check      PASSED: max error").stdout;
    let words: Vec<&str> = text.lines().filter_map(|l| l.split("  ").next()).collect();
    assert_eq!(words, ["problem", "schedule", "compile", "cache hit", "call", "speed", "check"]);
    assert!(text.contains(SMALL) && text.contains(" with 1 thread\n") && text.contains("GFLOP/s"), "{text}");
}

#[test]
fn words_need_no_quotes() {
    kiln(&["run", "matmul", "f32", "5x6:6x7", "+relu", "--repeat", "1"]).exits(0).says("matmul f32 5x6:6x7 +relu @");
}

#[test]
fn threads_and_marks() {
    kiln(&["run", "matmul f32 256x256:256x256", "--threads", "2", "--repeat", "2"]).exits(0).says("with 2 threads");
    kiln(&["run", SMALL, "--mark", "--repeat", "4"]).exits(0).says("PASSED");
    let unchecked = kiln(&["run", SMALL, "--mark", "--no-check"]).exits(0);
    assert!(unchecked.stdout.contains("call ") && !unchecked.stdout.contains("check"), "{}", unchecked.stdout);
    kiln(&["run", SMALL, "--no-check"]).exits(2);
}

#[test]
fn a_printed_schedule_can_be_forced() {
    let text = kiln(&["run", SMALL, "--repeat", "1"]).exits(0).stdout;
    let line = text.lines().find(|l| l.starts_with("schedule")).unwrap();
    let schedule = line.trim_start_matches("schedule").trim();
    let (_, rest) = schedule.split_once("unroll=").unwrap();
    let (unroll, _) = rest.split_once(' ').unwrap();
    // A multiple of 4 suits every vector unit.
    let new = if unroll == "4" { "8" } else { "4" };
    let other = schedule.replace(&format!("unroll={unroll} "), &format!("unroll={new} "));
    assert_ne!(schedule, other);
    kiln(&["run", SMALL, "--repeat", "1", "--schedule", &other]).exits(0).says(&other).says("PASSED");
}

#[test]
fn funcs_lists_and_standard_input() {
    let func = "func @linear(%x: f32[5x6], %w: f32[6x7], %b: f32[7]) -> f32[5x7] {\n  %0 = matmul %x, %w\n  \
                %1 = add %0, %b\n  return %1\n}\n";
    let list = "# two sizes\nmatmul f32 2x3:3x4\n\nmatmul f32 5x6:6x7 +relu # the second\n";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("linear.kiln"), func).unwrap();
    // A path in a list is relative to the list.
    std::fs::write(path("list"), format!("{list}linear.kiln\n")).unwrap();

    kiln(&["run", &path("linear.kiln"), "--repeat", "1"]).exits(0).says("problem    matmul f32 5x6:6x7 +bias @");
    kiln_with_input(&["run", "-", "--repeat", "1"], func).exits(0).says("problem    matmul f32 5x6:6x7 +bias @");
    for (arguments, input, problems) in
        [(&["run", "--batch", &path("list")][..], "", 3), (&["run", "-"], list, 2), (&["run", "--batch", "-"], list, 2)]
    {
        let text = kiln_with_input(&[arguments, &["--repeat", "1"]].concat(), input).exits(0).stdout;
        assert_eq!(text.matches("PASSED").count(), problems, "{text}");
    }
}

#[test]
fn packed_weights() {
    let text = kiln(&["run", "ip f32 mb64ic128oc96 +bias+gelu_erf", "--packed", "--repeat", "2"]).exits(0).stdout;
    assert!(text.contains("weights    packed, ") && text.contains("rhs=packed") && text.contains("PASSED"), "{text}");
    kiln(&["run", "matmul bf16 9x20:20x33 beta=1 +add:ab", "--repeat", "3"]).exits(0).says("PASSED");
    kiln(&["run", "matmul f16 9x20:20x33 beta=1 +add:ab", "--repeat", "3"]).exits(0).says("PASSED");
}

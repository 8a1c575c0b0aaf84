//! `kiln dump`.

use std::io::Read;
use std::process::Stdio;

use crate::{SMALL, command, kiln, kiln_with_input};

#[test]
fn every_stage_for_every_architecture() {
    for target in ["neoverse-n1", "neoverse-v1", "sve512", "x86-64-v3"] {
        let all = kiln(&["dump", SMALL, "--target", target]).exits(0).stdout;
        for stage in ["problem", "schedule", "lowering", "nest", "microkernel", "asm"] {
            let heading = format!("# {SMALL} @{target}  stage: {stage}\n");
            assert_eq!(all.matches(&heading).count(), 1, "{target}");
            let one = kiln(&["dump", SMALL, "--target", target, "--stage", stage]).exits(0).stdout;
            assert!(!one.is_empty() && all.contains(&format!("{heading}{one}")), "{target} {stage}: {one}");
        }
    }
}

#[test]
fn bytes_are_shown_on_request() {
    let asm = |more: &[&str]| {
        let args = [&["dump", SMALL, "--target", "neoverse-n1", "--stage", "asm"], more].concat();
        kiln(&args).exits(0).stdout
    };
    // The last instruction of any A64 function.
    assert!(asm(&["--bytes"]).contains("[c0 03 5f d6]"));
    assert!(!asm(&[]).contains("[c0 03 5f d6]"));
}

#[test]
fn several_problems_are_headed() {
    let list = "matmul f32 2x3:3x4\nmatmul f32 5x6:6x7\n";
    let text = kiln_with_input(&["dump", "-", "--target", "sve256", "--stage", "nest"], list).exits(0).stdout;
    for problem in list.lines() {
        assert!(text.contains(&format!("# {problem} @sve256  stage: nest\n")), "{text}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let problem = "matmul f32 127x255:255x511 +bias+relu";
    let mut command = command();
    command.args(["dump", problem, "--target", "x86-64-v3"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The dump is longer than a pipe holds, so the tool is still writing when this end closes.
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
    assert!(kiln(&["dump", problem, "--target", "x86-64-v3"]).stdout.len() > 1 << 16);
}

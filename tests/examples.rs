//! The examples run, as their users run them.

use std::process::Command;

/// Runs an example that cargo built beside this test, and gives what it prints.
fn output_of(name: &str) -> String {
    let mut path = std::env::current_exe().unwrap();
    // From `deps` of the profile to its examples.
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    let runner = std::env::var("KILN_TEST_RUNNER").unwrap_or_default();
    let mut words: Vec<String> = runner.split_whitespace().map(str::to_owned).collect();
    words.push(path.to_str().unwrap().into());
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap_or_else(|e| {
        panic!(
            "{}: {e}; `cargo build --release --examples` builds it, as `cargo test` without a choice of tests does",
            path.display()
        )
    });
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_example_runs() {
    assert!(output_of("matmul").contains("compilations: 1"));
    assert!(output_of("conv").contains("bytes of packed weights"));
    assert!(output_of("dump").contains("== asm"));
    assert!(output_of("server").contains("slowest answer"));
}

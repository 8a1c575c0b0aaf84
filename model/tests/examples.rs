//! The examples run, as their users run them; those that need data say so.

use std::process::{Command, Output};

/// Runs an example that cargo built beside this test.
fn run(name: &str, words: &[&str]) -> Output {
    let mut path = std::env::current_exe().unwrap();
    // From `deps` of the profile to its examples.
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    let runner = std::env::var("KILN_TEST_RUNNER").unwrap_or_default();
    let mut command: Vec<&str> = runner.split_whitespace().collect();
    command.push(path.to_str().unwrap());
    let output = Command::new(command[0]).args(&command[1..]).args(words).output();
    output.unwrap_or_else(|e| {
        let how = "`cargo build --release -p kiln-model --examples` builds it, as `cargo test -p kiln-model` does";
        panic!("{}: {e}; {how}", path.display())
    })
}

fn error_of(name: &str, words: &[&str]) -> String {
    let output = run(name, words);
    assert_eq!(output.status.code(), Some(2), "{name} {words:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn sequences_of_any_length_never_wait_for_a_compiler() {
    let output = run("sequences", &["bert-tiny", "7", "12", "33"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("\n0 kernels compiled in first calls\n"), "{text}");
    for length in [7, 12, 33] {
        assert_eq!(text.matches(&format!("\n{length:6} ")).count(), 2, "{text}");
    }
    assert!(error_of("sequences", &["bert-tiny", "many"]).contains("`many`: expected the length"));
    assert!(error_of("sequences", &["bert-tiny", "65"]).contains("1 to 64 tokens"));
    assert!(error_of("sequences", &["resnet50"]).contains("images"));
    assert!(error_of("sequences", &["bird"]).contains("bert-tiny"));
}

#[test]
fn what_needs_data_says_which() {
    let empty = tempfile::tempdir().unwrap();
    let folders = [empty.path().to_str().unwrap(), "/nonexistent"];
    for name in ["fill_mask", "similarity", "classify"] {
        let data = if name == "classify" { "test_data_set_0" } else { "info.json" };
        assert!(error_of(name, &[]).contains(&format!("expected a folder with model.onnx and {data}")));
        for folder in folders {
            let error = error_of(name, &[folder]);
            assert!(error.contains(folder) && error.contains(data) && error.contains("model.onnx"), "{error}");
        }
    }
}

//! The tool as its users call it: arguments, files and standard input in; output and exit code out.
//!
//! `KILN_TEST_RUNNER` is a command, such as an emulator, that the binary is run with.

mod bad_input;
mod bench;
mod contradictions;
mod dump;
mod environment;
mod hangs;
mod mistaken;
mod model;
mod npy;
mod onnx_file;
mod open_dims;
mod outputs;
mod pack;
mod page;
mod run;
mod scale;
mod verify;

use std::io::Write;
use std::process::{Child, Command, Stdio};

/// A problem for which every target takes more than one register tile.
const SMALL: &str = "matmul f32 13x31:31x37 +bias+relu";

/// A target that this machine cannot run.
const FOREIGN: &str = if cfg!(target_arch = "x86_64") { "neoverse-v1" } else { "x86-64-v3" };

/// The exit code and the output of a call of the tool.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "`{text}` is not in {}\n{}", self.stdout, self.stderr);
        self
    }

    /// Exit code 2 and one message that holds all of `texts`.
    #[track_caller]
    fn refuses(self, texts: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "`{text}` is not in {}", self.stderr);
        }
    }
}

/// The tool, to be run by the runner if there is one.
fn command() -> Command {
    let binary = env!("CARGO_BIN_EXE_kiln");
    let runner = std::env::var("KILN_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    match words.next() {
        None => Command::new(binary),
        Some(program) => {
            let mut command = Command::new(program);
            command.args(words).arg(binary);
            command
        }
    }
}

fn kiln(args: &[&str]) -> Outcome {
    kiln_with_input(args, "")
}

#[track_caller]
fn kiln_with_input(args: &[&str], input: &str) -> Outcome {
    let mut command = command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tool or its runner starts");
    // A tool that reads nothing may have gone before it is written to.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    outcome(child)
}

/// Waits for the end of a call of the tool.
#[track_caller]
fn outcome(child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("the tool writes text");
    let outcome = Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    outcome
}

/// An `.npy` file: the dictionary's entries as text, and elements.
fn npy_bytes(descr: &str, fortran_order: &str, shape: &str, elements: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    elements.iter().for_each(|e| bytes.extend(e.to_le_bytes()));
    bytes
}

#[test]
fn help_names_every_subcommand_and_option() {
    let help = kiln(&["--help"]).exits(0);
    for word in ["run", "dump", "verify", "bench", "pack", "warm", "family", "model", "Exit status"] {
        assert!(help.stdout.contains(word), "{word}");
    }
    for variable in ["KILN_NUM_THREADS", "KILN_NUM_STREAMS", "KILN_SPIN", "KILN_FPMATH_MODE", "KILN_CACHE_DIR"] {
        assert!(help.stdout.contains(variable), "{variable}");
    }
    for (subcommand, options) in [
        (
            "run",
            &[
                "--lhs",
                "--rhs",
                "--bias",
                "--residual",
                "--operand",
                "--packed",
                "--dst",
                "--seed",
                "--threads",
                "--repeat",
                "--mark",
            ][..],
        ),
        ("dump", &["--target", "--stage", "--bytes"]),
        ("verify", &["--seed", "--threads", "--max-macs", "--op", "--dtypes", "--attributes", "--packed"]),
        ("bench", &["--json", "--threads", "--worker", "--min-ms", "--packed"]),
    ] {
        let mut help = kiln(&[subcommand, "--help"]).exits(0).says("--batch").says("--target");
        for option in options {
            help = help.says(option);
        }
    }
}

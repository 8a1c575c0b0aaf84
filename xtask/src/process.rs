//! Other programs, and the one error type of these commands: a message for the person who typed them.

use std::env;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The result of a command.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The root of the checkout that this program was built from.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// The folder in which cargo builds.
pub fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// `cargo ARGS` in the workspace; `args` are separated by spaces.
pub fn cargo(args: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args.split(' ')).current_dir(root());
    command
}

/// `git ARGS` in the workspace.
pub fn git<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new("git");
    command.args(args).current_dir(root());
    command
}

/// Runs to completion with output passed through; an unsuccessful exit is an error.
pub fn run(command: &mut Command) -> Result {
    let status = command.status().map_err(|e| format!("cannot start {}: {e}", show(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", show(command)).into()) }
}

/// Runs a command with `input` and gives its output. Its standard error passes through, and an unsuccessful exit is an error.
pub fn output(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", show(command)))?;
    // Dropping the pipe ends the input. Inputs are a few KiB: they fit the pipe whether or not the child reads first.
    let written = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let out = child.wait_with_output()?;
    if !out.status.success() {
        return Err(format!("{}: {}", show(command), out.status).into());
    }
    written?;
    Ok(String::from_utf8(out.stdout)?)
}

fn show(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    format!("`{}`", words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" "))
}

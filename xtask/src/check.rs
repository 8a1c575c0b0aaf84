//! `cargo xtask check`: what must hold before a change is shown to anyone.

use std::time::Instant;

use crate::process::{self, Result, cargo};
use crate::{header, links};

/// Runs the stages, the quick ones first, and stops at the first failure.
///
/// All of them build the whole workspace in the release profile, so that Cranelift is compiled once for all.
pub fn run() -> Result {
    stage("format", || process::run(&mut cargo("fmt --all --check")))?;
    stage("links", links::check)?;
    stage("header", header::check)?;
    stage("lints", || {
        process::run(&mut cargo("clippy --locked --quiet --release --workspace --all-targets -- -D warnings"))
    })?;
    stage("documentation", || {
        let features = "kiln/models,kiln/onnx,kiln/ndarray";
        let mut doc = cargo(&format!("doc --locked --quiet --release --workspace --no-deps --features {features}"));
        process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    stage("tests", || {
        // A check reports a changed snapshot and leaves no file behind.
        process::run(cargo("test --locked --quiet --release --workspace").env("INSTA_UPDATE", "no"))
    })
}

fn stage(name: &str, work: impl FnOnce() -> Result) -> Result {
    println!("== {name}");
    let start = Instant::now();
    work().map_err(|e| format!("{name}: {e}"))?;
    println!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

//! `cargo xtask bless` and `oracle`: tests that rewrite their expectation instead of comparing with it.

use crate::process::{Result, cargo, git, run};

/// Rewrites every snapshot and fixture, then shows which files changed.
pub fn all() -> Result {
    rewrite("")?;
    run(&mut git(["status", "--short", "--", "*.snap", "*/fixtures/*", "kiln/api.txt"]))
}

/// Rewrites `compiler/tests/fixtures/a64.txt` only.
pub fn a64_oracle() -> Result {
    rewrite(" --test a64_oracle")
}

fn rewrite(which: &str) -> Result {
    // `--workspace` even for one test: another selection of packages could rebuild Cranelift with other features.
    let mut test = cargo(&format!("test --release --workspace{which}"));
    run(test.env("INSTA_UPDATE", "always").env("KILN_BLESS", "1"))
}

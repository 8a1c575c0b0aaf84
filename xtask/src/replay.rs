//! `cargo xtask replay`: which problems compile to other bytes than at a base revision.
//!
//! A change that calls itself a refactoring shows none; any other change shows those it means to.

use std::collections::BTreeMap;

use crate::hashes;
use crate::process::{Result, cargo, git, output, run as execute, target_dir};

/// Arguments.
#[derive(clap::Args)]
pub struct ReplayArgs {
    /// The revision to compare with.
    #[arg(default_value = "main")]
    base: String,
    /// Fails if anything changed.
    #[arg(long)]
    exact: bool,
}

/// Compiles the list with this program and with its build at the base revision, and compares.
pub fn run(args: &ReplayArgs) -> Result {
    let before = parse(&base_hashes(&args.base)?);
    let after: Hashes = hashes::all()?.into_iter().map(|(hash, name)| (name, hash)).collect();
    let changes = compare(&before, &after);
    for change in &changes {
        println!("{change}");
    }
    println!("{} of {} problems changed since {}", changes.len(), after.len(), args.base);
    if args.exact && !changes.is_empty() { Err("expected the same machine code".into()) } else { Ok(()) }
}

/// Hash by name.
type Hashes = BTreeMap<String, String>;

/// Checks the base out beside what cargo builds, kept for the next time, and runs its `hashes`.
fn base_hashes(base: &str) -> Result<String> {
    let commit = output(&mut git(["rev-parse", "--verify", &format!("{base}^{{commit}}")]), "")?;
    let checkout = target_dir().join("replay");
    let path = checkout.to_str().ok_or("the target directory is not UTF-8")?;
    if checkout.exists() {
        execute(&mut git(["-C", path, "checkout", "--quiet", "--force", "--detach", commit.trim()]))?;
    } else {
        execute(&mut git(["worktree", "prune"]))?;
        execute(&mut git(["worktree", "add", "--quiet", "--detach", path, commit.trim()]))?;
    }
    // Not in our own target directory: cargo takes a package of two checkouts for the same and would mix up their builds.
    let mut base_run = cargo("run --locked --quiet --release --package xtask -- hashes");
    output(base_run.current_dir(&checkout).env("CARGO_TARGET_DIR", checkout.join("target")), "")
}

fn parse(lines: &str) -> Hashes {
    lines.lines().filter_map(|l| l.split_once('\t')).map(|(hash, name)| (name.into(), hash.into())).collect()
}

/// One line for each problem that changed, or that only one side has.
fn compare(before: &Hashes, after: &Hashes) -> Vec<String> {
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("gone     {name}"));
    let differs = after.iter().filter_map(|(name, hash)| match before.get(name) {
        Some(old) if old == hash => None,
        Some(_) => Some(format!("changed  {name}")),
        None => Some(format!("new      {name}")),
    });
    gone.chain(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_by_name() {
        let before = parse("1\tsame\n2\tother bytes\n3\tdropped\n");
        let after = parse("1\tsame\n9\tother bytes\n4\tadded\n");
        assert_eq!(compare(&before, &after), ["gone     dropped", "new      added", "changed  other bytes"]);
        assert!(compare(&after, &after).is_empty());
    }
}

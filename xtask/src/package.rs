//! `cargo xtask package`: the packages of the crates that are published, and whether they are complete.

use std::fs;

use serde_json::Value;

use crate::process::{Result, cargo, output, run, target_dir};

/// The most bytes that a registry takes.
const MOST_BYTES: u64 = 10 << 20;

/// Arguments.
#[derive(clap::Args)]
pub struct PackageArgs {
    /// Makes the packages without building each from its contents
    #[arg(long)]
    no_verify: bool,
    /// Takes files that are not committed
    #[arg(long)]
    allow_dirty: bool,
}

/// Makes a package of each crate that is published, in the folder `package` where cargo builds, and builds it from what is in it.
pub fn run_all(args: &PackageArgs) -> Result {
    let metadata = output(&mut cargo("metadata --locked --no-deps --format-version 1"), "")?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let all = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    // Of the others it is the empty list.
    let (published, others): (Vec<_>, Vec<_>) = all.iter().partition(|package| package["publish"].is_null());
    check(&published)?;
    let mut command = cargo("package --locked");
    for package in &published {
        command.args(["--package", name(package)]);
    }
    command.args(args.no_verify.then_some("--no-verify")).args(args.allow_dirty.then_some("--allow-dirty"));
    // One folder for all: each crate that is built alone would build its dependencies again. What is built is not run.
    run(command.env("CARGO_TARGET_DIR", target_dir()).env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    for package in &published {
        let file = format!("{}-{}.crate", name(package), package["version"].as_str().unwrap_or_default());
        let bytes = fs::metadata(target_dir().join("package").join(&file)).map_err(|e| format!("{file}: {e}"))?.len();
        println!("{:>8.1} KB  {file}", bytes as f64 / 1e3);
        if bytes > MOST_BYTES {
            return Err(format!("{file} has {bytes} bytes: a registry takes at most {MOST_BYTES}").into());
        }
    }
    println!("not published: {}", others.into_iter().map(name).collect::<Vec<_>>().join(", "));
    Ok(())
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap_or_default()
}

/// Fails where a registry would refuse a crate, or a reader would miss something. Cargo itself only warns of some of that.
fn check(published: &[&Value]) -> Result {
    let mut wrong = vec![];
    for package in published {
        for field in ["description", "license", "rust_version"] {
            if package[field].as_str().is_none_or(str::is_empty) {
                wrong.push(format!("{}: no `{field}`", name(package)));
            }
        }
        for field in ["keywords", "categories"] {
            match package[field].as_array().map_or(0, Vec::len) {
                1..=5 => {}
                n => wrong.push(format!("{}: {n} {field}, expected from 1 to 5", name(package))),
            }
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let of = dependency["name"].as_str().unwrap_or_default();
            let (is_path, is_dev) = (dependency["path"].is_string(), dependency["kind"] == "dev");
            let is_published = published.iter().any(|other| name(other) == of);
            if is_path && !is_dev && !is_published {
                wrong.push(format!("{}: depends on {of}, which is not published", name(package)));
            }
            if is_path && !is_dev && dependency["req"] == "*" {
                wrong.push(format!("{}: depends on {of} without a version", name(package)));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

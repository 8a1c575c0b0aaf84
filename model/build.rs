//! Gives the code that computes constants a version, so that what another version computed is not taken for its own.

fn main() {
    let version = kiln_source_version::source_version(&["src/ops", "src/plan"]);
    println!("cargo::rustc-env=KILN_CONSTANTS_VERSION={version}");
}

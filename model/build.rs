//! Gives the code that computes constants a version, so that what another version computed is not taken for its own.

include!("../tools/source_version.rs");

fn main() {
    println!("cargo::rustc-env=KILN_CONSTANTS_VERSION={}", source_version(&["src/ops", "src/plan"]));
}

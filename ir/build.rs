//! Gives the crate a hash of its sources, which decide about the code that the compiler emits.

fn main() {
    println!("cargo::rustc-env=KILN_IR_SOURCES={}", kiln_source_version::source_hash(&["src"]));
}

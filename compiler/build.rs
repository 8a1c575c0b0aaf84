//! Gives the compiler a version that differs whenever the code it emits may differ: a hash of everything that decides about it.

include!("../tools/source_version.rs");

fn main() {
    // The lock file has the versions of Cranelift and of the other assemblers.
    let version = source_version(&["src", "../ir/src", "../Cargo.lock"]);
    println!("cargo::rustc-env=KILN_COMPILER_VERSION={version}");
}

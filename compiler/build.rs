//! Gives the compiler a version that differs whenever its sources do, or those of the assemblers that it calls.

use kiln_source_version::{lock_file, source_version};

fn main() {
    // The lock file has the versions of Cranelift and of the other assemblers. Where the crate comes from a registry it is that of the
    // release, and the assemblers may be later ones that are compatible.
    println!("cargo::rustc-env=KILN_COMPILER_VERSION={}", source_version(&["src", lock_file()]));
}

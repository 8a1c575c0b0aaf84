//! Gives the compiler a version that differs whenever the code it emits may differ: a hash of everything that decides about it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// All files below `path`, by name.
fn files(path: &Path, all: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(path) else {
        all.push(path.into());
        return;
    };
    entries.flatten().for_each(|entry| files(&entry.path(), all));
}

fn main() {
    let mut hasher = DefaultHasher::new();
    // The lock file has the versions of Cranelift and of the other assemblers.
    for source in ["src", "../ir/src", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={source}");
        let mut all = vec![];
        files(Path::new(source), &mut all);
        all.sort();
        for path in all {
            path.to_str().hash(&mut hasher);
            fs::read(&path).unwrap_or_default().hash(&mut hasher);
        }
    }
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=KILN_COMPILER_VERSION={version}+{:016x}", hasher.finish());
}

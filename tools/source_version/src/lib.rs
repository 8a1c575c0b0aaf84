//! For build scripts: the version of a crate that differs whenever what it makes may differ.

#![forbid(unsafe_code)]

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

/// The version of the crate that is being built, with a [`source_hash`].
pub fn source_version(sources: &[&str]) -> String {
    format!("{}+{}", std::env::var("CARGO_PKG_VERSION").unwrap_or_default(), source_hash(sources))
}

/// A hash of the files below `sources`, which are relative to the crate that is being built. Tells cargo to run the build script again
/// when one of them changes.
pub fn source_hash(sources: &[&str]) -> String {
    println!("cargo::rerun-if-changed=build.rs");
    let mut hasher = DefaultHasher::new();
    for source in sources {
        println!("cargo::rerun-if-changed={source}");
        let mut all = vec![];
        files(Path::new(source), &mut all);
        all.sort();
        for path in all {
            path.to_str().hash(&mut hasher);
            fs::read(&path).unwrap_or_default().hash(&mut hasher);
        }
    }
    format!("{:016x}", hasher.finish())
}

/// The lock file that the crate was tested with: its own where it was unpacked from a package, else that of the workspace above it.
pub fn lock_file() -> &'static str {
    if Path::new("Cargo.lock").is_file() { "Cargo.lock" } else { "../Cargo.lock" }
}

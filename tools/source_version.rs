// Included by build scripts: the version of a crate that differs whenever what it makes may differ.

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

/// The crate's version and a hash of the files below `sources`, which are relative to the crate.
fn source_version(sources: &[&str]) -> String {
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
    format!("{}+{:016x}", std::env::var("CARGO_PKG_VERSION").unwrap_or_default(), hasher.finish())
}

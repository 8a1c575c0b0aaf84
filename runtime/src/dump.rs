//! Writing each kernel's code to files, for review: `NAME.bin` as it is in memory, `NAME.s` as commented assembler source.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_compiler::{Package, compile};
use twox_hash::XxHash3_128;

/// The most characters of a name that are the problem's.
const MAX_NAME: usize = 160;

/// Where code is written.
#[derive(Debug)]
pub(crate) struct CodeDump {
    folder: PathBuf,
    /// A file could not be written: said once, and no more are tried.
    off: AtomicBool,
}

impl CodeDump {
    pub(crate) fn new(folder: PathBuf) -> Self {
        CodeDump { folder, off: AtomicBool::new(false) }
    }

    /// Writes the files of one kernel. A listing needs the stages that led to the code, so it is compiled again; what fails is
    /// logged.
    pub(crate) fn write(&self, package: &Package) {
        if self.off.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.try_write(package) {
            self.off.store(true, Ordering::Relaxed);
            tracing::warn!("no code is dumped to {} any more: {error}", self.folder.display());
        }
    }

    fn try_write(&self, package: &Package) -> io::Result<()> {
        let facts = package.facts();
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(file_name(package));
        fs::write(path.with_added_extension("bin"), package.image())?;
        let artifact = compile(&facts.problem, &facts.target, &facts.options).map_err(io::Error::other)?;
        if artifact.image() != package.image() {
            return Err(io::Error::other(format!("`{}` compiles to other code than it had", facts.problem)));
        }
        fs::write(path.with_added_extension("s"), artifact.listing(true))
    }
}

/// The problem and target in characters that file names have everywhere, and a hash that tells apart what these leave out.
fn file_name(package: &Package) -> String {
    let facts = package.facts();
    let text = format!("{} @{}", facts.problem, facts.target);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "+-=.@".contains(c) { c } else { '_' };
    let name: String = text.chars().map(plain).take(MAX_NAME).collect();
    let hash = XxHash3_128::oneshot(format!("{text} {:?}", facts.options).as_bytes());
    format!("kiln.{name}.{:08x}", hash as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_compiler::Options;

    #[test]
    fn files_are_named_by_the_problem() {
        let options = Options::default();
        let problem = "matmul f32 4x8:8x16 +bias+relu".parse().unwrap();
        let artifact = compile(&problem, &"neoverse-v1".parse().unwrap(), &options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dump = CodeDump::new(folder.path().join("new"));
        dump.write(&Package::of(&artifact, &options));
        let mut names: Vec<_> = fs::read_dir(folder.path().join("new")).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        let [bin, listing] = &names[..] else { panic!("{names:?}") };
        assert_eq!(fs::read(bin).unwrap(), artifact.image());
        assert!(fs::read_to_string(listing).unwrap().contains("fmla"));
        let name = bin.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("kiln.matmul_f32_4x8_8x16_+bias+relu_@neoverse-v1."), "{name}");

        let nowhere = CodeDump::new("/dev/null/x".into());
        nowhere.write(&Package::of(&artifact, &options));
        assert!(nowhere.off.load(Ordering::Relaxed));
    }
}

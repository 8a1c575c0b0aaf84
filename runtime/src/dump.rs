//! Writing each kernel's code to files, for review: `NAME.bin` as it is in memory, `NAME.s` as commented assembler source.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_compiler::{Package, compile};
use twox_hash::XxHash3_128;

use crate::error::RuntimeError;
use crate::notice::Notice;
use crate::notices::Notices;

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
    /// A directory, made if need be. One that cannot be written to is told of now, not when the first kernel comes.
    pub(crate) fn new(folder: PathBuf, notices: &Notices) -> Result<Self, RuntimeError> {
        let dump = CodeDump { folder, off: AtomicBool::new(false) };
        let is_writable = fs::create_dir_all(&dump.folder).and_then(|()| tempfile::tempfile_in(&dump.folder));
        dump.told(is_writable.map(drop), notices)?;
        Ok(dump)
    }

    /// Writes the files of one kernel. A listing needs the stages that led to the code, so it is compiled again; what fails is
    /// logged.
    pub(crate) fn write(&self, package: &Package, notices: &Notices) -> Result<(), RuntimeError> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.told(self.try_write(package), notices)
    }

    /// After a failure nothing is written any more, but with strict settings: then the next one is to fail as well.
    fn told(&self, outcome: io::Result<()>, notices: &Notices) -> Result<(), RuntimeError> {
        let Err(error) = outcome else { return Ok(()) };
        self.off.store(!notices.are_strict(), Ordering::Relaxed);
        notices.tell(Notice::CodeDump { path: self.folder.clone(), error: error.into() })
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
        let notices = Notices::new(false, None, None);
        let dump = CodeDump::new(folder.path().join("new"), &notices).unwrap();
        dump.write(&Package::of(&artifact, &options), &notices).unwrap();
        assert!(notices.all().is_empty());
        let mut names: Vec<_> = fs::read_dir(folder.path().join("new")).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        let [bin, listing] = &names[..] else { panic!("{names:?}") };
        assert_eq!(fs::read(bin).unwrap(), artifact.image());
        assert!(fs::read_to_string(listing).unwrap().contains("fmla"));
        let name = bin.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("kiln.matmul_f32_4x8_8x16_+bias+relu_@neoverse-v1."), "{name}");

        let nowhere = CodeDump::new("/dev/null/x".into(), &notices).unwrap();
        nowhere.write(&Package::of(&artifact, &options), &notices).unwrap();
        assert!(matches!(&notices.all()[..], [Notice::CodeDump { path, .. }] if path == "/dev/null/x"), "{notices:?}");
        let strict = Notices::new(true, None, None);
        assert!(CodeDump::new("/dev/null/x".into(), &strict).is_err());
        let dump = CodeDump::new(folder.path().join("gone"), &strict).unwrap();
        fs::remove_dir(folder.path().join("gone")).unwrap();
        fs::write(folder.path().join("gone"), "").unwrap();
        for _ in 0..2 {
            assert!(dump.write(&Package::of(&artifact, &options), &strict).is_err());
        }
    }
}

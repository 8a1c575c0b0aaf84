//! Files that a subcommand writes at its end: checked before its work, and written whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A file to be written.
#[derive(Debug)]
pub struct OutputFile {
    /// The path that the user gave, for messages.
    path: PathBuf,
    /// The same path behind symbolic links, so that a link stays one.
    place: PathBuf,
    /// A device or a pipe, such as `/dev/stdout`, which cannot be replaced.
    is_stream: bool,
}

impl OutputFile {
    /// Fails unless the file can be written: if it is a folder, or its folder does not exist or cannot be written to.
    /// Nothing is changed.
    pub fn check(path: &Path) -> Result<Self, Error> {
        let at = |e: io::Error| Error::File(e).at(path.display().to_string());
        let mut output = OutputFile { path: path.into(), place: path.into(), is_stream: false };
        match fs::metadata(path) {
            Ok(data) if data.is_dir() => return Err(at(io::Error::other("is a folder, expected a file to write"))),
            Ok(data) if data.is_file() => {
                output.place = fs::canonicalize(path).map_err(at)?;
                File::options().append(true).open(path).map_err(at)?;
            }
            Ok(_) => {
                output.is_stream = true;
                return Ok(output);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.file_name().is_some() => {}
            Err(e) => return Err(at(e)),
        }
        check_folder(parent(&output.place)).map_err(at)?;
        Ok(output)
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file by `contents`. It replaces the old one when it is complete; until then, and if anything fails, the
    /// old one stays.
    pub fn write(self, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
        let at = |e: io::Error| Error::File(plain(e)).at(self.path.display().to_string());
        if self.is_stream {
            let mut out = BufWriter::new(File::options().write(true).open(&self.path).map_err(at)?);
            return contents(&mut out).and_then(|()| out.flush()).map_err(at);
        }
        let mut out = BufWriter::new(draft(&self.place).map_err(at)?);
        contents(&mut out).map_err(at)?;
        let draft = out.into_inner().map_err(|e| at(e.into_error()))?;
        draft.persist(&self.place).map(drop).map_err(|e| at(e.error))
    }
}

/// A new file beside `place` that takes its permissions, or those of any new file.
fn draft(place: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".kiln-");
    let permissions = fs::metadata(place).map(|data| data.permissions());
    builder.permissions(permissions.unwrap_or_else(|_| Permissions::from_mode(0o666))).tempfile_in(parent(place))
}

/// A folder for files to be written.
#[derive(Debug)]
pub struct OutputFolder(PathBuf);

impl OutputFolder {
    /// Fails unless the folder can be written to, or made. Nothing is changed.
    pub fn check(path: &Path) -> Result<Self, Error> {
        let at = |e: io::Error| Error::File(e).at(path.display().to_string());
        // The part of the path that exists.
        let existing = path.ancestors().find(|folder| folder.as_os_str().is_empty() || folder.exists());
        let existing = existing.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !existing.is_dir() {
            return Err(at(io::Error::other(format!("{} is a file, expected a folder", existing.display()))));
        }
        check_folder(existing).map_err(at)?;
        Ok(OutputFolder(path.into()))
    }

    /// The file `name` in the folder, which is made if it is missing.
    pub fn file(&self, name: &str) -> Result<OutputFile, Error> {
        fs::create_dir_all(&self.0).map_err(|e| Error::File(e).at(self.0.display().to_string()))?;
        OutputFile::check(&self.0.join(name))
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Fails unless a file can be made in `folder`. The file that is made to find out has no name, and is gone at once.
fn check_folder(folder: &Path) -> io::Result<()> {
    tempfile::tempfile_in(folder).map(drop).map_err(plain)
}

/// The system's error without the name of a temporary file, which `tempfile` adds.
fn plain(error: io::Error) -> io::Error {
    let system = error.get_ref().and_then(|e| e.source()).and_then(|e| e.downcast_ref::<io::Error>());
    system.and_then(io::Error::raw_os_error).map_or(error, io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let files = || fs::read_dir(folder.path()).unwrap().count();
        let output = OutputFile::check(&path).unwrap();
        assert_eq!(files(), 0, "a check leaves nothing behind");
        output.write(|out| out.write_all(b"old")).unwrap();

        let failed = OutputFile::check(&path).unwrap().write(|out| {
            out.write_all(&[0; 1 << 16])?;
            assert_eq!(fs::read(&path)?, b"old");
            Err(io::Error::other("no more"))
        });
        assert!(failed.unwrap_err().to_string().ends_with("x: no more"));
        assert_eq!((fs::read(&path).unwrap(), files()), (b"old".to_vec(), 1));

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        OutputFile::check(&link).unwrap().write(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn permissions_are_those_of_the_old_file_or_of_any_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        let write = |name: &str| OutputFile::check(&folder.path().join(name)).unwrap().write(|_| Ok(())).unwrap();
        fs::write(folder.path().join("usual"), "").unwrap();
        write("new");
        assert_eq!(mode("new"), mode("usual"));
        fs::set_permissions(folder.path().join("usual"), fs::Permissions::from_mode(0o640)).unwrap();
        write("usual");
        assert_eq!(mode("usual") & 0o777, 0o640);
    }

    #[test]
    fn what_cannot_be_written_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        for (path, words) in [
            (at("none/x"), "none/x: No such file or directory (os error 2)"),
            (at("file/x"), "file/x: Not a directory"),
            (folder.path().into(), "is a folder"),
            (at(".."), "is a folder"),
            ("".into(), "No such file"),
            ("/proc/x".into(), "/proc/x: No such file or directory (os error 2)"),
        ] {
            let error = OutputFile::check(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{path:?}: {error}");
        }
        assert!(OutputFolder::check(&at("file")).unwrap_err().to_string().ends_with("is a file, expected a folder"));
        assert!(OutputFolder::check(&at("file/x")).unwrap_err().to_string().contains("file is a file"));
        assert!(OutputFolder::check(Path::new("/proc/x")).is_err());
        let output = OutputFolder::check(&at("a/b")).unwrap();
        assert!(!at("a").exists());
        output.file("x").unwrap().write(|out| out.write_all(b"y")).unwrap();
        assert_eq!(fs::read(at("a/b/x")).unwrap(), b"y");
        // A device is written to as it is.
        OutputFile::check(Path::new("/dev/null")).unwrap().write(|out| out.write_all(b"x")).unwrap();
    }
}

//! Files of packs: read if they are files, and written whole.

use std::fs::{self, File};
use std::io;
use std::path::Path;

pub(super) use kiln_files::{not_regular, open, read_from as read};

/// The beginning of the names of files that are being written.
pub(super) const TEMPORARY: &str = ".kiln-writing-";

/// Replaces a file by one that is complete, whoever else writes or dies meanwhile. What is there and is no file stays.
pub(super) fn write(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if let Some(other) = fs::metadata(path).ok().filter(|there| !there.is_file()) {
        return Err(not_regular(other.file_type()));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

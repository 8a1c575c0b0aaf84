//! Files of packs: read if they are files, and written whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How names of files begin that are being written.
pub(super) const TEMPORARY: &str = ".kiln-writing-";

/// Opens a file, and tells its length. What may have no end, or nobody to write it, is refused: a pipe, a device, a folder.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    // Without waiting for somebody to open the other end of a pipe; of no effect on files.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_regular()) }
}

/// `bytes` bytes, or fewer if the file ends. Memory that is not there is an error.
pub(super) fn read(file: impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let mut all = vec![];
    let capacity = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    all.try_reserve_exact(capacity).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(bytes).read_to_end(&mut all)?;
    Ok(all)
}

/// Replaces a file by one that is complete, whoever else writes or dies meanwhile. What is there and is no file stays.
pub(super) fn write(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(not_regular());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

//! Files that are read: regular ones alone, opened without waiting for anybody, and read whole or mapped.
//!
//! The name of a file may come from a stranger, and be that of a pipe that nobody writes to, of a device without an end, or of a
//! folder. [`open`] refuses these, and all that Kiln reads as a whole goes through it.
//!
//! ```
//! let error = kiln_files::read("/dev/zero").unwrap_err();
//! assert!(error.to_string().contains("not a regular file"));
//! ```

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;

/// Opens a regular file for reading, and gives its length in bytes. Links are followed.
pub fn open(path: impl AsRef<Path>) -> io::Result<(File, u64)> {
    // With this flag, opening a pipe does not wait for its other end; files are read as ever. What was opened is looked at then,
    // so that nobody can put something else in its place in between.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_regular(metadata.file_type())) }
}

/// The error for something of another type than a regular file.
pub fn not_regular(found: FileType) -> io::Error {
    let found = match found {
        _ if found.is_dir() => "a directory",
        _ if found.is_fifo() => "a pipe",
        _ if found.is_char_device() || found.is_block_device() => "a device",
        _ if found.is_socket() => "a socket",
        _ => "something else",
    };
    io::Error::other(format!("it is {found}, not a regular file"))
}

/// The bytes of a regular file.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let (file, bytes) = open(path)?;
    read_from(file, bytes)
}

/// `bytes` bytes, or fewer if the file ends before. Memory that is not there is an error.
pub fn read_from(file: impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let mut all = vec![];
    let capacity = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    all.try_reserve_exact(capacity).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(bytes).read_to_end(&mut all)?;
    Ok(all)
}

/// The bytes of a regular file, mapped: nothing is read before it is looked at, and processes that map a file share its memory.
///
/// # Safety
/// As long as the bytes, or a clone or a part of them, are there, nobody writes to the file or cuts it off, in this process or
/// another. Replacing it by another file of its name, or removing it, is fine. Otherwise memory that the program takes for constant
/// changes, and a page that is gone ends the process with SIGBUS.
pub unsafe fn map(path: impl AsRef<Path>) -> io::Result<Bytes> {
    let (file, bytes) = open(path)?;
    if bytes == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the caller answers for the file staying as it is as long as the mapping lives, which is what the bytes own.
    let mapped = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(mapped))
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// The result of a function, which must come to an end.
    fn soon<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(f()));
        receiver.recv_timeout(Duration::from_secs(60)).expect("it comes to an end")
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let name = CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is a string with an end.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let link = folder.path().join("link");
        symlink(&pipe, &link).unwrap();
        let others = [("/dev/zero", "a device"), ("/dev/null", "a device"), ("/", "a directory")];
        let others = others.map(|(path, word)| (path.into(), word));
        for (path, word) in others.into_iter().chain([(pipe, "a pipe"), (link, "a pipe")]) {
            let expected = format!("it is {word}, not a regular file");
            // SAFETY: nothing is mapped.
            let both = soon(move || [read(&path).map(drop), unsafe { map(&path) }.map(drop)]);
            for outcome in both {
                assert_eq!(outcome.unwrap_err().to_string(), expected);
            }
        }
    }

    #[test]
    fn files_are_read_whole_and_up_to_a_length() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        let bytes: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        symlink(&path, &link).unwrap();
        assert_eq!((read(&path).unwrap(), read(&link).unwrap()), (bytes.clone(), bytes.clone()));
        // SAFETY: nobody else knows of the file.
        assert_eq!(unsafe { map(&path) }.unwrap(), bytes);
        let (file, length) = open(&path).unwrap();
        assert_eq!(length, 100_000);
        assert_eq!(read_from(file, 10).unwrap(), bytes[..10]);
        // Of a file that is shorter than it was, what there is.
        assert_eq!(read_from(&bytes[..10], 100).unwrap(), bytes[..10]);
        assert!(read_from(&bytes[..10], u64::MAX).is_err());
        fs::write(&path, "").unwrap();
        // SAFETY: nobody else knows of the file.
        assert_eq!((read(&path).unwrap().len(), unsafe { map(&path) }.unwrap().len()), (0, 0));
        assert_eq!(read(folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

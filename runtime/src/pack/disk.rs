//! A directory of packs with one kernel each: what one process compiled, another need not.
//!
//! Files are written beside their place and renamed, so each is complete, whoever dies while writing; of two processes that
//! write the same kernel one comes last, with the same bytes. Nothing that goes wrong here fails a compilation: kernels are
//! compiled, the reason is logged, and after [`MAX_FAILURES`] of them in a row the directory is left alone.

use std::fs::{self, DirEntry};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use kiln_compiler::{Package, Target, VERSION};
use twox_hash::XxHash3_128;

use super::file::{self, TEMPORARY};
use super::manifest::options_text;
use super::{Pack, PackError, to_bytes};
use crate::key::Key;

/// Failures in a row after which nothing is written any more.
const MAX_FAILURES: u32 = 3;
/// Files written from one look at the size of the directory to the next.
const PRUNE_EVERY: u32 = 256;
/// The age from which a file that is being written belongs to nobody.
const ABANDONED: Duration = Duration::from_secs(600);
const EXTENSION: &str = "kilnpack";

/// A cache directory. See the [module](self).
#[derive(Debug)]
pub(crate) struct DiskCache {
    folder: PathBuf,
    target: Target,
    /// What its files may occupy.
    limit: u64,
    failures: AtomicU32,
    written: AtomicU32,
}

impl DiskCache {
    /// The directory `folder`, made if need be, whose files may occupy `limit` bytes.
    pub(crate) fn new(folder: PathBuf, target: Target, limit: u64) -> Self {
        let disk = DiskCache { folder, target, limit, failures: AtomicU32::new(0), written: AtomicU32::new(0) };
        if let Err(error) = fs::create_dir_all(&disk.folder) {
            disk.failed("cannot be made", &error);
        }
        disk.prune();
        disk
    }

    fn path(&self, key: &Key) -> PathBuf {
        let text = format!("{} @{} {} {VERSION}", key.problem, self.target, options_text(&key.options));
        self.folder.join(format!("{:032x}.{EXTENSION}", XxHash3_128::oneshot(text.as_bytes())))
    }

    /// The kernel for a key, if a file has it. A file that is no good is removed.
    pub(crate) fn get(&self, key: &Key) -> Option<Package> {
        let path = self.path(key);
        let pack = match Pack::open(&path) {
            Err(PackError::Read(e)) if e.kind() == io::ErrorKind::NotFound => return None,
            pack => pack,
        };
        let package = pack.and_then(|pack| {
            pack.check_target(&self.target)?;
            pack.get(key).unwrap_or(Err(PackError::Manifest("it has another kernel than its name says".into())))
        });
        match package {
            Ok(package) => Some(package),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a cached kernel is not used");
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    /// Keeps a kernel for other processes.
    pub(crate) fn put(&self, key: &Key, package: &Package) {
        if self.failures.load(Ordering::Relaxed) >= MAX_FAILURES {
            return;
        }
        match file::write(&self.path(key), |file| file.write_all(&to_bytes(&self.target, [package]))) {
            Ok(()) => self.failures.store(0, Ordering::Relaxed),
            Err(error) => return self.failed("cannot be written to", &error),
        }
        if self.written.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY == PRUNE_EVERY - 1 {
            self.prune();
        }
    }

    fn failed(&self, what: &str, error: &io::Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let folder = self.folder.display();
        let off = if failures >= MAX_FAILURES { "; nothing is written to it any more" } else { "" };
        tracing::warn!("the cache directory {folder} {what}: {error}{off}");
    }

    /// Removes the oldest files until the rest are within the limit, and what dead processes left.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = vec![];
        for entry in entries.flatten() {
            let Some((modified, bytes)) = age_and_size(&entry) else { continue };
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                if modified.elapsed().is_ok_and(|age| age > ABANDONED) {
                    let _ = fs::remove_file(entry.path());
                }
            } else if is_pack(&entry.path()) {
                files.push((modified, bytes, entry.path()));
            }
        }
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort_unstable();
        for (_, bytes, path) in files {
            if total <= self.limit {
                break;
            }
            total -= bytes;
            let _ = fs::remove_file(path);
        }
    }
}

fn age_and_size(entry: &DirEntry) -> Option<(SystemTime, u64)> {
    let metadata = entry.metadata().ok().filter(|m| m.is_file())?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn is_pack(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

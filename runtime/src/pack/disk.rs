//! A directory of packs with one kernel each: what one process compiled, another need not.
//!
//! Files are written beside their place and renamed, so each is complete, whoever dies while writing, and are [sealed](seal) with a
//! key of the directory, so that nothing is executed that another program put there. Of processes that want the same kernel one
//! compiles it while it holds a lock; the others wait for it, but for no longer than [`PATIENCE`]. The system takes a lock from a
//! process that dies.
//!
//! Nothing that goes wrong here fails a compilation, unless settings are strict: kernels are compiled, a [notice](crate::Notice) says
//! why, and after [`MAX_FAILURES`] failures in a row nothing is written any more.

mod folder;
mod seal;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

pub use folder::CacheDirError;
use folder::{Entry, Folder};
use kiln_compiler::{Package, Target, VERSION};
use twox_hash::XxHash3_128;

use super::error::PackError;
use super::file::TEMPORARY;
use super::kernels::{Pack, to_bytes};
use super::manifest::options_text;
use crate::error::RuntimeError;
use crate::key::Key;
use crate::notice::Notice;
use crate::notices::Notices;

/// Failures in a row after which nothing is written any more.
const MAX_FAILURES: u32 = 3;
/// Files written from one look at the size of the directory to the next.
const PRUNE_EVERY: u32 = 256;
/// The age from which a file that is being written belongs to nobody, and a lock that nobody holds is not needed.
const ABANDONED: Duration = Duration::from_secs(600);
/// The time for which another process is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The shortest and the longest time until it is asked again.
const WAITS: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(20)];
const KERNEL: &str = "kernel";
const LOCK: &str = "lock";

/// The trust in a cache directory, into which others may or may not be able to put files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Whoever named the directory answers for those who can write to it.
    Vouched,
    /// It must be this user's alone.
    Checked,
}

/// A cache directory. See the [module](self).
#[derive(Debug)]
pub(crate) struct DiskCache {
    folder: Folder,
    key: seal::SealKey,
    target: Target,
    /// The bytes that its files may occupy.
    limit: u64,
    failures: AtomicU32,
    written: AtomicU32,
    /// Another process let this one wait for too long.
    is_impatient: AtomicBool,
}

/// A kernel, and whether it was in the directory.
pub(crate) struct Cached {
    pub(crate) package: Package,
    pub(crate) is_found: bool,
}

impl DiskCache {
    /// The directory at `path`, made if need be, whose files may occupy `limit` bytes.
    pub(crate) fn new(path: &Path, trust: Trust, target: Target, limit: u64) -> Result<Self, CacheDirError> {
        let folder = match trust {
            Trust::Vouched => Folder::open(path)?,
            Trust::Checked => Folder::open_private(path)?,
        };
        let key = seal::SealKey::of(&folder)?;
        let (failures, written, is_impatient) = Default::default();
        let disk = DiskCache { folder, key, target, limit, failures, written, is_impatient };
        disk.prune();
        Ok(disk)
    }

    /// The kernel for a key: of a file, or made now, by this process alone, and kept for others.
    pub(crate) fn get_or_make(
        &self,
        key: &Key,
        notices: &Notices,
        make: impl FnOnce() -> Result<Package, RuntimeError>,
    ) -> Result<Cached, RuntimeError> {
        let name = self.name(key);
        if let Some(package) = self.get(key, &name, notices)? {
            return Ok(Cached { package, is_found: true });
        }
        let _turn = self.take_turn(&name, notices)?;
        // Another process may have been faster.
        if let Some(package) = self.get(key, &name, notices)? {
            return Ok(Cached { package, is_found: true });
        }
        let package = make()?;
        self.put(&name, &package, notices)?;
        Ok(Cached { package, is_found: false })
    }

    /// The name of a kernel's files.
    fn name(&self, key: &Key) -> Name {
        let text = format!("{} @{} {} {VERSION}", key.problem, self.target, options_text(&key.options));
        Name(format!("{:032x}", XxHash3_128::oneshot(text.as_bytes())))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path.join(file)
    }

    /// The kernel for a key, if a file has it. A file that is no good is removed, unless settings are strict.
    fn get(&self, key: &Key, name: &Name, notices: &Notices) -> Result<Option<Package>, RuntimeError> {
        let name = name.file(KERNEL);
        let sealed = match self.folder.read(&name) {
            Ok(sealed) => Ok(sealed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => Err(PackError::Read(e.into())),
        };
        let package = sealed.and_then(|sealed| {
            let pack = Pack::parse(self.key.unseal(sealed).ok_or(PackError::Seal)?)?;
            pack.check_target(&self.target)?;
            pack.get(key).unwrap_or(Err(PackError::Manifest("it has another kernel than its name says".into())))
        });
        match package {
            Ok(package) => Ok(Some(package)),
            Err(error) => {
                notices.tell(Notice::CachedKernel { path: self.path(&name), error })?;
                // What stays is replaced when the kernel is written again.
                let _ = self.folder.remove(&name);
                Ok(None)
            }
        }
    }

    /// Keeps a kernel for other processes.
    fn put(&self, name: &Name, package: &Package, notices: &Notices) -> Result<(), RuntimeError> {
        if self.failures.load(Ordering::Relaxed) >= MAX_FAILURES {
            return Ok(());
        }
        let sealed = self.key.seal(to_bytes(&self.target, [package]));
        match self.folder.write(&name.file(KERNEL), &sealed) {
            Ok(()) => self.failures.store(0, Ordering::Relaxed),
            Err(error) => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                let (path, error) = (self.folder.path.clone(), Arc::new(error));
                // A single failure may be somebody who cleans up.
                return match failures >= MAX_FAILURES || notices.are_strict() {
                    true => notices.tell(Notice::CacheWrite { path, error }),
                    false => Ok(()),
                };
            }
        }
        if self.written.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY == PRUNE_EVERY - 1 {
            self.prune();
        }
        Ok(())
    }

    /// Waits for the process that makes a kernel, if there is one, and becomes it. `None` where there can be no lock, or after a wait
    /// that was too long: the kernel is made all the same.
    fn take_turn(&self, name: &Name, notices: &Notices) -> Result<Option<Turn<'_>>, RuntimeError> {
        let name = name.file(LOCK);
        let [mut wait, longest] = WAITS;
        // What was slept for, in place of the time: clocks may stand still.
        let mut waited = Duration::ZERO;
        loop {
            let Ok(lock) = self.folder.open_lock(&name) else { return Ok(None) };
            match lock.try_lock() {
                // The one before may have removed the file after it was opened.
                Ok(()) if self.folder.is_named(&lock, &name) => {
                    return Ok(Some(Turn { folder: &self.folder, name, lock }));
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                // This file system has no locks.
                Err(TryLockError::Error(_)) => return Ok(None),
            }
            if self.is_impatient.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if waited >= PATIENCE {
                self.is_impatient.store(true, Ordering::Relaxed);
                notices.tell(Notice::CacheLock { path: self.path(&name) })?;
                return Ok(None);
            }
            std::thread::sleep(wait);
            waited += wait;
            wait = (2 * wait).min(longest);
        }
    }

    /// Removes the oldest files until the rest are within the limit, and what dead processes left.
    fn prune(&self) {
        let Ok(entries) = self.folder.entries() else { return };
        let mut kernels: Vec<Entry> = vec![];
        for entry in entries {
            let is_old = || entry.modified.elapsed().is_ok_and(|age| age > ABANDONED);
            let name = Path::new(&entry.name);
            if name.extension().is_some_and(|extension| extension == KERNEL) {
                kernels.push(entry);
            } else if name.to_string_lossy().starts_with(TEMPORARY) && is_old() {
                let _ = self.folder.remove(&entry.name);
            } else if is_lock(name) && is_old() {
                // A process may hold it, however old the file is.
                let lock = name.to_str().and_then(|name| self.folder.open_lock(name).ok());
                if lock.is_some_and(|lock| lock.try_lock().is_ok()) {
                    let _ = self.folder.remove(&entry.name);
                }
            }
        }
        let mut total: u64 = kernels.iter().map(|kernel| kernel.bytes).sum();
        kernels.sort_unstable();
        for kernel in kernels {
            if total <= self.limit {
                break;
            }
            total -= kernel.bytes;
            let _ = self.folder.remove(&kernel.name);
        }
    }
}

fn is_lock(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == LOCK)
}

/// The beginning of the names of a kernel's files.
struct Name(String);

impl Name {
    fn file(&self, extension: &str) -> String {
        format!("{}.{extension}", self.0)
    }
}

/// The right to make a kernel, until it is dropped or the process ends.
struct Turn<'a> {
    folder: &'a Folder,
    name: String,
    lock: File,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Whoever waits for this file opens a new one.
        if self.folder.is_named(&self.lock, &self.name) {
            let _ = self.folder.remove(&self.name);
        }
        // A child that was forked meanwhile has the file open as well.
        let _ = self.lock.unlock();
    }
}

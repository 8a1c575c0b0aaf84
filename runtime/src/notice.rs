//! Deviations from what was asked for: settings that cannot be followed, and files that are not used.
//!
//! Kernels are compiled and calls go on without them. So that nobody has to guess why a cache is cold, each [`Notice`] is kept with
//! the runtime and told once: to whoever [listens](crate::RuntimeBuilder::on_notice), and in a verbose line if there are any. With
//! [`strict_settings`](crate::RuntimeBuilder::strict_settings) it is an error instead.

use std::io;
use std::mem::{Discriminant, discriminant};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::pack::{CacheDirError, PackError};

/// Something that is not as it was asked for. Its text says what to mend.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Notice {
    /// A pack is not used.
    #[error("the pack is not used, and its kernels are compiled: {error}")]
    Pack {
        /// The pack.
        path: PathBuf,
        /// The reason.
        error: PackError,
    },
    /// A kernel of a pack is not used.
    #[error("a kernel of the pack is not used, but compiled: {error}")]
    PackedKernel {
        /// The pack.
        path: PathBuf,
        /// The reason.
        error: PackError,
    },
    /// A cache directory is not used.
    #[error("the cache directory is not used: {error}")]
    CacheDir {
        /// The directory.
        path: PathBuf,
        /// The reason.
        error: CacheDirError,
    },
    /// A file of a cache directory is not used.
    #[error("the cached kernel is not used, but compiled again: {error}")]
    CachedKernel {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: PackError,
    },
    /// A kernel could not be kept in a cache directory.
    #[error("the cache directory cannot be written to, and keeps no kernels of this process: {error}")]
    CacheWrite {
        /// The directory.
        path: PathBuf,
        /// The reason.
        error: Arc<io::Error>,
    },
    /// Another process has been compiling a kernel of a cache directory for so long that this one waits no more: for this kernel, nor
    /// for others.
    #[error(
        "another process holds this lock for long: kernels are compiled without waiting for others; is it stopped?"
    )]
    CacheLock {
        /// The lock, a file that the other process holds with `flock`.
        path: PathBuf,
    },
    /// Code is not written to the directory of [`jit_dump`](crate::RuntimeBuilder::jit_dump).
    #[error("no code is dumped to the directory: {error}")]
    CodeDump {
        /// The directory.
        path: PathBuf,
        /// The reason.
        error: Arc<io::Error>,
    },
    /// A file for perf cannot be written in a directory.
    #[error("no profile is written below the directory: {error}")]
    Profile {
        /// The directory.
        path: PathBuf,
        /// The reason.
        error: Arc<io::Error>,
    },
}

impl Notice {
    /// The file or directory that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Notice::Pack { path, .. }
            | Notice::PackedKernel { path, .. }
            | Notice::CacheDir { path, .. }
            | Notice::CachedKernel { path, .. }
            | Notice::CacheWrite { path, .. }
            | Notice::CacheLock { path }
            | Notice::CodeDump { path, .. }
            | Notice::Profile { path, .. } => path,
        }
    }

    /// Notices with the same subject are told once.
    pub(crate) fn subject(&self) -> (Discriminant<Notice>, &Path) {
        (discriminant(self), self.path())
    }
}

//! The directory of a cache: opened once, and used by its descriptor, so that nobody can put another in its place.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, linkat, mkdirat, open, openat, readlinkat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use super::super::file::{self, TEMPORARY};

/// Symbolic links on the way to a directory; more go in circles.
const MOST_LINKS: usize = 40;
/// The most bytes of a file that is read.
const MOST_BYTES: u64 = 1 << 30;

/// The reason why a directory is not one to take code from, or to keep it in.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheDirError {
    /// It cannot be opened, and not be made either.
    #[error("it cannot be opened or made: {0}")]
    Open(#[source] Arc<io::Error>),
    /// It is a link, which others may point elsewhere.
    #[error("it is a symbolic link: set `KILN_CACHE_DIR` to the directory itself")]
    Link,
    /// Whoever it belongs to can write code into it.
    #[error(
        "{} belongs to user {owner}, and this process runs as user {user}: set `KILN_CACHE_DIR` to a directory of this user's, in \
         directories of this user's or root's",
        path.display()
    )]
    Owner {
        /// It, or a directory that it is in, or a link on the way to it.
        path: PathBuf,
        /// The number of the user that it belongs to.
        owner: u32,
        /// The number of this process's effective user.
        user: u32,
    },
    /// Others can write code into it, or put another in its place.
    #[error(
        "others than its owner may write to {} (mode {mode:03o}): name a directory of your own, or `chmod go-w` this one if it is yours",
        path.display()
    )]
    Mode {
        /// It, or a directory that it is in.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key that kernels are sealed with cannot be used.
    #[error("{0}")]
    Key(String),
}

impl From<io::Error> for CacheDirError {
    fn from(error: io::Error) -> Self {
        CacheDirError::Open(Arc::new(error))
    }
}

impl From<Errno> for CacheDirError {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Folder {
    /// For messages alone.
    pub(super) path: PathBuf,
    fd: OwnedFd,
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);
/// Not followed, and not waited for if it is a pipe.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
/// Of new files: for this user alone.
const SECRET: Mode = Mode::RUSR.union(Mode::WUSR);
/// The most bytes of a secret.
const MOST_SECRET: u64 = 4096;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

impl Folder {
    /// Any directory, made if need be, for this user alone.
    pub(super) fn open(path: &Path) -> Result<Self, CacheDirError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Folder { path: path.into(), fd: open(path, DIRECTORY, Mode::empty())? })
    }

    /// A directory that is this user's alone, made if need be. It belongs to the effective user, nobody else may write to it, and it is
    /// no link. Of all directories on the way to it nobody but root and this user may replace an entry: each belongs to one of the
    /// two, and if others may write to it, it is sticky, so that they can change nothing but their own entries. What is checked is
    /// what is opened, one directory in the other.
    pub(super) fn open_private(path: &Path) -> Result<Self, CacheDirError> {
        let user = geteuid().as_raw();
        let absolute = std::path::absolute(path)?;
        let mut left: VecDeque<OsString> = words(&absolute).collect();
        let (mut fd, mut at) = (open("/", DIRECTORY, Mode::empty())?, PathBuf::from("/"));
        let mut links = 0;
        while let Some(word) = left.pop_front() {
            check_on_the_way(&at, &fstat(&fd)?, user)?;
            // Entries of the root are named by their path, which is the same: an emulator may have given the program another root, with
            // libraries, for what is not in that of the system.
            let name = if at.parent().is_none() { at.join(&word).into_os_string() } else { word.clone() };
            let next = match open_entry(&fd, &name) {
                Err(Errno::NOENT) => {
                    match mkdirat(&fd, &*name, Mode::RWXU) {
                        // Somebody else may have been faster.
                        Ok(()) | Err(Errno::EXIST) => open_entry(&fd, &name),
                        Err(e) => Err(e),
                    }
                }
                other => other,
            }?;
            let (stat, here) = (fstat(&next)?, at.join(&word));
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => (fd, at) = (next, here),
                FileType::Symlink if left.is_empty() => return Err(CacheDirError::Link),
                FileType::Symlink => {
                    check_owner(&here, &stat, user)?;
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = PathBuf::from(OsString::from_vec(readlinkat(&next, "", vec![])?.into_bytes()));
                    if target.is_absolute() {
                        (fd, at) = (open("/", DIRECTORY, Mode::empty())?, PathBuf::from("/"));
                    }
                    words(&target).rev().for_each(|word| left.push_front(word));
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        let stat = fstat(&fd)?;
        if stat.st_uid != user {
            return Err(CacheDirError::Owner { path: at, owner: stat.st_uid, user });
        }
        if stat.st_mode & OTHERS_WRITE != 0 {
            return Err(CacheDirError::Mode { path: at, mode: stat.st_mode & 0o7777 });
        }
        // The same directory, for reading.
        let fd = openat(&fd, ".", DIRECTORY, Mode::empty())?;
        Ok(Folder { path: path.into(), fd })
    }

    /// The bytes of a file.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let (file, stat) = self.open_file(name)?;
        let len = u64::try_from(stat.st_size).ok().filter(|len| *len <= MOST_BYTES);
        file::read(file, len.ok_or(io::ErrorKind::FileTooLarge)?)
    }

    /// The same of a file that nobody but this user can read or write.
    pub(super) fn read_secret(&self, name: &str) -> io::Result<Vec<u8>> {
        let (file, stat) = self.open_file(name)?;
        if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(io::Error::other(
                "others than this user may read or write it: remove it, and a new one is made",
            ));
        }
        file::read(file, MOST_SECRET)
    }

    fn open_file(&self, name: &str) -> io::Result<(File, Stat)> {
        let file = File::from(openat(&self.fd, name, FILE.union(OFlags::RDONLY), Mode::empty())?);
        let stat = fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((file, stat)),
            _ => Err(file::not_regular(file.metadata()?.file_type())),
        }
    }

    /// Writes a file, which is complete or not there, and takes the place of another.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (draft, _) = self.draft(bytes)?;
        renameat(&self.fd, &*draft.name, &self.fd, name)?;
        draft.forget();
        Ok(())
    }

    /// Writes a file, which is complete or not there, unless there is one. It is on the disk before it has its name, since nobody would
    /// write it again if the machine stopped in between.
    pub(super) fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (draft, file) = self.draft(bytes)?;
        file.sync_data()?;
        Ok(linkat(&self.fd, &*draft.name, &self.fd, name, AtFlags::empty())?)
    }

    /// A file of a name that nobody else has, for this user alone.
    fn draft(&self, bytes: &[u8]) -> io::Result<(Draft<'_>, File)> {
        let name = format!("{TEMPORARY}{:016x}", u64::from_ne_bytes(random()?));
        let flags = FILE.union(OFlags::WRONLY).union(OFlags::CREATE).union(OFlags::EXCL);
        let mut file = File::from(openat(&self.fd, &*name, flags, SECRET)?);
        let draft = Draft { folder: self, name };
        file.write_all(bytes)?;
        Ok((draft, file))
    }

    /// Opens a file without content, made if need be.
    pub(super) fn open_lock(&self, name: &str) -> io::Result<File> {
        let file = openat(&self.fd, name, FILE.union(OFlags::RDWR).union(OFlags::CREATE), SECRET)?;
        Ok(File::from(file))
    }

    /// True if an open file is the one of this name.
    pub(super) fn is_named(&self, file: &File, name: &str) -> bool {
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let named = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map(identity);
        named.is_ok() && named == fstat(file).map(identity)
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name.as_ref(), AtFlags::empty())?)
    }

    /// All files.
    pub(super) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut all = vec![];
        for entry in Dir::read_from(&self.fd)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            // Others may have removed it.
            let Ok(stat) = statat(&self.fd, &*name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
                let modified = SystemTime::UNIX_EPOCH.checked_add(seconds).unwrap_or(SystemTime::UNIX_EPOCH);
                all.push(Entry { modified, bytes: stat.st_size as u64, name });
            }
        }
        Ok(all)
    }
}

/// A file of a directory; the oldest is the least.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) modified: SystemTime,
    pub(super) bytes: u64,
    pub(super) name: OsString,
}

/// A file that is being written, removed when this is dropped.
struct Draft<'a> {
    folder: &'a Folder,
    name: String,
}

impl Draft<'_> {
    /// It has another name now.
    fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // If it cannot be removed now, it will be when it is old.
        let _ = self.folder.remove(&self.name);
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // The system gives up to 256 at once.
    match getrandom(&mut bytes, GetRandomFlags::empty())? {
        read if read == N => Ok(bytes),
        _ => Err(io::ErrorKind::Interrupted.into()),
    }
}

fn words(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let word = |part: Component<'_>| {
        matches!(part, Component::Normal(_) | Component::ParentDir).then(|| part.as_os_str().to_owned())
    };
    path.components().filter_map(word).collect::<Vec<_>>().into_iter()
}

fn open_entry(folder: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(folder, name, OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC), Mode::empty())
}

/// Nobody but root and the user may change what an entry of a directory is.
fn check_on_the_way(path: &Path, stat: &Stat, user: u32) -> Result<(), CacheDirError> {
    check_owner(path, stat, user)?;
    if stat.st_mode & OTHERS_WRITE != 0 && stat.st_mode & STICKY == 0 {
        return Err(CacheDirError::Mode { path: path.into(), mode: stat.st_mode & 0o7777 });
    }
    Ok(())
}

fn check_owner(path: &Path, stat: &Stat, user: u32) -> Result<(), CacheDirError> {
    const ROOT: u32 = 0;
    if [ROOT, user].contains(&stat.st_uid) {
        return Ok(());
    }
    Err(CacheDirError::Owner { path: path.into(), owner: stat.st_uid, user })
}

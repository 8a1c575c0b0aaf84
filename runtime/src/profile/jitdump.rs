//! Jitdumps: a record per kernel with its code, which `perf inject --jit` turns into an ELF file that perf can annotate.
//!
//! The format is tools/perf/Documentation/jitdump-specification.txt of the Linux kernel. Numbers are in the machine's byte
//! order. Time stamps are of CLOCK_MONOTONIC, which perf must be asked for: `perf record -k mono`.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{mem, ptr};

use super::sink::Sink;

const MAGIC: u32 = u32::from_be_bytes(*b"JiTD");
const VERSION: u32 = 1;
const HEADER_BYTES: u32 = 40;
/// The machine's number in ELF.
const MACHINE: u32 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

const CODE_LOAD: u32 = 0;
const CODE_CLOSE: u32 = 3;
/// The header of every record: its kind, its length and its time.
const PREFIX_BYTES: usize = 16;
/// A [`CODE_LOAD`] without its name and code.
const LOAD_BYTES: usize = PREFIX_BYTES + 40;

pub(super) struct JitDump {
    file: File,
    process: u32,
    /// Kernels recorded so far; numbers the next one.
    kernels: u64,
}

impl JitDump {
    /// Makes `.debug/jit/kiln-jit-DATE-XXXXXX/jit-PROCESS.dump` in `directory`, which is where tools expect it, and maps
    /// it for perf to see.
    pub(super) fn open(directory: &Path, process: u32) -> io::Result<JitDump> {
        let parent = directory.join(".debug/jit");
        fs::create_dir_all(&parent)?;
        let path = unique_directory(&parent)?.join(format!("jit-{process}.dump"));
        let mut file = File::options().create_new(true).read(true).write(true).open(path)?;
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        for word in [MAGIC, VERSION, HEADER_BYTES, MACHINE, 0, process] {
            header.extend(word.to_ne_bytes());
        }
        let flags = 0_u64;
        header.extend(now()?.to_ne_bytes());
        header.extend(flags.to_ne_bytes());
        file.write_all(&header)?;
        mark(&file)?;
        Ok(JitDump { file, process, kernels: 0 })
    }
}

impl Sink for JitDump {
    fn record(&mut self, name: &str, address: *const u8, code: &[u8]) -> io::Result<()> {
        let bytes = LOAD_BYTES + name.len() + 1 + code.len();
        let address = address.addr() as u64;
        let mut record = prefix(CODE_LOAD, bytes)?;
        record.extend(self.process.to_ne_bytes());
        record.extend(thread().to_ne_bytes());
        // Where the code runs, and where it lies.
        for word in [address, address, code.len() as u64, self.kernels] {
            record.extend(word.to_ne_bytes());
        }
        record.extend(name.as_bytes());
        record.push(0);
        record.extend(code);
        debug_assert_eq!(record.len(), bytes);
        self.kernels += 1;
        self.file.write_all(&record)
    }

    fn close(&mut self) -> io::Result<()> {
        self.file.write_all(&prefix(CODE_CLOSE, PREFIX_BYTES)?)
    }
}

/// The beginning of a record of `bytes` bytes, with room for the rest.
fn prefix(kind: u32, bytes: usize) -> io::Result<Vec<u8>> {
    let length = u32::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut record = Vec::with_capacity(bytes);
    record.extend(kind.to_ne_bytes());
    record.extend(length.to_ne_bytes());
    record.extend(now()?.to_ne_bytes());
    Ok(record)
}

/// Maps the file executable, once: perf records such mappings, and recognises this one by the file's name. It stays for
/// the life of the process, so that perf finds it in a process that it attaches to later.
fn mark(file: &File) -> io::Result<()> {
    let access = libc::PROT_READ | libc::PROT_EXEC;
    // The kernel rounds the length up to a page.
    let length = HEADER_BYTES as usize;
    // SAFETY: a new mapping where the kernel has room. The program never reads it or jumps to it.
    let mapping = unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if mapping == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A new directory of today's date (in UTC) in `parent`, accessible to the user alone.
fn unique_directory(parent: &Path) -> io::Result<PathBuf> {
    // SAFETY: all bytes zero are a value of this type, and so are time zones that are null.
    let mut date: libc::tm = unsafe { mem::zeroed() };
    // SAFETY: both pointers are valid. This is not `localtime_r`, which reads the environment that other threads may change.
    let known = unsafe { !libc::gmtime_r(&libc::time(ptr::null_mut()), &mut date).is_null() };
    if !known {
        return Err(io::Error::last_os_error());
    }
    let name = format!("kiln-jit-{:04}{:02}{:02}-XXXXXX", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday);
    let template = CString::new(parent.join(name).into_os_string().as_bytes())?.into_raw();
    // SAFETY: the template is a string that may be written to; mkdtemp replaces its last six characters.
    let made = unsafe { !libc::mkdtemp(template).is_null() };
    let result = if made { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: the string is from `into_raw` and has kept its length.
    let template = unsafe { CString::from_raw(template) };
    result.map(|()| OsStr::from_bytes(template.as_bytes()).into())
}

/// Nanoseconds of CLOCK_MONOTONIC.
fn now() -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid.
    match unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) } {
        0 => Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

fn thread() -> u32 {
    // SAFETY: gettid takes nothing. As a system call, since older C libraries have no function for it.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

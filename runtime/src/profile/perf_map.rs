//! Perf maps: a line of text per kernel, `START SIZE NAME` in hexadecimal, which perf reads when it reports.
//!
//! A perf map knows no time. Where an address held several kernels, perf shows one of them; a [jitdump](super::jitdump)
//! tells them apart.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::sink::Sink;

/// Where perf looks.
pub(super) const DIRECTORY: &str = "/tmp";

pub(super) struct PerfMap {
    file: File,
}

impl PerfMap {
    /// Opens `perf-PROCESS.map`. Other code generators of the process, such as oneDNN or Python, may write to it too, so
    /// lines are appended. One of them is Cranelift's module: it repeats our lines where `PERF_BUILDID_DIR` is set, as it is
    /// for children of `perf record`. perf shows equal lines as one.
    pub(super) fn open(directory: &Path, process: u32) -> io::Result<PerfMap> {
        // The name can be guessed and anyone can write to the directory: a link would lead to a file of its maker's choice.
        // A pipe would have this process wait for somebody who reads it.
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(directory.join(format!("perf-{process}.map")))?;
        match file.metadata()?.is_file() {
            true => Ok(PerfMap { file }),
            false => Err(io::Error::other("somebody has put something there that is not a regular file")),
        }
    }
}

impl Sink for PerfMap {
    fn record(&mut self, name: &str, address: *const u8, code: &[u8]) -> io::Result<()> {
        // In one write, which another writer's line cannot fall into.
        let line = format!("{:x} {:x} {name}\n", address.addr(), code.len());
        self.file.write_all(line.as_bytes())
    }
}

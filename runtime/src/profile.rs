//! Telling Linux perf which addresses hold which kernel: a [perf map](perf_map), a [jitdump], or both.
//!
//! A [`Profile`] is plain data: what is wanted, and where. The files belong to the process, not to a runtime, so they are
//! the crate's only global state. perf finds them by the process alone: a perf map by its name, a jitdump by a mapping
//! that every further file would add, and two writers of one file would cut each other's records short.
//!
//! Profiling fails no compilation unless settings are strict: a file that cannot be written is told of once and then left alone.

mod jitdump;
mod perf_map;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

use jitdump::JitDump;
use perf_map::PerfMap;
use sink::Sink;

use crate::error::RuntimeError;
use crate::notice::Notice;
use crate::notices::Notices;

/// The values of a setting, in words.
pub(crate) const EXPECTED: &str = "0 (off), 2 (perf map), 4 (jitdump) or 6 (both)";

/// A setting that selects no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` selects no profile: expected {expected}", expected = EXPECTED)]
pub(crate) struct BadProfile(String);

/// The files that published code is written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    outputs: Vec<(Format, PathBuf)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    PerfMap,
    JitDump,
}

impl Profile {
    /// Reads oneDNN's bit mask. `jitdump` is the directory in which jitdumps get a directory of their own.
    ///
    /// Bit 0 asks for VTune. It has no effect, but it is oneDNN's default, so a variable shared with oneDNN may have it.
    /// Bit 3 is refused: it asks for time stamps of another clock, and perf would put kernels at the wrong times.
    pub(crate) fn from_bits(bits: u32, jitdump: &Path) -> Result<Profile, BadProfile> {
        const VTUNE: u32 = 1;
        const PERF_MAP: u32 = 2;
        const JITDUMP: u32 = 4;
        if bits & !(VTUNE | PERF_MAP | JITDUMP) != 0 {
            return Err(BadProfile(bits.to_string()));
        }
        let mut outputs = Vec::new();
        if bits & PERF_MAP != 0 {
            outputs.push((Format::PerfMap, perf_map::DIRECTORY.into()));
        }
        if bits & JITDUMP != 0 {
            outputs.push((Format::JitDump, jitdump.to_owned()));
        }
        Ok(Profile { outputs })
    }

    /// [`from_bits`](Self::from_bits) of a decimal number.
    pub(crate) fn parse(text: &str, jitdump: &Path) -> Result<Profile, BadProfile> {
        let bits = text.trim().parse().map_err(|_| BadProfile(text.to_owned()))?;
        Profile::from_bits(bits, jitdump)
    }

    /// Tells perf that `code` lies at `address`. Call it before the code is executed: samples taken earlier are not
    /// attributed to it.
    pub(crate) fn record_with(
        &self,
        name: impl FnOnce() -> String,
        address: *const u8,
        code: &[u8],
        notices: &Notices,
    ) -> Result<(), RuntimeError> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        let failures = self.record(&name(), address, code);
        failures.into_iter().try_for_each(|(path, error)| notices.tell(Notice::Profile { path, error }))
    }

    /// The same with the name at hand. Gives the directories of the files that cannot be written, or could not be before.
    pub(crate) fn record(&self, name: &str, address: *const u8, code: &[u8]) -> Vec<(PathBuf, Arc<io::Error>)> {
        if self.outputs.is_empty() {
            return vec![];
        }
        // Neither a line nor a string that ends at NUL can hold every name.
        let name = name.replace(char::is_control, " ");
        let process = std::process::id();
        // One lock for opening and writing keeps a jitdump's records in the order of their time stamps.
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        let record = |(format, directory): &(Format, PathBuf)| {
            let output = files
                .entry((process, *format, directory.clone()))
                .or_insert_with(|| Output::open(process, *format, directory));
            output.record(&name, address, code).err().map(|error| (directory.clone(), error))
        };
        self.outputs.iter().filter_map(record).collect()
    }
}

/// All files of the process. The process is part of the key because of `fork`: a child shares its parent's open files,
/// but perf looks for files of the child's own.
static FILES: Mutex<BTreeMap<(u32, Format, PathBuf), Output>> = Mutex::new(BTreeMap::new());

/// A file, until it fails or is closed.
enum Output {
    Open(Box<dyn Sink>),
    Closed,
    Failed(Arc<io::Error>),
}

impl Output {
    fn open(process: u32, format: Format, directory: &Path) -> Output {
        let sink: io::Result<Box<dyn Sink>> = match format {
            Format::PerfMap => PerfMap::open(directory, process).map(|s| Box::new(s) as _),
            Format::JitDump => {
                close_at_exit();
                JitDump::open(directory, process).map(|s| Box::new(s) as _)
            }
        };
        sink.map_or_else(|error| Output::Failed(Arc::new(error)), Output::Open)
    }

    fn record(&mut self, name: &str, address: *const u8, code: &[u8]) -> Result<(), Arc<io::Error>> {
        if let Output::Open(sink) = self
            && let Err(error) = sink.record(name, address, code)
        {
            *self = Output::Failed(Arc::new(error));
        }
        match self {
            Output::Failed(error) => Err(error.clone()),
            Output::Open(_) | Output::Closed => Ok(()),
        }
    }
}

/// Has jitdumps closed when the process exits: statics are not dropped.
fn close_at_exit() {
    extern "C" fn close() {
        // Other threads may still compile, and `exit` may have interrupted one that holds the lock. perf reads a file
        // that was not closed as well, so this does not wait.
        let Ok(mut files) = FILES.try_lock() else { return };
        let process = std::process::id();
        for ((owner, ..), output) in files.iter_mut() {
            if *owner == process
                && let Output::Open(sink) = output
            {
                // Nobody is left to be told.
                let _ = sink.close();
                *output = Output::Closed;
            }
        }
    }
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: `close` is a function without arguments that does not unwind. Should this fail, files stay open.
        unsafe { libc::atexit(close) };
    });
}

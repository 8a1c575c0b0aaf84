//! Executable memory: pages from a pool, writable while code is copied in, then executable, never both.
//!
//! A [`CodePool`] maps memory in chunks of [`CHUNK`] bytes and hands out runs of pages. All code of a process lies in few
//! mappings, no kernel costs an `mmap`, and what dropped kernels leave is used again. [`LoadedCode`] is one position-independent
//! image in pages of its own; dropping it returns them.
//!
//! Invariants, and where they are upheld:
//! - A page is never writable and executable: `PageRun::protect` is the only place that changes access, and knows no such
//!   [`Protection`].
//! - Free pages are writable, not executable: a stale pointer into them faults (`CodePool::release`).
//! - A run holds nothing but traps when it is handed out, so stray jumps behind the code fault (`CodePool::take`).
//! - Code is published to instruction fetch before anyone can call it (`LoadedCode::publish`).

mod coherence;
mod free_runs;
mod loaded;

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coherence::Synchronisation;
use free_runs::FreeRuns;
pub use loaded::LoadedCode;

/// Bytes mapped at a time; larger requests get a chunk of their own. The size of a huge page on x86-64 and 4 KiB AArch64.
pub const CHUNK: usize = 2 << 20;

/// The byte that fills unused code memory, such that executing it traps: UDF #0 on AArch64, INT3 on x86-64.
const TRAP: u8 = if cfg!(target_arch = "x86_64") { 0xcc } else { 0 };

/// Code could not be put into executable memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeMemoryError {
    /// The operating system gave no memory.
    #[error("cannot map {bytes} bytes for code: {source}")]
    Map {
        /// The value that was asked for.
        bytes: usize,
        /// Its answer.
        source: io::Error,
    },
    /// The operating system did not change the access to pages, e.g. because a policy forbids making memory executable.
    #[error("cannot make {bytes} bytes of code memory {access}: {source}")]
    Protect {
        /// The length of the pages.
        bytes: usize,
        /// The access wanted.
        access: Protection,
        /// Its answer.
        source: io::Error,
    },
    /// Other threads could not be made to see new code.
    #[error("cannot synchronise the instruction streams of other threads: {0}")]
    Synchronise(#[source] io::Error),
    /// The pool's limit does not allow the code.
    #[error("{requested} bytes of code exceed the limit of {limit} bytes, of which {live} are in use")]
    Limit {
        /// Bytes asked for, in whole pages.
        requested: usize,
        /// Bytes in use.
        live: usize,
        /// The limit of the pool.
        limit: usize,
    },
    /// There is no code.
    #[error("an empty image cannot be loaded")]
    Empty,
}

/// The use that pages can be put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Reading and writing.
    Write,
    /// Reading and executing.
    Execute,
}

impl Protection {
    fn flags(self) -> libc::c_int {
        match self {
            Protection::Write => libc::PROT_READ | libc::PROT_WRITE,
            Protection::Execute => libc::PROT_READ | libc::PROT_EXEC,
        }
    }
}

impl std::fmt::Display for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Protection::Write => "writable",
            Protection::Execute => "executable",
        })
    }
}

/// Executable memory in use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeStats {
    /// Mapped, in use or free.
    pub reserved: usize,
    /// In use, in whole pages.
    pub live: usize,
    /// The most that was in use at once.
    pub peak: usize,
}

/// Pages for code, shared by all kernels of a runtime.
pub struct CodePool {
    page: usize,
    limit: usize,
    synchronisation: Synchronisation,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: BTreeMap<usize, Chunk>,
    stats: CodeStats,
}

/// A mapping of its own. Its free parts are writable; its other parts belong to [`PageRun`]s.
struct Chunk {
    base: NonNull<u8>,
    bytes: usize,
    free: FreeRuns,
}

// SAFETY: a chunk is plain memory that no thread is tied to.
unsafe impl Send for Chunk {}

impl Chunk {
    fn map(bytes: usize) -> Result<Chunk, CodeMemoryError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, Protection::Write.flags(), flags, -1, 0) };
        let source = || io::Error::last_os_error();
        if base == libc::MAP_FAILED {
            return Err(CodeMemoryError::Map { bytes, source: source() });
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| CodeMemoryError::Map { bytes, source: source() })?;
        Ok(Chunk { base, bytes, free: FreeRuns::all(bytes) })
    }

    fn take(&mut self, bytes: usize) -> Option<PageRun> {
        let offset = self.free.take(bytes)?;
        // SAFETY: the offset lies inside the mapping that starts at `base`.
        Some(PageRun { base: unsafe { self.base.add(offset) }, bytes })
    }

    fn is_free(&self) -> bool {
        self.free.best_fit(self.bytes).is_some()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the mapping is this chunk's own, and no run of it is in use: a chunk is dropped when it is all free, or
        // with the pool, which every owner of a run keeps alive.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Pages that belong to the holder. Not `Clone`: whoever has it is alone in changing the pages and their access.
struct PageRun {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pages are plain memory that no thread is tied to, and the run is their only owner.
unsafe impl Send for PageRun {}

impl PageRun {
    fn protect(&self, access: Protection) -> Result<(), CodeMemoryError> {
        // SAFETY: the pages are mapped and owned by this run, so nothing else relies on their access.
        match unsafe { libc::mprotect(self.base.as_ptr().cast(), self.bytes, access.flags()) } {
            0 => Ok(()),
            _ => Err(CodeMemoryError::Protect { bytes: self.bytes, access, source: io::Error::last_os_error() }),
        }
    }
}

impl CodePool {
    /// A pool without a limit.
    pub fn new() -> Result<Arc<CodePool>, CodeMemoryError> {
        CodePool::with_limit(usize::MAX)
    }

    /// A pool that refuses code when more than `limit` bytes would be in use.
    pub fn with_limit(limit: usize) -> Result<Arc<CodePool>, CodeMemoryError> {
        // SAFETY: sysconf reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        // Linux always knows its page size; 64 KiB is a multiple of every page size it has.
        let page = usize::try_from(page).unwrap_or(64 << 10);
        let synchronisation = coherence::prepare();
        if synchronisation == Synchronisation::OnCall {
            tracing::info!("membarrier(SYNC_CORE) is not available: every kernel call executes an ISB");
        }
        Ok(Arc::new(CodePool { page, limit, synchronisation, state: Mutex::default() }))
    }

    /// The memory that the pool has now.
    pub fn stats(&self) -> CodeStats {
        self.state().stats
    }

    /// Bytes in a page: what memory is handed out in multiples of.
    #[cfg(test)]
    pub fn page_size(&self) -> usize {
        self.page
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At least `bytes` of writable pages, filled with traps.
    fn take(&self, bytes: usize) -> Result<PageRun, CodeMemoryError> {
        let mut state = self.state();
        let live = state.stats.live;
        let requested = bytes.max(1).checked_next_multiple_of(self.page);
        let Some(bytes) = requested.filter(|r| live.checked_add(*r).is_some_and(|sum| sum <= self.limit)) else {
            return Err(CodeMemoryError::Limit { requested: bytes, live, limit: self.limit });
        };
        let fitting = state.chunks.values_mut().filter_map(|c| Some((c.free.best_fit(bytes)?, c)));
        let run = match fitting.min_by_key(|(length, _)| *length) {
            Some((_, chunk)) => chunk.take(bytes),
            None => {
                let mut chunk = Chunk::map(bytes.checked_next_multiple_of(CHUNK).unwrap_or(bytes))?;
                let run = chunk.take(bytes);
                state.stats.reserved += chunk.bytes;
                state.chunks.insert(chunk.base.addr().get(), chunk);
                run
            }
        };
        let run = run.expect("a chunk was chosen because the run fits");
        state.stats.live += bytes;
        state.stats.peak = state.stats.peak.max(state.stats.live);
        drop(state);
        // SAFETY: the run's pages are writable, like all free pages, and no one else's.
        unsafe { run.base.write_bytes(TRAP, run.bytes) };
        Ok(run)
    }

    /// Takes pages back. The caller promises that no code in them runs or will be called.
    fn release(&self, run: PageRun) {
        if let Err(error) = run.protect(Protection::Write) {
            // Splitting a mapping can fail for want of kernel memory. Pages that may still be executable must not be
            // handed out as writable ones, so they stay in use.
            tracing::warn!(%error, "code memory is lost");
            return;
        }
        let mut state = self.state();
        let address = run.base.addr().get();
        let (_, chunk) = state.chunks.range_mut(..=address).next_back().expect("the run came from this pool");
        let start = chunk.base.addr().get();
        chunk.free.give(address - start, run.bytes);
        let chunk_is_free = chunk.is_free();
        state.stats.live -= run.bytes;
        // One free chunk is kept, so that a pool that empties and fills again does not map and unmap.
        let surplus = chunk_is_free && state.chunks.values().filter(|c| c.is_free()).count() > 1;
        let unmapped = surplus.then(|| state.chunks.remove(&start)).flatten();
        state.stats.reserved -= unmapped.as_ref().map_or(0, |c| c.bytes);
        drop(state);
    }
}

#[cfg(test)]
mod tests;

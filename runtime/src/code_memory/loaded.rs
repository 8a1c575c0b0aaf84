//! One image of machine code, loaded.

use std::sync::Arc;

use super::coherence::{self, Synchronisation};
use super::{CodeMemoryError, CodePool, PageRun, Protection};

/// Position-independent code in executable memory. Its pages go back to the pool when it is dropped, so whoever calls the
/// code must keep it alive meanwhile.
pub struct LoadedCode {
    pool: Arc<CodePool>,
    /// `Some` until drop.
    run: Option<PageRun>,
    /// As a function pointer, which can go to other threads. It is never called as this type.
    entry: unsafe extern "C" fn(),
    bytes: usize,
    resident: usize,
}

// SAFETY: the run's pages are only read and executed while there is a `LoadedCode`, and only `drop` changes them, which has
// it for its own.
unsafe impl Sync for LoadedCode {}

impl LoadedCode {
    /// Copies `image` into executable memory, at the start of a page. The image is used as it is: it must not need relocation.
    pub fn publish(pool: &Arc<CodePool>, image: &[u8]) -> Result<LoadedCode, CodeMemoryError> {
        if image.is_empty() {
            return Err(CodeMemoryError::Empty);
        }
        let run = pool.take(image.len())?;
        match write(pool, &run, image) {
            Ok(()) => Ok(LoadedCode {
                pool: Arc::clone(pool),
                // SAFETY: the pointer is not null, and points to the image. A function pointer has the size of a data
                // pointer on the architectures there is code for, and is not called as this type.
                entry: unsafe { std::mem::transmute::<*mut u8, unsafe extern "C" fn()>(run.base.as_ptr()) },
                bytes: image.len(),
                resident: run.bytes,
                run: Some(run),
            }),
            Err(e) => {
                pool.release(run);
                Err(e)
            }
        }
    }

    /// The first byte of the image, to be cast to the function's type. Valid while `self` lives.
    ///
    /// Ask for it before each call, on the thread that calls: where the kernel cannot make other threads see new code,
    /// this does it for the calling thread.
    #[inline]
    pub fn entry(&self) -> *const u8 {
        if self.pool.synchronisation == Synchronisation::OnCall {
            coherence::synchronise_this_core();
        }
        self.entry as *const u8
    }

    /// The length of the image.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory the image occupies: whole pages.
    pub fn resident_bytes(&self) -> usize {
        self.resident
    }
}

/// Makes the pages of a fresh run hold `image`, ready to be executed on any core.
fn write(pool: &CodePool, run: &PageRun, image: &[u8]) -> Result<(), CodeMemoryError> {
    // SAFETY: the run is at least as long as the image, writable, initialised (with traps, by the pool), and this thread's.
    let pages = unsafe { std::slice::from_raw_parts_mut(run.base.as_ptr(), run.bytes) };
    pages[..image.len()].copy_from_slice(image);
    // Before the pages lose write access: some cores have errata in cleaning read-only lines.
    coherence::publish(pages);
    run.protect(Protection::Execute)?;
    if pool.synchronisation == Synchronisation::OnPublish {
        coherence::synchronise_cores().map_err(CodeMemoryError::Synchronise)?;
    }
    Ok(())
}

impl Drop for LoadedCode {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            // Callers of the code keep `self` alive (see the type), so nobody runs or will call it.
            self.pool.release(run);
        }
    }
}

impl std::fmt::Debug for LoadedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedCode").field("entry", &self.entry).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

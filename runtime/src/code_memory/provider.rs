//! The pool as Cranelift's memory provider.

use std::io;
use std::sync::Arc;

use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};
use cranelift_module::{ModuleError, ModuleResult};

use super::coherence::{self, Synchronisation};
use super::{Access, CodeMemoryError, CodePool, PageRun};

/// The memory of one Cranelift module, from a [`CodePool`].
///
/// As Cranelift asks of a provider, dropping it without [`free_memory`](JITMemoryProvider::free_memory) leaks what was
/// finalized: function pointers stay valid. What was not finalized goes back to the pool.
pub struct PoolMemory {
    pool: Arc<CodePool>,
    segments: Vec<Segment>,
}

/// Pages of one kind, filled from the start.
struct Segment {
    run: PageRun,
    used: usize,
    purpose: Access,
    finalized: bool,
}

impl Segment {
    /// The offset of `size` more bytes, if the segment still takes them.
    fn reserve(&mut self, size: usize, align: usize, purpose: Access) -> Option<usize> {
        let start = self.used.checked_next_multiple_of(align)?;
        let end = start.checked_add(size)?;
        let fits = !self.finalized && self.purpose == purpose && end <= self.run.bytes;
        fits.then(|| {
            self.used = end;
            start
        })
    }

    fn finalize(&mut self, protection: BranchProtection) -> Result<(), CodeMemoryError> {
        let access = match (self.purpose, protection) {
            (Access::Execute, BranchProtection::BTI) if has_bti() => Access::ExecuteGuarded,
            (purpose, _) => purpose,
        };
        if self.purpose == Access::Execute {
            // SAFETY: the run's pages are readable and initialised (with traps, by the pool), and its owner has `self`.
            let code = unsafe { std::slice::from_raw_parts(self.run.base.as_ptr(), self.run.bytes) };
            // Before the pages lose write access: some cores have errata in cleaning read-only lines.
            coherence::publish(code);
        }
        if access != Access::Write {
            self.run.protect(access)?;
        }
        self.finalized = true;
        Ok(())
    }
}

fn has_bti() -> bool {
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bti");
    #[cfg(not(target_arch = "aarch64"))]
    false
}

impl PoolMemory {
    /// No memory yet.
    pub fn new(pool: Arc<CodePool>) -> PoolMemory {
        PoolMemory { pool, segments: Vec::new() }
    }

    fn reserve(&mut self, size: usize, align: u64, purpose: Access) -> Result<*mut u8, CodeMemoryError> {
        let align = self.pool.alignment(align)?;
        let open = self.segments.iter_mut().find_map(|s| Some((s.reserve(size, align, purpose)?, s)));
        let (offset, segment) = match open {
            Some(found) => found,
            None => {
                let run = self.pool.take(size)?;
                (0, self.segments.push_mut(Segment { run, used: size, purpose, finalized: false }))
            }
        };
        // SAFETY: the offset lies inside the run.
        Ok(unsafe { segment.run.base.add(offset) }.as_ptr())
    }
}

impl JITMemoryProvider for PoolMemory {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        let purpose = match kind {
            JITMemoryKind::Executable => Access::Execute,
            JITMemoryKind::Writable => Access::Write,
            JITMemoryKind::ReadOnly => Access::Read,
        };
        self.reserve(size, align, purpose).map_err(io::Error::other)
    }

    /// # Safety
    ///
    /// No code in this memory runs, and none will be called.
    unsafe fn free_memory(&mut self) {
        self.segments.drain(..).for_each(|segment| self.pool.release(segment.run));
    }

    fn finalize(&mut self, protection: BranchProtection) -> ModuleResult<()> {
        let mut finalize = || {
            let mut code_is_new = false;
            for segment in self.segments.iter_mut().filter(|s| !s.finalized) {
                segment.finalize(protection)?;
                code_is_new |= segment.purpose == Access::Execute;
            }
            if code_is_new && self.pool.synchronisation == Synchronisation::OnPublish {
                coherence::synchronise_cores().map_err(CodeMemoryError::Synchronise)?;
            }
            Ok(())
        };
        finalize().map_err(|e: CodeMemoryError| ModuleError::Backend(e.into()))
    }
}

impl Drop for PoolMemory {
    fn drop(&mut self) {
        let (leaked, unused): (Vec<_>, Vec<_>) = self.segments.drain(..).partition(|s| s.finalized);
        unused.into_iter().for_each(|segment| self.pool.release(segment.run));
        if !leaked.is_empty() {
            // The pool unmaps its chunks when its last owner goes: be one for ever.
            std::mem::forget(Arc::clone(&self.pool));
        }
    }
}

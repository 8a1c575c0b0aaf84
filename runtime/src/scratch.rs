//! Scratch memory for kernel calls: packed panels and partial sums that live for one call.
//!
//! Buffers return to a pool when a call ends, so calls in steady state allocate nothing. The pool is a short list under a
//! lock that is held for a look over at most [`Retain::buffers`] entries, never while
//! allocating or freeing buffers.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The least alignment of a buffer: a cache line, and the widest vector of x86-64.
pub const MIN_ALIGN: usize = 64;

/// Capacities are multiples of this, so that nearly equal requests share buffers.
const GRANULE: usize = 4096;

/// Scratch memory could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScratchError {
    /// The allocator has no memory left.
    #[error("out of memory: {bytes} bytes of scratch memory")]
    OutOfMemory {
        /// The value that was asked for.
        bytes: usize,
    },
    /// No allocation can have this size and alignment.
    #[error("{bytes} bytes of scratch memory aligned to {align} cannot be allocated")]
    Layout {
        /// The value that was asked for.
        bytes: usize,
        /// Expected to be a power of two.
        align: usize,
    },
}

/// The memory that a [`ScratchPool`] keeps for later calls. Buffers in use do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retain {
    /// Buffers. Above it the smallest goes: what it could serve, another can.
    pub buffers: usize,
    /// The sum of their bytes. Above it the largest goes.
    pub bytes: usize,
}

/// The content and the history of a pool of scratch memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScratchStats {
    /// Buffers waiting for a call.
    pub buffers: usize,
    /// The sum of their bytes.
    pub bytes: usize,
    /// Allocations since the pool was created; constant in steady state.
    pub allocations: u64,
}

/// A zero-initialised allocation.
pub(crate) struct Buffer {
    /// The layout of the allocation.
    start: NonNull<u8>,
    allocated: Layout,
    /// The part of it that was asked for.
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a buffer is the only owner of plain memory.
unsafe impl Send for Buffer {}
// SAFETY: through a shared buffer its bytes are only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Zeros; `None` without the memory.
    ///
    /// # Panics
    /// If `layout` is empty.
    pub(crate) fn allocate(layout: Layout) -> Option<Buffer> {
        /// Up to this alignment the system gives pages that are zero already; beyond it, all of them would be written.
        const PLAIN_ALIGN: usize = 16;
        assert_ne!(layout.size(), 0, "an allocation has bytes");
        let allocated = Layout::from_size_align(layout.size().checked_add(layout.align())?, PLAIN_ALIGN).ok()?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(allocated) })?;
        let offset = start.as_ptr().addr().next_multiple_of(layout.align()) - start.as_ptr().addr();
        // SAFETY: less than the alignment, by which the allocation is longer than what was asked for.
        let base = unsafe { start.add(offset) };
        populate(base, layout.size());
        Some(Buffer { start, allocated, base, layout })
    }

    /// All bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the allocation has as many bytes, initialised, and lives as long as `self`; without a `&mut` nobody writes.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.layout.size()) }
    }

    /// All bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.layout.size()) }
    }
}

/// Asks the system for the pages of large memory at once: a fault for each of them takes longer than packing weights into it.
fn populate(base: NonNull<u8>, bytes: usize) {
    /// Below it, memory is mostly of the allocator and there already.
    const LARGE: usize = 1 << 20;
    /// A multiple of every size of pages.
    const PAGE: usize = 64 << 10;
    if bytes >= LARGE {
        let start = base.as_ptr().addr().next_multiple_of(PAGE) - base.as_ptr().addr();
        let len = (bytes - start) / PAGE * PAGE;
        // SAFETY: the range is inside an allocation, and what it contains stays as it is. A system that cannot do it does nothing.
        unsafe { libc::madvise(base.as_ptr().add(start).cast(), len, libc::MADV_POPULATE_WRITE) };
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, by `allocate`.
        unsafe { dealloc(self.start.as_ptr(), self.allocated) };
    }
}

/// Buffers for the calls of one runtime, from any thread.
pub struct ScratchPool {
    retain: Retain,
    state: Mutex<State>,
}

struct State {
    idle: Vec<Buffer>,
    stats: ScratchStats,
}

impl ScratchPool {
    /// An empty pool.
    pub fn new(retain: Retain) -> ScratchPool {
        let state = State { idle: Vec::new(), stats: ScratchStats::default() };
        ScratchPool { retain, state: Mutex::new(state) }
    }

    /// `bytes` of memory aligned to `align` (a power of two) and to [`MIN_ALIGN`], for as long as the guard lives.
    ///
    /// Fresh memory is zero; memory that was used before holds what the last user left.
    pub fn take(&self, bytes: usize, align: usize) -> Result<ScratchGuard<'_>, ScratchError> {
        let layout = bytes
            .checked_next_multiple_of(GRANULE)
            .and_then(|capacity| Layout::from_size_align(capacity, align.max(MIN_ALIGN)).ok())
            .filter(|_| align.is_power_of_two())
            .ok_or(ScratchError::Layout { bytes, align })?;
        if bytes == 0 {
            return Ok(ScratchGuard { pool: self, buffer: None, bytes });
        }
        let mut state = self.state();
        let fits = |b: &Buffer| b.layout.size() >= bytes && b.layout.align() >= layout.align();
        let fitting = state.idle.iter().enumerate().filter(|(_, b)| fits(b));
        let buffer = match fitting.min_by_key(|(_, b)| b.layout.size()).map(|(at, _)| at) {
            Some(at) => {
                let buffer = state.idle.swap_remove(at);
                state.stats.bytes -= buffer.layout.size();
                buffer
            }
            None => {
                state.stats.allocations += 1;
                drop(state);
                Buffer::allocate(layout).ok_or(ScratchError::OutOfMemory { bytes })?
            }
        };
        Ok(ScratchGuard { pool: self, buffer: Some(buffer), bytes })
    }

    /// The memory that the pool holds now.
    pub fn stats(&self) -> ScratchStats {
        let state = self.state();
        ScratchStats { buffers: state.idle.len(), ..state.stats }
    }

    /// Frees all buffers that are not in use.
    pub fn clear(&self) {
        let mut state = self.state();
        let idle = std::mem::take(&mut state.idle);
        state.stats.bytes = 0;
        drop(state);
        drop(idle);
    }

    fn give(&self, buffer: Buffer) {
        let mut state = self.state();
        state.stats.bytes += buffer.layout.size();
        state.idle.push(buffer);
        let smallest = (state.idle.len() > self.retain.buffers).then(|| state.remove(|size| size)).flatten();
        // Each call adds one buffer, so at most the ones displaced by it go: in steady state none.
        let mut largest = Vec::new();
        while state.stats.bytes > self.retain.bytes {
            largest.extend(state.remove(std::cmp::Reverse));
        }
        drop(state);
        drop((smallest, largest));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes the idle buffer with the least `rank` of its size.
    fn remove<R: Ord>(&mut self, rank: impl Fn(usize) -> R) -> Option<Buffer> {
        let (at, _) = self.idle.iter().enumerate().min_by_key(|(_, b)| rank(b.layout.size()))?;
        let buffer = self.idle.swap_remove(at);
        self.stats.bytes -= buffer.layout.size();
        Some(buffer)
    }
}

/// Memory for one call; goes back to its pool on drop. Dereferences to the bytes that were asked for.
pub struct ScratchGuard<'a> {
    pool: &'a ScratchPool,
    /// `None` for no bytes, and while dropped.
    buffer: Option<Buffer>,
    bytes: usize,
}

impl ScratchGuard<'_> {
    /// The first byte, aligned as asked for. Dangling (and aligned to [`MIN_ALIGN`]) when no bytes were asked for.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.base().as_ptr()
    }

    fn base(&self) -> NonNull<u8> {
        match &self.buffer {
            Some(buffer) => buffer.base,
            None => NonNull::without_provenance(const { std::num::NonZero::new(MIN_ALIGN).unwrap() }),
        }
    }
}

impl Deref for ScratchGuard<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer has at least `bytes` bytes, initialised when it was allocated, and only this guard has it;
        // without a buffer `bytes` is 0 and the pointer is aligned.
        unsafe { std::slice::from_raw_parts(self.base().as_ptr(), self.bytes) }
    }
}

impl DerefMut for ScratchGuard<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.base().as_ptr(), self.bytes) }
    }
}

impl Drop for ScratchGuard<'_> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.give(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn pool(buffers: usize, bytes: usize) -> ScratchPool {
        ScratchPool::new(Retain { buffers, bytes })
    }

    #[test]
    fn memory_is_zero_at_first_aligned_and_used_again() {
        let pool = pool(4, 64 * KIB);
        let mut first = pool.take(5_000, 64).unwrap();
        assert_eq!((first.len(), first.as_mut_ptr().addr() % 64), (5_000, 0));
        assert!(first.iter().all(|byte| *byte == 0));
        first.fill(7);
        let address = first.as_mut_ptr();
        drop(first);
        for bytes in [5_000, 1, 8 * KIB] {
            assert_eq!(pool.take(bytes, 1).unwrap().as_mut_ptr(), address);
        }
        assert_eq!(pool.stats(), ScratchStats { buffers: 1, bytes: 8 * KIB, allocations: 1 });
        let aligned = pool.take(100, 4096).unwrap().as_mut_ptr();
        assert_eq!(aligned.addr() % 4096, 0);
        pool.clear();
        assert_eq!(pool.stats(), ScratchStats { buffers: 0, bytes: 0, allocations: 2 });
    }

    #[test]
    fn the_best_fit_is_taken() {
        let pool = pool(8, 1024 * KIB);
        let buffers = [64, 4, 16].map(|kib| pool.take(kib * KIB, 64).unwrap());
        drop(buffers);
        let mut small = pool.take(3 * KIB, 64).unwrap();
        let mut middle = pool.take(5 * KIB, 64).unwrap();
        assert_eq!(pool.stats(), ScratchStats { buffers: 1, bytes: 64 * KIB, allocations: 3 });
        assert_ne!(small.as_mut_ptr(), middle.as_mut_ptr());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let pool = pool(2, 100 * KIB);
        drop([4, 8, 12].map(|kib| pool.take(kib * KIB, 64).unwrap()));
        assert_eq!((pool.stats().buffers, pool.stats().bytes), (2, 20 * KIB), "the smallest went");
        drop(pool.take(96 * KIB, 64).unwrap());
        assert_eq!((pool.stats().buffers, pool.stats().bytes), (1, 12 * KIB), "the smallest went, then the largest");
        drop(pool.take(200 * KIB, 64).unwrap());
        assert_eq!((pool.stats().buffers, pool.stats().bytes), (1, 12 * KIB), "too large to keep");
        let none = ScratchPool::new(Retain { buffers: 0, bytes: usize::MAX });
        drop(none.take(1, 1).unwrap());
        assert_eq!(none.stats().buffers, 0);
    }

    #[test]
    fn nothing_and_the_impossible() {
        let pool = pool(2, 100 * KIB);
        let mut empty = pool.take(0, 64).unwrap();
        assert!(empty.is_empty() && empty.as_mut_ptr().addr().is_multiple_of(64));
        assert_eq!(pool.stats().allocations, 0);
        for (bytes, align) in [(usize::MAX, 64), (isize::MAX as usize, 64), (1, 3), (1, 0), (0, 3)] {
            assert_eq!(pool.take(bytes, align).err(), Some(ScratchError::Layout { bytes, align }));
        }
        let bytes = 1 << 60;
        assert_eq!(pool.take(bytes, 64).err(), Some(ScratchError::OutOfMemory { bytes }));
    }

    #[test]
    fn threads_in_steady_state_allocate_once_each() {
        const THREADS: usize = 4;
        let pool = pool(THREADS, 1024 * KIB);
        std::thread::scope(|scope| {
            for thread in 0..THREADS as u8 {
                let pool = &pool;
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let mut scratch = pool.take(9_000, 64).unwrap();
                        scratch.fill(thread);
                        assert!(scratch.iter().all(|byte| *byte == thread), "the memory is this thread's alone");
                    }
                });
            }
        });
        let stats = pool.stats();
        assert!((1..=THREADS as u64).contains(&stats.allocations), "{stats:?}");
        assert_eq!(stats.buffers as u64, stats.allocations);
    }
}

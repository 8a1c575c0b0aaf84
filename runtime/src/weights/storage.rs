//! The memory that packed weights are in.

use std::alloc::Layout;

use bytes::Bytes;
use memmap2::MmapMut;

use crate::error::RuntimeError;
use crate::scratch::{Buffer, MIN_ALIGN, ScratchError};

/// Memory of packed weights, aligned to [`MIN_ALIGN`].
pub(super) enum Storage {
    /// A buffer of the allocator's.
    Own(Buffer),
    /// Pages of its own, which go back to the system when they are dropped: an allocator keeps some of what it gets.
    Pages(MmapMut),
    /// Somebody else's, a mapped file's for example.
    Shared(Bytes),
}

impl Storage {
    /// As many bytes as asked for, filled.
    pub(super) fn filled(
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), RuntimeError>,
    ) -> Result<Self, RuntimeError> {
        /// The least bytes that have pages of their own.
        const LARGE: usize = 1 << 20;
        let layout =
            Layout::from_size_align(bytes, MIN_ALIGN).map_err(|_| ScratchError::Layout { bytes, align: MIN_ALIGN })?;
        let none = || RuntimeError::from(ScratchError::OutOfMemory { bytes });
        if bytes >= LARGE {
            let mut pages = MmapMut::map_anon(bytes).map_err(|_| none())?;
            fill(&mut pages)?;
            return Ok(Storage::Pages(pages));
        }
        let mut buffer = Buffer::allocate(layout).ok_or_else(none)?;
        fill(buffer.bytes_mut())?;
        Ok(Storage::Own(buffer))
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Storage::Own(buffer) => buffer.bytes(),
            Storage::Pages(pages) => pages,
            Storage::Shared(bytes) => bytes,
        }
    }
}

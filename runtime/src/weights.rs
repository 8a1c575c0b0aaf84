//! Constant weights, packed once for the kernels that read them.

use std::alloc::Layout;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_compiler::packed::{PackedLayout, Weights};
use kiln_ir::contraction::View;

use crate::error::RuntimeError;
use crate::scratch::{Buffer, MIN_ALIGN, ScratchError};

/// Weights in the order in which kernels read them, made by [`Kernel::pack_weights`](crate::Kernel::pack_weights).
///
/// Any kernel with an equal [layout](Self::layout) takes them, of any runtime, whatever its number of rows. A clone shares the
/// memory.
#[derive(Clone)]
pub struct PackedWeights(Arc<Packed>);

struct Packed {
    layout: Arc<PackedLayout>,
    buffer: Buffer,
    bytes: usize,
    counter: Arc<AtomicUsize>,
}

impl PackedWeights {
    /// Packs `weights`, which `view` and the elements between `taps` say how to find, and adds the bytes to `counter` for as long as they are kept. Slices are
    /// as long as the view says.
    pub(crate) fn pack(
        layout: &Arc<PackedLayout>,
        view: &View,
        taps: u64,
        weights: Weights<'_>,
        counter: &Arc<AtomicUsize>,
    ) -> Result<Self, RuntimeError> {
        let bytes = layout.bytes() as usize;
        let shape =
            Layout::from_size_align(bytes, MIN_ALIGN).map_err(|_| ScratchError::Layout { bytes, align: MIN_ALIGN })?;
        let mut buffer = Buffer::allocate(shape).ok_or(ScratchError::OutOfMemory { bytes })?;
        layout.pack(view, taps, weights, buffer.bytes_mut());
        counter.fetch_add(bytes, Ordering::Relaxed);
        Ok(Self(Arc::new(Packed { layout: layout.clone(), buffer, bytes, counter: counter.clone() })))
    }

    /// Where each element is.
    pub fn layout(&self) -> &PackedLayout {
        &self.0.layout
    }

    /// Bytes of memory, which clones share.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// The memory, aligned to 64 bytes; [`PackedLayout`] says what is where.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.buffer.bytes()
    }

    pub(crate) fn shared_layout(&self) -> &Arc<PackedLayout> {
        &self.0.layout
    }
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedWeights({}, {} bytes)", crate::args::describe(self.layout()), self.bytes())
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

//! The interface of the files that perf reads.

use std::io;

/// A format perf reads.
pub(super) trait Sink: Send {
    fn record(&mut self, name: &str, address: *const u8, code: &[u8]) -> io::Result<()>;

    /// Nothing is recorded after this.
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

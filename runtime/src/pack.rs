//! Kernel packs: files of machine code that is published without being compiled.
//!
//! ```text
//! offset  bytes
//!      0      8  KILNPACK
//!      8      4  format, 2
//!     12      4  0
//!     16     16  checksum: XXH3-128 of all that follows
//!     32      8  length of the file
//!     40      8  length of the manifest
//!     48         manifest: JSON, the compiler's version, the target with its features, and a record for each kernel
//!                code, each image at a multiple of 64
//! ```
//!
//! Numbers are little-endian. Any host builds a pack for any target, and the same kernels give the same bytes.
//!
//! A pack is taken whole or not at all: a file that is not one, was cut off or changed, or comes from another compiler or for
//! another target is refused with a [`PackError`] that says so. Checksums find accidents, not intent. A pack is code and is as
//! trustworthy as the place it comes from; what a record says beside the code is checked as if it came from a stranger.
//!
//! A pack of kernels is for one target. A [bundle](write_bundle) has packs for several targets, and weights, in one file.
//!
//! The file is read, not mapped: whoever cuts off a mapped file kills the process that reads on, and code is copied to executable
//! pages in any case.

mod bundle;
mod contents;
mod disk;
mod error;
mod file;
mod header;
mod kernels;
mod manifest;
mod parts;
mod weights;

pub use bundle::write_bundle;
pub use contents::Contents;
pub use disk::CacheDirError;
pub(crate) use disk::{Cached, DiskCache, Trust};
pub use error::PackError;
pub use kernels::{FORMAT, Pack, to_bytes, write};
pub(crate) use weights::Found;
pub use weights::{WeightsPack, write_weights};

#[cfg(test)]
mod tests;

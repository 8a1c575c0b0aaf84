//! The header of packs, whatever is in them.

use std::ops::Range;

use twox_hash::XxHash3_128;

use super::error::PackError;

/// Where what the checksum covers begins.
const BODY: usize = 32;
/// Where the manifest begins.
pub(super) const HEADER: usize = 48;
/// Data behind the manifest lies at multiples of this.
pub(super) const ALIGN: usize = 64;

/// See the table in [`pack`](super).
pub(super) struct Header {
    checksum: u128,
    /// Where the manifest is, in the file or not.
    pub(super) manifest: Range<usize>,
}

impl Header {
    /// Reads what a file of `len` bytes begins with, and checks all but the checksum. `other` is what a file of another kind is.
    pub(super) fn read(
        bytes: &[u8],
        len: u64,
        magic: &[u8; 8],
        format: u32,
        other: PackError,
    ) -> Result<Header, PackError> {
        let Some(header) = bytes.get(..HEADER).filter(|header| header[..8] == magic[..]) else { return Err(other) };
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if number(8) != u64::from(format) {
            return Err(PackError::Format { found: number(8), expected: format });
        }
        // Before the checksum, as the likelier accident with the clearer words.
        if number(32) != len {
            return Err(PackError::Length { expected: number(32), found: len });
        }
        let end = usize::try_from(number(40)).ok().and_then(|len| HEADER.checked_add(len)).unwrap_or(usize::MAX);
        let checksum = u128::from_le_bytes(header[16..BODY].try_into().expect("sixteen bytes"));
        Ok(Header { checksum, manifest: HEADER..end })
    }

    /// Checks the checksum of all up to `end`, for which the header is among the bytes.
    pub(super) fn check(&self, bytes: &[u8], end: usize) -> Result<(), PackError> {
        let covered = bytes.get(BODY..end).ok_or(PackError::NoManifest)?;
        if self.checksum == XxHash3_128::oneshot(covered) { Ok(()) } else { Err(PackError::Checksum) }
    }
}

/// Writes the header of a file of `len` bytes, whose checksum covers all up to `covered`, in its place.
pub(super) fn write(bytes: &mut [u8], magic: &[u8; 8], format: u32, len: u64, manifest: usize, covered: usize) {
    bytes[..8].copy_from_slice(magic);
    bytes[8..16].copy_from_slice(&u64::from(format).to_le_bytes());
    bytes[32..40].copy_from_slice(&len.to_le_bytes());
    bytes[40..48].copy_from_slice(&(manifest as u64).to_le_bytes());
    let checksum = XxHash3_128::oneshot(&bytes[BODY..covered]);
    bytes[16..BODY].copy_from_slice(&checksum.to_le_bytes());
}

/// The pages before the first part of a file whose `manifest` names the pages of parts, given that of the first. Its text depends on the
/// digits of those numbers, and they on the length of the text. Gives the pages, and what the manifest gave.
pub(super) fn pages_before<T>(page: usize, manifest: impl Fn(usize) -> (String, T)) -> (usize, String, T) {
    let mut first = 1;
    loop {
        let (text, more) = manifest(first);
        let needed = (HEADER + text.len()).div_ceil(page);
        if needed <= first {
            return (first, text, more);
        }
        first = needed;
    }
}

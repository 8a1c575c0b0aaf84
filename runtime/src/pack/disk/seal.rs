//! The key of a cache directory: what is read from it is what a runtime with the key wrote.
//!
//! A pack says nothing of who made it: anybody can write one, with [`pack::write`](crate::pack::write) for example. Kernels in a cache
//! directory end with a keyed BLAKE3 hash, which nobody can make without the key, a file that its user alone can read. The only code
//! that seals is [`DiskCache`](super::DiskCache), which seals what the compiler has just made.

use std::io;

use super::folder::{CacheDirError, Folder, random};

/// The name of the key's file.
const NAME: &str = "key";
const BYTES: usize = blake3::KEY_LEN;

/// A secret.
pub(super) struct SealKey([u8; BYTES]);

impl SealKey {
    /// The key of a directory, made if it has none.
    pub(super) fn of(folder: &Folder) -> Result<SealKey, CacheDirError> {
        let unusable =
            |why: &dyn std::fmt::Display| CacheDirError::Key(format!("its file `{NAME}` cannot be used: {why}"));
        let read = || match folder.read_secret(NAME) {
            Ok(bytes) => match bytes.try_into() {
                Ok(key) => Ok(Some(SealKey(key))),
                Err(_) => {
                    Err(unusable(&format_args!("it is no key of {BYTES} bytes; remove it, and a new one is made")))
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(unusable(&e)),
        };
        if let Some(key) = read()? {
            return Ok(key);
        }
        match random::<BYTES>().and_then(|new| folder.write_new(NAME, &new)) {
            Ok(()) => {}
            // Another process was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(unusable(&format_args!("there is none, and none can be made: {e}"))),
        }
        read()?.ok_or_else(|| unusable(&"somebody has removed it"))
    }

    /// Seals bytes.
    pub(super) fn seal(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let seal = blake3::keyed_hash(&self.0, &bytes);
        bytes.extend(seal.as_bytes());
        bytes
    }

    /// The bytes that were sealed; `None` if they were not, with this key.
    pub(super) fn unseal(&self, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (bytes, seal) = sealed.split_last_chunk::<{ blake3::OUT_LEN }>()?;
        // Compares in constant time.
        if blake3::keyed_hash(&self.0, bytes) != *seal {
            return None;
        }
        sealed.truncate(sealed.len() - blake3::OUT_LEN);
        Some(sealed)
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

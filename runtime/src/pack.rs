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
mod disk;
mod error;
mod file;
mod header;
mod manifest;
mod weights;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Seek, Write};
use std::ops::Range;
use std::path::Path;

use bundle::Parts;
pub use bundle::write_bundle;
use bytes::Bytes;
pub use disk::CacheDirError;
pub(crate) use disk::{Cached, DiskCache, Trust};
pub use error::PackError;
use header::{ALIGN, HEADER, Header};
use kiln_compiler::{Package, Target, VERSION};
use kiln_ir::Problem;
use manifest::{Manifest, Record};
pub(crate) use weights::Found;
pub use weights::{WeightsPack, write_weights};

use crate::key::Key;

const MAGIC: &[u8; 8] = b"KILNPACK";
/// The format that is written and read. Since 2, a problem that names no arithmetic is not one that says `fpmath=strict`, and
/// problems may have strides.
pub const FORMAT: u32 = 2;

/// A pack in memory. See the [module](self).
#[derive(Debug)]
pub struct Pack {
    bytes: Vec<u8>,
    target: Target,
    records: HashMap<Key, Record>,
}

impl Pack {
    /// Reads and checks a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Pack, PackError> {
        let (file, len) = file::open(path.as_ref()).map_err(|e| PackError::Read(e.into()))?;
        Self::read(file, len)
    }

    /// Reads the kernels for a target: a pack for it, or those in a [bundle](write_bundle), of which nothing else is read.
    pub fn open_for(path: impl AsRef<Path>, target: &Target) -> Result<Pack, PackError> {
        let (mut file, len) = file::open(path.as_ref()).map_err(|e| PackError::Read(e.into()))?;
        let pack = match Parts::read(&mut file, len)? {
            Some(parts) => match parts.kernels(target)? {
                Some(place) => Pack::parse(bundle::read_part(file, &place)?)?,
                None => Pack { bytes: vec![], target: target.clone(), records: HashMap::new() },
            },
            None => Self::read(file, len)?,
        };
        pack.check_target(target).map(|()| pack)
    }

    fn read(mut file: File, len: u64) -> Result<Pack, PackError> {
        let failed = |e: io::Error| PackError::Read(e.into());
        file.rewind().map_err(failed)?;
        // Of something else no more is read than what a pack begins with, however large it is.
        let head = file::read(&mut file, len.min(HEADER as u64)).map_err(failed)?;
        Header::read(&head, len, MAGIC, FORMAT, PackError::NoPack)?;
        let bytes = file.rewind().and_then(|()| file::read(file, len)).map_err(failed)?;
        Pack::parse(bytes)
    }

    /// Checks the bytes of a file.
    pub fn parse(bytes: Vec<u8>) -> Result<Pack, PackError> {
        let header = Header::read(&bytes, bytes.len() as u64, MAGIC, FORMAT, PackError::NoPack)?;
        header.check(&bytes, bytes.len())?;
        let text = bytes.get(header.manifest.clone()).ok_or(PackError::NoManifest)?;
        let (target, records) = Manifest::read(text, bytes.len())?;
        Ok(Pack { bytes, target, records })
    }

    /// Whether kernels of this pack are those that this compiler makes for `target`.
    pub fn check_target(&self, target: &Target) -> Result<(), PackError> {
        if self.target == *target {
            return Ok(());
        }
        Err(PackError::Target { found: Box::new(self.target.clone()), expected: Box::new(target.clone()) })
    }

    /// What all its kernels are compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How many kernels it has.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The kernels' problems, with the length and the hash of each one's code, in no order.
    pub fn kernels(&self) -> impl Iterator<Item = (&Problem, usize, u128)> {
        self.records.iter().map(|(key, record)| (&key.problem, record.code.len(), record.hash))
    }

    /// The kernel for a key, if the pack has it.
    pub(crate) fn get(&self, key: &Key) -> Option<Result<Package, PackError>> {
        self.records.get(key).map(|record| record.package(&self.bytes))
    }

    /// Every kernel, checked; in no order.
    pub fn packages(&self) -> impl Iterator<Item = Result<Package, PackError>> {
        self.records.values().map(|record| record.package(&self.bytes))
    }
}

/// All packs of a file, which is one of kernels, one of weights, or a [bundle](write_bundle).
#[derive(Debug)]
pub struct Contents {
    /// The packs of kernels, by target.
    pub kernels: Vec<Pack>,
    /// The weights.
    pub weights: Option<WeightsPack>,
}

impl Contents {
    /// Reads and checks a file, all but the weights themselves, which are read when they are asked for.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PackError> {
        let path = path.as_ref();
        let (mut file, len) = file::open(path).map_err(|e| PackError::Read(e.into()))?;
        match Parts::read(&mut file, len)? {
            Some(parts) => {
                let kernels = parts.targets().map(|(target, place)| part(target, bundle::read_part(&file, &place)?));
                let kernels = kernels.collect::<Result<_, _>>()?;
                // Of the same file, also if another takes its place meanwhile.
                let weights = parts.weights().map(|place| WeightsPack::of_file(path, file, place));
                Ok(Contents { kernels, weights: weights.transpose()? })
            }
            None => {
                let again = file.try_clone().map_err(|e| PackError::Read(e.into()))?;
                match WeightsPack::of_file(path, again, 0..len) {
                    Err(PackError::NoWeights) => Ok(Contents { kernels: vec![Pack::read(file, len)?], weights: None }),
                    weights => Ok(Contents { kernels: vec![], weights: Some(weights?) }),
                }
            }
        }
    }

    /// Checks the bytes of a file, all but the weights themselves.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, PackError> {
        let bytes: Bytes = bytes.into();
        match Parts::read(Cursor::new(&bytes), bytes.len() as u64)? {
            Some(parts) => {
                let kernels = parts
                    .targets()
                    .map(|(target, place)| part(target, bytes[place.start as usize..place.end as usize].to_vec()));
                let weights = parts.weights().map(|_| WeightsPack::parse(bytes.clone()));
                Ok(Contents { kernels: kernels.collect::<Result<_, _>>()?, weights: weights.transpose()? })
            }
            None => match WeightsPack::parse(bytes.clone()) {
                Err(PackError::NoWeights) => Ok(Contents { kernels: vec![Pack::parse(bytes.into())?], weights: None }),
                weights => Ok(Contents { kernels: vec![], weights: Some(weights?) }),
            },
        }
    }
}

/// A part of a bundle, which must be for the target that the bundle says.
fn part(target: &str, bytes: Vec<u8>) -> Result<Pack, PackError> {
    let pack = Pack::parse(bytes)?;
    match pack.target.to_string() == target {
        true => Ok(pack),
        false => Err(PackError::Manifest(format!("the part for `{target}` is for {}", pack.target))),
    }
}

/// The bytes of a pack of `packages`, all for `target`. Two for the same problem and options are one.
///
/// # Panics
/// If a package is for another target.
pub fn to_bytes<'a>(target: &Target, packages: impl IntoIterator<Item = &'a Package>) -> Vec<u8> {
    let mut packages: Vec<&Package> = packages.into_iter().collect();
    assert!(packages.iter().all(|p| p.facts().target == *target), "all packages are for one target");
    let name = |p: &Package| (p.facts().problem.to_string(), manifest::options_text(&p.facts().options));
    packages.sort_by_cached_key(|p| name(p));
    packages.dedup_by_key(|p| name(p));
    // Places depend on the manifest's length only through the alignment, so they are relative to the first image.
    let mut places: Vec<Range<usize>> = vec![];
    for package in &packages {
        let start = places.last().map_or(0, |last| last.end.next_multiple_of(ALIGN));
        places.push(start..start + package.image().len());
    }
    let manifest = Manifest::new(target, VERSION, packages.iter().copied().zip(&places)).to_text();
    let first = (HEADER + manifest.len()).next_multiple_of(ALIGN);
    let mut bytes = Vec::with_capacity(first + places.last().map_or(0, |last| last.end));
    bytes.resize(HEADER, 0);
    bytes.extend(manifest.as_bytes());
    for (package, place) in packages.iter().zip(&places) {
        bytes.resize(first + place.start, 0);
        bytes.extend(package.image());
    }
    let (len, covered) = (bytes.len() as u64, bytes.len());
    header::write(&mut bytes, MAGIC, FORMAT, len, manifest.len(), covered);
    bytes
}

/// Writes a pack. The file is complete or not there: it is written beside `path` and then renamed.
pub fn write<'a>(
    path: impl AsRef<Path>,
    target: &Target,
    packages: impl IntoIterator<Item = &'a Package>,
) -> io::Result<()> {
    file::write(path.as_ref(), |file| file.write_all(&to_bytes(target, packages)))
}

#[cfg(test)]
mod tests;

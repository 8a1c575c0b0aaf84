//! Packs of kernels.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::path::Path;

use kiln_compiler::{Package, Target, VERSION};
use kiln_ir::Problem;

use super::error::PackError;
use super::file;
use super::header::{self, ALIGN, HEADER, Header};
use super::manifest::{self, Manifest, Record};
use super::parts::{Parts, read_part};
use crate::key::Key;

pub(super) const MAGIC: &[u8; 8] = b"KILNPACK";
/// The format that is written and read. Since 2, a problem that names no arithmetic is not one that says `fpmath=strict`, and
/// problems may have strides.
pub const FORMAT: u32 = 2;

/// A pack in memory. See the [module](super).
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

    /// Reads the kernels for a target: a pack for it, or those in a [bundle](super::write_bundle), of which nothing else is read.
    pub fn open_for(path: impl AsRef<Path>, target: &Target) -> Result<Pack, PackError> {
        let (mut file, len) = file::open(path.as_ref()).map_err(|e| PackError::Read(e.into()))?;
        let pack = match Parts::read(&mut file, len)? {
            Some(parts) => match parts.kernels(target)? {
                Some(place) => Pack::parse(read_part(file, &place)?)?,
                None => Pack { bytes: vec![], target: target.clone(), records: HashMap::new() },
            },
            None => Self::read(file, len)?,
        };
        pack.check_target(target).map(|()| pack)
    }

    pub(super) fn read(mut file: File, len: u64) -> Result<Pack, PackError> {
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

    /// Fails unless kernels of this pack are those that this compiler makes for `target`.
    pub fn check_target(&self, target: &Target) -> Result<(), PackError> {
        if self.target == *target {
            return Ok(());
        }
        Err(PackError::Target { found: Box::new(self.target.clone()), expected: Box::new(target.clone()) })
    }

    /// The target that all its kernels are compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The number of its kernels.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if it has none.
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

//! Bundles: packs of kernels for several targets, and a pack of weights, in one file.
//!
//! ```text
//! offset  bytes
//!      0      8  KILNBNDL
//!      8      4  format, 1
//!     12      4  0
//!     16     16  checksum: XXH3-128 of what follows, up to the end of the manifest
//!     32      8  length of the file
//!     40      8  length of the manifest
//!     48         manifest: JSON, a record for each part
//!                parts, each at a multiple of 4096
//! ```
//!
//! Parts are complete packs as they would be in files of their own, with checksums of their own. There is one of kernels for each target,
//! whatever number of networks and of shapes the kernels are from, and at most one of weights: weights that kernels of several targets or
//! shapes read in the same layout are in it once. A part that nobody asks for is not read.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use kiln_compiler::{Package, Target};
use serde::{Deserialize, Serialize};

use super::header::{self, HEADER, Header};
use super::weights::{self, PAGE};
use super::{PackError, file, to_bytes};
use crate::weights::{PackedWeights, WeightsId};

const MAGIC: &[u8; 8] = b"KILNBNDL";
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// The target of a pack of kernels, as text; `None` for a pack of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// From the beginning of the file, in pages.
    page: u64,
    bytes: u64,
}

/// The places of the parts of a file.
#[derive(Debug)]
pub(super) struct Parts(Vec<(Option<String>, Range<u64>)>);

impl Parts {
    /// The parts of a file of `len` bytes; `None` if it is no bundle, but perhaps a pack by itself. Moves the reader.
    pub(super) fn read(mut file: impl Read + Seek, len: u64) -> Result<Option<Parts>, PackError> {
        let failed = |e: io::Error| PackError::Read(e.into());
        let head = file::read(&mut file, len.min(HEADER as u64)).map_err(failed)?;
        if !head.starts_with(MAGIC) {
            return Ok(None);
        }
        let header = Header::read(&head, len, MAGIC, FORMAT, PackError::NoPack)?;
        let end = u64::try_from(header.manifest.end).ok().filter(|end| *end <= len).ok_or(PackError::NoManifest)?;
        let head = file.rewind().and_then(|()| file::read(&mut file, end)).map_err(failed)?;
        header.check(&head, header.manifest.end)?;
        let text = head.get(header.manifest).ok_or(PackError::NoManifest)?;
        let malformed = |e: serde_json::Error| PackError::Manifest(e.to_string());
        let Manifest { parts } = serde_json::from_slice(text).map_err(malformed)?;
        let place = |part: Part| {
            let start = part.page.checked_mul(PAGE as u64).filter(|start| *start >= end)?;
            let place = start..start.checked_add(part.bytes).filter(|end| *end <= len)?;
            usize::try_from(place.end).ok().map(|_| (part.target, place))
        };
        let outside = || PackError::Manifest("it has a part that is not inside the file".into());
        let parts = parts.into_iter().map(|part| place(part).ok_or_else(outside)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::new();
        if !parts.iter().all(|(target, _)| seen.insert(target)) {
            return Err(PackError::Manifest("it has two parts for one target, or two of weights".into()));
        }
        Ok(Some(Parts(parts)))
    }

    /// The place of the kernels for a target; `None` if there are no kernels at all, as of a network that has none.
    pub(super) fn kernels(&self, target: &Target) -> Result<Option<Range<u64>>, PackError> {
        let name = target.to_string();
        match self.targets().find(|(target, _)| *target == name) {
            Some((_, place)) => Ok(Some(place)),
            None if self.targets().next().is_none() => Ok(None),
            None => Err(PackError::Targets {
                found: self.targets().map(|(target, _)| target.to_owned()).collect(),
                expected: Box::new(target.clone()),
            }),
        }
    }

    /// The targets and the places of all packs of kernels.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&str, Range<u64>)> {
        self.0.iter().filter_map(|(target, place)| Some((target.as_deref()?, place.clone())))
    }

    /// The place of the weights.
    pub(super) fn weights(&self) -> Option<Range<u64>> {
        self.0.iter().find(|(target, _)| target.is_none()).map(|(_, place)| place.clone())
    }
}

/// The bytes of a part.
pub(super) fn read_part(mut file: impl Read + Seek, place: &Range<u64>) -> Result<Vec<u8>, PackError> {
    let bytes = file.seek(SeekFrom::Start(place.start)).and_then(|_| file::read(file, place.end - place.start));
    bytes.map_err(|e| PackError::Read(e.into()))
}

/// Writes one file with kernels, for as many targets as they are for, and weights with what they are known by. Equal contents give equal
/// files. The file is complete or not there: it is written beside `path` and then renamed.
///
/// A runtime [takes](crate::RuntimeBuilder::pack) the kernels for its own target from it, and [`WeightsPack`](super::WeightsPack) the
/// weights. Fails for weights that are known by a number of the caller's.
pub fn write_bundle<'a>(
    path: impl AsRef<Path>,
    packages: impl IntoIterator<Item = &'a Package>,
    weights: impl IntoIterator<Item = (WeightsId, &'a PackedWeights)>,
) -> io::Result<()> {
    let mut by_target: Vec<(String, Vec<&Package>)> = vec![];
    for package in packages {
        let target = package.facts().target.to_string();
        match by_target.iter_mut().find(|(name, _)| *name == target) {
            Some((_, all)) => all.push(package),
            None => by_target.push((target, vec![package])),
        }
    }
    by_target.sort_by(|a, b| a.0.cmp(&b.0));
    let weights = weights::Written::new(weights)?;
    let kernels: Vec<(String, Vec<u8>)> = by_target
        .into_iter()
        .map(|(name, packages)| (name, to_bytes(&packages[0].facts().target, packages.iter().copied())))
        .collect();
    let manifest = |first: u64| {
        let mut page = first;
        let mut part = |target: Option<&String>, bytes: u64| {
            let part = Part { target: target.cloned(), page, bytes };
            page += bytes.div_ceil(PAGE as u64);
            part
        };
        let mut parts: Vec<Part> =
            kernels.iter().map(|(target, bytes)| part(Some(target), bytes.len() as u64)).collect();
        parts.extend((!weights.is_empty()).then(|| part(None, weights.bytes())));
        let end = parts.last().map_or(first * PAGE as u64, |last| last.page * PAGE as u64 + last.bytes);
        (serde_json::to_string(&Manifest { parts }).expect("keys are strings"), end)
    };
    let (first, text, end) = header::pages_before(PAGE, |first| manifest(first as u64));
    file::write(path.as_ref(), |file| {
        let mut head = vec![0; HEADER];
        head.extend(text.as_bytes());
        let covered = head.len();
        header::write(&mut head, MAGIC, FORMAT, end, text.len(), covered);
        head.resize(first * PAGE, 0);
        file.write_all(&head)?;
        for (at, (_, bytes)) in kernels.iter().enumerate() {
            file.write_all(bytes)?;
            // Nothing follows the last part.
            if at + 1 < kernels.len() || !weights.is_empty() {
                file.write_all(&vec![0; bytes.len().next_multiple_of(PAGE) - bytes.len()])?;
            }
        }
        if !weights.is_empty() {
            weights.write(file)?;
        }
        file.sync_data()
    })
}

#[cfg(test)]
mod tests;

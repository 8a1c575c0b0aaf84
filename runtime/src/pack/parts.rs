//! The parts of a [bundle](super::bundle).

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use kiln_compiler::Target;
use serde::{Deserialize, Serialize};

use super::error::PackError;
use super::file;
use super::header::{HEADER, Header};

pub(super) const MAGIC: &[u8; 8] = b"KILNBNDL";
pub(super) const FORMAT: u32 = 1;
/// Parts, and weights in them, begin at multiples of this.
pub(super) const PAGE: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundleManifest {
    pub(super) parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// The target of a pack of kernels, as text; `None` for a pack of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    /// From the beginning of the file, in pages.
    pub(super) page: u64,
    pub(super) bytes: u64,
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
        let BundleManifest { parts } = serde_json::from_slice(text).map_err(malformed)?;
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

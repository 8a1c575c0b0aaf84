//! Packs of weights: files of packed weights that are not packed again.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use kiln_compiler::VERSION;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::header::{self, HEADER, Header};
use super::{PackError, write_file};
use crate::weights::{PackedWeights, Packing, WeightsId};

const MAGIC: &[u8; 8] = b"KILNWGTS";
const FORMAT: u32 = 1;
/// Weights begin at pages.
const PAGE: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    kiln: String,
    weights: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// In hexadecimal, as the hash.
    key: String,
    /// From the beginning of the file, in pages.
    page: usize,
    bytes: usize,
    /// XXH3-128 of the bytes.
    hash: String,
}

#[derive(Debug)]
struct Record {
    place: Range<usize>,
    hash: u128,
}

/// A pack of weights: packed weights in a file, which are not packed again.
///
/// The file begins as a [kernel pack](super) does, with `KILNWGTS` for `KILNPACK`; its checksum covers the manifest alone, and each
/// weights have one of their own for [`verify`](Self::verify). They lie at multiples of 4096 and are mapped: to read them all would
/// take as long as to pack them, and processes share them.
///
/// Weights are found by the hash of what they are and by how the kernel wants them packed, so that a pack that was written for
/// another network or another target has nothing rather than something wrong.
#[derive(Debug, Default)]
pub struct WeightsPack {
    bytes: Bytes,
    records: HashMap<u128, Record>,
}

/// What weights are found by: which they are, and how they are packed. None of a caller's number.
fn key(id: WeightsId, packing: &Packing) -> Option<u128> {
    Some(XxHash3_128::oneshot(format!("{:032x} {packing:?}", id.hash()?).as_bytes()))
}

impl WeightsPack {
    /// Maps a file and checks all but the weights themselves. While the pack, or weights of it, are used, the file must not be
    /// written to or cut off; replacing or removing it is fine.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PackError> {
        map(path.as_ref()).map_err(|e| PackError::Read(e.into())).and_then(Self::parse)
    }

    /// Checks the bytes of a file, all but the weights themselves.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, PackError> {
        let bytes = bytes.into();
        let header = Header::read(&bytes, MAGIC, FORMAT, PackError::NoWeights)?;
        header.check(&bytes, header.manifest.end)?;
        let text = bytes.get(header.manifest).ok_or(PackError::NoManifest)?;
        let malformed = |e: serde_json::Error| PackError::Manifest(e.to_string());
        let Manifest { kiln, weights } = serde_json::from_slice(text).map_err(malformed)?;
        if kiln != VERSION {
            return Err(PackError::Compiler { found: kiln, expected: VERSION });
        }
        let record = |entry: Entry| {
            let number = |text: &str| u128::from_str_radix(text, 16).ok();
            let start = entry.page.checked_mul(PAGE)?;
            let place = start..start.checked_add(entry.bytes).filter(|end| *end <= bytes.len())?;
            Some((number(&entry.key)?, Record { place, hash: number(&entry.hash)? }))
        };
        let outside = || PackError::Manifest("it has weights without a key, or not inside the file".into());
        let records = weights.into_iter().map(|entry| record(entry).ok_or_else(outside)).collect::<Result<_, _>>()?;
        Ok(WeightsPack { bytes, records })
    }

    /// How many weights it has.
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

    /// The length and the hash of each weights, in their order in the file.
    pub fn weights(&self) -> impl Iterator<Item = (usize, u128)> {
        let mut records: Vec<&Record> = self.records.values().collect();
        records.sort_unstable_by_key(|record| record.place.start);
        records.into_iter().map(|record| (record.place.len(), record.hash))
    }

    /// Fails unless all weights are those that were written, which takes as long as reading them. [`open`](Self::open) leaves them
    /// to be read by kernels.
    pub fn verify(&self) -> Result<(), PackError> {
        let is_whole = |record: &Record| XxHash3_128::oneshot(&self.bytes[record.place.clone()]) == record.hash;
        if self.records.values().all(is_whole) { Ok(()) } else { Err(PackError::Weights) }
    }

    /// The bytes of weights, of the length that their layout has.
    pub(crate) fn find(&self, id: WeightsId, packing: &Packing) -> Option<Bytes> {
        let place = &self.records.get(&key(id, packing)?)?.place;
        (place.len() as u64 == packing.layout.bytes()).then(|| self.bytes.slice(place.clone()))
    }
}

/// Writes a pack of weights, each with the hash that it is found by. Fails for numbers that the caller gave, which may stand for
/// other weights in another process. The file is complete or not there: it is written beside `path` and then renamed.
pub fn write_weights<'a>(
    path: impl AsRef<Path>,
    weights: impl IntoIterator<Item = (WeightsId, &'a PackedWeights)>,
) -> io::Result<()> {
    let mut seen = HashSet::new();
    let mut all: Vec<(u128, u128, &PackedWeights)> = vec![];
    for (id, packed) in weights {
        let key = key(id, packed.packing()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "weights in a file need `WeightsId::of`, not a number of the caller's",
            )
        })?;
        if seen.insert(key) {
            all.push((key, XxHash3_128::oneshot(packed.as_bytes()), packed));
        }
    }
    // Equal networks give equal files.
    all.sort_unstable_by_key(|(key, ..)| *key);
    let manifest = |first: usize| {
        let mut page = first;
        let entries = all.iter().map(|(key, hash, packed)| {
            let entry = Entry { key: format!("{key:032x}"), page, bytes: packed.bytes(), hash: format!("{hash:032x}") };
            page += packed.bytes().div_ceil(PAGE);
            entry
        });
        let manifest = Manifest { kiln: VERSION.to_owned(), weights: entries.collect() };
        (serde_json::to_string(&manifest).expect("keys are strings"), page)
    };
    // The first page depends on the manifest's length, which depends on the digits of page numbers.
    let mut first = 1;
    let (text, pages) = loop {
        let (text, pages) = manifest(first);
        let needed = (HEADER + text.len()).div_ceil(PAGE);
        if needed <= first {
            break (text, pages);
        }
        first = needed;
    };
    let mut head = vec![0; HEADER];
    head.extend(text.as_bytes());
    let covered = head.len();
    header::write(&mut head, MAGIC, FORMAT, (pages * PAGE) as u64, text.len(), covered);
    write_file(path.as_ref(), |file| {
        head.resize(first * PAGE, 0);
        file.write_all(&head)?;
        for (.., packed) in &all {
            file.write_all(packed.as_bytes())?;
            file.write_all(&vec![0; packed.bytes().next_multiple_of(PAGE) - packed.bytes()])?;
        }
        // What is not on the disk when the machine stops must not have the name.
        file.sync_data()
    })
}

/// The bytes of a file, which are not read.
fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: `open` asks for a file that is replaced and not written to while the pack is used.
    let mapped = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(mapped))
}

#[cfg(test)]
mod tests;

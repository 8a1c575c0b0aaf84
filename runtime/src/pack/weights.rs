//! Packs of weights: files of packed weights that are not packed again.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kiln_compiler::VERSION;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::error::PackError;
use super::file;
use super::header::{self, HEADER, Header};
use super::parts::{PAGE, Parts};
use crate::error::RuntimeError;
use crate::weights::{PackedBudget, PackedWeights, Packing, Registration, WeightsId};

const MAGIC: &[u8; 8] = b"KILNWGTS";
const FORMAT: u32 = 1;
/// The bytes that are read at once of weights that are looked at and not kept.
const PIECE: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightsManifest {
    kiln: String,
    weights: Vec<WeightsEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightsEntry {
    /// In hexadecimal, as the hash.
    key: String,
    /// From the beginning of the file, in pages.
    page: usize,
    bytes: usize,
    /// XXH3-128 of the bytes.
    hash: String,
}

#[derive(Debug)]
struct WeightsRecord {
    place: Range<usize>,
    hash: u128,
}

/// A pack of weights: packed weights in a file, which are not packed again.
///
/// The file begins as a [kernel pack](super) does, with `KILNWGTS` for `KILNPACK`; its checksum covers the manifest alone, and each
/// weights have one of their own. They lie at multiples of 4096, so that they can be mapped. The pack of weights in a
/// [bundle](super::write_bundle) is opened like one in a file of its own.
///
/// Weights are found by the hash of what they are and by how the kernel wants them packed, so that a pack that was written for
/// another network or another target has nothing rather than something wrong.
#[derive(Debug, Default)]
pub struct WeightsPack {
    /// Where it was read from; empty of bytes.
    path: PathBuf,
    bytes: usize,
    source: Source,
    records: HashMap<u128, WeightsRecord>,
}

/// Where weights are.
#[derive(Debug)]
enum Source {
    /// In memory, or in a file that looks like it.
    Memory(Bytes),
    /// In a file, of which they are read.
    File(File),
}

impl Default for Source {
    fn default() -> Self {
        Source::Memory(Bytes::new())
    }
}

/// Weights that a pack has.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pack: &'a WeightsPack,
    record: &'a WeightsRecord,
}

/// The key that weights are found by: their identity, and how they are packed. None of a caller's number.
fn key(id: WeightsId, packing: &Packing) -> Option<u128> {
    Some(XxHash3_128::oneshot(format!("{:032x} {packing:?}", id.hash()?).as_bytes()))
}

impl WeightsPack {
    /// Opens a file and checks all but the weights themselves. They are read into memory of their own when they are asked for, and
    /// checked then: of a file that was cut off or changed meanwhile they are an error.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PackError> {
        let (mut file, len) = file::open(path.as_ref()).map_err(|e| PackError::Read(e.into()))?;
        let place = place(&mut file, len)?;
        Self::of_file(path.as_ref(), file, place)
    }

    /// The pack at a place in an open file, which is at `path`.
    pub(super) fn of_file(path: &Path, mut file: File, place: Range<u64>) -> Result<Self, PackError> {
        let failed = |e: io::Error| PackError::Read(e.into());
        let len = place.end - place.start;
        let mut head = |bytes| file.seek(SeekFrom::Start(place.start)).and_then(|_| file::read(&file, bytes));
        let manifest =
            Header::read(&head(len.min(HEADER as u64)).map_err(failed)?, len, MAGIC, FORMAT, PackError::NoWeights)?
                .manifest;
        let end = (manifest.end as u64 <= len).then_some(manifest.end as u64).ok_or(PackError::NoManifest)?;
        let mut records = records(&head(end).map_err(failed)?, len)?;
        let [start, bytes] = [place.start, len].map(usize::try_from);
        let (Ok(start), Ok(bytes)) = (start, bytes) else { return Err(failed(io::ErrorKind::FileTooLarge.into())) };
        records.values_mut().for_each(|record| {
            record.place = start + record.place.start..start + record.place.end;
        });
        Ok(WeightsPack { path: path.into(), bytes, source: Source::File(file), records })
    }

    /// Maps a file and checks all but the weights themselves, which are used where they are: nothing is read before it is needed,
    /// and processes that map the same file share its memory.
    ///
    /// # Safety
    /// As long as the pack or weights of it are used, nobody writes to the file or cuts it off. Replacing it by another, as
    /// [`write_weights`] does, or removing it is fine. Otherwise memory that the program takes for constant changes, and a page that
    /// is gone ends the process with SIGBUS.
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Self, PackError> {
        let (path, failed) = (path.as_ref(), |e: io::Error| PackError::Read(e.into()));
        // SAFETY: the caller answers for the file staying as it is as long as something of it is used.
        let mapped = unsafe { kiln_files::map(path) }.map_err(failed)?;
        Ok(WeightsPack { path: path.into(), ..Self::parse(mapped)? })
    }

    /// Checks the bytes of a file, all but the weights themselves.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, PackError> {
        let bytes: Bytes = bytes.into();
        let place = place(Cursor::new(&bytes), bytes.len() as u64)?;
        // A place in memory has the type of its addresses.
        let bytes = bytes.slice(place.start as usize..place.end as usize);
        let records = records(&bytes, bytes.len() as u64)?;
        Ok(WeightsPack { path: PathBuf::new(), bytes: bytes.len(), source: Source::Memory(bytes), records })
    }

    /// The file that it is of; empty if it is of bytes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of its weights.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of the file, or of the part of a bundle.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The length and the hash of each weights, in their order in the file.
    pub fn weights(&self) -> impl Iterator<Item = (usize, u128)> {
        let mut records: Vec<&WeightsRecord> = self.records.values().collect();
        records.sort_unstable_by_key(|record| record.place.start);
        records.into_iter().map(|record| (record.place.len(), record.hash))
    }

    /// Fails unless all weights are those that were written, which takes as long as reading them.
    pub fn verify(&self) -> Result<(), PackError> {
        self.records.values().try_for_each(|record| Found { pack: self, record }.verify())
    }

    /// Weights of the length that their layout has.
    pub(crate) fn find(&self, id: WeightsId, packing: &Packing) -> Option<Found<'_>> {
        let record = self.records.get(&key(id, packing)?)?;
        (record.place.len() as u64 == packing.layout.bytes()).then_some(Found { pack: self, record })
    }
}

/// The place of a pack of weights in a file: all of it, or a part of a bundle.
fn place(file: impl io::Read + Seek, len: u64) -> Result<Range<u64>, PackError> {
    match Parts::read(file, len)? {
        None => Ok(0..len),
        Some(parts) => parts.weights().ok_or(PackError::NoWeights),
    }
}

/// The records of a file of `len` bytes whose manifest is among the first `bytes`.
fn records(bytes: &[u8], len: u64) -> Result<HashMap<u128, WeightsRecord>, PackError> {
    let header = Header::read(bytes, len, MAGIC, FORMAT, PackError::NoWeights)?;
    header.check(bytes, header.manifest.end)?;
    let text = bytes.get(header.manifest).ok_or(PackError::NoManifest)?;
    let malformed = |e: serde_json::Error| PackError::Manifest(e.to_string());
    let WeightsManifest { kiln, weights } = serde_json::from_slice(text).map_err(malformed)?;
    if kiln != VERSION {
        return Err(PackError::Compiler { found: kiln, expected: VERSION });
    }
    let record = |entry: WeightsEntry| {
        let number = |text: &str| u128::from_str_radix(text, 16).ok();
        let start = entry.page.checked_mul(PAGE)?;
        let place = start..start.checked_add(entry.bytes).filter(|end| *end as u64 <= len)?;
        Some((number(&entry.key)?, WeightsRecord { place, hash: number(&entry.hash)? }))
    };
    let outside = || PackError::Manifest("it has weights without a key, or not inside the file".into());
    weights.into_iter().map(|entry| record(entry).ok_or_else(outside)).collect()
}

impl Found<'_> {
    /// The weights, of as many bytes as the layout of `packing` has. Those in memory are not copied, if they are aligned; those that are read
    /// from a file are checked.
    pub(crate) fn weights(
        &self,
        packing: &Packing,
        budget: &Arc<PackedBudget>,
        registration: Registration,
    ) -> Result<PackedWeights, RuntimeError> {
        let place = self.record.place.clone();
        match &self.pack.source {
            Source::Memory(bytes) => PackedWeights::of_bytes(packing, bytes.slice(place), budget, Some(registration)),
            Source::File(file) => PackedWeights::fill(packing, budget, Some(registration), |memory| {
                let read = file.read_exact_at(memory, place.start as u64).map_err(|e| PackError::Read(e.into()));
                let checked = read.and_then(|()| self.check(XxHash3_128::oneshot(memory)));
                checked.map_err(|e| RuntimeError::WeightsPack { path: self.pack.path.clone(), error: Box::new(e) })
            }),
        }
    }

    fn check(&self, hash: u128) -> Result<(), PackError> {
        if hash == self.record.hash { Ok(()) } else { Err(PackError::Weights) }
    }

    fn verify(&self) -> Result<(), PackError> {
        let (place, file) = (
            self.record.place.clone(),
            match &self.pack.source {
                Source::Memory(bytes) => return self.check(XxHash3_128::oneshot(&bytes[self.record.place.clone()])),
                Source::File(file) => file,
            },
        );
        // Piece by piece: weights may be larger than memory.
        let (mut hash, mut piece) = (XxHash3_128::new(), vec![0; PIECE]);
        for start in place.clone().step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(place.end - start)];
            file.read_exact_at(piece, start as u64).map_err(|e| PackError::Read(e.into()))?;
            hash.write(piece);
        }
        self.check(hash.finish_128())
    }
}

/// Writes a pack of weights, each with the hash that it is found by. Fails for numbers that the caller gave, which may stand for
/// other weights in another process. The file is complete or not there: it is written beside `path` and then renamed.
pub fn write_weights<'a>(
    path: impl AsRef<Path>,
    weights: impl IntoIterator<Item = (WeightsId, &'a PackedWeights)>,
) -> io::Result<()> {
    let written = Written::new(weights)?;
    file::write(path.as_ref(), |file| {
        written.write(file)?;
        // What is not on the disk when the machine stops must not have the name.
        file.sync_data()
    })
}

/// A pack of weights as it is written.
pub(super) struct Written<'a> {
    /// All before the first weights.
    head: Vec<u8>,
    pages: usize,
    weights: Vec<&'a PackedWeights>,
}

impl<'a> Written<'a> {
    /// The pack of weights, each once however often it is given.
    pub(super) fn new(weights: impl IntoIterator<Item = (WeightsId, &'a PackedWeights)>) -> io::Result<Self> {
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
                let (key, hash) = (format!("{key:032x}"), format!("{hash:032x}"));
                let entry = WeightsEntry { key, page, bytes: packed.bytes(), hash };
                page += packed.bytes().div_ceil(PAGE);
                entry
            });
            let manifest = WeightsManifest { kiln: VERSION.to_owned(), weights: entries.collect() };
            (serde_json::to_string(&manifest).expect("keys are strings"), page)
        };
        let (first, text, pages) = header::pages_before(PAGE, manifest);
        let mut head = vec![0; HEADER];
        head.extend(text.as_bytes());
        let covered = head.len();
        header::write(&mut head, MAGIC, FORMAT, (pages * PAGE) as u64, text.len(), covered);
        head.resize(first * PAGE, 0);
        Ok(Written { head, pages, weights: all.into_iter().map(|(.., packed)| packed).collect() })
    }

    /// Tells whether there are no weights.
    pub(super) fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Bytes of the pack.
    pub(super) fn bytes(&self) -> u64 {
        (self.pages * PAGE) as u64
    }

    /// Writes the pack.
    pub(super) fn write(&self, file: &mut impl Write) -> io::Result<()> {
        file.write_all(&self.head)?;
        for packed in &self.weights {
            file.write_all(packed.as_bytes())?;
            file.write_all(&vec![0; packed.bytes().next_multiple_of(PAGE) - packed.bytes()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

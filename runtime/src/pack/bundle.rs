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

use std::io::{self, Write};
use std::path::Path;

use kiln_compiler::Package;

use super::file;
use super::header::{self, HEADER};
use super::kernels::to_bytes;
use super::parts::{BundleManifest, FORMAT, MAGIC, PAGE, Part};
use super::weights::Written;
use crate::weights::{PackedWeights, WeightsId};

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
    let weights = Written::new(weights)?;
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
        (serde_json::to_string(&BundleManifest { parts }).expect("keys are strings"), end)
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

//! All that a file has, whichever kind of pack it is.

use std::io::Cursor;
use std::path::Path;

use bytes::Bytes;

use super::error::PackError;
use super::file;
use super::kernels::Pack;
use super::parts::{Parts, read_part};
use super::weights::WeightsPack;

/// All packs of a file, which is one of kernels, one of weights, or a [bundle](super::write_bundle).
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
                let kernels = parts.targets().map(|(target, place)| part(target, read_part(&file, &place)?));
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
    match pack.target().to_string() == target {
        true => Ok(pack),
        false => Err(PackError::Manifest(format!("the part for `{target}` is for {}", pack.target()))),
    }
}

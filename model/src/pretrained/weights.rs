//! Weights in safetensors files.
//!
//! The `safetensors` crate checks a file's header: offsets that overlap, leave gaps or lie outside the file are refused, and nothing is
//! allocated on its word. Weights in f32 are used as they lie in the file's memory; others are converted to f32, as kernels read them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use half::{bf16, f16};
use kiln_ir::func::{ElementType, Tensor, TensorType};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::error::PretrainedError;
use crate::arch::{ArchError, Distribution, Weights};

/// The file of a network that has one, and the list of those of a network that has several.
pub(super) const FILES: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];

/// The most bytes of a JSON file.
const MOST_JSON: u64 = 64 << 20;

/// A weight in a file.
#[derive(Debug)]
struct Place {
    dtype: Dtype,
    shape: Vec<u64>,
    data: Bytes,
}

/// All weights of a folder, by name.
#[derive(Debug)]
pub(super) struct Files {
    weights: HashMap<String, Place>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Files {
    /// Reads the files of a folder into memory.
    pub(super) fn read(folder: &Path) -> Result<Self, PretrainedError> {
        let mut weights = HashMap::new();
        for path in paths(folder)? {
            let bytes = read(&path, u64::MAX)?;
            add(&path, bytes.into(), &mut weights)?;
        }
        Ok(Self { weights })
    }

    /// The shape of a weight.
    pub(super) fn shape(&self, name: &str) -> Option<&[u64]> {
        self.find(name).map(|place| &place.shape[..])
    }

    /// A weight by the name that the network with the encoder alone has for it, or the whole network. Files have either, and older
    /// ones say gamma and beta of the two weights of a normalisation.
    fn find(&self, name: &str) -> Option<&Place> {
        const PREFIXES: [&str; 3] = ["bert.", "roberta.", "distilbert."];
        let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let prefixed = PREFIXES.iter().map(|prefix| format!("{prefix}{bare}"));
        let names = [name.to_owned(), bare.to_owned()].into_iter().chain(prefixed);
        names.into_iter().find_map(|name| {
            let older = name.strip_suffix("LayerNorm.weight").map(|start| format!("{start}LayerNorm.gamma"));
            let older =
                older.or_else(|| name.strip_suffix("LayerNorm.bias").map(|start| format!("{start}LayerNorm.beta")));
            self.weights.get(&name).or_else(|| self.weights.get(&older?))
        })
    }
}

impl Weights for Files {
    fn weight(&self, name: &str, shape: &[u64], _: Distribution) -> Result<Tensor, ArchError> {
        let wrong = |why: String| ArchError::Weight { name: name.into(), why };
        let place = self.find(name).ok_or_else(|| wrong("no file of the folder has it".into()))?;
        if place.shape != shape {
            return Err(wrong(format!("it is {:?}, and the configuration says {shape:?}", place.shape)));
        }
        let floats: Vec<f32> = match place.dtype {
            Dtype::F32 => {
                let ty = TensorType::new(ElementType::F32, shape)?;
                return Tensor::new(ty, place.data.clone()).map_err(|e| wrong(e.to_string()));
            }
            Dtype::F16 => halves(&place.data, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => halves(&place.data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            other => return Err(wrong(format!("its elements are {other:?}: supported are F32, F16 and BF16"))),
        };
        Tensor::from_elements(shape, floats).map_err(|e| wrong(e.to_string()))
    }
}

fn halves(data: &[u8], float: impl Fn([u8; 2]) -> f32) -> Vec<f32> {
    data.chunks_exact(2).map(|pair| float([pair[0], pair[1]])).collect()
}

/// The files of weights of a folder.
fn paths(folder: &Path) -> Result<Vec<PathBuf>, PretrainedError> {
    let [one, index] = FILES.map(|file| folder.join(file));
    if one.is_file() || !index.is_file() {
        return Ok(vec![one]);
    }
    let json = |source| PretrainedError::Json { path: index.clone(), source };
    let listed: Index = serde_json::from_slice(&self::json(&index)?).map_err(json)?;
    let mut names: Vec<String> = listed.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    // A folder from a stranger names no file outside itself.
    if let Some(outside) = names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        return Err(PretrainedError::Weights { path: index, why: format!("`{outside}` is no file of this folder") });
    }
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// The bytes of a JSON file.
pub(super) fn json(path: &Path) -> Result<Vec<u8>, PretrainedError> {
    read(path, MOST_JSON)
}

fn add(path: &Path, all: Bytes, weights: &mut HashMap<String, Place>) -> Result<(), PretrainedError> {
    let wrong = |why: String| PretrainedError::Weights { path: path.into(), why };
    let file = SafeTensors::deserialize(&all).map_err(|e| wrong(e.to_string()))?;
    for (name, view) in file.iter() {
        let shape = view.shape().iter().map(|n| *n as u64).collect();
        let place = Place { dtype: view.dtype(), shape, data: all.slice_ref(view.data()) };
        if weights.insert(name.to_owned(), place).is_some() {
            return Err(wrong(format!("weight `{name}` is in two files")));
        }
    }
    Ok(())
}

/// The bytes of a file of at most so many.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, PretrainedError> {
    let failed = |source| PretrainedError::File { path: path.into(), source };
    let (file, bytes) = kiln_files::open(path).map_err(failed)?;
    if bytes > most {
        return Err(failed(std::io::Error::other(format!("{bytes} bytes: expected at most {most}"))));
    }
    kiln_files::read_from(file, bytes).map_err(failed)
}

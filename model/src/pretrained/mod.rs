//! Networks as Hugging Face lays them out: a folder with a `config.json`, which says the architecture and its sizes, and weights in
//! `model.safetensors`, or in several such files that a `model.safetensors.index.json` lists.
//!
//! The architectures are BERT, DistilBERT and RoBERTa, as encoders, as language models and as classifiers, and residual networks of
//! bottlenecks, with the names of transformers or of timm. A setting that asks for another architecture than these is an error that
//! names it; settings that are about training, texts or memory are not looked at.

mod config;
mod error;
mod weights;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use kiln_ir::func::{Func, Tensor, TensorType};

use crate::arch::{ArchError, ArchOptions, samples};
use config::{ConfigFile, Network};
pub use error::PretrainedError;
use weights::Files;

/// A network in a folder, with its weights in memory.
#[derive(Debug)]
pub struct Pretrained {
    folder: PathBuf,
    network: Network,
    files: Files,
}

impl Pretrained {
    /// True if a folder is laid out so: it has a configuration, and weights.
    pub fn is_folder(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        folder.join(config::FILE).is_file() && weights::FILES.iter().any(|file| folder.join(file).is_file())
    }

    /// Reads a folder into memory.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, PretrainedError> {
        let folder = folder.as_ref();
        // What is no network is refused before its weights are read.
        let config = ConfigFile::read(folder)?;
        let files = Files::read(folder)?;
        Ok(Self { folder: folder.into(), network: config.network(&files)?, files })
    }

    /// The name of the folder.
    pub fn name(&self) -> Cow<'_, str> {
        self.folder.file_name().map_or("network".into(), |name| name.to_string_lossy())
    }

    /// The longest sequence it takes; `None` if it takes images.
    pub fn max_seq(&self) -> Option<u64> {
        match &self.network {
            Network::Encoder(config) => Some(config.longest),
            Network::ResNet(_) => None,
        }
    }

    /// Names and types of the arguments, in calling order.
    pub fn inputs(&self, options: &ArchOptions) -> Result<Vec<(&'static str, TensorType)>, ArchError> {
        let (batch, seq) = options.checked(&self.name(), self.max_seq())?;
        match &self.network {
            Network::Encoder(config) => config.inputs(batch, seq),
            Network::ResNet(net) => Ok(vec![net.input("pixel_values", batch)?]),
        }
    }

    /// The network, with its weights as constants.
    pub fn build(&self, options: &ArchOptions) -> Result<Func, PretrainedError> {
        let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name = format!("net_{}", self.name().chars().map(word).collect::<String>());
        let built = self.inputs(options).and_then(|inputs| match &self.network {
            Network::Encoder(config) => config.build(&name, &inputs, &self.files),
            Network::ResNet(net) => net.build(&name, &inputs, &self.files),
        });
        built.map_err(|source| PretrainedError::Weight { folder: self.folder.clone(), source })
    }

    /// Arguments to call it with, always the same ones, as [`Architecture::sample_inputs`](crate::arch::Architecture::sample_inputs).
    pub fn sample_inputs(&self, options: &ArchOptions) -> Result<Vec<Tensor>, ArchError> {
        let inputs = self.inputs(options)?;
        match &self.network {
            Network::Encoder(config) => Ok(samples::tokens(config, &inputs)),
            Network::ResNet(_) => samples::images(&inputs),
        }
    }
}

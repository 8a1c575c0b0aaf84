//! Built-in architectures: whole networks with pseudo-random weights.
//!
//! The shapes, the operations and the distribution of the weights are those of the published networks; the weights themselves are
//! not. **What a built-in network predicts means nothing**: it is there to be compiled, run and measured. For predictions, read
//! an ONNX file that has trained weights.
//!
//! ```
//! use kiln_model::arch::{ArchOptions, Architecture};
//!
//! let options = ArchOptions { batch: 2, seq: Some(16) };
//! let architecture: Architecture = "bert-tiny".parse()?;
//! let func = architecture.build(&options)?;
//! let inputs = architecture.sample_inputs(&options)?;
//!
//! assert_eq!(func.arguments().count(), inputs.len());
//! assert_eq!(func.value(func.results()[0]).name, "last_hidden_state");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod net;
mod resnet;
pub(crate) mod samples;
#[cfg(test)]
mod tests;
mod transformer;
mod weights;

use std::fmt;
use std::str::FromStr;

use kiln_ir::func::{Func, Tensor, TensorType, Unary};

pub use error::{ArchError, MAX_BATCH};
pub(crate) use resnet::{Names, ResNet};
pub(crate) use transformer::{BERT, Config, DISTILBERT, Family, ROBERTA, Top};
pub(crate) use weights::{Distribution, Weights};

use weights::PseudoRandom;

/// A built-in architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// ResNet-50.
    Resnet50,
    /// The encoder of BERT, and its pooled result.
    Bert,
    /// The encoder of DistilBERT.
    Distilbert,
    /// DistilBERT as a classifier of two sentiments.
    DistilbertSentiment,
    /// RoBERTa with its language model, which rates each token at each position.
    RobertaFillMask,
    /// RoBERTa as a classifier of three sentiments.
    RobertaSentiment,
    /// [`Bert`](Self::Bert), but small.
    BertTiny,
    /// [`DistilbertSentiment`](Self::DistilbertSentiment), but small.
    DistilbertTiny,
    /// [`RobertaFillMask`](Self::RobertaFillMask), but small.
    RobertaTiny,
}

/// The sizes that a network is called with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchOptions {
    /// Images or sequences at once.
    pub batch: u64,
    /// Tokens of each sequence; if none is given 128, or as many as the network takes. Networks of images have none.
    pub seq: Option<u64>,
}

impl ArchOptions {
    /// Batch and length of sequences for a network that takes at most `max_seq` tokens, or images; the length is 0 of images.
    pub(crate) fn checked(&self, network: &str, max_seq: Option<u64>) -> Result<(u64, u64), ArchError> {
        let &ArchOptions { batch, seq } = self;
        if !(1..=MAX_BATCH).contains(&batch) {
            return Err(ArchError::Batch { found: batch });
        }
        match (max_seq, seq) {
            (None, None) => Ok((batch, 0)),
            (None, Some(_)) => Err(ArchError::NoSequence { network: network.into() }),
            (Some(most), None) => Ok((batch, most.min(DEFAULT_SEQ))),
            (Some(most), Some(found)) if (1..=most).contains(&found) => Ok((batch, found)),
            (Some(most), Some(found)) => Err(ArchError::Sequence { network: network.into(), found, most }),
        }
    }
}

impl Default for ArchOptions {
    fn default() -> Self {
        Self { batch: 1, seq: None }
    }
}

/// A word that is no architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no built-in architecture: expected {}", Architecture::ALL.map(Architecture::name).join(", "))]
pub struct UnknownArchitecture {
    /// The word.
    pub found: String,
}

/// Tokens of a sequence if none are asked for.
const DEFAULT_SEQ: u64 = 128;

/// The name of an architecture, and a line about it.
type Row = (Architecture, &'static str, &'static str);

/// In the order of the variants, which a test checks.
const TABLE: [Row; 9] = [
    (Architecture::Resnet50, "resnet50", "ResNet-50: logits of 1000 classes for images of 224x224"),
    (Architecture::Bert, "bert", "BERT base, uncased: last hidden state and pooled output"),
    (Architecture::Distilbert, "distilbert", "DistilBERT base, uncased: last hidden state"),
    (Architecture::DistilbertSentiment, "distilbert-sentiment", "DistilBERT base, uncased: logits of 2 sentiments"),
    (Architecture::RobertaFillMask, "roberta-fill-mask", "RoBERTa base: logits of 50265 tokens at each position"),
    (Architecture::RobertaSentiment, "roberta-sentiment", "RoBERTa base: logits of 3 sentiments"),
    (Architecture::BertTiny, "bert-tiny", "bert with 2 layers of 64 channels, for tests"),
    (Architecture::DistilbertTiny, "distilbert-tiny", "distilbert-sentiment with 2 layers of 64 channels, for tests"),
    (Architecture::RobertaTiny, "roberta-tiny", "roberta-fill-mask with 2 layers of 64 channels, for tests"),
];

impl Architecture {
    /// All of them, in the order they are named to users.
    pub const ALL: [Architecture; TABLE.len()] = {
        let mut all = [Architecture::Resnet50; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    /// The word that names it.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// A line about its kind and its results.
    pub fn description(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// The longest sequence it takes; `None` if it takes images.
    pub fn max_seq(self) -> Option<u64> {
        self.transformer().map(|config| config.longest)
    }

    /// Names and types of the arguments, in calling order.
    pub fn inputs(self, options: &ArchOptions) -> Result<Vec<(&'static str, TensorType)>, ArchError> {
        let (batch, seq) = self.checked(options)?;
        match self.transformer() {
            Some(config) => config.inputs(batch, seq),
            None => Ok(vec![ResNet::resnet50().input("x", batch)?]),
        }
    }

    /// The network, with its weights as constants under their names in PyTorch.
    pub fn build(self, options: &ArchOptions) -> Result<Func, ArchError> {
        let inputs = self.inputs(options)?;
        let name = self.name().replace('-', "_");
        match self.transformer() {
            Some(config) => config.build(&name, &inputs, &PseudoRandom),
            None => ResNet::resnet50().build(&name, &inputs, &PseudoRandom),
        }
    }

    /// Arguments to call it with, always the same ones: noise for images, and for texts sequences of any tokens between the first
    /// and the last one that texts have, without padding.
    pub fn sample_inputs(self, options: &ArchOptions) -> Result<Vec<Tensor>, ArchError> {
        let inputs = self.inputs(options)?;
        match self.transformer() {
            Some(config) => Ok(samples::tokens(&config, &inputs)),
            None => samples::images(&inputs),
        }
    }

    /// Batch and length of sequences, which is 0 of images.
    fn checked(self, options: &ArchOptions) -> Result<(u64, u64), ArchError> {
        options.checked(self.name(), self.max_seq())
    }

    /// The transformer, unless it is ResNet-50.
    fn transformer(self) -> Option<Config> {
        use Architecture::*;
        let base = |family: &'static Family, vocabulary, layers, top| Config {
            family,
            vocabulary,
            hidden: 768,
            inner: 3072,
            layers,
            heads: 12,
            longest: 512,
            segments: family.segments,
            padding: family.padding,
            epsilon: family.epsilon,
            activation: Unary::GeluErf {},
            top,
        };
        let tiny = |family: &'static Family, top| Config {
            hidden: 64,
            inner: 128,
            heads: 4,
            longest: 64,
            ..base(family, 997, 2, top)
        };
        Some(match self {
            Resnet50 => return None,
            Bert => base(&BERT, 30522, 12, Top::Pooled),
            Distilbert => base(&DISTILBERT, 30522, 6, Top::Hidden),
            DistilbertSentiment => base(&DISTILBERT, 30522, 6, Top::Classes(2)),
            RobertaFillMask => base(&ROBERTA, 50265, 12, Top::Vocabulary),
            RobertaSentiment => base(&ROBERTA, 50265, 12, Top::Classes(3)),
            BertTiny => tiny(&BERT, Top::Pooled),
            DistilbertTiny => tiny(&DISTILBERT, Top::Classes(2)),
            RobertaTiny => tiny(&ROBERTA, Top::Vocabulary),
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|architecture| architecture.name() == text);
        found.ok_or_else(|| UnknownArchitecture { found: text.into() })
    }
}

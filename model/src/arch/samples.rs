//! Arguments to call networks with.

use kiln_ir::func::{Tensor, TensorType};

use super::error::ArchError;
use super::transformer::{Config, Top};
use super::weights;

/// Tokens below are special in the vocabularies that networks are published with.
const FIRST_WORD: u64 = 200;

/// Noise as wide as images are whose colours have a mean of 0 and a deviation of 1.
pub(crate) fn images(inputs: &[(&'static str, TensorType)]) -> Result<Vec<Tensor>, ArchError> {
    inputs.iter().map(|(name, ty)| weights::uniform(name, ty.shape(), 2.0, 0.0)).collect()
}

/// Tokens in one segment, all of them seen. A language model has one to guess in each sequence.
pub(crate) fn tokens(config: &Config, inputs: &[(&'static str, TensorType)]) -> Vec<Tensor> {
    // The last token of the vocabulary stands for one to guess.
    let mask = config.vocabulary.saturating_sub(1);
    let tensor = |name: &str, ty: &TensorType| {
        let (start, seq) = (weights::start(name), ty.shape()[1]);
        let element = |i: u64| match i % seq {
            _ if name == "attention_mask" => 1,
            _ if name == "token_type_ids" => 0,
            0 => config.family.ends[0].min(mask),
            at if at == seq - 1 => config.family.ends[1].min(mask),
            at if at == seq / 2 && config.top == Top::Vocabulary => mask,
            _ if mask > FIRST_WORD => FIRST_WORD + weights::number(start, i) % (mask - FIRST_WORD),
            // A vocabulary of a few tokens has no special ones worth the name.
            _ => weights::number(start, i) % config.vocabulary.max(1),
        };
        let elements: Vec<_> = (0..ty.elements()).map(|i| element(i) as i64).collect();
        Tensor::from_elements(ty.shape(), elements).expect("as many as the shape says")
    };
    inputs.iter().map(|(name, ty)| tensor(name, ty)).collect()
}

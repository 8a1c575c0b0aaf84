//! The role of a dimension, as its name and its place say it.
//!
//! A name of words, such as `batch` or `height`, means what it says. Exporters make up names for dimensions that nobody named:
//! of these only the place counts. Some write one word for all that they do not know, which is no name at all.

use crate::graph::Value;
use crate::tensor::ElementType;

/// The meaning of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DimRole {
    /// Images or sequences that are computed at once.
    Batch,
    /// Tokens of a sequence.
    Sequence,
}

/// Words that stand for any dimension that is not known, so that two of them need not be of one size.
const PLACEHOLDERS: &[&str] = &["", "?", "-1", "*", "none", "null", "unk", "unknown", "dynamic"];

/// The words of made-up names, besides a number at their end: `s77` and `u0` (PyTorch), `unk__123` (TensorFlow),
/// `DynamicDimension.0` (PaddlePaddle), and words for an axis of any kind.
const STEMS: &[&str] = &[
    "s",
    "u",
    "d",
    "ax",
    "axis",
    "dim",
    "dynamic",
    "dynamic_axis",
    "dynamic_dim",
    "dynamicdimension",
    "sym",
    "symbol",
    "symbolic_dim",
    "unk",
    "unknown",
];

/// The text before the number in names that PyTorch makes of any input's: `input_ids_dynamic_axes_1`.
const DYNAMIC_AXES: &str = "_dynamic_axes_";
/// The texts that may be between the name of an input and a number in names that are made of it: `input_ids_dim_1`.
const BEHIND_INPUT: &[&str] = &["_dim_", "_axis_"];

/// True if a text is no name: it does not say which dimension it is.
pub(super) fn is_placeholder(name: &str) -> bool {
    let word = name.trim().to_ascii_lowercase();
    PLACEHOLDERS.contains(&word.as_str())
}

/// True if a program made up the name, which then says nothing of what the dimension counts.
pub(super) fn is_made_up(name: &str, inputs: &[Value]) -> bool {
    if is_placeholder(name) {
        return true;
    }
    let without = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if without.len() == name.len() {
        return false;
    }
    let stem = without.trim_matches(['_', '.', '-']).to_ascii_lowercase();
    let is_input = |name: &str| inputs.iter().any(|input| input.name == name);
    stem.is_empty()
        || STEMS.contains(&stem.as_str())
        || without.ends_with(DYNAMIC_AXES)
        || BEHIND_INPUT.iter().any(|between| without.strip_suffix(between).is_some_and(is_input))
}

/// The role that the words of a name say; `None` if they say none, or two.
pub(super) fn role_of_words(name: &str) -> Option<DimRole> {
    let word = name.to_ascii_lowercase();
    match (word.contains("batch"), word.contains("seq")) {
        (true, false) => Some(DimRole::Batch),
        (false, true) => Some(DimRole::Sequence),
        _ => None,
    }
}

/// The role that a place says: the first axis is the batch, and the second one of a matrix of tokens is the sequence.
pub(super) fn role_of_place(input: &Value, axis: usize) -> Option<DimRole> {
    match axis {
        0 => Some(DimRole::Batch),
        1 if is_tokens(input) => Some(DimRole::Sequence),
        _ => None,
    }
}

/// The role that a single letter says at a place where it is the usual one.
pub(super) fn role_of_letter(name: &str, input: &Value, axis: usize) -> Option<DimRole> {
    let role = role_of_place(input, axis)?;
    let letters = match role {
        DimRole::Batch => ["n", "b", "bs"],
        DimRole::Sequence => ["l", "t", "s"],
    };
    letters.contains(&name.to_ascii_lowercase().as_str()).then_some(role)
}

/// True if an input is a matrix of integers, or a mask of one, and so sequences of tokens.
fn is_tokens(input: &Value) -> bool {
    let is_matrix = input.shape.as_ref().is_some_and(|dims| dims.len() == 2);
    let is_whole = matches!(input.dtype, Some(ElementType::I32 | ElementType::I64 | ElementType::Bool));
    is_matrix && (is_whole || input.name.to_ascii_lowercase().contains("mask"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_told_from_words() {
        let inputs = [Value { name: "input.1".into(), dtype: None, shape: None }];
        for name in [
            "s0",
            "s77",
            "u3",
            "input_ids_dynamic_axes_1",
            "unk__123",
            "DynamicDimension.0",
            "?",
            "None",
            "-1",
            "",
            "dim_2",
            "input.1_dim_3",
            "12",
            "_3",
        ] {
            assert!(is_made_up(name, &inputs), "{name}");
        }
        for name in [
            "height",
            "width",
            "batch",
            "N",
            "h0",
            "width_2",
            "seq",
            "other_dim_3",
            "features",
            "dim",
            "s",
            "conv2d_1",
            "classes80",
        ] {
            assert!(!is_made_up(name, &inputs), "{name}");
        }
        assert_eq!(role_of_words("encoder_sequence_length"), Some(DimRole::Sequence));
        assert_eq!(role_of_words("Batch_Size"), Some(DimRole::Batch));
        assert_eq!(role_of_words("batch_seq"), None);
        assert_eq!(role_of_words("height"), None);
    }
}

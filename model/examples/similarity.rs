//! The similarity of sentences, by their embeddings: `cargo run --release -p kiln-model --example similarity -- FOLDER`.
//!
//! The folder has a `model.onnx`, a BERT that takes `input_ids`, `attention_mask` and `token_type_ids` of `[batch, sequence]` and
//! gives `[batch, sequence, hidden]`, and an `info.json` with groups of sentences: their texts, their tokens, padded with zeros
//! to one length, and the cosines that are expected:
//!
//! ```json
//! [{"text": ["Yes.", "No, thanks."], "ids": [[101, 2748, 1012, 102, 0, 0], [101, 2053, 1010, 4283, 1012, 102]],
//!   "cos": [[1.0, 0.5], [0.5, 1.0]]}]
//! ```
//!
//! The embedding of a sentence is the mean over its tokens, which is scaled to length 1. Exits with 1 if a cosine is another.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_jit::Runtime;
use kiln_model::{Bindings, Model, Tensor};

/// The tolerance for cosines.
const TOLERANCE: f64 = 1e-4;

#[derive(serde::Deserialize)]
struct Group {
    text: Vec<String>,
    ids: Vec<Vec<i64>>,
    cos: Vec<Vec<f64>>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("expected a folder with model.onnx and info.json")]
    NoFolder,
    #[error("{path}: {source}: expected a folder with model.onnx and info.json")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Info { path: PathBuf, source: serde_json::Error },
    #[error("info.json, group {0}: expected `text`, `ids` and `cos` of as many sentences, and ids of one length")]
    Group(usize),
    #[error("expected a result of [batch, sequence, hidden], found {0}")]
    Hidden(String),
}

fn main() -> ExitCode {
    match run(std::env::args_os().nth(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Computes the cosines; true if they agree with the file.
fn run(folder: Option<OsString>) -> Result<bool, Box<dyn Error>> {
    let folder = PathBuf::from(folder.ok_or(Failure::NoFolder)?);
    let groups = read(&folder.join("info.json"))?;
    let runtime = Runtime::builder().build()?;
    let model = Model::from_onnx(folder.join("model.onnx"))?;
    let mut worst = 0.0f64;
    for (number, group) in groups.iter().enumerate() {
        let (batch, length) = group.shape().ok_or(Failure::Group(number))?;
        let bindings = Bindings::new().dim("batch", batch as u64).dim("sequence", length as u64);
        let network = model.clone().bind(&bindings)?.compile(&runtime)?;
        let ids = group.ids.concat();
        let mask: Vec<i64> = ids.iter().map(|id| i64::from(*id != 0)).collect();
        let input = |elements| {
            Tensor::from_elements([batch as u64, length as u64], elements).expect("as many as there are tokens")
        };
        let results = network.run(&[input(ids), input(mask.clone()), input(vec![0; batch * length])])?;
        let embeddings = embeddings(&results, &mask, [batch, length])?;

        for (at, text) in group.text.iter().enumerate() {
            println!("{}: {text}", at + 1);
        }
        for (a, expected) in embeddings.iter().zip(&group.cos) {
            let cosines: Vec<f64> = embeddings.iter().map(|b| dot(a, b)).collect();
            println!("  {}", cosines.iter().map(|c| format!("{c:8.4}")).collect::<String>());
            // NaN, which a sentence without tokens has, is more than any number.
            let differences = cosines.iter().zip(expected).map(|(c, e)| (c - e).abs());
            worst = differences.chain([worst]).max_by(f64::total_cmp).unwrap_or(worst);
        }
    }
    println!("the largest difference from what is expected is {worst:.1e}");
    Ok(worst <= TOLERANCE)
}

/// The mean over the tokens of each sentence, of length 1.
fn embeddings(results: &[Tensor], mask: &[i64], [batch, length]: [usize; 2]) -> Result<Vec<Vec<f64>>, Failure> {
    let found = || results.iter().map(|r| r.ty().to_string()).collect::<Vec<_>>().join(", ");
    let [hidden] = results else { return Err(Failure::Hidden(found())) };
    let size = match hidden.ty().shape() {
        &[b, l, size] if [b, l] == [batch as u64, length as u64] && size > 0 => size as usize,
        _ => return Err(Failure::Hidden(found())),
    };
    let hidden = hidden.to_f64();
    let sentences = hidden.chunks(length * size).zip(mask.chunks(length));
    Ok(sentences
        .map(|(tokens, mask)| {
            // What the sum is divided by makes no difference to its direction.
            let mut sum = vec![0.0; size];
            for (token, _) in tokens.chunks(size).zip(mask).filter(|(_, m)| **m != 0) {
                sum.iter_mut().zip(token).for_each(|(sum, x)| *sum += x);
            }
            let norm = dot(&sum, &sum).sqrt();
            sum.into_iter().map(|x| x / norm).collect()
        })
        .collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Group {
    /// Sentences and the tokens of each, if the file says the same of all.
    fn shape(&self) -> Option<(usize, usize)> {
        let (batch, length) = (self.ids.len(), self.ids.first()?.len());
        let is_whole = self.text.len() == batch && self.cos.len() == batch;
        let has_rows = self.ids.iter().all(|r| r.len() == length) && self.cos.iter().all(|r| r.len() == batch);
        (is_whole && has_rows).then_some((batch, length))
    }
}

fn read(path: &Path) -> Result<Vec<Group>, Failure> {
    let text = fs::read(path).map_err(|source| Failure::File { path: path.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| Failure::Info { path: path.into(), source })
}

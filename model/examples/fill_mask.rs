//! A language model of antibodies predicts the masked tokens of sequences: `cargo run --release -p kiln-model --example
//! fill_mask -- FOLDER`.
//!
//! The folder has a `model.onnx`, which takes `input_ids` and `attention_mask` of `[batch, sequence]` and gives a number for each
//! token of the vocabulary, and an `info.json`:
//!
//! ```json
//! {"vocab": ["<s>", "<pad>", "</s>", "A", "<mask>"], "cases": [{"query": "A*A", "restored": "AAA"}]}
//! ```
//!
//! `*` stands for `<mask>`. The network is compiled once, for sequences of any length. The exit code is 1 if a prediction
//! differs from the file.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use kiln_jit::Runtime;
use kiln_model::report::greatest;
use kiln_model::{Bindings, Flexible, Model, OpenDim, Tensor};

/// The network is compiled for sequences up to this length at least: it takes some to find out what depends on it.
const SHORTEST: u64 = 8;

#[derive(serde::Deserialize)]
struct Info {
    vocab: Vec<String>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    query: String,
    restored: String,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("expected a folder with model.onnx and info.json")]
    NoFolder,
    #[error("{path}: {source}: expected a folder with model.onnx and info.json")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Info { path: PathBuf, source: serde_json::Error },
    #[error("info.json: the vocabulary has no {0}")]
    NoToken(&'static str),
    #[error("info.json: no case is a sequence of its vocabulary")]
    NoCase,
    #[error("expected logits of [1, sequence, {vocabulary}], found {found}")]
    Logits { vocabulary: usize, found: String },
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

/// Predicts all masked tokens; true if they agree with the file.
fn run(folder: Option<OsString>) -> Result<bool, Box<dyn Error>> {
    let folder = PathBuf::from(folder.ok_or(Failure::NoFolder)?);
    let info = read(&folder.join("info.json"))?;
    let token = |name: &'static str| info.id(name).ok_or(Failure::NoToken(name));
    let (start, end, mask) = (token("<s>")?, token("</s>")?, token("<mask>")?);
    // What is no sequence of the vocabulary is about something else, such as batches.
    let tokens = |text: &str| -> Option<Vec<i64>> {
        text.chars().map(|c| if c == '*' { Some(mask) } else { info.id(&c.to_string()) }).collect()
    };
    let cases: Vec<(&Case, Vec<i64>)> = info.cases.iter().filter_map(|c| Some((c, tokens(&c.query)?))).collect();
    let longest = cases.iter().map(|(_, tokens)| tokens.len() as u64 + 2).max().ok_or(Failure::NoCase)?;

    let runtime = Runtime::builder().build()?;
    let model = Model::from_onnx(folder.join("model.onnx"))?;
    let begin = Instant::now();
    let dims = [OpenDim::sequence(1..=longest.max(SHORTEST))];
    let network = Flexible::from_model(&runtime, &model, &dims, &Bindings::new().batch(1))?;
    println!("compiled for up to {longest} tokens in {:.2} s", begin.elapsed().as_secs_f64());

    let mut all_as_expected = true;
    for (case, tokens) in cases {
        let ids: Vec<i64> = [start].into_iter().chain(tokens).chain([end]).collect();
        let begin = Instant::now();
        let best = best_tokens(&network, &ids, info.vocab.len())?;
        let time = begin.elapsed();
        let restored: String = ids
            .iter()
            .zip(best)
            .filter(|(id, _)| ![start, end].contains(id))
            .map(|(id, best)| info.vocab[if *id == mask { best } else { *id as usize }].as_str())
            .collect();
        println!("{}\n{restored}", case.query);
        let is_as_expected = restored == case.restored;
        match is_as_expected {
            true => println!("  as expected, in {:.2} ms", time.as_secs_f64() * 1e3),
            false => println!("  expected {}", case.restored),
        }
        all_as_expected &= is_as_expected;
    }
    Ok(all_as_expected)
}

/// The most likely token at each position.
fn best_tokens(network: &Flexible, ids: &[i64], vocabulary: usize) -> Result<Vec<usize>, Box<dyn Error>> {
    let shape = [1, ids.len() as u64];
    let input = |elements| Tensor::from_elements(shape, elements).expect("as many as there are tokens");
    let results = network.run(&[input(ids.to_vec()), input(vec![1; ids.len()])])?;
    let found = || results.iter().map(|r| r.ty().to_string()).collect::<Vec<_>>().join(", ");
    match results.first() {
        Some(logits) if logits.ty().shape() == [1, ids.len() as u64, vocabulary as u64] => {
            Ok(logits.to_f64().chunks(vocabulary).filter_map(greatest).collect())
        }
        _ => Err(Failure::Logits { vocabulary, found: found() }.into()),
    }
}

impl Info {
    /// The number of a token.
    fn id(&self, token: &str) -> Option<i64> {
        self.vocab.iter().position(|other| other == token).map(|at| at as i64)
    }
}

fn read(path: &Path) -> Result<Info, Failure> {
    let text = fs::read(path).map_err(|source| Failure::File { path: path.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| Failure::Info { path: path.into(), source })
}

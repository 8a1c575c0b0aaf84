//! Compares built-in architectures with exported graphs of them:
//! `cargo run --release -p kiln-model --example arch_check -- FOLDER [NAME...]`.
//!
//! The folder has one folder for each architecture, with an ONNX model, its weights and its tests as those of ONNX are. All
//! weights must be the same bit for bit. Results of tests are compared too, of the small architectures and of those that are named:
//! they are interpreted, which takes minutes and much memory for a large one.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kiln_ir::func::{Def, ElementType, Func, Tensor, TensorType};
use kiln_model::arch::{ArchOptions, Architecture};

/// Largest difference from a result, as a part of the largest element.
const TOLERANCE: f64 = 2e-5;

const FOLDERS: [(Architecture, &str); 8] = [
    (Architecture::Resnet50, "resnet50"),
    (Architecture::Bert, "bert_base_uncased"),
    (Architecture::DistilbertSentiment, "distilbert_sst2"),
    (Architecture::RobertaFillMask, "roberta_base_mlm"),
    (Architecture::RobertaSentiment, "roberta_sentiment"),
    (Architecture::BertTiny, "bert_tiny"),
    (Architecture::DistilbertTiny, "distilbert_tiny"),
    (Architecture::RobertaTiny, "roberta_tiny_mlm"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let root = PathBuf::from(words.next().ok_or("expected a folder of architectures")?);
    let names: Vec<_> = words.collect();
    for (architecture, folder) in FOLDERS {
        let is_named = names.iter().any(|name| name == architecture.name());
        if names.is_empty() || is_named {
            let interprets = is_named || architecture.name().ends_with("-tiny");
            check(architecture, &root.join(folder), interprets).map_err(|e| format!("{architecture}: {e}"))?;
        }
    }
    Ok(())
}

fn check(architecture: Architecture, folder: &Path, interprets: bool) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let func = architecture.build(&ArchOptions::default())?;
    println!("{architecture}: built in {:.3} s", start.elapsed().as_secs_f64());
    if folder.join("weights.bin").exists() {
        let weights = compare_weights(&func, &kiln_onnx::Model::open(folder.join("model.onnx"))?)?;
        println!("  {weights} tensors of weights are the same");
    }
    drop(func);

    for set in 0.. {
        let set = folder.join(format!("test_data_set_{set}"));
        if !set.exists() {
            break;
        }
        let inputs = read_all(&set, "input")?;
        let shape = inputs[0].ty().shape();
        let seq = architecture.max_seq().map(|_| shape[1]);
        let options = ArchOptions { batch: shape[0], seq };
        if !inputs.iter().map(Tensor::ty).eq(architecture.inputs(&options)?.iter().map(|(_, ty)| ty)) {
            return Err("the arguments have other types".into());
        }
        if interprets {
            compare_results(&architecture.build(&options)?, &inputs, &read_all(&set, "output")?)?;
        }
    }
    Ok(())
}

/// Finds each initializer among the constants, if need be transposed; the other way round, each weight must have been found.
fn compare_weights(func: &Func, model: &kiln_onnx::Model) -> Result<usize, Box<dyn Error>> {
    let mut missing: HashMap<&str, Tensor> = HashMap::new();
    for (id, value) in func.values() {
        if let (Def::Constant(_), true) = (&value.def, value.name.contains('.')) {
            missing.extend(func.constant(id).map(|tensor| (value.name.as_str(), tensor)));
        }
    }
    let constants = missing.clone();
    // Weights of linear layers have lost their names with the transposition; they are known by their contents.
    let bits = |data: &[u8]| data.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().expect("four"))).collect();
    for (name, tensor) in &model.graph.initializers {
        let own = name.strip_prefix("m.").unwrap_or(name);
        let found: Vec<u32> = bits(&tensor.data);
        let same = |constant: &Tensor| {
            let elements: Vec<u32> = bits(constant.data());
            let shape: Vec<_> = constant.ty().shape().iter().map(|d| *d as usize).collect();
            match (shape.as_slice(), tensor.shape.as_slice()) {
                ([rows, columns], [a, b]) if !constants.contains_key(own) => {
                    let turned = |i: usize| elements[i % rows * columns + i / rows];
                    (a, b) == (columns, rows) && (0..found.len()).all(|i| turned(i) == found[i])
                }
                (ours, theirs) => ours == theirs && elements == found,
            }
        };
        let key = match constants.get_key_value(own) {
            Some((key, constant)) => same(constant).then_some(*key),
            None => constants.iter().find(|(_, constant)| same(constant)).map(|(key, _)| *key),
        };
        missing.remove(key.ok_or_else(|| format!("no weight is {name}"))?);
    }
    match missing.keys().next() {
        None => Ok(constants.len()),
        Some(name) => Err(format!("the model has no {name}").into()),
    }
}

fn compare_results(func: &Func, inputs: &[Tensor], expected: &[Tensor]) -> Result<(), Box<dyn Error>> {
    let inputs: Vec<_> = inputs.iter().map(Tensor::to_f64).collect();
    let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
    let found = func.interpret_f64(&inputs)?;
    if found.len() != expected.len() {
        return Err(format!("{} results, not {}", found.len(), expected.len()).into());
    }
    for (found, expected) in found.iter().zip(expected) {
        let reference = expected.to_f64();
        let largest = reference.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        let wrong = |(a, b): (&f64, &f64)| (a - b).abs() / largest;
        let worst = found.iter().zip(&reference).map(wrong).fold(0.0, f64::max);
        println!("  {}: {worst:.1e}", expected.ty());
        if found.len() != reference.len() || worst.is_nan() || worst > TOLERANCE {
            return Err(format!("results differ by {worst} of the largest").into());
        }
    }
    Ok(())
}

/// `input_0.pb` and so on.
fn read_all(folder: &Path, what: &str) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let paths = (0..).map(|i| folder.join(format!("{what}_{i}.pb"))).take_while(|path| path.exists());
    paths
        .map(|path| {
            let (_, tensor) = kiln_onnx::Tensor::from_bytes(fs::read(path)?)?;
            let element = match tensor.dtype {
                kiln_onnx::ElementType::F32 => ElementType::F32,
                kiln_onnx::ElementType::I64 => ElementType::I64,
                other => return Err(format!("elements of {other:?}").into()),
            };
            let shape: Vec<_> = tensor.shape.iter().map(|d| *d as u64).collect();
            Ok(Tensor::new(TensorType::new(element, shape)?, tensor.data)?)
        })
        .collect()
}

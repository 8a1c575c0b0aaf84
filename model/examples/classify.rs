//! An image classifier on the images of its tests: `cargo run --release -p kiln-model --example classify -- FOLDER`.
//!
//! The folder has a `model.onnx`, and beside it `test_data_set_0` and so on with `input_0.pb`, `output_0.pb` and so on, as ONNX's
//! own tests are laid out. The first output has the scores of classes. Exits with 1 if an output is not what the test says.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use kiln_jit::Runtime;
use kiln_model::report::Agreement;
use kiln_model::{Bindings, Model};
use kiln_onnx::TestSet;

/// The largest difference from an output that passes, as a part of the output's largest element.
const TOLERANCE: f64 = 2e-5;
/// The number of classes that are printed.
const CLASSES: usize = 5;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("expected a folder with model.onnx and test_data_set_0")]
    NoFolder,
    #[error("{0}: there is no test_data_set_0: expected a folder with that and model.onnx")]
    NoTest(String),
    #[error("{set}: {found} outputs, the test has {expected}")]
    Outputs { set: String, found: usize, expected: usize },
    #[error("{set}: an output is {found}, the test has {expected}")]
    OutputType { set: String, found: String, expected: String },
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

/// Classifies the images; true if all outputs agree with the tests.
fn run(folder: Option<OsString>) -> Result<bool, Box<dyn Error>> {
    let folder = PathBuf::from(folder.ok_or(Failure::NoFolder)?);
    let path = folder.join("model.onnx");
    let sets = TestSet::beside(&path).iter().map(|set| TestSet::read(set)).collect::<Result<Vec<_>, _>>()?;
    let first = sets.first().ok_or_else(|| Failure::NoTest(folder.display().to_string()))?;

    let runtime = Runtime::builder().build()?;
    let model = Model::from_onnx(&path)?;
    // The file may leave sizes open: they are those of the first test.
    let inputs = model.graph().inputs.iter().zip(&first.inputs);
    let shapes = inputs.fold(Bindings::new(), |all, (input, tensor)| all.shape(&input.name, tensor.ty().shape()));
    let begin = Instant::now();
    let network = model.bind(&shapes)?.compile(&runtime)?;
    println!("compiled in {:.2} s", begin.elapsed().as_secs_f64());

    let mut worst = 0.0f64;
    for set in &sets {
        let name = set.folder.display().to_string();
        let begin = Instant::now();
        let results = network.run(&set.inputs)?;
        println!("{name}: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
        if results.len() != set.outputs.len() {
            return Err(Failure::Outputs { set: name, found: results.len(), expected: set.outputs.len() }.into());
        }
        for (result, expected) in results.iter().zip(&set.outputs) {
            if result.ty() != expected.ty() {
                let (found, expected) = (result.ty().to_string(), expected.ty().to_string());
                return Err(Failure::OutputType { set: name, found, expected }.into());
            }
            worst = worst.max(Agreement::of(result.ty(), &result.to_f64(), &expected.to_f64()).relative());
        }
        let mut scores: Vec<(usize, f64)> = results.iter().take(1).flat_map(|r| r.to_f64()).enumerate().collect();
        scores.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        for (class, score) in scores.iter().take(CLASSES) {
            println!("  class {class}: {score:.6}");
        }
    }
    println!("the largest difference from what is expected is {worst:.1e} of the largest element");
    Ok(worst <= TOLERANCE)
}

//! Runs tests in the layout of ONNX's own through the import and the interpreter:
//! `cargo run --release -p kiln-onnx --example conformance -- FOLDER...`, each with a `model.onnx` and `test_data_set_*`.
//! With `--import` before them, models are imported only, and what is in their functions is counted.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_ir::func::{Def, Func, Tensor};
use kiln_onnx::{Bindings, ImportError, Imported, Model};

fn main() -> Result<(), Box<dyn Error>> {
    let is_run = std::env::args().nth(1).is_none_or(|first| first != "--import");
    let folders: Vec<PathBuf> = std::env::args().skip(if is_run { 1 } else { 2 }).map(PathBuf::from).collect();
    let mut failed = 0;
    for folder in &folders {
        if let Err(why) = test(folder, is_run) {
            failed += 1;
            println!("{}: {why}", folder.display());
        }
    }
    println!("{} of {} passed", folders.len() - failed, folders.len());
    if failed == 0 { Ok(()) } else { Err(format!("{failed} failed").into()) }
}

fn test(folder: &Path, is_run: bool) -> Result<(), Box<dyn Error>> {
    let model = Model::open(folder.join("model.onnx"))?;
    let is_quantized =
        model.graph.nodes.iter().any(|node| node.op.starts_with("QLinear") || node.op.contains("QuantizeLinear"));
    let sets = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut sets: Vec<PathBuf> = sets.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    sets.sort();
    for set in sets {
        let inputs = tensors(&set, "input")?;
        let expected = tensors(&set, "output")?;
        let imported = import(&model, &inputs)?;
        if !is_run {
            println!("{}: {}", folder.display(), counts(&imported.func));
            break;
        }
        let results = interpret(&imported.func, &inputs)?;
        if results.len() != expected.len() {
            return Err(format!("{} outputs, expected {}", results.len(), expected.len()).into());
        }
        for ((name, result), expected) in imported.outputs.iter().zip(&results).zip(&expected) {
            compare(result, expected, is_quantized).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    Ok(())
}

/// The files `input_0.pb` and so on.
fn tensors(set: &Path, kind: &str) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let paths = (0..).map(|i| set.join(format!("{kind}_{i}.pb"))).take_while(|path| path.exists());
    let read = |path: PathBuf| Ok(Tensor::try_from(&kiln_onnx::Tensor::from_bytes(fs::read(path)?)?.1)?);
    paths.map(read).collect()
}

/// With the inputs' shapes; with their values only if the model cannot do without.
fn import(model: &Model, inputs: &[Tensor]) -> Result<Imported, Box<dyn Error>> {
    let named = || model.graph.inputs.iter().zip(inputs);
    let shapes = named().fold(Bindings::new(), |all, (input, tensor)| all.shape(&input.name, tensor.ty().shape()));
    match model.import(&shapes) {
        Err(ImportError::NeedsValue { .. }) => {
            let values = named().fold(shapes, |all, (input, tensor)| all.value(&input.name, tensor.clone()));
            Ok(model.import(&values)?)
        }
        imported => Ok(imported?),
    }
}

/// How often each operation is in a function.
fn counts(func: &Func) -> String {
    let mut counts = BTreeMap::new();
    for (_, value) in func.values() {
        let word = match &value.def {
            Def::Argument => "argument",
            Def::Constant(_) => "constant",
            Def::Result { op, .. } => op.name(),
        };
        *counts.entry(word).or_insert(0) += 1;
    }
    format!("{counts:?}")
}

/// The results of a function, every value rounded to its type.
fn interpret(func: &Func, arguments: &[Tensor]) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let mut arguments = arguments.iter();
    let mut values: Vec<Tensor> = vec![];
    for (id, value) in func.values() {
        let result = match &value.def {
            Def::Argument => arguments.next().ok_or("too few inputs")?.clone(),
            Def::Constant(_) => func.constant(id).ok_or("not a constant")?,
            Def::Result { op, operands } => {
                op.apply(&operands.iter().map(|o| &values[o.index()]).collect::<Vec<_>>())?
            }
        };
        if *result.ty() != value.ty {
            return Err(format!("%{} is {}, computed as {}", value.name, value.ty, result.ty()).into());
        }
        values.push(result);
    }
    Ok(func.results().iter().map(|id| values[id.index()].clone()).collect())
}

fn compare(result: &Tensor, expected: &Tensor, is_quantized: bool) -> Result<(), String> {
    if result.ty() != expected.ty() {
        return Err(format!("{}, expected {}", result.ty(), expected.ty()));
    }
    let (result, reference) = (result.to_f64(), expected.to_f64());
    let finite = reference.iter().copied().filter(|v| v.is_finite());
    let greatest = finite.fold(0.0f64, |greatest, v| greatest.max(v.abs()));
    let (relative, absolute) = match expected.ty().element().is_float() {
        true => (1e-3, 1e-7 + 1e-5 * greatest),
        false if is_quantized => (0.0, 1.0),
        false => (0.0, 0.0),
    };
    let is_close =
        |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute + relative * b.abs();
    match result.iter().zip(&reference).enumerate().find(|(_, (a, b))| !is_close(**a, **b)) {
        None => Ok(()),
        Some((at, (a, b))) => Err(format!("element {at} is {a}, expected {b}")),
    }
}

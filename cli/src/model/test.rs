//! `kiln model test`: tests in the layout of ONNX's own.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_jit::Runtime;
use kiln_model::report::interpret;
use kiln_model::{Bound, ElementType, ImportError, OnnxError, Tensor};
use kiln_onnx::TestSet;

use super::files::MODEL;
use super::materialize;
use super::reference::tolerance;
use crate::error::Error;
use crate::kind::FileKind;
use crate::mapped;
use crate::target::TargetArgs;
use crate::threads::{or_environment, threads};
use crate::verdict::Verdict;

/// The depth to which folders are searched.
const DEPTH: usize = 16;

/// Run tests in ONNX's layout: folders with ONNX files, and input_0.pb and output_0.pb in folders test_data_set_0, test_data_set_1
/// and so on beside them
///
/// Each set may have sizes of its own for what the file leaves open. Prints PASSED, FAILED or UNSUPPORTED (the model is not imported) for each, with the reason. Integers must be equal, unless
/// --int-atol allows a difference. Exits with 1 unless all passed but those that --allow names.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Folders with tests, at any depth, or single sets of inputs and outputs
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    /// Threads that compile and run [default: KILN_NUM_THREADS, OMP_NUM_THREADS or RAYON_NUM_THREADS, else 1]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
    /// The difference that each element may have, as a part of its reference
    #[arg(long, value_name = "X", default_value_t = 1e-3, value_parser = tolerance)]
    rtol: f64,
    /// The difference that each element may have in addition
    #[arg(long, value_name = "X", default_value_t = 1e-7, value_parser = tolerance)]
    atol: f64,
    /// Difference that integers may have
    #[arg(long, value_name = "N", default_value_t = 0)]
    int_atol: u32,
    /// Instead of --rtol and --atol: the difference that each element may have, as a part of the reference's largest magnitude
    #[arg(long, value_name = "X", conflicts_with_all = ["rtol", "atol"], value_parser = tolerance)]
    max_rel: Option<f64>,
    /// The folder name of a test that need not pass, or the name of its file if there are several in the folder; may be given several
    /// times
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,
    /// Do not count a model that cannot be imported as a failure
    #[arg(long)]
    allow_unsupported: bool,
    /// Interpret in double precision instead of compiling
    #[arg(long, conflicts_with_all = ["target", "threads"])]
    interpret: bool,
    /// Write weights.bin beside each model for which a weights.json describes it
    #[arg(long)]
    materialize: bool,
    /// Print only tests that did not pass, and the totals
    #[arg(long)]
    quiet: bool,
}

/// A network with what it is called with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    /// The name to allow it by.
    name: String,
    /// Its name in the output.
    place: PathBuf,
    model: PathBuf,
    /// Folders with inputs and outputs, in order.
    sets: Vec<PathBuf>,
}

/// The outcome of a test.
enum Outcome {
    Passed,
    Failed(String),
    Unsupported(String),
}

impl From<ImportError> for Outcome {
    fn from(error: ImportError) -> Self {
        Outcome::Unsupported(error.to_string())
    }
}

impl From<OnnxError> for Outcome {
    fn from(error: OnnxError) -> Self {
        match error {
            OnnxError::File { .. } => Outcome::Failed(error.to_string()),
            _ => Outcome::Unsupported(error.to_string()),
        }
    }
}

/// Runs all tests.
pub fn test(args: &TestArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let threads = or_environment(args.threads)?;
    let mut tests = BTreeSet::new();
    for folder in &args.folders {
        if let Some(kind) = FileKind::of(folder).filter(|kind| *kind != FileKind::Folder) {
            let path = folder.display().to_string();
            return Err(Error::IsAFile { path, kind, expected: "a folder with tests".into() });
        }
        let mut found = vec![];
        find(folder, DEPTH, &mut found).map_err(|e| Error::File(e).at(folder.display().to_string()))?;
        let is_none = found.is_empty();
        tests.extend(found);
        if is_none {
            let why = "no folder in it has a model.onnx, or another ONNX file, and a test_data_set_0";
            return Err(Error::File(std::io::Error::other(why)).at(folder.display().to_string()));
        }
    }
    let runtime = args.target.runtime(threads)?;
    let [mut passed, mut failed, mut unsupported, mut allowed] = [0; 4];
    for test in &tests {
        let (word, why, count) = match args.one(test, &runtime) {
            Outcome::Passed => ("PASSED", None, &mut passed),
            Outcome::Failed(why) => ("FAILED", Some(why), &mut failed),
            Outcome::Unsupported(why) => ("UNSUPPORTED", Some(why), &mut unsupported),
        };
        let is_allowed = args.allow.contains(&test.name) || (word == "UNSUPPORTED" && args.allow_unsupported);
        *count += 1;
        allowed += usize::from(why.is_some() && is_allowed);
        match why {
            // One line each, even if the reason has several.
            Some(why) => writeln!(out, "{word} {}: {}", test.place.display(), why.replace('\n', " "))?,
            None if args.quiet => {}
            None => writeln!(out, "{word} {}", test.place.display())?,
        }
    }
    writeln!(
        out,
        "{} tests: {passed} passed, {failed} failed, {unsupported} unsupported, {allowed} of them allowed",
        tests.len()
    )?;
    Ok(if failed + unsupported == allowed { Verdict::Passed } else { Verdict::Failed })
}

/// Finds the tests of a folder: a set by itself, networks with sets beside them, and those of the folders in it.
fn find(folder: &Path, depth: usize, tests: &mut Vec<Test>) -> std::io::Result<()> {
    if let Some(parent) = folder.parent().filter(|_| TestSet::is_set(folder)) {
        tests.extend(of_networks(parent, &[folder.into()])?);
        return Ok(());
    }
    tests.extend(of_networks(folder, &TestSet::beside(&folder.join(MODEL)))?);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Links are not followed: they may go in circles.
        if depth > 0 && entry.file_type()?.is_dir() && !TestSet::is_set(&entry.path()) {
            find(&entry.path(), depth - 1, tests)?;
        }
    }
    Ok(())
}

/// A test for each network in a folder, with these sets; none without any.
fn of_networks(folder: &Path, sets: &[PathBuf]) -> std::io::Result<Vec<Test>> {
    if sets.is_empty() {
        return Ok(vec![]);
    }
    let mut models = vec![];
    let folder_or_here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in fs::read_dir(folder_or_here)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|end| end == "onnx") {
            models.push(path);
        }
    }
    let is_one = models.len() == 1;
    let test = |model: PathBuf| {
        let place = if is_one { folder_or_here.to_owned() } else { model.clone() };
        // Of the folder that one is in, too.
        let absolute = std::path::absolute(&place).unwrap_or_else(|_| place.clone());
        let name = absolute.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
        Test { name, place, model, sets: sets.into() }
    };
    Ok(models.into_iter().map(test).collect())
}

impl TestArgs {
    fn one(&self, test: &Test, runtime: &Runtime) -> Outcome {
        let path = &test.model;
        if let Some(json) = materialize::missing(path) {
            if !self.materialize {
                return Outcome::Failed(
                    "weights.bin is not there: --materialize writes it as weights.json says".into(),
                );
            }
            if let Err(e) = materialize::materialize(&json) {
                return Outcome::Failed(e.to_string());
            }
        }
        let model = match mapped::graph(path) {
            Ok(model) => model,
            Err(error) => return error.into(),
        };
        for folder in &test.sets {
            let name = folder.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
            let of_set = |why: String| format!("{name}: {why}");
            match self.set(&model, folder, runtime) {
                Ok(()) => {}
                Err(Outcome::Failed(why)) => return Outcome::Failed(of_set(why)),
                Err(Outcome::Unsupported(why)) => return Outcome::Unsupported(of_set(why)),
                Err(Outcome::Passed) => {}
            }
        }
        Outcome::Passed
    }

    /// Calls a network with the inputs of a set, whose shapes it is compiled for.
    fn set(&self, model: &kiln_onnx::Model, folder: &Path, runtime: &Runtime) -> Result<(), Outcome> {
        let set = TestSet::read(folder)?;
        let imported = set.import(model)?;
        let names = imported.outputs.clone();
        let types: Vec<_> = imported.func.results().iter().map(|id| imported.func.value(*id).ty.clone()).collect();
        let (results, tensors) = match self.interpret {
            true => (interpret(&imported.func, &set.inputs).map_err(|e| Outcome::Failed(e.to_string()))?, vec![]),
            false => {
                let tensors = self.compiled(imported.into(), &set.inputs, runtime).map_err(Outcome::Failed)?;
                (tensors.iter().map(Tensor::to_f64).collect::<Vec<_>>(), tensors)
            }
        };
        if results.len() != set.outputs.len() {
            return Err(Outcome::Failed(format!("{} outputs, expected {}", results.len(), set.outputs.len())));
        }
        for (at, (((name, ty), result), expected)) in
            names.iter().zip(&types).zip(&results).zip(&set.outputs).enumerate()
        {
            let wrong = if ty == expected.ty() {
                let exact = tensors.get(at).filter(|_| self.int_atol == 0);
                difference(result, expected, self.tolerance(expected.ty().element()))
                    .or_else(|| exact.and_then(|result| other_integer(result, expected)))
            } else {
                Some(format!("{ty}, expected {}", expected.ty()))
            };
            if let Some(why) = wrong {
                return Err(Outcome::Failed(format!("`{name}`: {why}")));
            }
        }
        Ok(())
    }

    fn compiled(&self, bound: Bound, inputs: &[Tensor], runtime: &Runtime) -> Result<Vec<Tensor>, String> {
        let network = bound.compile(runtime).map_err(|e| e.to_string())?;
        network.run(inputs).map_err(|e| e.to_string())
    }

    /// The tolerance for elements of a type.
    fn tolerance(&self, element: ElementType) -> Tolerance {
        match (element.is_float(), self.max_rel) {
            (true, Some(most)) => Tolerance { of_greatest: most, ..Tolerance::default() },
            (true, None) => Tolerance { relative: self.rtol, absolute: self.atol, ..Tolerance::default() },
            (false, _) => Tolerance { absolute: self.int_atol.into(), ..Tolerance::default() },
        }
    }
}

/// The distance that an element may have from its reference, as a sum of three terms.
#[derive(Clone, Copy, Default)]
struct Tolerance {
    /// A fraction of the reference's magnitude.
    relative: f64,
    /// A fraction of the greatest finite magnitude of all references.
    of_greatest: f64,
    absolute: f64,
}

/// Describes where a result is too far from the expected one; `None` if it is nowhere.
fn difference(result: &[f64], expected: &Tensor, tolerance: Tolerance) -> Option<String> {
    let reference = expected.to_f64();
    let greatest = reference.iter().filter(|v| v.is_finite()).fold(0.0f64, |all, v| all.max(v.abs()));
    let allowed = |b: f64| tolerance.absolute + tolerance.of_greatest * greatest + tolerance.relative * b.abs();
    // No finite number is near to an infinity.
    let is_close = |a: f64, b: f64| match a.is_finite() && b.is_finite() {
        true => (a - b).abs() <= allowed(b),
        false => a == b || (a.is_nan() && b.is_nan()),
    };
    let pairs = || result.iter().zip(&reference);
    let wrong = pairs().filter(|(a, b)| !is_close(**a, **b)).count();
    let (at, (a, b)) = pairs().enumerate().find(|(_, (a, b))| !is_close(**a, **b))?;
    let largest = pairs().map(|(a, b)| (a - b).abs()).fold(0.0f64, f64::max);
    Some(format!(
        "{wrong} of {} elements differ, the first is number {at}: {a}, expected {b}; the largest difference is {largest:e}, the \
         largest magnitude {greatest:e}",
        reference.len()
    ))
}

/// Describes the first of integers of 64 bits that is not the expected one: as doubles, two of them may be the same.
fn other_integer(result: &Tensor, expected: &Tensor) -> Option<String> {
    let differs = |what: Option<(usize, String, String)>| {
        what.map(|(at, found, expected)| format!("element {at} is {found}, expected {expected}"))
    };
    match (result.elements::<i64>(), expected.elements::<i64>(), result.elements::<u64>(), expected.elements::<u64>()) {
        (Some(a), Some(b), ..) => differs(first_other(&a, &b)),
        (.., Some(a), Some(b)) => differs(first_other(&a, &b)),
        _ => None,
    }
}

fn first_other<T: PartialEq + ToString>(a: &[T], b: &[T]) -> Option<(usize, String, String)> {
    let at = a.iter().zip(b).position(|(a, b)| a != b)?;
    Some((at, a[at].to_string(), b[at].to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_and_what_is_no_number_are_like_nothing_else() {
        let wide = Tolerance { relative: 1.0, of_greatest: 1.0, absolute: 1.0 };
        let differs = |a: f64, b: f64| {
            let expected = Tensor::from_elements([2], vec![b, 100.0]).unwrap();
            difference(&[a, 100.0], &expected, wide).is_some()
        };
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        assert!([(1.0, 2.0), (inf, inf), (-inf, -inf), (nan, nan)].iter().all(|(a, b)| !differs(*a, *b)));
        let unlike = [(1.0, inf), (inf, 1.0), (-inf, inf), (nan, inf), (nan, 1.0), (1.0, nan), (300.0, 2.0)];
        assert!(unlike.iter().all(|(a, b)| differs(*a, *b)));
    }

    #[test]
    fn a_tolerance_is_a_sum() {
        let expected = Tensor::from_elements([3], vec![1.0, -100.0, f64::INFINITY]).unwrap();
        let reported = |result: f64, tolerance| difference(&[result, -100.0, f64::INFINITY], &expected, tolerance);
        assert!(reported(1.5, Tolerance { relative: 0.5, ..Tolerance::default() }).is_none());
        assert!(reported(1.5, Tolerance { of_greatest: 0.005, ..Tolerance::default() }).is_none());
        assert!(reported(1.5, Tolerance { absolute: 0.25, relative: 0.25, of_greatest: 0.0 }).is_none());
        let why = reported(1.5, Tolerance { relative: 0.49, ..Tolerance::default() }).unwrap();
        assert!(why.starts_with("1 of 3 elements differ, the first is number 0: 1.5, expected 1;"), "{why}");
    }
}

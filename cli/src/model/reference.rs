//! References that results are compared with.

use kiln_model::report::{Agreement, interpret};
use kiln_model::{Network, Tensor};
use serde::Serialize;

use super::compiled::{CompileArgs, Compiled};
use super::network::Loaded;
use crate::error::Error;

/// Networks whose kernels compute at most this are compared with the interpreter even without --check: it takes a second.
const FEW_FLOPS: u64 = 200_000_000;

/// Options for checking results.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Compare the outputs with those of the same network interpreted in double precision, which takes minutes for a large network.
    /// Without --check they are compared with the test beside the file; if there is none and kernels round to bf16, with
    /// the same network in strict arithmetic; else, if the network is small, with the interpreter
    #[arg(long)]
    check: bool,
    /// Exit with 1 if an output differs from the reference by more than this part of the reference's largest magnitude
    #[arg(long, value_name = "X", value_parser = tolerance)]
    max_rel: Option<f64>,
}

/// Parses a tolerance.
pub fn tolerance(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|x: &f64| x.is_finite() && *x >= 0.0);
    value.ok_or_else(|| "expected a number that is not negative, such as 1e-5".into())
}

/// A kind of reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The same network, interpreted in double precision.
    Interpreter,
    /// The outputs of the test beside the file.
    Test,
    /// The same network in strict arithmetic.
    Strict,
}

/// Results beside a reference.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// A description of the reference.
    pub reference: String,
    /// One entry for each output.
    pub outputs: Vec<Output>,
    /// False if an output differs by more than was allowed.
    pub passed: bool,
}

/// An output beside its reference.
#[derive(Debug, Serialize)]
pub struct Output {
    name: String,
    ty: String,
    cosine: f64,
    /// The largest difference as a part of the largest magnitude.
    largest_relative: f64,
    largest: f64,
    /// The part of rows with the maximum at the same place.
    top1: Option<f64>,
}

impl CheckArgs {
    /// Chooses the reference, or none. Fails if there is none and a limit of the error was given, which would hold unchecked.
    pub fn reference(&self, loaded: &Loaded, compiled: &Compiled) -> Result<Option<Reference>, Error> {
        let flops = || compiled.network.steps().filter_map(|s| Some(s.kernel?.problem().flops())).sum::<u64>();
        let reference = if self.check {
            Reference::Interpreter
        } else if loaded.expected.is_some() {
            Reference::Test
        } else if compiled.rounds() {
            Reference::Strict
        } else if flops() <= FEW_FLOPS {
            Reference::Interpreter
        } else if self.max_rel.is_some() {
            return Err(Error::NoReference);
        } else {
            return Ok(None);
        };
        Ok(Some(reference))
    }

    /// Compares results with the reference.
    pub fn check(
        &self,
        reference: Option<Reference>,
        args: &CompileArgs,
        loaded: &Loaded,
        compiled: &Compiled,
        results: &[Tensor],
    ) -> Result<Option<Checked>, Error> {
        let network = &compiled.network;
        let all_values = |tensors: &[Tensor]| tensors.iter().map(Tensor::to_f64).collect::<Vec<_>>();
        let (reference, values): (String, Vec<Vec<f64>>) = match (reference, &loaded.expected) {
            (Some(Reference::Interpreter), _) => {
                let values = interpret(loaded.bind_again()?.func(), &loaded.inputs)?;
                ("the same network interpreted in double precision".into(), values)
            }
            (Some(Reference::Strict), _) => {
                let network: Network = loaded.bind_again()?.compile(&args.strict()?)?;
                let values = all_values(&network.run(&loaded.inputs)?);
                ("the same network in strict arithmetic".into(), values)
            }
            (Some(Reference::Test), Some((folder, expected))) => (folder.display().to_string(), all_values(expected)),
            (Some(Reference::Test), None) | (None, _) => return Ok(None),
        };
        let outputs = network.outputs().zip(results).zip(&values).map(|(((name, ty), result), reference)| {
            let result = result.to_f64();
            // They differ in length if the test belongs to another model.
            let is_comparable = result.len() == reference.len();
            let found = is_comparable.then(|| Agreement::of(ty, &result, reference));
            let nan = f64::NAN;
            let found = found.unwrap_or(Agreement { cosine: nan, largest: f64::INFINITY, scale: nan, top1: None });
            Output {
                name: name.into(),
                ty: ty.to_string(),
                cosine: found.cosine,
                largest_relative: found.relative(),
                largest: found.largest,
                top1: found.top1,
            }
        });
        let outputs: Vec<Output> = outputs.collect();
        // Written so that NaN does not pass, nor an output without a reference.
        let all = outputs.len() == results.len() && values.len() == results.len();
        let passed = self.max_rel.is_none_or(|most| all && outputs.iter().all(|o| o.largest_relative <= most));
        Ok(Some(Checked { reference, outputs, passed }))
    }
}

impl Checked {
    /// Prints the comparison as text.
    pub fn print(&self, out: &mut impl std::io::Write) -> Result<(), Error> {
        writeln!(out, "  reference  {}", self.reference)?;
        for o in &self.outputs {
            let top1 = o.top1.map_or(String::new(), |part| format!(", top-1 agreement {:.2} %", 100.0 * part));
            writeln!(
                out,
                "  output     {}: {}, cosine similarity {:.9}, largest error {:.2e} of the largest magnitude{top1}",
                o.name, o.ty, o.cosine, o.largest_relative
            )?;
        }
        if !self.passed {
            writeln!(out, "  check      FAILED: larger than --max-rel")?;
        }
        Ok(())
    }
}

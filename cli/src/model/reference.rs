//! What results are compared with.

use kiln_model::report::{Agreement, interpret};
use kiln_model::{Network, Tensor};
use serde::Serialize;

use super::compiled::{CompileArgs, Compiled};
use super::network::Loaded;
use crate::error::Error;

/// Networks whose kernels compute no more are compared with the interpreter without being asked to: it takes a second.
const FEW_FLOPS: u64 = 200_000_000;

/// How results are checked.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Compare with the same network interpreted in double precision, which takes seconds to minutes for a large one. Without it:
    /// with the outputs of the test beside the file, with the same network in strict arithmetic if --fpmath is not strict, and
    /// small networks with the interpreter
    #[arg(long)]
    check: bool,
    /// Exit with 1 if an output differs from the reference by more than this part of the reference's largest magnitude
    #[arg(long, value_name = "X")]
    max_rel: Option<f64>,
}

/// Results beside a reference.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// What the reference is.
    pub reference: String,
    /// For each output.
    pub outputs: Vec<Output>,
    /// Whether all are as close as was asked for.
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
    /// Compares results with the reference that there is.
    pub fn check(
        &self,
        args: &CompileArgs,
        loaded: &Loaded,
        compiled: &Compiled,
        results: &[Tensor],
    ) -> Result<Option<Checked>, Error> {
        let network = &compiled.network;
        let flops: u64 = network.steps().filter_map(|s| Some(s.kernel?.problem().flops())).sum();
        let is_small = flops <= FEW_FLOPS;
        let (reference, values): (String, Vec<Vec<f64>>) = if self.check {
            interpreted(loaded)?
        } else if let Some((folder, expected)) = &loaded.expected {
            (format!("{}", folder.display()), expected.iter().map(Tensor::to_f64).collect())
        } else if compiled.rounds() {
            let network: Network = loaded.bind_again()?.compile(&args.strict()?)?;
            let values = network.run(&loaded.inputs)?.iter().map(Tensor::to_f64).collect();
            ("the same network in strict arithmetic".into(), values)
        } else if is_small {
            interpreted(loaded)?
        } else {
            return Ok(None);
        };
        let outputs = network.outputs().zip(results).zip(&values).map(|(((name, ty), result), reference)| {
            let result = result.to_f64();
            // A test that belongs to another model.
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
        // Written so that NaN does not pass, nor what there is nothing to compare with.
        let all = outputs.len() == results.len() && values.len() == results.len();
        let passed = self.max_rel.is_none_or(|most| all && outputs.iter().all(|o| o.largest_relative <= most));
        Ok(Some(Checked { reference, outputs, passed }))
    }
}

fn interpreted(loaded: &Loaded) -> Result<(String, Vec<Vec<f64>>), Error> {
    let bound = loaded.bind_again()?;
    Ok(("the same network interpreted in double precision".into(), interpret(bound.func(), &loaded.inputs)?))
}

impl Checked {
    /// Lines for people.
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

//! `kiln model operators`: the operators of ONNX that are supported.

use std::io::Write;

use kiln_onnx::{OPSETS, operators};

use crate::Verdict;
use crate::error::Error;

/// List the operators of ONNX that are supported, each with the operator sets from its first to its last
#[derive(Debug, clap::Args)]
pub struct OperatorsArgs {
    /// Print an array of objects with `name`, `first` and `last`
    #[arg(long)]
    json: bool,
}

/// Prints a line for each operator.
pub fn list(args: &OperatorsArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let last = *OPSETS.end();
    let all = operators();
    if args.json {
        let rows = all.iter().map(|o| serde_json::json!({"name": o.name, "first": o.since, "last": last}));
        writeln!(out, "{}", serde_json::Value::from_iter(rows))?;
        return Ok(Verdict::Passed);
    }
    let width = all.iter().map(|operator| operator.name.len()).max().unwrap_or(0);
    for operator in &all {
        writeln!(out, "{:width$}  {} to {last}", operator.name, operator.since)?;
    }
    Ok(Verdict::Passed)
}

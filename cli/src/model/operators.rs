//! `kiln model operators`: the operators that are supported, and why others are not.

use std::io::Write;

use kiln_onnx::{OPSETS, operators, refusals, unsupported};

use crate::error::Error;
use crate::verdict::Verdict;

/// List the operators that are supported, each with the operator sets from its first to its last, and those that are not, by reason
#[derive(Debug, clap::Args)]
pub struct OperatorsArgs {
    /// Print an object: `supported` has objects with `domain`, `name`, `first` and `last`, `refused` such with `kind`, `names` and
    /// `why`
    #[arg(long)]
    json: bool,
}

/// Prints a line for each operator, and a paragraph for each reason.
pub fn list(args: &OperatorsArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let all = operators();
    let last = |domain: &str, since: i64| if domain.is_empty() { *OPSETS.end() } else { since };
    let rest = unsupported();
    if args.json {
        let supported = all.iter().map(|o| {
            let last = last(o.domain, o.since);
            serde_json::json!({"domain": o.domain, "name": o.name, "first": o.since, "last": last})
        });
        let refused = refusals().iter().map(|r| serde_json::json!({"kind": r.kind, "names": r.names, "why": r.why}));
        let rest =
            (!rest.is_empty()).then(|| serde_json::json!({"kind": "operators", "names": rest, "why": NO_REASON}));
        let refused: Vec<_> = refused.chain(rest).collect();
        let supported: Vec<_> = supported.collect();
        writeln!(out, "{}", serde_json::json!({"supported": supported, "refused": refused}))?;
        return Ok(Verdict::Passed);
    }
    let name = |domain: &str, name: &str| if domain.is_empty() { name.to_owned() } else { format!("{domain}.{name}") };
    let width = all.iter().map(|operator| name(operator.domain, operator.name).len()).max().unwrap_or(0);
    for operator in &all {
        let last = last(operator.domain, operator.since);
        writeln!(out, "{:width$}  {} to {last}", name(operator.domain, operator.name), operator.since)?;
    }
    writeln!(out, "\nNot supported:")?;
    for refusal in refusals() {
        writeln!(out, "{} {}: {}", refusal.kind, refusal.names.join(", "), refusal.why)?;
    }
    if !rest.is_empty() {
        writeln!(out, "operators {}: {NO_REASON}", rest.join(", "))?;
    }
    Ok(Verdict::Passed)
}

const NO_REASON: &str = "not written yet";

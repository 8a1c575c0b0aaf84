//! `cargo xtask mca`: llvm-mca's opinion of the K loops of a problem's micro-kernels.
//!
//! llvm-mca models the pipes of a core and nothing else: no cache, no fetch, no misprediction. Its figures rank kernels
//! and catch regressions; they are no claim about hardware.

mod listing;

use std::process::Command;

use kiln_compiler::target::{Arch, Target};
use kiln_compiler::{Options, compile};
use kiln_ir::Problem;

use crate::process::{Result, output};
use listing::Loop;

/// Iterations that llvm-mca simulates: enough for the ramp at both ends to vanish in the second decimal.
const ITERATIONS: u32 = 1000;

/// Arguments.
#[derive(clap::Args)]
pub struct McaArgs {
    /// For example `matmul f32 512x512:512x512 +bias+relu`.
    problem: Problem,
    /// The target to compile for.
    #[arg(long, default_value = "neoverse-v1")]
    target: Target,
    /// The right operand is constant and packed before calls.
    #[arg(long)]
    packed: bool,
    /// The core whose model is asked; by default the target's own or its nearest relative.
    #[arg(long)]
    mcpu: Option<String>,
    /// Fail if the loop with most multiply-adds keeps less than this share of the pipes busy, in percent.
    #[arg(long)]
    at_least: Option<f64>,
    /// The program. Before version 22 the models of Neoverse V1 and V2 are poor.
    #[arg(long, default_value = "llvm-mca-22")]
    llvm_mca: String,
}

/// Prints one line for each innermost loop that multiplies, the one with most multiply-adds first.
pub fn run(args: &McaArgs) -> Result {
    let McaArgs { problem, target, .. } = args;
    let mcpu = match &args.mcpu {
        Some(mcpu) => mcpu,
        None => model(target).ok_or_else(|| format!("llvm-mca has no model near {target}: name one with --mcpu"))?,
    };
    // Whose pipes are counted: the modelled core's where it is one of ours (`znver3` is not a target, but `x86-64-v3` is one).
    let modelled = mcpu.parse().unwrap_or_else(|_| target.clone());
    let options = Options { constant_weights: args.packed, ..Options::default() };
    let artifact = compile(problem, target, &options)?;
    let mut loops = listing::multiplying_loops(&artifact.listing(false));
    if loops.is_empty() {
        return Err("the listing has no loop with a vector multiply-add".into());
    }
    loops.sort_by_key(|l| std::cmp::Reverse(l.multiply_adds()));

    println!("{problem} @{target}, modelled as {mcpu}; cycles and counts per iteration");
    println!("{:>8} {:>12} {:>7} {:>6} {:>9}  loop", "cycles", "instructions", "fma", "uops", "fma peak");
    let mut first = None;
    for l in &loops {
        let (cycles, uops) = simulate(&args.llvm_mca, target, mcpu, l)?;
        let fma = l.multiply_adds();
        let pipes = modelled.unit(l.isa()).map_or(0, |unit| unit.fma_pipes);
        let peak = 100.0 * fma as f64 / (cycles * f64::from(pipes));
        println!("{cycles:8.2} {:12} {fma:7} {uops:6.1} {peak:7.1} %  {}", l.body.len(), l.label);
        first.get_or_insert(peak);
    }
    match (args.at_least, first) {
        (Some(least), Some(peak)) if peak < least => {
            Err(format!("the main K loop keeps {peak:.1} % of the pipes busy, less than {least} %").into())
        }
        _ => Ok(()),
    }
}

/// The model of the target's core; for a generic target, that of a core with such vectors.
fn model(target: &Target) -> Option<&'static str> {
    const MODELS: &[(&str, &str)] = &[
        ("armv8", "neoverse-n1"),
        ("neoverse-n1", "neoverse-n1"),
        ("neoverse-v1", "neoverse-v1"),
        ("neoverse-v2", "neoverse-v2"),
        ("sve128", "neoverse-v2"),
        ("sve256", "neoverse-v1"),
        ("x86-64-v3", "znver3"),
        ("x86-64-v4", "sapphirerapids"),
    ];
    let name = target.to_string();
    MODELS
        .iter()
        .find(|(core, _)| name.strip_prefix(core).is_some_and(|r| r.is_empty() || r.starts_with(['+', '-'])))
        .map(|(_, model)| *model)
}

/// Cycles and micro-operations of one iteration, in the steady state.
fn simulate(llvm_mca: &str, target: &Target, mcpu: &str, l: &Loop) -> Result<(f64, f64)> {
    let syntax = match target.arch {
        Arch::Aarch64 => "",
        Arch::X86_64 => ".intel_syntax noprefix\n",
    };
    let mut command = Command::new(llvm_mca);
    command.arg(format!("-mtriple={}", target.triple())).arg(format!("-mcpu={mcpu}"));
    command.arg(format!("-iterations={ITERATIONS}")).args(["-instruction-info=0", "-resource-pressure=0"]);
    let report = output(&mut command, &format!("{syntax}{}:\n{}\n", l.label, l.body.join("\n")))?;
    let total = |name: &str| {
        let value = report.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        value.map(|v| v / f64::from(ITERATIONS)).ok_or_else(|| format!("no `{name}` in the report of {llvm_mca}"))
    };
    Ok((total("Total Cycles:")?, total("Total uOps:")?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn models_belong_to_cores() {
        let model_of = |target: &str| model(&target.parse().unwrap());
        assert_eq!(model_of("neoverse-v1-sve"), Some("neoverse-v1"));
        assert_eq!(model_of("sve256+bf16"), Some("neoverse-v1"));
        assert_eq!(model_of("sve2048"), None);
        assert_eq!(model_of("x86-64-v3+l2=1m"), Some("znver3"));
    }

    /// Twelve independent NEON multiply-adds fill N1's two pipes for six cycles.
    #[test]
    fn simulates_a_loop() {
        if std::env::var_os("CI").is_none() && Command::new("llvm-mca-22").arg("--version").output().is_err() {
            // Past the test's own capture.
            let _ = writeln!(std::io::stderr(), "no llvm-mca-22 found: no loop is simulated");
            return;
        }
        let body = (8..20).map(|d| format!("fmla v{d}.4s, v0.4s, v1.s[0]")).chain(["b.ne .Lk".into()]).collect();
        let l = Loop { label: ".Lk".into(), body };
        let (cycles, uops) = simulate("llvm-mca-22", &"neoverse-n1".parse().unwrap(), "neoverse-n1", &l).unwrap();
        assert!((6.0..6.5).contains(&cycles), "{cycles} cycles");
        assert_eq!(uops.round(), 13.0);
    }
}

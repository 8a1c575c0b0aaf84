//! `kiln model scale`: how far a network or a problem is predicted to speed up on several threads, on any machine.

use std::io::Write;

use kiln_compiler::{Options, Package, compile};
use kiln_ir::Problem;
use kiln_ir::problem::MathMode;
use kiln_model::scaling::{Limit, Lost, Row, Scaling, of_kernel};
use kiln_model::{ModelError, PlanOptions};
use serde::Serialize;

use super::compiled::with_progress;
use super::network::NetworkArgs;
use crate::Verdict;
use crate::error::Error;
use crate::target::{TargetArgs, threads};

/// The columns of the text that a layer or an operation may take.
const WIDTH: usize = 60;

/// Predict how far a network, or one problem, speeds up on several threads of a machine that need not be there, and what limits it
///
/// This is a model, not a measurement: it adds up what the cost model predicts for each task, as threads take them, what it takes to begin
/// and end steps, and what caches and memory give all cores of a chip with the target's cores together.
#[derive(Debug, clap::Args)]
pub struct ScaleArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The arithmetic of f32 kernels whose problems name none: strict, bf16 or any [default: KILN_FPMATH_MODE, else strict]
    #[arg(long, value_name = "MODE")]
    fpmath: Option<MathMode>,
    /// The right operand of a problem is constant and may be packed before calls
    #[arg(long)]
    packed: bool,
    /// Numbers of threads, with commas between them
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = threads, default_value = "1,2,4,8,16,32,64")]
    threads: Vec<usize>,
    /// Do not print each kernel to standard error as it is compiled
    #[arg(long)]
    quiet: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    network: String,
    target: String,
    fpmath: String,
    /// Always true.
    model: bool,
    chip: &'static str,
    cores: u32,
    ghz: f64,
    unknown_steps: usize,
    rows: Vec<ReportRow>,
}

#[derive(Serialize)]
struct ReportRow {
    threads: usize,
    mcycles: f64,
    ms: f64,
    speedup: f64,
    efficiency: f64,
    limits: Limits,
    worst: Vec<WorstStep>,
}

/// Mcycles that are lost, by cause.
#[derive(Serialize)]
struct Limits {
    imbalance: f64,
    barrier: f64,
    bandwidth: f64,
    serial: f64,
    copies: f64,
}

#[derive(Serialize)]
struct WorstStep {
    layer: String,
    operation: String,
    lost_mcycles: f64,
    limit: &'static str,
}

/// Predicts, and prints the prediction.
pub fn scale(args: &ScaleArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let fpmath = args.fpmath.map_or_else(kiln_jit::default_fpmath, Ok)?;
    let (name, fpmath, scaling) = match args.network.problem() {
        Some(problem) => args.of_problem(&problem?, fpmath)?,
        None => args.of_network(fpmath)?,
    };
    let report = Report::of(name, fpmath, &scaling);
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&report).map_err(|e| Error::File(e.into()))?)?,
        false => print(&report, &scaling, out)?,
    }
    Ok(Verdict::Passed)
}

impl ScaleArgs {
    fn of_problem(&self, problem: &Problem, fpmath: MathMode) -> Result<(String, MathMode, Scaling), Error> {
        if let Some(option) = self.network.option_for_networks() {
            return Err(Error::Contradiction { option, why: "is for networks, not for a problem".into() });
        }
        let fpmath = problem.fpmath_or(fpmath);
        let problem = problem.with_fpmath(fpmath);
        let options = Options { constant_weights: self.packed, ..Options::default() };
        let artifact = compile(&problem, &self.target.resolve()?, &options)?;
        let scaling = of_kernel(&Package::of(&artifact, &options), &self.threads).map_err(ModelError::from)?;
        Ok((problem.to_string(), fpmath.unwrap_or(MathMode::Strict), scaling))
    }

    fn of_network(&self, fpmath: MathMode) -> Result<(String, MathMode, Scaling), Error> {
        if self.packed {
            let why = "is for problems: the constant weights of a network are always packed".into();
            return Err(Error::Contradiction { option: "--packed".into(), why });
        }
        let mut loaded = self.network.load()?;
        let (bound, target) = (loaded.take()?, self.target.resolve()?);
        let threads = kiln_jit::default_threads()?;
        let planned = with_progress(self.quiet, |progress| {
            bound.plan_for(&target, &PlanOptions { fpmath, threads, progress: Some(progress) })
        })?;
        Ok((loaded.name, fpmath, planned.scaling(&self.threads)?))
    }
}

fn mega(cycles: f64) -> f64 {
    cycles / 1e6
}

impl Report {
    fn of(network: String, fpmath: MathMode, scaling: &Scaling) -> Self {
        let limits = |lost: &Lost| Limits {
            imbalance: mega(lost.imbalance),
            barrier: mega(lost.barrier),
            bandwidth: mega(lost.bandwidth),
            serial: mega(lost.serial),
            copies: mega(lost.copies),
        };
        let row = |row: &Row| ReportRow {
            threads: row.threads,
            mcycles: mega(row.cycles),
            ms: row.ms,
            speedup: row.speedup,
            efficiency: row.efficiency,
            limits: limits(&row.lost),
            worst: row
                .worst
                .iter()
                .map(|step| WorstStep {
                    layer: step.layer.clone(),
                    operation: step.operation.clone(),
                    lost_mcycles: mega(step.lost.total()),
                    limit: step.lost.largest().name(),
                })
                .collect(),
        };
        Report {
            network,
            target: scaling.target.to_string(),
            fpmath: fpmath.to_string(),
            model: true,
            chip: scaling.chip.name,
            cores: scaling.chip.cores,
            ghz: scaling.chip.ghz,
            unknown_steps: scaling.unknown,
            rows: scaling.rows.iter().map(row).collect(),
        }
    }
}

fn print(r: &Report, scaling: &Scaling, out: &mut impl Write) -> Result<(), Error> {
    writeln!(out, "{} @{}, fpmath {}", r.network, r.target, r.fpmath)?;
    writeln!(out, "a model, not a measurement: {} with {} cores at {} GHz", r.chip, r.cores, r.ghz)?;
    if r.unknown_steps > 0 {
        writeln!(out, "branches and loops are not modelled and count no time: {} steps", r.unknown_steps)?;
    }
    write!(out, "threads   Mcycles        ms  speed-up  efficiency  lost to:")?;
    for limit in Limit::ALL {
        write!(out, " {:>10}", limit.name())?;
    }
    writeln!(out)?;
    for row in &scaling.rows {
        write!(
            out,
            "{:7} {:>9.3} {:>9.3} {:>9.2} {:>9.1} %          ",
            row.threads,
            mega(row.cycles),
            row.ms,
            row.speedup,
            100.0 * row.efficiency
        )?;
        // Of the time on so many threads.
        for limit in Limit::ALL {
            write!(out, " {:>8.1} %", 100.0 * row.lost.to(*limit) / row.cycles)?;
        }
        let beyond = if row.threads > r.cores as usize { "  more threads than cores" } else { "" };
        writeln!(out, "{beyond}")?;
    }
    for row in r.rows.iter().filter(|row| !row.worst.is_empty()) {
        writeln!(out, "\nsteps that lose most on {} threads, of {:.3} Mcycles", row.threads, row.mcycles)?;
        for step in &row.worst {
            writeln!(
                out,
                "{:>9.4}  {:10} {}  {}",
                step.lost_mcycles,
                step.limit,
                clipped(&step.layer),
                clipped(&step.operation)
            )?;
        }
    }
    Ok(())
}

/// The beginning of a text.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

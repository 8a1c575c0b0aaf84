//! `kiln model scale`: how far a network or a problem is predicted to speed up on several threads, on any machine.

use std::io::Write;

use kiln_compiler::{Options, Package, compile};
use kiln_ir::Problem;
use kiln_ir::problem::MathMode;
use kiln_model::scaling::{Limit, Lost, Predictor, Row, Worst};
use kiln_model::{ModelError, PlanOptions};
use serde::Serialize;

use super::compiled::{self, with_progress};
use super::network::NetworkArgs;
use crate::error::Error;
use crate::target::TargetArgs;
use crate::threads::{Counts, counts};
use crate::timing::show_ns;
use crate::verdict::Verdict;

/// The columns of the text that a layer or an operation may take.
const WIDTH: usize = 60;

/// Predict how far a network, or one problem, speeds up on several threads of a machine that need not be there, and what limits it
///
/// This is a model, not a measurement. It simulates how threads take the tasks of each step, and adds the time to begin and end steps
/// and the limits of shared caches and memory. Cores, caches and clock are those of a chip that stands for the target.
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
    #[arg(long, value_name = "N,...", value_parser = counts, default_value = "1,2,4,8,16,32,64")]
    threads: Counts,
    /// Do not print each kernel to standard error as it is compiled
    #[arg(long)]
    quiet: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The command, with an argument of which the help says that it may also be a problem.
pub fn takes_problems(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| match (arg.get_id().as_str(), arg.get_help()) {
        ("network", Some(help)) => {
            let help = format!(
                "{help}; or a problem (\"ip f32 mb128ic768oc3072 +bias\"), or a .kiln file with a tensor function"
            );
            arg.help(help)
        }
        _ => arg,
    })
}

/// The report as JSON.
#[derive(Serialize)]
struct Report {
    network: String,
    target: String,
    fpmath: String,
    /// Always true.
    model: bool,
    /// The chip that stands for the target.
    chip: &'static str,
    cores: u32,
    ghz: f64,
    unknown_steps: usize,
    rows: Vec<ReportRow>,
}

#[derive(Serialize)]
struct ReportRow {
    threads: usize,
    more_than_cores: bool,
    mcycles: f64,
    ms: f64,
    speedup: f64,
    efficiency: f64,
    lost_mcycles: LostMcycles,
    worst: Vec<WorstSteps>,
}

/// Mcycles that are lost, by cause.
#[derive(Serialize)]
struct LostMcycles {
    imbalance: f64,
    barrier: f64,
    bandwidth: f64,
    serial: f64,
    copies: f64,
}

#[derive(Serialize)]
struct WorstSteps {
    layer: String,
    operation: String,
    steps: usize,
    /// Of all steps together.
    lost_mcycles: f64,
    /// The cause that most is lost to.
    limit: &'static str,
}

/// Predicts, and prints the prediction.
pub fn scale(args: &ScaleArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let fpmath = args.fpmath.map_or_else(kiln_jit::default_fpmath, Ok)?;
    let (name, fpmath, predictor) = match args.network.problem() {
        Some(problem) => args.of_problem(&problem?, fpmath)?,
        None => args.of_network(fpmath)?,
    };
    let fpmath = compiled::fpmath(fpmath, predictor.target());
    let Counts(threads) = &args.threads;
    let rows = threads.iter().map(|n| predictor.row(*n).map_err(|e| ModelError::from(e).into()));
    if !args.json {
        print(&name, &fpmath, &predictor, rows, out)?;
        return Ok(Verdict::Passed);
    }
    let report = Report {
        network: name,
        target: predictor.target().to_string(),
        fpmath,
        model: true,
        chip: predictor.chip().name,
        cores: predictor.chip().cores,
        ghz: predictor.chip().ghz,
        unknown_steps: predictor.unknown(),
        rows: rows.map(|row| Ok(ReportRow::of(&row?))).collect::<Result<_, Error>>()?,
    };
    writeln!(out, "{}", serde_json::to_string(&report).map_err(|e| Error::File(e.into()))?)?;
    Ok(Verdict::Passed)
}

impl ScaleArgs {
    fn of_problem(&self, problem: &Problem, fpmath: MathMode) -> Result<(String, MathMode, Predictor), Error> {
        if let Some(option) = self.network.option_for_networks() {
            return Err(Error::Contradiction { option, why: "is for networks, not for a problem".into() });
        }
        let fpmath = problem.fpmath_or(fpmath);
        let problem = problem.with_fpmath(fpmath);
        let options = Options { constant_weights: self.packed, ..Options::default() };
        let artifact = compile(&problem, &self.target.resolve()?, &options)?;
        let predictor = Predictor::of_kernel(&Package::of(&artifact, &options)).map_err(ModelError::from)?;
        Ok((problem.to_string(), fpmath.unwrap_or(MathMode::Strict), predictor))
    }

    fn of_network(&self, fpmath: MathMode) -> Result<(String, MathMode, Predictor), Error> {
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
        Ok((loaded.name, fpmath, planned.predictor()?))
    }
}

fn mega(cycles: f64) -> f64 {
    cycles / 1e6
}

impl ReportRow {
    fn of(row: &Row) -> Self {
        let Lost { imbalance, barrier, bandwidth, serial, copies } = row.lost;
        let worst = |steps: &Worst| WorstSteps {
            layer: steps.layer.clone(),
            operation: steps.operation.clone(),
            steps: steps.steps,
            lost_mcycles: mega(steps.lost.total()),
            limit: steps.lost.largest().name(),
        };
        ReportRow {
            threads: row.threads,
            more_than_cores: row.more_than_cores,
            mcycles: mega(row.cycles),
            ms: row.ms,
            speedup: row.speedup,
            efficiency: row.efficiency,
            lost_mcycles: LostMcycles {
                imbalance: mega(imbalance),
                barrier: mega(barrier),
                bandwidth: mega(bandwidth),
                serial: mega(serial),
                copies: mega(copies),
            },
            worst: row.worst.iter().map(worst).collect(),
        }
    }
}

/// Prints each row as soon as it is predicted, and then the steps that lose most.
fn print(
    name: &str,
    fpmath: &str,
    predictor: &Predictor,
    rows: impl Iterator<Item = Result<Row, Error>>,
    out: &mut impl Write,
) -> Result<(), Error> {
    let (target, chip) = (predictor.target(), predictor.chip());
    writeln!(out, "{name} @{target}, fpmath {fpmath}")?;
    writeln!(
        out,
        "a model, not a measurement: caches, {} cores and clock ({} GHz) of {}, which stands for {}",
        chip.cores,
        chip.ghz,
        chip.name,
        target.core_name()
    )?;
    if predictor.unknown() > 0 {
        writeln!(out, "branches and loops are not modelled and count no time: {} steps", predictor.unknown())?;
    }
    write!(out, "threads           cycles        time  speed-up  efficiency  lost to:")?;
    for limit in Limit::ALL {
        write!(out, " {:>10}", limit.name())?;
    }
    writeln!(out)?;
    let mut losing = vec![];
    for row in rows {
        let row = row?;
        write!(
            out,
            "{:7} {:>16} {:>11} {:>9.2} {:>9.1} %          ",
            row.threads,
            show_cycles(row.cycles),
            show_ns(row.ms * 1e6),
            row.speedup,
            100.0 * row.efficiency
        )?;
        // Of the time on so many threads.
        for limit in Limit::ALL {
            write!(out, " {:>8.1} %", 100.0 * row.lost.to(*limit) / row.cycles)?;
        }
        writeln!(out, "{}", if row.more_than_cores { "  more threads than cores" } else { "" })?;
        out.flush()?;
        losing.push(row);
    }
    for row in losing.iter().filter(|row| !row.worst.is_empty()) {
        writeln!(out, "\nsteps that lose most on {} threads, of {}", row.threads, show_cycles(row.cycles))?;
        for steps in &row.worst {
            let lost = steps.lost.total();
            let layer = clipped(&steps.layer);
            let layer = match steps.steps {
                1 => layer,
                n => format!("{n} x {layer}, {} each", show_cycles(lost / n as f64)),
            };
            // A problem has no other name.
            let operation = if steps.operation == steps.layer { String::new() } else { clipped(&steps.operation) };
            let line = format!("{:>16}  {:10} {layer}  {operation}", show_cycles(lost), steps.lost.largest().name());
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

/// Cycles as text, in the unit that suits them.
fn show_cycles(cycles: f64) -> String {
    match cycles {
        n if n < 1e3 => format!("{n:.0} cycles"),
        n if n < 1e6 => format!("{:.2} kcycles", n / 1e3),
        n => format!("{:.3} Mcycles", n / 1e6),
    }
}

/// The beginning of a text.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

//! `kiln model profile`: the time that each step of a network takes.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use kiln_compiler::{Stage, compile};
use kiln_jit::probe::Probe;
use kiln_jit::{Kernel, Runtime};
use kiln_model::Network;
use kiln_model::report::step_times;

use super::bench::{code_word, op_word};
use super::compiled::CompileArgs;
use super::html::{Dump, Section, page};
use super::network::NetworkArgs;
use super::steps::{Profile, Row};
use crate::counter::Cycles;
use crate::counts;
use crate::error::Error;
use crate::output::OutputFile;
use crate::threads::at_once;
use crate::timing::{measure, median, show_ns};
use crate::verdict::Verdict;

/// The time for measuring the peak.
const PEAK: Duration = Duration::from_millis(50);
/// The most bytes of a kernel's machine code, and of each other stage, that the page shows.
const MOST: [usize; 2] = [48 << 10, 16 << 10];

/// Measure each step of a network: its time, its share, and for kernels the speed and the fraction of the machine's peak
#[derive(Debug, clap::Args)]
pub struct ProfileArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    compile: CompileArgs,
    /// Runs before the measured ones
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = counts::runs_before)]
    warm: u64,
    /// Measured runs; figures are medians
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = counts::runs)]
    runs: u64,
    /// The order of the table
    #[arg(long, value_name = "ORDER", default_value = "step", conflicts_with = "json")]
    sort: Sort,
    /// Also write an HTML page to FILE, with a time line and the stages of each kernel
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    /// In the order of execution
    Step,
    /// The longest first
    Time,
}

/// Measures the steps.
pub fn profile(args: &ProfileArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let html = args.html.as_deref().map(OutputFile::check).transpose()?;
    let mut loaded = args.network.load()?;
    let compiled = args.compile.compile(loaded.take()?)?;
    let (network, runtime) = (&compiled.network, &compiled.runtime);
    let mut probe = Probe::new(runtime.target())?;
    let peak = measure(PEAK, &mut Cycles::none(), || {
        probe.call();
        Ok::<(), Error>(())
    })?;
    let peak_gflops = probe.flops() as f64 / peak.ns * at_once(runtime.threads()) as f64;
    for _ in 0..args.warm {
        network.run(&loaded.inputs)?;
    }
    let times = step_times(network, &loaded.inputs, args.runs as usize)?;
    let profile = Profile {
        network: loaded.name.clone(),
        target: runtime.target().to_string(),
        fpmath: compiled.fpmath(),
        threads: runtime.threads(),
        runs: args.runs,
        peak_gflops,
        rows: rows(network, times, peak_gflops),
    };
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&profile).map_err(|e| Error::File(e.into()))?)?,
        false => print(&profile, args.sort, out)?,
    }
    if let Some(file) = html {
        let text = page(&profile, &dumps(network, runtime)?).map_err(|e| Error::File(e.into()))?;
        file.write(|out| out.write_all(text.as_bytes()))?;
    }
    Ok(Verdict::Passed)
}

fn rows(network: &Network, times: Vec<Vec<f64>>, peak_gflops: f64) -> Vec<Row> {
    // Two kernels may have the same problem: one with packed weights, one without.
    let place = |kernel: &Arc<Kernel>| network.kernels().iter().position(|k| k == kernel);
    let medians: Vec<f64> = times.into_iter().map(|mut times| median(&mut times).unwrap_or(0.0)).collect();
    let all = medians.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let row = |(step, ns): (kiln_model::StepInfo<'_>, f64)| {
        let gflops = step.kernel.map(|k| k.problem().flops() as f64 / ns.max(1.0));
        let operation = match step.kernel {
            Some(kernel) => kernel.problem().to_string(),
            None => step.text.split_once(" = ").map_or(op_word(&step), |(_, statement)| statement).to_owned(),
        };
        Row {
            layer: step.layer.to_owned(),
            nodes: step.nodes.iter().map(|name| name.to_string()).collect(),
            code: code_word(step.code),
            operation,
            ty: step.ty.to_string(),
            ns,
            share: ns / all,
            gflops,
            fraction: gflops.map(|g| g / peak_gflops),
            predicted: step.kernel.map(|k| k.predicted_fraction()),
            kernel: step.kernel.and_then(place),
        }
    };
    network.steps().zip(medians).map(row).collect()
}

/// The stages of compiling each kernel.
fn dumps(network: &Network, runtime: &Runtime) -> Result<Vec<Dump>, Error> {
    let made = network.kernels().iter().zip(network.requests());
    let dump = made.map(|(kernel, (_, options))| {
        let artifact = compile(kernel.problem(), runtime.target(), options)?;
        let stage = |name, stage| Section::new(name, artifact.dump(stage), MOST[1]);
        let sections = vec![
            stage("Schedule", Stage::Schedule),
            stage("Loop nest", Stage::Nest),
            stage("Micro-kernels", Stage::MicroKernel),
            Section::new("Machine code", artifact.listing(false), MOST[0]),
        ];
        Ok(Dump { problem: format!("{} @{}", kernel.problem(), runtime.target()), sections })
    });
    dump.collect()
}

fn print(p: &Profile, sort: Sort, out: &mut impl Write) -> Result<(), Error> {
    let plural = if p.threads == 1 { "" } else { "s" };
    writeln!(out, "{} @{}, {} thread{plural}, fpmath {}", p.network, p.target, p.threads, p.fpmath)?;
    writeln!(
        out,
        "{} in {} steps, medians of {} runs; peak {:.2} GFLOP/s",
        show_ns(p.total_ns()),
        p.rows.len(),
        p.runs,
        p.peak_gflops
    )?;
    writeln!(out, "step        time   share  GFLOP/s  of peak  predicted  code         layer, result, operation")?;
    let mut order: Vec<usize> = (0..p.rows.len()).collect();
    if let Sort::Time = sort {
        order.sort_by(|a, b| p.rows[*b].ns.total_cmp(&p.rows[*a].ns));
    }
    for at in order {
        let r = &p.rows[at];
        let number = |value: Option<f64>, unit: &str, scale: f64| {
            value.map_or(String::new(), |v| format!("{:.1}{unit}", scale * v))
        };
        writeln!(
            out,
            "{at:4}  {:>10} {:>5.1} %  {:>7}  {:>7}  {:>9}  {:11}  {} {}  {}",
            show_ns(r.ns),
            100.0 * r.share,
            number(r.gflops, "", 1.0),
            number(r.fraction, " %", 100.0),
            number(r.predicted, " %", 100.0),
            r.code,
            r.layer,
            r.ty,
            r.operation
        )?;
    }
    Ok(())
}

//! `kiln model bench`: the time and memory that a network takes, and how far its results are from a reference.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use kiln_model::report::step_times;
use kiln_model::{Code, StepInfo};
use serde::Serialize;

use super::compiled::CompileArgs;
use super::network::NetworkArgs;
use super::reference::{CheckArgs, Checked};
use super::streams::{Workload, show_streams};
use super::{resident, throughput};
use crate::counts;
use crate::error::Error;
use crate::threads::streams;
use crate::timing::{median, show_ns};
use crate::verdict::Verdict;

/// Runs in which the time of each step is measured.
const STEP_RUNS: usize = 3;

/// Measure a network: latency, throughput, memory, time to the first result, and error against a reference
///
/// Built-in networks have pseudo-random weights: their speed means something, what they predict does not.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    compile: CompileArgs,
    #[command(flatten)]
    check: CheckArgs,
    /// Run the network on N inputs at once, each on --threads threads of its own, by default its part of the processors: all share
    /// one copy of the weights. The throughput is that of all together [default: KILN_NUM_STREAMS, else 1]
    #[arg(long, value_name = "N", value_parser = streams)]
    streams: Option<usize>,
    /// Measure pairs of streams and threads that use all processors, or as many threads as KILN_NUM_THREADS says, and say which has
    /// the most throughput
    #[arg(long, conflicts_with_all = ["streams", "threads", "check", "max_rel"])]
    best_throughput: bool,
    /// Runs of each stream before the measured ones
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = counts::runs_before)]
    warm: u64,
    /// Run for at least N milliseconds
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = counts::milliseconds)]
    min_ms: u64,
    /// Run exactly N times instead, on each stream
    #[arg(long, value_name = "N", conflicts_with = "min_ms", value_parser = counts::runs)]
    repeat: Option<u64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    network: String,
    target: String,
    /// Calls at once.
    streams: usize,
    /// The threads of each.
    threads: usize,
    fpmath: String,
    inputs: Vec<String>,
    /// Of all streams, as are the latencies.
    runs: usize,
    /// Median, nanoseconds.
    latency_ns: f64,
    p90_ns: f64,
    p99_ns: f64,
    min_ns: f64,
    /// Of all streams together.
    items_per_second: f64,
    /// Operations of the kernels of a call: additions and multiplications.
    kernel_flops: u64,
    gflops: f64,
    steps: usize,
    kernels: usize,
    kernels_unpacked: u64,
    /// Packed weights, and how many of them came from a pack.
    weights: usize,
    weights_of_pack: usize,
    load_ns: f64,
    compile_ns: f64,
    /// The first run after compiling.
    first_ns: f64,
    code_bytes: usize,
    /// Of the one copy that all streams share.
    packed_bytes: usize,
    constant_bytes: usize,
    /// Of each stream.
    arena_bytes: usize,
    /// The most that is alive at once in the arena.
    arena_peak_bytes: usize,
    /// Packed weights, constants, the arenas of all streams, and code.
    planned_bytes: usize,
    /// The memory that the process has after the runs, as the operating system counts it.
    resident_bytes: Option<u64>,
    /// The most memory that the process had, as the operating system counts it.
    resident_peak_bytes: Option<u64>,
    shares: Vec<Share>,
    check: Option<Checked>,
}

/// The time that operations of one kind take.
#[derive(Debug, Serialize)]
struct Share {
    code: &'static str,
    op: String,
    steps: usize,
    ns: f64,
    share: f64,
}

/// Measures a network.
pub fn bench(args: &BenchArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let mut loaded = args.network.load()?;
    if args.best_throughput {
        return throughput::compare(loaded, &args.compile, |streams| args.workload(streams), args.json, out);
    }
    let bound = loaded.take()?;
    let builder = args.streams.iter().fold(args.compile.builder(), |builder, n| builder.streams(*n));
    let compiled = args.compile.compile_on(bound, builder)?;
    let network = &compiled.network;
    let inputs = &loaded.inputs;
    let reference = args.check.reference(&loaded, &compiled)?;
    let start = Instant::now();
    let results = network.run(inputs)?;
    let first = start.elapsed();
    let streams = compiled.runtime.streams();
    let measured = args.workload(streams).measure(&results, &|| Ok(network.run(inputs)?))?;
    let shares = shares(network.steps(), &step_times(network, inputs, STEP_RUNS)?);
    // Before the reference, which takes memory of its own.
    let (resident_bytes, resident_peak_bytes) = resident::now_and_peak();
    let check = args.check.check(reference, &args.compile, &loaded, &compiled, &results)?;

    let memory = network.memory();
    let (weights, weights_of_pack) = network.packed_weights();
    let kernel_flops = network.steps().filter_map(|s| Some(s.kernel?.problem().flops())).sum();
    let report = Report {
        network: loaded.name.clone(),
        target: compiled.runtime.target().to_string(),
        streams,
        threads: compiled.runtime.threads(),
        fpmath: compiled.fpmath(),
        inputs: network.inputs().map(|(name, ty)| format!("{name}: {ty}")).collect(),
        runs: measured.runs(),
        latency_ns: measured.percentile(0.5),
        p90_ns: measured.percentile(0.9),
        p99_ns: measured.percentile(0.99),
        min_ns: measured.min(),
        items_per_second: loaded.items as f64 * measured.calls_per_second,
        kernel_flops,
        gflops: kernel_flops as f64 * measured.calls_per_second / 1e9,
        steps: network.steps().len(),
        kernels: network.kernels().len(),
        kernels_unpacked: compiled.unpacked,
        weights,
        weights_of_pack,
        load_ns: loaded.time.as_nanos() as f64,
        compile_ns: compiled.time.as_nanos() as f64,
        first_ns: first.as_nanos() as f64,
        code_bytes: memory.code,
        packed_bytes: memory.packed,
        constant_bytes: memory.constants,
        arena_bytes: memory.arena,
        arena_peak_bytes: memory.peak,
        planned_bytes: memory.packed + memory.constants + streams * memory.arena + memory.code,
        resident_bytes,
        resident_peak_bytes,
        shares,
        check,
    };
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&report).map_err(|e| Error::File(e.into()))?)?,
        false => print(&report, out)?,
    }
    for file in compiled.written.iter().filter(|_| !args.json) {
        writeln!(out, "  pack       {} was written", file.display())?;
    }
    Ok(if report.check.is_none_or(|c| c.passed) { Verdict::Passed } else { Verdict::Failed })
}

impl BenchArgs {
    /// The calls that are measured, on so many streams.
    fn workload(&self, streams: usize) -> Workload {
        Workload { streams, warm: self.warm, least: Duration::from_millis(self.min_ms), repeat: self.repeat }
    }
}

/// The word for a kind of code.
pub fn code_word(code: Code) -> &'static str {
    match code {
        Code::Kernel => "kernel",
        Code::Native => "native",
        Code::Control => "control",
        Code::Interpreter => "interpreter",
    }
}

/// The word for a step's operation; for a kernel, that of its problem.
pub fn op_word(step: &StepInfo<'_>) -> &'static str {
    step.problem.map_or(step.op.name(), |problem| problem.op().name())
}

/// The time that each kind of operation takes, the largest first.
fn shares<'a>(steps: impl Iterator<Item = StepInfo<'a>>, times: &[Vec<f64>]) -> Vec<Share> {
    let mut kinds: BTreeMap<(&'static str, &'static str), (usize, f64)> = BTreeMap::new();
    for (step, times) in steps.zip(times) {
        let kind = kinds.entry((code_word(step.code), op_word(&step))).or_default();
        kind.0 += 1;
        kind.1 += median(&mut times.clone()).unwrap_or(0.0);
    }
    let all: f64 = kinds.values().map(|(_, ns)| ns).sum();
    let share = |((code, op), (steps, ns)): ((&'static str, &str), (usize, f64))| Share {
        code,
        op: op.into(),
        steps,
        ns,
        share: if all > 0.0 { ns / all } else { 0.0 },
    };
    let mut shares: Vec<Share> = kinds.into_iter().map(share).collect();
    shares.sort_by(|a, b| b.ns.total_cmp(&a.ns));
    shares
}

fn print(r: &Report, out: &mut impl Write) -> Result<(), Error> {
    writeln!(out, "{} @{}, {}, fpmath {}", r.network, r.target, show_streams(r.streams, r.threads), r.fpmath)?;
    writeln!(out, "  inputs     {}", r.inputs.join(", "))?;
    writeln!(
        out,
        "  latency    {}; p90 {}, p99 {}, min {}; {} runs",
        show_ns(r.latency_ns),
        show_ns(r.p90_ns),
        show_ns(r.p99_ns),
        show_ns(r.min_ns),
        r.runs
    )?;
    writeln!(out, "  throughput {:.2} items/s, {:.2} GFLOP/s in kernels", r.items_per_second, r.gflops)?;
    match &r.check {
        Some(check) => check.print(out)?,
        None => writeln!(out, "  reference  none: --check compares with the interpreter")?,
    }
    writeln!(
        out,
        "  start      load {}, compile and pack {}, first run {}",
        show_ns(r.load_ns),
        show_ns(r.compile_ns),
        show_ns(r.first_ns)
    )?;
    let from =
        if r.kernels_unpacked > 0 { format!(", {} of them not compiled", r.kernels_unpacked) } else { String::new() };
    writeln!(out, "  kernels    {} for {} steps{from}; {} bytes of code", r.kernels, r.steps, r.code_bytes)?;
    let mib = |bytes: usize| resident::show_mib(bytes as u64);
    let (shared, each) = if r.streams > 1 { (" (one copy for all streams)", " for each stream") } else { ("", "") };
    writeln!(
        out,
        "  memory     {} packed weights{shared}, {} constants, {} arena{each} ({} alive at once)",
        mib(r.packed_bytes),
        mib(r.constant_bytes),
        mib(r.arena_bytes),
        mib(r.arena_peak_bytes)
    )?;
    if r.weights_of_pack > 0 {
        writeln!(out, "  weights    {} of {} were packed before", r.weights_of_pack, r.weights)?;
    }
    let resident = match (r.resident_bytes, r.resident_peak_bytes) {
        (Some(now), Some(peak)) => {
            format!("the process has {}, and had {} at most", resident::show_mib(now), resident::show_mib(peak))
        }
        _ => "what the process has is not known here".into(),
    };
    writeln!(out, "  planned    {}; {resident}", mib(r.planned_bytes))?;
    for s in &r.shares {
        let steps = if s.steps == 1 { "step" } else { "steps" };
        writeln!(out, "  {:5.1} %    {} {}: {} {steps}, {}", 100.0 * s.share, s.code, s.op, s.steps, show_ns(s.ns))?;
    }
    Ok(())
}

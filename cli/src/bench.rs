//! `kiln bench`: what compiling, finding and calling a kernel costs.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_ir::Problem;
use kiln_jit::probe::Probe;
use kiln_jit::{Options, Runtime, RuntimeError};
use serde::Serialize;

use crate::counter::Cycles;
use crate::counts;
use crate::error::Error;
use crate::output::OutputFile;
use crate::problems::ProblemArgs;
use crate::target::TargetArgs;
use crate::tensors::Tensors;
use crate::threads::{ThreadsArgs, at_once, threads};
use crate::timing::{Cost, measure, median, show_ns};
use crate::unchecked::Unchecked;
use crate::verdict::Verdict;
use crate::worker;

/// Fresh compilations that a median is taken of.
const COMPILATIONS: usize = 9;
/// The time for measuring the peak, and the cache.
const SHORT: Duration = Duration::from_millis(20);

/// Measure compile time, cache-hit time, time per call and fraction of the machine's peak
///
/// All figures are medians. Cycles are user cycles, which are counted where the operating system allows it. The peak is the speed of
/// a loop of independent multiply-adds in the target's widest vector unit, measured before and after each problem. Several threads
/// have as many times that of one, but no more than the processors that the process may use.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Also write the figures to FILE, as a JSON array with an object for each problem
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Call each kernel for at least N milliseconds
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = counts::milliseconds)]
    min_ms: u64,
    /// The weights are constant: pack them before the timed calls if the kernel can read packed weights
    #[arg(long)]
    packed: bool,
    /// Serve a benchmark that compares several programs: answer the lines `prep OP DIMS...`, `run NS` and `quit` of standard
    /// input, with N threads
    #[arg(long, value_name = "N", value_parser = threads, conflicts_with_all = ["words", "batch", "json", "threads", "min_ms", "packed"])]
    worker: Option<usize>,
}

/// The figures of one problem.
#[derive(Debug, Serialize)]
struct Report {
    problem: Problem,
    target: String,
    threads: usize,
    schedule: String,
    /// Remarks on the way it computes.
    notes: Vec<String>,
    /// Bytes of packed weights, where the kernel reads such.
    packed_bytes: Option<usize>,
    code_bytes: usize,
    /// Compiling and publishing, median nanoseconds.
    compile_ns: f64,
    /// Finding the kernel in the cache, median nanoseconds.
    hit_ns: f64,
    /// A checked call, median nanoseconds.
    call_ns: f64,
    /// A checked call, median user cycles of all threads.
    call_cycles: Option<f64>,
    /// An unchecked call on one thread, median nanoseconds.
    unchecked_ns: f64,
    /// An unchecked call on one thread, median user cycles.
    unchecked_cycles: Option<f64>,
    /// The speed of the checked call.
    gflops: f64,
    /// The machine's peak for as many threads, or as many as there are processors that the process may use if these are fewer.
    peak_gflops: f64,
    /// The fraction of the peak: by cycles if they are counted and there is one thread, else by time.
    fraction_of_peak: f64,
}

/// Measures every problem, or serves the line protocol.
pub fn bench(args: &BenchArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    if let Some(threads) = args.worker {
        // Before the runtime, so that the counters include its threads.
        let counters = worker::Counters::open();
        worker::serve(&args.target.runtime(threads)?, counters, std::io::stdin().lock(), out)?;
        return Ok(Verdict::Passed);
    }
    let problems = args.problems.load("kiln model bench")?;
    let json = args.json.as_deref().map(OutputFile::check).transpose()?;
    let mut cycles = Cycles::user();
    let runtime = args.target.runtime(args.threads.number()?)?;
    let mut probe = Probe::new(runtime.target())?;
    let mut reports = vec![];
    for problem in &problems {
        let options = Options { constant_weights: args.packed, ..Options::default() };
        let report = one(problem, &options, &runtime, &mut probe, &mut cycles, Duration::from_millis(args.min_ms))?;
        print(&report, args.packed, out)?;
        reports.push(report);
    }
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&reports).map_err(|e| Error::File(e.into()))?;
        file.write(|out| writeln!(out, "{text}"))?;
    }
    Ok(Verdict::Passed)
}

fn one(
    problem: &Problem,
    options: &Options,
    runtime: &Runtime,
    probe: &mut Probe,
    cycles: &mut Cycles,
    total: Duration,
) -> Result<Report, Error> {
    let mut tensors = Tensors::zeros(problem)?;
    tensors.fill_reals(42);
    let compile_ns = compile_ns(problem, options, runtime)?;
    let kernel = runtime.kernel_with(problem, options)?;
    let hit = measure(SHORT, cycles, || runtime.kernel_with(problem, options).map(drop))?;
    let packed_bytes = tensors.pack(&kernel)?;
    let before = peak(probe, cycles)?;
    let call = measure(total, cycles, || kernel.run(tensors.args()))?;
    let unchecked = Unchecked::new(&kernel, &mut tensors)?;
    let unchecked = measure(total, cycles, || unchecked.call())?;
    let after = peak(probe, cycles)?;
    let peak = Cost { ns: before.ns.min(after.ns), cycles: before.cycles.zip(after.cycles).map(|(a, b)| a.min(b)) };

    let threads = runtime.threads();
    let flops = problem.flops() as f64;
    let peak_gflops = probe.flops() as f64 / peak.ns * at_once(threads) as f64;
    let gflops = flops / call.ns;
    let by_cycles = call.cycles.zip(peak.cycles).filter(|_| threads == 1);
    let fraction_of_peak = match by_cycles {
        Some((call, peak)) => (flops / call) / (probe.flops() as f64 / peak),
        None => gflops / peak_gflops,
    };
    Ok(Report {
        problem: kernel.problem().clone(),
        target: runtime.target().to_string(),
        threads,
        schedule: kernel.schedule().to_string(),
        notes: kernel.notes().to_vec(),
        packed_bytes,
        code_bytes: kernel.code_bytes(),
        compile_ns,
        hit_ns: hit.ns,
        call_ns: call.ns,
        call_cycles: call.cycles,
        unchecked_ns: unchecked.ns,
        unchecked_cycles: unchecked.cycles,
        gflops,
        peak_gflops,
        fraction_of_peak,
    })
}

/// The cost of the probe.
fn peak(probe: &mut Probe, cycles: &mut Cycles) -> Result<Cost, Error> {
    measure(SHORT, cycles, || {
        probe.call();
        Ok::<(), Error>(())
    })
}

/// The median time of compiling and publishing, without any help from the cache.
fn compile_ns(problem: &Problem, options: &Options, runtime: &Runtime) -> Result<f64, RuntimeError> {
    let mut times = vec![];
    for _ in 0..COMPILATIONS {
        runtime.clear();
        let start = Instant::now();
        runtime.kernel_with(problem, options)?;
        times.push(start.elapsed().as_nanos() as f64);
    }
    Ok(median(&mut times).unwrap_or(0.0))
}

fn print(r: &Report, packed: bool, out: &mut impl Write) -> Result<(), Error> {
    let plural = if r.threads == 1 { "" } else { "s" };
    writeln!(out, "{} @{}, {} thread{plural}", r.problem, r.target, r.threads)?;
    writeln!(out, "  schedule   {}", r.schedule)?;
    for note in &r.notes {
        writeln!(out, "  note       {note}")?;
    }
    match r.packed_bytes {
        Some(bytes) => writeln!(out, "  weights    packed, {bytes} bytes")?,
        None if packed => writeln!(out, "  weights    read in place")?,
        None => {}
    }
    writeln!(out, "  compile    {}, {} bytes of code", show_ns(r.compile_ns), r.code_bytes)?;
    writeln!(out, "  cache hit  {}", show_ns(r.hit_ns))?;
    writeln!(out, "  call       {}, {}", show_ns(r.call_ns), show_cycles(r.call_cycles))?;
    let added = r.call_cycles.zip(r.unchecked_cycles).map(|(call, unchecked)| call - unchecked);
    writeln!(
        out,
        "  unchecked  {}, {}{}",
        show_ns(r.unchecked_ns),
        show_cycles(r.unchecked_cycles),
        match added {
            _ if r.threads > 1 => " (one thread)".into(),
            // The difference would be noise.
            _ if r.unchecked_ns > 1e4 => String::new(),
            Some(cycles) => format!("; checking adds {cycles:.0} cycles"),
            None => format!("; checking adds {:.1} ns", r.call_ns - r.unchecked_ns),
        }
    )?;
    let percent = 100.0 * r.fraction_of_peak;
    writeln!(out, "  speed      {:.2} GFLOP/s, {percent:.1} % of the peak of {:.2}", r.gflops, r.peak_gflops)?;
    Ok(())
}

fn show_cycles(cycles: Option<f64>) -> String {
    cycles.map_or("cycles not counted here".into(), |c| format!("{c:.0} cycles"))
}

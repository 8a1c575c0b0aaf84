//! `kiln warm`: how long a program that embeds Kiln waits for kernels when it starts, and at each call afterwards.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use kiln_ir::Problem;
use kiln_jit::{Options, Runtime};
use serde::Serialize;

use crate::counter::Cycles;
use crate::error::Error;
use crate::problems::ProblemArgs;
use crate::target::TargetArgs;
use crate::threads::{or_environment, threads};
use crate::timing::{measure, median, show_ns};
use crate::trust;
use crate::verdict::Verdict;

/// The time for which look-ups are repeated.
const HITS: Duration = Duration::from_millis(200);

/// Measure how long a new process takes to get kernels for problems, and to find them again in its cache
///
/// Kernels are compiled, or taken from packs, once: run the command again for another sample. Finding them is then measured on one
/// thread, and on two at once that each ask for all problems in turn.
#[derive(Debug, clap::Args)]
pub struct WarmArgs {
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Threads that compile [default: KILN_NUM_THREADS, OMP_NUM_THREADS or RAYON_NUM_THREADS, else 1]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
    /// Take kernels from FILE, whose code is executed, instead of compiling them; may be given several times
    #[arg(long, value_name = "FILE")]
    pack: Vec<PathBuf>,
    /// Take kernels from DIR, whose code is executed, and keep those that are compiled there for other processes
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The weights are constant: kernels may read them packed
    #[arg(long)]
    packed: bool,
    /// Print each problem to standard error when its kernel is ready
    #[arg(long)]
    progress: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    target: String,
    problems: usize,
    threads: usize,
    /// Kernels that were not compiled but came from a pack or the cache directory.
    unpacked: u64,
    /// Making the runtime, with its threads and packs.
    build_ns: f64,
    /// From there until all kernels can be called.
    warm_ns: f64,
    code_bytes: usize,
    resident_bytes: usize,
    /// Kernels that the cache kept; fewer than problems if it has no room for all.
    kept: usize,
    /// Look-ups, where all can succeed.
    #[serde(flatten)]
    hits: Option<Hits>,
}

#[derive(Debug, Serialize)]
struct Hits {
    /// One look-up that succeeds, on one thread.
    hit_ns: f64,
    hit_cycles: Option<f64>,
    /// Look-ups a second, by one thread and by two at once.
    hits_per_second: [f64; 2],
}

/// Measures.
pub fn warm(args: &WarmArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let options = Options { constant_weights: args.packed, ..Options::default() };
    let requests: Vec<(Problem, Options)> =
        args.problems.load("kiln model bench")?.into_iter().map(|problem| (problem, options.clone())).collect();
    let threads = or_environment(args.threads)?;
    let start = Instant::now();
    let mut builder = args.target.builder().threads(threads);
    builder = trust::packs(builder, &args.pack);
    builder = args.cache_dir.iter().fold(builder, |builder, folder| trust::cache_dir(builder, folder));
    let runtime = builder.build()?;
    let built = Instant::now();
    for (path, status) in runtime.packs() {
        if let Err(error) = status {
            return Err(Error::Pack(error.clone()).at(path.display().to_string()));
        }
    }
    let errors = runtime.warm(&requests, |p| {
        if args.progress {
            // Standard error may be closed.
            let _ = writeln!(std::io::stderr(), "{}/{} {}", p.done, p.total, p.problem);
        }
    });
    let warmed = Instant::now();
    if let Some((at, error)) = errors.into_iter().next() {
        return Err(Error::from(error).at(requests[at].0.to_string()));
    }
    for (path, status) in runtime.packs() {
        if let Err(error) = status {
            return Err(Error::Pack(error.clone()).at(path.display().to_string()));
        }
    }
    let found = |(problem, options): &(Problem, Options)| runtime.cached(problem, options);
    let kernels: Vec<_> = requests.iter().filter_map(found).collect();
    let report = Report {
        target: runtime.target().to_string(),
        problems: requests.len(),
        threads,
        unpacked: runtime.stats().from_files,
        build_ns: (built - start).as_nanos() as f64,
        warm_ns: (warmed - built).as_nanos() as f64,
        code_bytes: kernels.iter().map(|k| k.code_bytes()).sum(),
        resident_bytes: kernels.iter().map(|k| k.resident_bytes()).sum(),
        kept: kernels.len(),
        // What is not kept would be compiled again at each look-up.
        hits: if kernels.len() == requests.len() { Some(hits(&runtime, &requests)?) } else { None },
    };
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&report).map_err(|e| Error::File(e.into()))?)?,
        false => print(&report, out)?,
    }
    Ok(Verdict::Passed)
}

/// Measures look-ups of kernels that are in the cache.
fn hits(runtime: &Runtime, requests: &[(Problem, Options)]) -> Result<Hits, Error> {
    let mut next = requests.iter().cycle();
    let hit = measure(HITS, &mut Cycles::user(), || {
        let (problem, options) = next.next().expect("there is a problem");
        runtime.kernel_with(problem, options).map(drop)
    })?;
    Ok(Hits { hit_ns: hit.ns, hit_cycles: hit.cycles, hits_per_second: throughput(runtime, requests) })
}

/// Hits a second of one thread and of two, in turns, so that both see the same machine: medians of several.
fn throughput(runtime: &Runtime, requests: &[(Problem, Options)]) -> [f64; 2] {
    const ROUNDS: usize = 9;
    let mut rates = [vec![], vec![]];
    for _ in 0..ROUNDS {
        for threads in [1, 2] {
            rates[threads - 1].push(rate(runtime, requests, threads));
        }
    }
    rates.map(|mut rates| median(&mut rates).unwrap_or(0.0))
}

/// By one thread, or by another one as well; of none if the system has no thread left.
fn rate(runtime: &Runtime, requests: &[(Problem, Options)], threads: usize) -> f64 {
    const TURNS: usize = 40_000;
    let turns = TURNS / requests.len() + 1;
    let start = Barrier::new(threads);
    let work = || {
        start.wait();
        let begin = Instant::now();
        for _ in 0..turns {
            for (problem, options) in requests {
                // Compiles nothing, whatever has become of the cache.
                drop(runtime.cached(problem, options));
            }
        }
        (turns * requests.len()) as f64 / begin.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let other = match threads {
            1 => None,
            _ => match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(other) => Some(other),
                Err(_) => return 0.0,
            },
        };
        work() + other.map_or(0.0, |other| other.join().unwrap_or(0.0))
    })
}

fn print(r: &Report, out: &mut impl Write) -> Result<(), Error> {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    writeln!(
        out,
        "{} problem{} @{}, {} thread{}",
        r.problems,
        plural(r.problems),
        r.target,
        r.threads,
        plural(r.threads)
    )?;
    writeln!(out, "  runtime    {}", show_ns(r.build_ns))?;
    writeln!(out, "  kernels    {}, {} of them not compiled", show_ns(r.warm_ns), r.unpacked)?;
    let each = r.code_bytes / r.kept.max(1);
    writeln!(out, "  code       {} bytes, {each} a kernel; {} in whole pages", r.code_bytes, r.resident_bytes)?;
    let Some(hits) = &r.hits else {
        writeln!(
            out,
            "  hit        not measured: the cache keeps {} of {} kernels; KILN_CACHE_CAPACITY or KILN_CACHE_BYTES limits it",
            r.kept, r.problems
        )?;
        return Ok(());
    };
    let cycles = hits.hit_cycles.map_or("cycles not counted here".into(), |c| format!("{c:.0} cycles"));
    writeln!(out, "  hit        {}, {cycles}", show_ns(hits.hit_ns))?;
    let [one, two] = hits.hits_per_second;
    writeln!(
        out,
        "  hits/s     {:.1} million, {:.1} million by two threads ({:.2} times)",
        one / 1e6,
        two / 1e6,
        two / one
    )?;
    Ok(())
}

//! `kiln family`: a free number in problems, measured against exact code and against padding.

use std::io::Write;
use std::time::{Duration, Instant};

use kiln_ir::Problem;
use kiln_jit::{Family, FamilyOptions, Kernel, Options, Runtime};

use crate::counter::Cycles;
use crate::counts;
use crate::error::Error;
use crate::model::files::is_network;
use crate::target::TargetArgs;
use crate::tensors::Tensors;
use crate::threads::ThreadsArgs;
use crate::timing::{measure, show_ns};
use crate::verdict::Verdict;

/// Measure a family of problems: `?` stands for the number that is free, as in "ip f32 mb?ic768oc3072 +bias"
///
/// These times are printed for each value: `first`, the first call, on general code; `general`, later calls on general code; `hot`,
/// calls on the exact kernel that takes over from it; `exact`, calls of a kernel compiled for this value alone; and `padded`, calls of
/// a kernel for the next multiple of 32 on padded tensors, without the time that copying to and from these would take.
#[derive(Debug, clap::Args)]
pub struct FamilyArgs {
    /// The problem with `?` for the free number
    #[arg(value_name = "PATTERN")]
    pattern: Vec<String>,
    #[command(flatten)]
    target: TargetArgs,
    /// The values of the free number
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "7,64,128,200",
        value_parser = counts::positive)]
    values: Vec<u64>,
    /// The weights are constant: pack them before the calls if the kernels can read packed weights
    #[arg(long)]
    packed: bool,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Measure each kind of call for at least N milliseconds
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = counts::milliseconds)]
    min_ms: u64,
}

/// Values that padding goes up to a multiple of.
const MULTIPLE: u64 = 32;

/// Measures every value.
pub fn family(args: &FamilyArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let pattern = args.pattern.join(" ");
    if is_network(&pattern) {
        return Err(Error::IsANetwork { network: pattern, command: "kiln model bench" });
    }
    let runtime = args.target.runtime(args.threads.number()?)?;
    let max = args.values.iter().copied().max().unwrap_or(1);
    let options = FamilyOptions { constant_weights: args.packed, hot_calls: 0, max };
    let start = Instant::now();
    let general = runtime.family(&pattern, &options)?;
    let made = start.elapsed();
    let hot = runtime.family(general.pattern(), &FamilyOptions { hot_calls: 1, ..options })?;
    let stats = general.stats();
    writeln!(out, "{} @{}", general.pattern(), runtime.target())?;
    writeln!(
        out,
        "  general code: {}, {} kernels, {} bytes of pages, made in {}",
        general.kind(),
        stats.general_kernels,
        stats.general_bytes,
        show_ns(made.as_nanos() as f64)
    )?;
    writeln!(out, "{:>8} {:>10} {:>10} {:>10} {:>10} {:>10}", "value", "first", "general", "hot", "exact", "padded")?;
    let total = Duration::from_millis(args.min_ms);
    for &n in &args.values {
        let problem = general.problem(n)?;
        let mut tensors = Tensors::zeros(&problem)?;
        tensors.fill_reals(42);
        let first = Calls { family: &general, n }.once(&mut tensors)?;
        Calls { family: &hot, n }.once(&mut tensors)?;
        hot.wait_for_compilation();
        let exact = exact(&runtime, &problem, args.packed)?;
        let padded = exact_padded(&runtime, &general, n, args.packed)?;
        // In turns, so that all run in the same state of the machine; the least time of each counts.
        let mut best = [f64::INFINITY; 4];
        for _ in 0..5 {
            let all = [
                Calls { family: &general, n }.time(&mut tensors, total / 5)?,
                Calls { family: &hot, n }.time(&mut tensors, total / 5)?,
                time(&exact.0, &mut tensors, total / 5)?,
                time(&padded.0, &mut Tensors::zeros(&padded.1)?, total / 5)?,
            ];
            best.iter_mut().zip(all).for_each(|(best, ns)| *best = best.min(ns));
        }
        let [general, hot, exact, padded] = best.map(show_ns);
        writeln!(out, "{n:8} {:>10} {general:>10} {hot:>10} {exact:>10} {padded:>10}", show_ns(first))?;
    }
    Ok(Verdict::Passed)
}

fn exact(runtime: &Runtime, problem: &Problem, packed: bool) -> Result<(std::sync::Arc<Kernel>, Problem), Error> {
    let options = Options { constant_weights: packed, ..Options::default() };
    Ok((runtime.kernel_with(problem, &options)?, problem.clone()))
}

fn exact_padded(
    runtime: &Runtime,
    family: &Family,
    n: u64,
    packed: bool,
) -> Result<(std::sync::Arc<Kernel>, Problem), Error> {
    exact(runtime, &family.problem(n.next_multiple_of(MULTIPLE))?, packed)
}

fn time(kernel: &Kernel, tensors: &mut Tensors, total: Duration) -> Result<f64, Error> {
    tensors.pack(kernel)?;
    Ok(measure(total, &mut Cycles::none(), || kernel.run(tensors.args()))?.ns)
}

/// Calls of a member of a family.
struct Calls<'a> {
    family: &'a Family,
    n: u64,
}

impl Calls<'_> {
    fn once(&self, tensors: &mut Tensors) -> Result<f64, Error> {
        tensors.pack_for(self.family)?;
        let start = Instant::now();
        self.family.run(self.n, tensors.args())?;
        Ok(start.elapsed().as_nanos() as f64)
    }

    fn time(&self, tensors: &mut Tensors, total: Duration) -> Result<f64, Error> {
        tensors.pack_for(self.family)?;
        Ok(measure(total, &mut Cycles::none(), || self.family.run(self.n, tensors.args()))?.ns)
    }
}

//! `cargo xtask regret`: how much faster than the chosen schedules the best of those are that they were weighed against, on this machine.
//!
//! Problems are drawn at random, so none of them is one that the cost model was made for. All schedules that the search weighs are executed
//! once, and those that came close to the fastest again, in turn with the chosen one. The regret of a problem is the time that the chosen
//! schedule takes beyond that of the fastest.
//!
//! With `--fit`, parameters of the cost model are changed one after another, as long as the schedules that they choose take less time by
//! what was measured. Regret is then of the times of the first execution, which are less exact.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_compiler::Candidates;
use kiln_compiler::schedule::Schedule;
use kiln_compiler::target::Costs;
use kiln_ir::Problem;
use kiln_jit::{Args as Arguments, Kernel, Options, Runtime};
use serde::Serialize;

use crate::process::Result;

/// The time for which a schedule is executed at first.
const GLANCE: Duration = Duration::from_millis(1);
/// The time of each turn of those that came close.
const TURN: Duration = Duration::from_millis(6);
/// Turns of each.
const TURNS: usize = 7;
/// The number of schedules that have turns besides the chosen one.
const FINALISTS: usize = 6;
/// Multiply-adds of the largest problem.
const MOST_MACS: u64 = 200_000_000;

/// Arguments.
#[derive(clap::Args)]
pub struct RegretArgs {
    /// The number of problems
    #[arg(long, default_value_t = 150)]
    problems: u64,
    /// The seed that they are drawn with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Compile for this target instead of this machine, which must be able to execute it
    #[arg(long)]
    target: Option<String>,
    /// Also write what was measured, as JSON, to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fit the parameters of the cost model to what is measured, and print them
    #[arg(long)]
    fit: bool,
}

/// The measurement of a problem.
#[derive(Serialize)]
struct Measured {
    problem: String,
    /// Schedules that were weighed.
    weighed: usize,
    chosen: Timed,
    fastest: Timed,
    /// The time of the chosen one beyond that of the fastest, as a share of the latter.
    regret: f64,
    /// Nanoseconds of the first execution of each that was weighed, in their order.
    #[serde(skip)]
    glances: Vec<f64>,
    #[serde(skip)]
    candidates: Candidates,
}

/// A schedule and its times.
#[derive(Clone, Serialize)]
struct Timed {
    schedule: String,
    /// The least of all turns.
    ns: f64,
    predicted_cycles: f64,
}

/// Measures the problems and prints a table of the regret.
pub fn run(args: &RegretArgs) -> Result {
    let builder = Runtime::builder().threads(1);
    let runtime = match &args.target {
        Some(target) => builder.target(target.parse()?).build()?,
        None => builder.build()?,
    };
    println!("{} problems, seed {}, on {}", args.problems, args.seed, runtime.target());
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut all: Vec<Measured> = vec![];
    while (all.len() as u64) < args.problems {
        let problem = draw(&mut random, all.len() as u64 % 3);
        if problem.macs() > MOST_MACS {
            continue;
        }
        let measured = measure(&runtime, &problem)?;
        let Measured { problem, weighed, regret, .. } = &measured;
        println!("{:6.1} % of {weighed:4}  {problem}", 100.0 * regret);
        all.push(measured);
    }
    if args.fit {
        fit(&all, Costs::of(runtime.target()));
    }
    report(&mut all);
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

/// A problem of a kind: a product of matrices, a linear layer, or a convolution.
fn draw(random: &mut fastrand::Rng, kind: u64) -> Problem {
    // Sizes of all magnitudes, many of them no multiples of anything.
    let mut size = |least: f64, most: f64| (least.ln() + random.f64() * (most / least).ln()).exp().round() as u64;
    let text = match kind {
        0 => format!("matmul f32 {m}x{k}:{k}x{n}", m = size(1.0, 1000.0), k = size(8.0, 1500.0), n = size(8.0, 1500.0)),
        1 => format!("ip f32 mb{}ic{}oc{}", size(1.0, 512.0), size(16.0, 4096.0), size(16.0, 4096.0)),
        _ => {
            let (ic, oc, ih) = (size(3.0, 512.0), size(8.0, 512.0), size(7.0, 112.0));
            let (kernel, stride) = ([1, 1, 3, 3, 5][random.usize(0..5)], [1, 1, 1, 2][random.usize(0..4)]);
            let pad = kernel / 2;
            match random.usize(0..5) {
                0 => format!("conv f32 g{ic}mb1ic{ic}ih{ih}oc{ic}kh3ph1sh{stride}"),
                _ => format!("conv f32 mb1ic{ic}ih{ih}oc{oc}kh{kernel}ph{pad}sh{stride}"),
            }
        }
    };
    let post = ["", " +bias", " +bias+relu", " +bias+gelu_tanh"][random.usize(0..4)];
    format!("{text}{post}").parse().expect("a problem is written as its grammar says")
}

/// The tensors of a problem.
struct Tensors {
    inputs: Vec<Vec<f32>>,
    dst: Vec<f32>,
}

impl Tensors {
    fn of(problem: &Problem) -> Self {
        let filled = |(seed, len): (u64, u64)| {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..len).map(|_| random.f32() - 0.5).collect::<Vec<f32>>()
        };
        let mut inputs: Vec<Vec<f32>> = (0..).zip(problem.operands().iter().map(|o| o.span())).map(filled).collect();
        let dst = inputs.pop().unwrap_or_default();
        Self { inputs, dst }
    }
}

/// A kernel with a schedule.
struct Candidate {
    schedule: Schedule,
    predicted_cycles: f64,
    kernel: std::sync::Arc<Kernel>,
    least: Duration,
}

impl Candidate {
    /// Executes the kernel for about `time`, and keeps the least time of a call.
    fn execute(&mut self, Tensors { inputs, dst }: &mut Tensors, time: Duration) -> Result {
        let weights = self.kernel.prepare_weights(&*inputs[1])?;
        let mut call = || {
            let args = Arguments::new(&*inputs[0], &weights, &mut **dst);
            self.kernel.run(inputs[2..].iter().fold(args, |args, x| args.post_op(&**x)))
        };
        call()?;
        let begin = Instant::now();
        while begin.elapsed() < time {
            let start = Instant::now();
            call()?;
            self.least = self.least.min(start.elapsed());
        }
        Ok(())
    }

    fn timed(&self) -> Timed {
        let (schedule, predicted_cycles) = (self.schedule.to_string(), self.predicted_cycles);
        Timed { schedule, ns: self.least.as_secs_f64() * 1e9, predicted_cycles }
    }
}

fn measure(runtime: &Runtime, problem: &Problem) -> Result<Measured> {
    let mut tensors = Tensors::of(problem);
    let mut all = vec![];
    let candidates = Candidates::of(problem, runtime.target(), true)?;
    for (schedule, prediction) in candidates.schedules.clone() {
        let options = Options { schedule: Some(schedule.clone()), constant_weights: true, ..Options::default() };
        let kernel = runtime.kernel_with(problem, &options)?;
        let mut candidate = Candidate { schedule, predicted_cycles: prediction.cycles, kernel, least: Duration::MAX };
        candidate.execute(&mut tensors, GLANCE)?;
        all.push(candidate);
    }
    runtime.clear();
    let weighed = all.len();
    let glances = all.iter().map(|c| c.least.as_secs_f64() * 1e9).collect();
    let mut rest = all.split_off(1);
    rest.sort_by_key(|c| c.least);
    all.extend(rest.into_iter().take(FINALISTS));
    all.iter_mut().for_each(|c| c.least = Duration::MAX);
    for _ in 0..TURNS {
        all.iter_mut().try_for_each(|c| c.execute(&mut tensors, TURN))?;
    }
    let chosen = all[0].timed();
    let fastest = all.iter().min_by_key(|c| c.least).map_or(chosen.clone(), Candidate::timed);
    let regret = chosen.ns / fastest.ns - 1.0;
    Ok(Measured { problem: problem.to_string(), weighed, chosen, fastest, regret, glances, candidates })
}

/// The factors that a parameter is tried with.
const FACTORS: [f64; 8] = [0.5, 0.7, 0.85, 0.95, 1.05, 1.18, 1.4, 2.0];

/// The regret of each problem's choice with these parameters, ascending.
fn regrets(all: &[Measured], costs: &Costs) -> Vec<f64> {
    let regret = |m: &Measured| {
        let cycles = m.candidates.cycles(costs);
        let least = |of: &[f64]| of.iter().copied().fold(f64::INFINITY, f64::min);
        let chosen = cycles.iter().zip(&m.glances).min_by(|a, b| a.0.total_cmp(b.0)).map_or(0.0, |(_, ns)| *ns);
        chosen / least(&m.glances) - 1.0
    };
    let mut regrets: Vec<f64> = all.iter().map(regret).collect();
    regrets.sort_by(f64::total_cmp);
    regrets
}

/// The quantity that is minimised: the mean of all regrets, of which none counts for more than one half.
fn objective(regrets: &[f64]) -> f64 {
    regrets.iter().map(|r| r.min(0.5)).sum::<f64>() / regrets.len().max(1) as f64
}

/// Changes one parameter after another as long as the objective gets better, and prints them.
fn fit(all: &[Measured], start: &Costs) {
    let mut costs = *start;
    let mut best = objective(&regrets(all, &costs));
    println!("\nfit: mean regret {:.2} % with the parameters there are", 100.0 * best);
    loop {
        let before = best;
        for (name, place) in Costs::PARAMETERS {
            for factor in FACTORS {
                let mut tried = costs;
                *place(&mut tried) *= factor;
                let found = objective(&regrets(all, &tried));
                // Less would be noise.
                if found < best - 1e-4 {
                    (costs, best) = (tried, found);
                    println!("fit: {:.2} % with {name} = {:.3}", 100.0 * best, *place(&mut costs));
                }
            }
        }
        if best >= before {
            break;
        }
    }
    for (name, place) in Costs::PARAMETERS {
        println!("fit: {name} = {:.3}, was {:.3}", *place(&mut costs.clone()), *place(&mut start.clone()));
    }
}

/// Prints percentiles by kind, and the problems of most regret.
fn report(all: &mut [Measured]) {
    println!("\n| problems | number | median | 95th percentile | largest |\n|---|--:|--:|--:|--:|");
    for kind in ["", "matmul", "ip", "conv"] {
        let mut regrets: Vec<f64> = all.iter().filter(|m| m.problem.starts_with(kind)).map(|m| m.regret).collect();
        regrets.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = regrets.len().saturating_sub(1);
            100.0 * regrets.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
        };
        let name = if kind.is_empty() { "all" } else { kind };
        println!("| {name} | {} | {:.1} % | {:.1} % | {:.1} % |", regrets.len(), at(0.5), at(0.95), at(1.0));
    }
    all.sort_by(|a, b| b.regret.total_cmp(&a.regret));
    for m in all.iter().take(12) {
        println!("\n{}: {:.1} %", m.problem, 100.0 * m.regret);
        for (name, t) in [("chosen", &m.chosen), ("fastest", &m.fastest)] {
            println!("  {name:8} {:10.1} us, {:12.0} cycles predicted: {}", t.ns / 1e3, t.predicted_cycles, t.schedule);
        }
    }
}

//! `kiln verify`: kernels against the reference in double precision.

use std::io::Write;

use kiln_compiler::CompileError;
use kiln_ir::{Op, Problem};
use kiln_runtime::{Kernel, Runtime, RuntimeError};

use crate::Verdict;
use crate::check::{Tolerance, compare};
use crate::data::Integers;
use crate::error::Error;
use crate::problems::ProblemArgs;
use crate::scale::scale;
use crate::target::{TargetArgs, threads};
use crate::tensors::Tensors;

/// Check problems against an f64 reference: one line each, then the totals
///
/// First on small integers, whose sums are exact: the results must be equal. Then on reals in [-1, 1): each element must be
/// within (K + 2) u / (1 - (K + 2) u) (|A| |B| + |bias|) of the reference, with u = 2^-24. The result is full of NaN before
/// each call. With several threads, the result must also be that of one thread bit for bit. Exits with 1 unless every
/// problem passed.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Fills the operands
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Threads that large problems are divided among
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    threads: usize,
    /// Halve the largest dimensions of larger problems, keeping them modulo 64: for emulators
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_macs: Option<u64>,
}

/// What became of a problem.
enum Outcome {
    Passed,
    /// What is wrong.
    Failed(String),
    /// Why there is no kernel.
    Unimplemented(String),
}

#[derive(Default)]
struct Totals {
    tests: u64,
    passed: u64,
    failed: u64,
    unimplemented: u64,
}

/// Verifies every problem.
pub fn verify(args: &VerifyArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let problems = args.problems.load()?;
    let runtime = args.target.runtime(args.threads)?;
    let target = runtime.target();
    let mut totals = Totals::default();
    for original in &problems {
        let problem = match args.max_macs {
            Some(max_macs) => scale(original, max_macs)?,
            None => original.clone(),
        };
        let from = if problem == *original { String::new() } else { format!(" (scaled from {original})") };
        totals.tests += 1;
        match check(&problem, &runtime, args.seed)? {
            Outcome::Passed => {
                totals.passed += 1;
                writeln!(out, "PASSED: {problem} @{target}{from}")?;
            }
            Outcome::Failed(why) => {
                totals.failed += 1;
                writeln!(out, "FAILED: {problem} @{target}{from}: {why}")?;
                let threads = if args.threads > 1 { format!(" --threads {}", args.threads) } else { String::new() };
                writeln!(out, "REPRO: kiln verify --target {target} --seed {}{threads} \"{problem}\"", args.seed)?;
            }
            Outcome::Unimplemented(why) => {
                totals.unimplemented += 1;
                writeln!(out, "UNIMPLEMENTED: {problem} @{target}{from}: {why}")?;
            }
        }
    }
    let Totals { tests, passed, failed, unimplemented } = totals;
    writeln!(out, "tests:{tests} passed:{passed} failed:{failed} unimplemented:{unimplemented}")?;
    Ok(if passed == tests { Verdict::Passed } else { Verdict::Failed })
}

fn check(problem: &Problem, runtime: &Runtime, seed: u64) -> Result<Outcome, Error> {
    let kernel = match runtime.kernel(problem) {
        Ok(kernel) => kernel,
        Err(RuntimeError::Compile(e)) => match &*e {
            CompileError::Unsupported { .. } => return Ok(Outcome::Unimplemented(e.to_string())),
            CompileError::Internal { .. } => return Ok(Outcome::Failed(e.to_string())),
            _ => return Err(RuntimeError::Compile(e).into()),
        },
        Err(e) => return Err(e.into()),
    };
    let Op::Matmul(shape) = problem.op();
    let mut tensors = match Tensors::zeros(problem) {
        Err(e @ Error::Memory { .. }) => return Ok(Outcome::Unimplemented(e.to_string())),
        tensors => tensors?,
    };

    tensors.fill_integers(seed, Integers::exact_for(shape.k));
    if let Some(why) = wrong(&kernel, &mut tensors, Tolerance::Exact)? {
        return Ok(Outcome::Failed(format!("integer data: {why}")));
    }
    tensors.fill_reals(seed);
    if let Some(why) = wrong(&kernel, &mut tensors, Tolerance::Rounding)? {
        return Ok(Outcome::Failed(format!("real data: {why}")));
    }
    if runtime.threads() > 1 {
        let serial: Vec<u32> = tensors.dst.iter().map(|v| v.to_bits()).collect();
        tensors.poison();
        kernel.run(tensors.args())?;
        if let Some(i) = tensors.dst.iter().zip(&serial).position(|(v, s)| v.to_bits() != *s) {
            let [row, column] = [i as u64 / shape.n, i as u64 % shape.n];
            let (got, want) = (tensors.dst[i], f32::from_bits(serial[i]));
            let threads = runtime.threads();
            let why = format!("[{row}, {column}] is {got} with {threads} threads and {want} with one");
            return Ok(Outcome::Failed(why));
        }
    }
    Ok(Outcome::Passed)
}

/// What is wrong with the result of a call on one thread.
fn wrong(kernel: &Kernel, tensors: &mut Tensors, tolerance: Tolerance) -> Result<Option<String>, Error> {
    tensors.poison();
    kernel.run_serial(tensors.args())?;
    let found = compare(kernel.problem(), tensors, tolerance);
    Ok((!found.passed()).then(|| found.to_string()))
}

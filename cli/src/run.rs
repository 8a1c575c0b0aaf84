//! `kiln run`: a problem on data, checked and timed.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_compiler::schedule::Schedule;
use kiln_ir::{Operand, Problem, Role};
use kiln_runtime::{Kernel, Options, Runtime};

use crate::Verdict;
use crate::check::{Tolerance, compare};
use crate::counter::Cycles;
use crate::error::Error;
use crate::mark;
use crate::npy;
use crate::problems::ProblemArgs;
use crate::target::{TargetArgs, threads};
use crate::tensors::Tensors;
use crate::timing::{measure, show_ns};
use crate::unchecked::Unchecked;

/// Compile a problem, run it on data, check the result against an f64 reference, and time it
///
/// Operands come from .npy files (f32, C order); a missing one is filled from the seed. Exits with 1 if the result is
/// further from the reference than rounding explains: (K + 2) u / (1 - (K + 2) u) (|A| |B| + |bias|) with u = 2^-24.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Left operand, of shape (M, K)
    #[arg(long, value_name = "FILE.npy")]
    lhs: Option<PathBuf>,
    /// Right operand, of shape (K, N)
    #[arg(long, value_name = "FILE.npy")]
    rhs: Option<PathBuf>,
    /// Bias, of shape (N,), for problems with +bias
    #[arg(long, value_name = "FILE.npy")]
    bias: Option<PathBuf>,
    /// Residual, for problems that add one
    #[arg(long, value_name = "FILE.npy")]
    residual: Option<PathBuf>,
    /// Write the result, of shape (M, N), here
    #[arg(long, value_name = "FILE.npy")]
    dst: Option<PathBuf>,
    /// Fills operands without a file: reals in [-1, 1)
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Threads that a large problem is divided among
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    threads: usize,
    /// Time N calls in a row [default: as many as a tenth of a second takes; 2 with --mark]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: Option<u64>,
    /// Bracket one call of the bare kernel, then the repeated ones, with marker system calls for an instruction counter:
    /// getpgid(0x4d410000 + n) with n = 0x10, 0x11 and 0x12, 0x13. One thread only
    #[arg(long)]
    mark: bool,
    /// Use this schedule, as `kiln dump --stage schedule` prints it, instead of the cost model's
    #[arg(long, value_name = "TEXT")]
    schedule: Option<Schedule>,
}

/// Runs every problem.
pub fn run(args: &RunArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let problems = args.problems.load()?;
    args.check_files(&problems)?;
    let runtime = args.target.runtime(args.threads)?;
    let mut verdict = Verdict::Passed;
    for (i, problem) in problems.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        if args.one(problem, &runtime, out)? == Verdict::Failed {
            verdict = Verdict::Failed;
        }
    }
    Ok(verdict)
}

impl RunArgs {
    /// Whether the tensor files make sense for the problems.
    fn check_files(&self, problems: &[Problem]) -> Result<(), Error> {
        let files = [
            ("lhs", &self.lhs, Some(Role::Lhs), ""),
            ("rhs", &self.rhs, Some(Role::Rhs), ""),
            ("bias", &self.bias, Some(Role::Bias), ": add `+bias` to the problem"),
            ("residual", &self.residual, None, ": the post-ops are +bias and +relu"),
            ("dst", &self.dst, Some(Role::Dst), ""),
        ];
        for (option, _, role, hint) in files.into_iter().filter(|(_, file, ..)| file.is_some()) {
            let [problem] = problems else { return Err(Error::OneProblem { option, count: problems.len() }) };
            if !problem.operands().iter().any(|o| Some(o.role) == role) {
                return Err(Error::NoOperand { option, problem: problem.to_string(), hint });
            }
        }
        Ok(())
    }

    fn one(&self, problem: &Problem, runtime: &Runtime, out: &mut impl Write) -> Result<Verdict, Error> {
        // Operands first: a bad file is told before anything is compiled.
        let mut tensors = self.tensors(problem)?;
        let options = Options { schedule: self.schedule.clone() };
        let kernel = runtime.kernel_with(problem, &options)?;
        let hit = measure(Duration::from_millis(10), &mut Cycles::none(), || {
            runtime.kernel_with(problem, &options).map(drop)
        })?;
        writeln!(out, "problem    {problem} @{}", runtime.target())?;
        writeln!(out, "schedule   {}", kernel.schedule())?;
        let compile_ns = kernel.compile_time().as_nanos() as f64;
        writeln!(out, "compile    {}, {} bytes of code", show_ns(compile_ns), kernel.code_bytes())?;
        writeln!(out, "cache hit  {}", show_ns(hit.ns))?;

        tensors.poison();
        kernel.run(tensors.args())?;
        if let (Some(path), Some(dst)) = (&self.dst, problem.operands().last()) {
            npy::write(path, dst, &tensors.dst)?;
        }
        let found = compare(problem, &tensors, Tolerance::Rounding);

        let ns = self.time(&kernel, &mut tensors)?;
        let threads = if self.mark { 1 } else { runtime.threads() };
        writeln!(out, "call       {} with {threads} thread{}", show_ns(ns), if threads == 1 { "" } else { "s" })?;
        writeln!(out, "speed      {:.2} GFLOP/s", problem.flops() as f64 / ns)?;
        let word = if found.passed() { "PASSED" } else { "FAILED" };
        writeln!(out, "check      {word}: {found}")?;
        Ok(if found.passed() { Verdict::Passed } else { Verdict::Failed })
    }

    fn tensors(&self, problem: &Problem) -> Result<Tensors, Error> {
        let mut tensors = Tensors::zeros(problem)?;
        tensors.fill_reals(self.seed);
        let read = |path: &Option<PathBuf>, operand: &Operand, values: &mut [f32]| match path {
            Some(path) => npy::read(path, operand, values),
            None => Ok(()),
        };
        for operand in &problem.operands() {
            match operand.role {
                Role::Lhs => read(&self.lhs, operand, &mut tensors.lhs)?,
                Role::Rhs => read(&self.rhs, operand, &mut tensors.rhs)?,
                Role::Bias => {
                    if let Some(bias) = &mut tensors.bias {
                        read(&self.bias, operand, bias)?;
                    }
                }
                Role::Dst => {}
            }
        }
        Ok(tensors)
    }

    /// Nanoseconds per call.
    fn time(&self, kernel: &Kernel, tensors: &mut Tensors) -> Result<f64, Error> {
        if self.mark {
            return self.marked(&Unchecked::new(kernel, tensors)?);
        }
        let mut call = || kernel.run(tensors.args());
        let Some(repeat) = self.repeat else {
            return Ok(measure(Duration::from_millis(100), &mut Cycles::none(), call)?.ns);
        };
        let start = Instant::now();
        for _ in 0..repeat {
            call()?;
        }
        Ok(start.elapsed().as_nanos() as f64 / repeat as f64)
    }

    /// Calls of the bare kernel between marks.
    fn marked(&self, kernel: &Unchecked<'_>) -> Result<f64, Error> {
        let repeat = self.repeat.unwrap_or(2);
        kernel.call()?;
        mark::ONE.around(|| kernel.call())?;
        let start = Instant::now();
        mark::REPEATED.around(|| (0..repeat).try_for_each(|_| kernel.call()))?;
        Ok(start.elapsed().as_nanos() as f64 / repeat as f64)
    }
}

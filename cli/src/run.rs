//! `kiln run`: a problem on data, checked and timed.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_compiler::schedule::Schedule;
use kiln_ir::{Operand, Problem, Role, Sums};
use kiln_jit::{Kernel, Options, Runtime};

use crate::check::compare;
use crate::counter::Cycles;
use crate::counts;
use crate::error::Error;
use crate::mark;
use crate::output::OutputFile;
use crate::problems::ProblemArgs;
use crate::target::TargetArgs;
use crate::tensors::Tensors;
use crate::threads::ThreadsArgs;
use crate::timing::{measure, show_ns};
use crate::unchecked::Unchecked;
use crate::verdict::Verdict;

/// Compile a problem, run it on data, check the result against an f64 reference, and time it
///
/// Operands are read from .npy files in C order, with their dimensions in the order they have in memory. Elements are of the operand's
/// type (bf16 as uint16, with the bits), or f32, which is rounded. The result is written as f32, and integers as they are. Operands
/// without a file are filled from the seed. The exit code is 1 if the result is further from the reference than the roundings of sums
/// and post-ops can explain.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The left operand, the source: (M, K) for a matmul
    #[arg(long, value_name = "FILE.npy")]
    lhs: Option<PathBuf>,
    /// The right operand, the weights: (K, N) for a matmul
    #[arg(long, value_name = "FILE.npy")]
    rhs: Option<PathBuf>,
    /// The first bias, of shape (N,) with +bias
    #[arg(long, value_name = "FILE.npy")]
    bias: Option<PathBuf>,
    /// The tensor of the first +add
    #[arg(long, value_name = "FILE.npy")]
    residual: Option<PathBuf>,
    /// An operand by its name, such as bias2, add or mul, or dst, to which a problem with beta=1 adds
    #[arg(long = "operand", value_name = "NAME=FILE.npy", value_parser = named_file)]
    operands: Vec<(String, PathBuf)>,
    /// Write the result to this file: (M, N) for a matmul
    #[arg(long, value_name = "FILE.npy")]
    dst: Option<PathBuf>,
    /// The seed of what fills operands without a file: reals in [-1, 1), or any integers of 8 bits
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Time N calls in a row [default: as many as fit in a tenth of a second, or 2 with --mark]
    #[arg(long, value_name = "N", value_parser = counts::runs)]
    repeat: Option<u64>,
    /// Make system calls that an instruction counter recognizes, around one call of the kernel and around the repeated calls:
    /// getpgid(0x4d410000 + n), where n is 0x10 before and 0x11 after the one, 0x12 before and 0x13 after the others. Calls are
    /// not checked and use one thread
    #[arg(long)]
    mark: bool,
    /// Use this schedule, as `kiln dump --stage schedule` prints it, instead of the cost model's
    #[arg(long, value_name = "TEXT")]
    schedule: Option<Schedule>,
    /// The weights are constant: pack them before the call if the kernel can read packed weights
    #[arg(long)]
    packed: bool,
    /// Do not compare the result with the reference, which takes long under an instruction counter
    #[arg(long, requires = "mark")]
    no_check: bool,
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text
        .split_once('=')
        .filter(|(name, file)| !name.is_empty() && !file.is_empty())
        .ok_or("expected the name of an operand, `=` and a file, such as `mul=scales.npy`")?;
    Ok((name.into(), file.into()))
}

/// Runs every problem.
pub fn run(args: &RunArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let problems = args.problems.load("kiln model run")?;
    args.check_files(&problems)?;
    let threads = args.threads.number()?;
    if args.mark && threads > 1 {
        let (option, why) = match args.threads.asked() {
            Some(n) => (format!("--threads {n}"), "but marks are around calls on one thread".into()),
            None => {
                let why = format!(
                    "marks are around calls on one thread, and the environment says {threads}: give --threads 1"
                );
                ("--mark".into(), why)
            }
        };
        return Err(Error::Contradiction { option, why });
    }
    let mut dst = args.dst.as_deref().map(OutputFile::check).transpose()?;
    let runtime = args.target.runtime(threads)?;
    let mut verdict = Verdict::Passed;
    // If there is one, there is one problem.
    for (i, problem) in problems.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        if args.one(problem, &runtime, dst.take(), out)? == Verdict::Failed {
            verdict = Verdict::Failed;
        }
    }
    Ok(verdict)
}

impl RunArgs {
    /// The tensor files that are read, with the option and the operand each is for.
    fn files(&self) -> Vec<(String, &str, &PathBuf)> {
        let options = [("lhs", "lhs", &self.lhs), ("rhs", "rhs", &self.rhs), ("bias", "bias", &self.bias)];
        let options = options.into_iter().chain([("residual", "add", &self.residual)]);
        let options = options.filter_map(|(option, name, file)| Some((option.to_owned(), name, file.as_ref()?)));
        let named = self.operands.iter().map(|(name, file)| (format!("operand {name}"), name.as_str(), file));
        options.chain(named).collect()
    }

    /// Refuses tensor files that the problems have no operand for, and two for one operand.
    fn check_files(&self, problems: &[Problem]) -> Result<(), Error> {
        let files = self.files();
        for (at, (option, name, _)) in files.iter().enumerate() {
            if let Some((other, ..)) = files[..at].iter().find(|(_, other, _)| other == name) {
                let why = format!("but --{other} gives `{name}` a file already");
                return Err(Error::Contradiction { option: format!("--{option}"), why });
            }
        }
        let written = self.dst.as_ref().map(|file| ("dst".to_owned(), "dst", file));
        for (option, name, _) in self.files().into_iter().chain(written) {
            let [problem] = problems else { return Err(Error::OneProblem { option, count: problems.len() }) };
            let operands = problem.operands();
            let is_read = |o: &Operand| o.role != Role::Dst || problem.accumulates() || option == "dst";
            if !operands.iter().any(|o| o.name == name && is_read(o)) {
                let hint = match name {
                    "bias" => "add `+bias` to the problem".into(),
                    "add" => "add `+add:MASK` to the problem".into(),
                    "dst" => "only `beta=1` reads it".into(),
                    _ => {
                        let names = operands.iter().filter(|o| o.role != Role::Dst).map(|o| o.name.as_str());
                        format!("it has {}", names.collect::<Vec<_>>().join(", "))
                    }
                };
                return Err(Error::NoOperand { option, operand: name.into(), problem: problem.to_string(), hint });
            }
        }
        Ok(())
    }

    fn one(
        &self,
        problem: &Problem,
        runtime: &Runtime,
        dst: Option<OutputFile>,
        out: &mut impl Write,
    ) -> Result<Verdict, Error> {
        // Operands first, so that a bad file is reported before anything is compiled.
        let mut tensors = self.tensors(problem)?;
        let options = Options { schedule: self.schedule.clone(), constant_weights: self.packed, ..Options::default() };
        let kernel = runtime.kernel_with(problem, &options)?;
        let hit = measure(Duration::from_millis(10), &mut Cycles::none(), || {
            runtime.kernel_with(problem, &options).map(drop)
        })?;
        writeln!(out, "problem    {} @{}", kernel.problem(), runtime.target())?;
        writeln!(out, "schedule   {}", kernel.schedule())?;
        let compile_ns = kernel.compile_time().as_nanos() as f64;
        writeln!(out, "compile    {}, {} bytes of code", show_ns(compile_ns), kernel.code_bytes())?;
        writeln!(out, "cache hit  {}", show_ns(hit.ns))?;
        for note in kernel.notes() {
            writeln!(out, "note       {note}")?;
        }
        if self.packed {
            match tensors.pack(&kernel)? {
                Some(bytes) => writeln!(out, "weights    packed, {bytes} bytes")?,
                None => writeln!(out, "weights    read in place")?,
            }
        }

        kernel.run(tensors.args())?;
        if let Some(file) = dst {
            file.write(|mut out| kiln_npy::write_to(&mut out, &tensors.dst.operand, tensors.dst.values.elements()))?;
        }
        let found = (!self.no_check).then(|| compare(kernel.problem(), &tensors, Sums::Rounded));

        let ns = self.time(&kernel, &mut tensors)?;
        let threads = if self.mark { 1 } else { runtime.threads() };
        writeln!(out, "call       {} with {threads} thread{}", show_ns(ns), if threads == 1 { "" } else { "s" })?;
        writeln!(out, "speed      {:.2} GFLOP/s", problem.flops() as f64 / ns)?;
        let Some(found) = found else { return Ok(Verdict::Passed) };
        let word = if found.passed() { "PASSED" } else { "FAILED" };
        writeln!(out, "check      {word}: {found}")?;
        Ok(if found.passed() { Verdict::Passed } else { Verdict::Failed })
    }

    /// Filled tensors, the result as it is before a call.
    fn tensors(&self, problem: &Problem) -> Result<Tensors, Error> {
        let mut tensors = Tensors::zeros(problem)?;
        tensors.fill_reals(self.seed);
        for (_, name, path) in self.files() {
            let inputs = tensors.inputs.iter_mut().chain([&mut tensors.dst]);
            if let Some(t) = inputs.into_iter().find(|t| t.operand.name == name) {
                kiln_npy::read(path, &t.operand, |at, value| t.values.set(at, value))?;
            }
        }
        tensors.keep_dst();
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

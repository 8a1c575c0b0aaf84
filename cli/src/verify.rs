//! `kiln verify`: kernels against the reference in double precision.

use std::io::Write;

use kiln_compiler::CompileError;
use kiln_ir::{Problem, Sums};
use kiln_jit::{Kernel, Options, Runtime, RuntimeError};

use crate::check::{compare, place};
use crate::counts;
use crate::data::Integers;
use crate::error::Error;
use crate::problems::{BareArgs, ProblemArgs};
use crate::scale::{cut_batch, scale};
use crate::target::TargetArgs;
use crate::tensors::Tensors;
use crate::threads::ThreadsArgs;
use crate::verdict::Verdict;

/// Check problems against an f64 reference: print one line for each, then the totals
///
/// Each kernel is called twice. The first call is on small integers, whose sums are exact: if no post-op rounds, the result must equal
/// the reference. The second is on reals in [-1, 1): each element must be within the bound that follows from the roundings of sums
/// and post-ops. Integers of 8 bits are the least and the greatest in the first call and any in the second, and results of integers must
/// equal the reference. Before a call the result is filled with NaN or the least integer, or, for beta=1, with data. With several threads, the result must also
/// equal that of one thread bit for bit. The exit code is 1 unless every problem passed.
///
/// Lists may be batch files of benchdnn: --op completes lines that are a bare descriptor. Of options in them only --strides is read.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    bare: BareArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The seed of the operands' data
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Shrink problems of more than N multiply-adds, for emulators: their batches and largest dimensions are halved, and
    /// dimensions keep their remainder modulo 64
    #[arg(long, value_name = "N", value_parser = counts::positive)]
    max_macs: Option<u64>,
    /// Cut larger batches to N: images, rows of inner products, or the outermost dimension of batched products
    #[arg(long, value_name = "N", value_parser = counts::positive)]
    max_mb: Option<u64>,
    /// The weights are constant: pack them before the call if the kernel can read packed weights, and check that it refuses
    /// others
    #[arg(long)]
    packed: bool,
}

/// The outcome of one problem.
enum Outcome {
    Passed,
    /// With a description of what is wrong.
    Failed(String),
    /// With the reason why there is no kernel.
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
    args.bare.check(&args.problems)?;
    let problems = args.problems.load_with(&args.bare, "kiln model bench --check")?;
    let threads = args.threads.number()?;
    let runtime = args.target.runtime(threads)?;
    let target = runtime.target();
    let mut totals = Totals::default();
    for original in &problems {
        let cut = match args.max_mb {
            Some(images) => cut_batch(original, images)?,
            None => original.clone(),
        };
        let problem = match args.max_macs {
            Some(max_macs) => scale(&cut, max_macs)?,
            None => cut,
        };
        let from = if problem == *original { String::new() } else { format!(" (scaled from {original})") };
        totals.tests += 1;
        match args.check(&problem, &runtime)? {
            Outcome::Passed => {
                totals.passed += 1;
                writeln!(out, "PASSED: {problem} @{target}{from}")?;
            }
            Outcome::Failed(why) => {
                totals.failed += 1;
                writeln!(out, "FAILED: {problem} @{target}{from}: {why}")?;
                let threads = if threads > 1 { format!(" --threads {threads}") } else { String::new() };
                let packed = if args.packed { " --packed" } else { "" };
                writeln!(
                    out,
                    "REPRO: kiln verify --target {target} --seed {}{threads}{packed} \"{problem}\"",
                    args.seed
                )?;
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

impl VerifyArgs {
    fn check(&self, problem: &Problem, runtime: &Runtime) -> Result<Outcome, Error> {
        let options = Options { constant_weights: self.packed, ..Options::default() };
        let kernel = match runtime.kernel_with(problem, &options) {
            Ok(kernel) => kernel,
            Err(RuntimeError::Compile(e)) => match &*e {
                CompileError::Unsupported { .. } => return Ok(Outcome::Unimplemented(e.to_string())),
                CompileError::Internal { .. } => return Ok(Outcome::Failed(e.to_string())),
                _ => return Err(RuntimeError::Compile(e).into()),
            },
            Err(e) => return Err(e.into()),
        };
        let mut tensors = match Tensors::zeros(problem) {
            Err(e @ Error::Memory { .. }) => return Ok(Outcome::Unimplemented(e.to_string())),
            tensors => tensors?,
        };
        if let Some(why) = self.wrong(&kernel, &mut tensors)? {
            return Ok(Outcome::Failed(why));
        }
        if runtime.threads() > 1 {
            let serial = tensors.dst.values.to_f32().into_owned();
            tensors.reset();
            kernel.run(tensors.args())?;
            let dst = tensors.dst.values.to_f32();
            if let Some(i) = dst.iter().zip(&serial).position(|(v, s)| v.to_bits() != s.to_bits()) {
                let (at, threads) = (place(&tensors, i as u64), runtime.threads());
                let why = format!("{at} is {} with {threads} threads and {} with one", dst[i], serial[i]);
                return Ok(Outcome::Failed(why));
            }
        }
        Ok(Outcome::Passed)
    }

    /// Checks the kernel on one thread and describes what is wrong, if anything is. The tensors then hold its result for reals.
    fn wrong(&self, kernel: &Kernel, tensors: &mut Tensors) -> Result<Option<String>, Error> {
        let [.., k] = kernel.problem().extents();
        for (data, sums) in [("integer", Sums::Exact), ("real", Sums::Rounded)] {
            match sums {
                Sums::Exact => tensors.fill_integers(self.seed, Integers::exact_for(k)),
                Sums::Rounded => tensors.fill_reals(self.seed),
            }
            if tensors.pack(kernel)?.is_some() && !is_refused(kernel, tensors)? {
                return Ok(Some("weights that are not packed were accepted".into()));
            }
            kernel.run_serial(tensors.args())?;
            let found = compare(kernel.problem(), tensors, sums);
            if !found.passed() {
                return Ok(Some(format!("{data} data: {found}")));
            }
        }
        Ok(None)
    }
}

/// True if a kernel of packed weights refuses others.
fn is_refused(kernel: &Kernel, tensors: &mut Tensors) -> Result<bool, Error> {
    match kernel.run_serial(tensors.args_in_place()) {
        Err(RuntimeError::Weights { .. }) => Ok(true),
        result => Ok(result.map(|()| false)?),
    }
}

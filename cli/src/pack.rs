//! `kiln pack`: files of compiled kernels.

use std::io::Write;
use std::path::PathBuf;

use kiln_compiler::{Package, compile};
use kiln_runtime::{Options, Pack, PackError, WeightsPack, pack};

use crate::Verdict;
use crate::error::Error;
use crate::problems::ProblemArgs;
use crate::target::TargetArgs;

/// Build and inspect kernel packs: compiled code that a runtime publishes without compiling
#[derive(Debug, clap::Args)]
pub struct PackArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Build(BuildArgs),
    List(ListArgs),
}

/// Compile problems for a target, any on any host, and write them to FILE, which is replaced as a whole
#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// The pack
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Of which weights are constant: all problems, for kernels that read them packed
    #[arg(long)]
    packed: bool,
}

/// Check FILE and print what it has: for each kernel the length of its code, the code's hash and the problem
///
/// Of a pack of weights, as `kiln model --pack` writes it, for each weights their length and their hash.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The pack
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Builds or lists.
pub fn run(args: &PackArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    match &args.command {
        Command::Build(args) => build(args, out),
        Command::List(args) => list(args, out),
    }
}

fn build(args: &BuildArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let (problems, target) = (args.problems.load()?, args.target.resolve()?);
    let options = Options { constant_weights: args.packed, ..Options::default() };
    let package = |problem| compile(problem, &target, &options).map(|artifact| Package::of(&artifact, &options));
    let packages = problems.iter().map(package).collect::<Result<Vec<_>, _>>()?;
    let place = || args.file.display().to_string();
    pack::write(&args.file, &target, &packages).map_err(|e| Error::File(e).at(place()))?;
    // What was written is what will be read.
    let pack = Pack::open(&args.file).map_err(|e| Error::Pack(e).at(place()))?;
    writeln!(out, "{}: {} kernels for {target}, {} bytes", place(), pack.len(), pack.bytes())?;
    Ok(Verdict::Passed)
}

fn list(args: &ListArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let in_file = |e| Error::Pack(e).at(args.file.display().to_string());
    match WeightsPack::open(&args.file) {
        Err(PackError::NoWeights) => {}
        weights => return list_weights(&weights.map_err(in_file)?, out, in_file),
    }
    let pack = Pack::open(&args.file).map_err(in_file)?;
    pack.packages().try_for_each(|package| package.map(drop)).map_err(in_file)?;
    writeln!(out, "target {}", pack.target())?;
    let mut kernels: Vec<_> = pack.kernels().map(|(problem, bytes, hash)| (problem.to_string(), bytes, hash)).collect();
    kernels.sort();
    for (problem, bytes, hash) in kernels {
        writeln!(out, "{bytes:8} {hash:032x} {problem}")?;
    }
    Ok(Verdict::Passed)
}

fn list_weights(
    pack: &WeightsPack,
    out: &mut impl Write,
    in_file: impl Fn(PackError) -> Error,
) -> Result<Verdict, Error> {
    pack.verify().map_err(in_file)?;
    for (bytes, hash) in pack.weights() {
        writeln!(out, "{bytes:12} {hash:032x}")?;
    }
    Ok(Verdict::Passed)
}

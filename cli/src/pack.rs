//! `kiln pack`: files of compiled kernels.

use std::io::Write;
use std::path::PathBuf;

use kiln_compiler::{Package, compile};
use kiln_ir::Problem;
use kiln_jit::Options;
use kiln_jit::pack::{self, Contents};

use crate::error::Error;
use crate::kind::FileKind;
use crate::output::OutputFile;
use crate::problems::ProblemArgs;
use crate::target::TargetsArgs;
use crate::verdict::Verdict;

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

/// Compile problems for targets, which need not be this machine, and write the kernels to FILE, which is replaced
#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// The pack to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    targets: TargetsArgs,
    /// The weights are constant: kernels may read them packed
    #[arg(long)]
    packed: bool,
}

/// Check FILE and print a line for each kernel: the bytes of its code, the code's hash and the problem
///
/// For packed weights, which `kiln model pack` writes, a line for each weight tensor: its bytes and its hash.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The pack
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Builds or lists a pack.
pub fn run(args: &PackArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    match &args.command {
        Command::Build(args) => build(args, out),
        Command::List(args) => list(args, out),
    }
}

fn build(args: &BuildArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    if let Some(text) = args.file.to_str().filter(|text| text.parse::<Problem>().is_ok()) {
        return Err(Error::PackIsAProblem(text.into()));
    }
    let (problems, targets) = (args.problems.load("kiln model pack -o FILE")?, args.targets.resolve()?);
    OutputFile::check(&args.file)?;
    let options = Options { constant_weights: args.packed, ..Options::default() };
    let mut packages = vec![];
    for target in &targets {
        for problem in &problems {
            packages.push(Package::of(&compile(problem, target, &options)?, &options));
        }
    }
    let place = || args.file.display().to_string();
    let written = match &targets[..] {
        [target] => pack::write(&args.file, target, &packages),
        _ => pack::write_bundle(&args.file, &packages, []),
    };
    written.map_err(|e| Error::File(e).at(place()))?;
    // Read it back, as its users will.
    let contents = Contents::open(&args.file).map_err(|e| Error::Pack(e).at(place()))?;
    for pack in contents.kernels {
        writeln!(out, "{}: {} kernels for {}, {} bytes", place(), pack.len(), pack.target(), pack.bytes())?;
    }
    Ok(Verdict::Passed)
}

fn list(args: &ListArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    if let Some(kind @ (FileKind::Folder | FileKind::Onnx | FileKind::Text)) = FileKind::of(&args.file) {
        let expected = "a pack of kernels or of weights".into();
        return Err(Error::IsAFile { path: args.file.display().to_string(), kind, expected });
    }
    let in_file = |e| Error::Pack(e).at(args.file.display().to_string());
    let Contents { kernels, weights } = Contents::open(&args.file).map_err(in_file)?;
    for pack in kernels {
        pack.packages().try_for_each(|package| package.map(drop)).map_err(in_file)?;
        writeln!(out, "target {}", pack.target())?;
        let mut kernels: Vec<_> =
            pack.kernels().map(|(problem, bytes, hash)| (problem.to_string(), bytes, hash)).collect();
        kernels.sort();
        for (problem, bytes, hash) in kernels {
            writeln!(out, "{bytes:8} {hash:032x} {problem}")?;
        }
    }
    if let Some(weights) = weights {
        weights.verify().map_err(in_file)?;
        writeln!(out, "weights")?;
        for (bytes, hash) in weights.weights() {
            writeln!(out, "{bytes:12} {hash:032x}")?;
        }
    }
    Ok(Verdict::Passed)
}

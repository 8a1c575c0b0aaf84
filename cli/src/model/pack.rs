//! `kiln model pack`: a network's kernels and packed weights in one file, for any targets and sizes, on any machine.

use std::io::Write;
use std::path::PathBuf;

use kiln_ir::problem::MathMode;
use kiln_model::{PackedNetwork, PlanOptions, write_networks};
use kiln_runtime::Target;
use kiln_runtime::pack::Contents;

use super::compiled::{all_threads, with_progress};
use super::network::NetworkArgs;
use crate::Verdict;
use crate::error::Error;
use crate::output::OutputFile;
use crate::pack::targets;
use crate::target::threads;

/// Compile the kernels of a network and pack its weights, for any targets on any machine, and write both to FILE
///
/// `--pack FILE` of the other subcommands takes the kernels for its target from FILE, and the weights. Nothing of what is compiled for
/// another target is executed.
#[derive(Debug, clap::Args)]
pub struct PackArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// The file to write, which is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The targets, with commas between them, for example neoverse-v1,neoverse-v2; help lists them [default: this machine]
    #[arg(long = "target", value_name = "TARGET,...", value_delimiter = ',')]
    targets: Vec<Target>,
    /// Pack for each of these sizes: of the batch or of the sequences, or of a dimension by its name in the file, for example
    /// seq=64,128,256. With several such options, for all combinations
    #[arg(long, value_name = "NAME=N,...", value_parser = sizes)]
    sizes: Vec<Sizes>,
    /// Threads that compile and pack [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
    /// The arithmetic of f32 kernels whose problems name none: strict, bf16 or any [default: KILN_FPMATH_MODE, else strict]
    #[arg(long, value_name = "MODE")]
    fpmath: Option<MathMode>,
    /// Do not print each kernel to standard error as it is compiled
    #[arg(long)]
    quiet: bool,
}

/// The sizes of a dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sizes {
    name: String,
    all: Vec<u64>,
}

fn sizes(text: &str) -> Result<Sizes, String> {
    let number = |n: &str| n.parse().ok().filter(|n| *n > 0);
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty()).and_then(|(name, list)| {
        let all = list.split(',').map(number).collect::<Option<Vec<u64>>>()?;
        Some(Sizes { name: name.to_owned(), all })
    });
    parts.ok_or("expected NAME=N,N..., such as seq=64,128".into())
}

impl PackArgs {
    /// The network for each combination of sizes.
    fn networks(&self) -> Vec<NetworkArgs> {
        self.sizes.iter().fold(vec![self.network.clone()], |networks, sizes| {
            let each = |network: NetworkArgs| sizes.all.iter().map(move |n| network.with_size(&sizes.name, *n));
            networks.into_iter().flat_map(each).collect()
        })
    }
}

/// Writes the pack.
pub fn pack(args: &PackArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let targets = targets(&args.targets)?;
    let fpmath = args.fpmath.map_or_else(kiln_runtime::default_fpmath, Ok)?;
    let threads = args.threads.unwrap_or_else(all_threads);
    // What cannot be written is known before the work.
    OutputFile::check(&args.output)?;
    let mut networks: Vec<PackedNetwork> = vec![];
    for network in args.networks() {
        let mut loaded = network.load()?;
        let bound = loaded.take()?;
        for target in &targets {
            networks.push(with_progress(args.quiet, |progress| {
                bound.clone().pack_for(target, &PlanOptions { fpmath, threads, progress: Some(progress) })
            })?);
        }
    }
    let place = || args.output.display().to_string();
    write_networks(&args.output, &networks).map_err(|e| Error::File(e).at(place()))?;
    // Read it back, as its users will.
    let contents = Contents::open(&args.output).map_err(|e| Error::Pack(e).at(place()))?;
    for pack in &contents.kernels {
        writeln!(out, "{}: {} kernels for {}, {} bytes", place(), pack.len(), pack.target(), pack.bytes())?;
    }
    let weights = contents.weights.map_or((0, 0), |weights| (weights.len(), weights.bytes()));
    writeln!(out, "{}: {} packed weights, {} bytes", place(), weights.0, weights.1)?;
    Ok(Verdict::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_sizes_are_read() {
        assert_eq!(sizes("seq=64,128"), Ok(Sizes { name: "seq".into(), all: vec![64, 128] }));
        for bad in ["", "seq", "=1", "seq=", "seq=0", "seq=1,,2", "seq=x"] {
            assert!(sizes(bad).is_err(), "{bad}");
        }
    }
}

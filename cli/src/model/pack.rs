//! `kiln model pack`: a network's kernels and packed weights in one file, for any targets and sizes, on any machine.

use std::io::Write;
use std::path::PathBuf;

use kiln_jit::pack::Contents;
use kiln_model::{PackedNetwork, write_networks};

use super::network::NetworkArgs;
use super::planned::PlanArgs;
use crate::error::Error;
use crate::output::OutputFile;
use crate::target::TargetsArgs;
use crate::verdict::Verdict;

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
    #[command(flatten)]
    targets: TargetsArgs,
    /// Pack for each of these sizes: of the batch or of the sequences, or of a dimension by its name in the file, for example
    /// seq=64,128,256. With several such options, for all combinations
    #[arg(long, value_name = "NAME=N,...", value_parser = sizes)]
    sizes: Vec<SizeList>,
    #[command(flatten)]
    options: PlanArgs,
}

/// The sizes of a dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SizeList {
    name: String,
    all: Vec<u64>,
}

fn sizes(text: &str) -> Result<SizeList, String> {
    let number = |n: &str| n.parse().ok().filter(|n| *n > 0);
    // Names may have a `=` in them.
    let parts = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).and_then(|(name, list)| {
        let all = list.split(',').map(number).collect::<Option<Vec<u64>>>()?;
        Some(SizeList { name: name.to_owned(), all })
    });
    parts.ok_or("expected NAME=N,N..., such as seq=64,128".into())
}

impl PackArgs {
    /// The network for each combination of sizes. Refuses a size that is given twice, in one way or in two.
    fn networks(&self) -> Result<Vec<NetworkArgs>, Error> {
        for (at, SizeList { name, all }) in self.sizes.iter().enumerate() {
            let twice = |name: String| Error::Twice { option: "--sizes", name };
            if self.sizes[..at].iter().any(|other| other.name == *name) {
                return Err(twice(name.clone()));
            }
            if let Some(n) = all.iter().enumerate().find_map(|(at, n)| all[..at].contains(n).then_some(n)) {
                return Err(twice(format!("{name}={n}")));
            }
            if let Some(option) = self.network.option_of(name) {
                return Err(Error::Contradiction { option, why: format!("but --sizes {name}=… says others") });
            }
        }
        Ok(self.sizes.iter().fold(vec![self.network.clone()], |networks, sizes| {
            let each = |network: NetworkArgs| sizes.all.iter().map(move |n| network.with_size(&sizes.name, *n));
            networks.into_iter().flat_map(each).collect()
        }))
    }
}

/// Writes the pack.
pub fn pack(args: &PackArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let targets = args.targets.resolve()?;
    let variants = args.networks()?;
    // What cannot be written is known before the work.
    OutputFile::check(&args.output)?;
    let mut networks: Vec<PackedNetwork> = vec![];
    for network in variants {
        let mut loaded = network.load()?;
        let bound = loaded.take()?;
        for target in &targets {
            networks.push(args.options.with(|options| bound.clone().pack_for(target, options))??);
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
        assert_eq!(sizes("seq=64,128"), Ok(SizeList { name: "seq".into(), all: vec![64, 128] }));
        for bad in ["", "seq", "=1", "seq=", "seq=0", "seq=1,,2", "seq=x"] {
            assert!(sizes(bad).is_err(), "{bad}");
        }
    }
}

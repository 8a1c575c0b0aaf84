//! `kiln model`: whole networks. Each subcommand has a file; the other files are shared by several.

mod bench;
mod compiled;
mod dump;
pub mod files;
mod html;
mod inputs;
mod materialize;
mod network;
mod open;
mod operators;
mod pack;
mod planned;
mod profile;
mod reference;
mod resident;
mod run;
mod scale;
mod sizes;
mod steps;
mod streams;
mod test;
mod throughput;

use std::io::Write;

use crate::error::Error;
use crate::verdict::Verdict;

pub use scale::takes_problems;

/// Compile, run, measure and test whole networks: ONNX files and built-in architectures
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Bench(bench::BenchArgs),
    Run(run::RunArgs),
    Dump(dump::DumpArgs),
    Profile(profile::ProfileArgs),
    Scale(scale::ScaleArgs),
    Pack(pack::PackArgs),
    Test(test::TestArgs),
    Operators(operators::OperatorsArgs),
}

impl ModelArgs {
    /// True for `kiln model test`.
    pub fn is_test(&self) -> bool {
        matches!(self.command, Command::Test(_))
    }
}

/// Runs the subcommand.
pub fn run(args: &ModelArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    match &args.command {
        Command::Bench(args) => bench::bench(args, out),
        Command::Run(args) => run::run(args, out),
        Command::Dump(args) => dump::dump(args, out),
        Command::Profile(args) => profile::profile(args, out),
        Command::Scale(args) => scale::scale(args, out),
        Command::Pack(args) => pack::pack(args, out),
        Command::Test(args) => test::test(args, out),
        Command::Operators(args) => operators::list(args, out),
    }
}

//! The project's habits as commands. `cargo xtask --help` lists them; `docs/testing.md` says when to use which.

mod bench;
mod bless;
mod check;
mod errors;
mod figures;
mod hashes;
mod header;
mod links;
mod mca;
mod package;
mod process;
mod regret;
mod replay;
mod scaling;
mod tasks;
mod wheel;

use std::process::ExitCode;

use clap::Parser;

/// The project's habits.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Formatting, links, the C header, lints, documentation, and all native tests; stops at the first failure.
    Check,
    /// Accepts what the compiler produces now: rewrites snapshots and fixtures. Review the diff.
    Bless,
    /// Rewrites the A64 encoder's fixture with llvm-mc's answers.
    Oracle,
    /// Reports which of about 500 problems compile to other bytes than at a base revision.
    Replay(replay::ReplayArgs),
    /// Prints a hash of the machine code of each of those problems.
    Hashes,
    /// Measures the problems whose speed we watch.
    Bench(bench::BenchArgs),
    /// Models the K loops of a problem's micro-kernels with llvm-mca.
    Mca(Box<mca::McaArgs>),
    /// Measures what starting a program on Kiln costs, and prints the table of docs/embedding.md.
    Figures(figures::FiguresArgs),
    /// Measures the accuracy of approximated post-ops and prints docs/accuracy.md.
    Errors(errors::ErrorsArgs),
    /// Measures how much faster than chosen schedules the best of those are that they were weighed against.
    Regret(regret::RegretArgs),
    /// Compares what is predicted for two threads with what networks take on this machine.
    Scaling(scaling::ScalingArgs),
    /// Compare what the model of scaling says of the tasks of AArch64 kernels with the instructions executed for them under qemu
    Tasks(tasks::TasksArgs),
    /// Makes capi/kiln.h from the crate's sources.
    Header(header::HeaderArgs),
    /// Makes the packages of the crates that are published, and builds each from what it contains.
    Package(package::PackageArgs),
    /// Builds wheels of the Python package for x86-64 and AArch64.
    Wheel(wheel::WheelArgs),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Check => check::run(),
        Task::Bless => bless::all(),
        Task::Oracle => bless::a64_oracle(),
        Task::Replay(args) => replay::run(&args),
        Task::Hashes => hashes::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Mca(args) => mca::run(&args),
        Task::Figures(args) => figures::run(&args),
        Task::Errors(args) => errors::run(&args),
        Task::Regret(args) => regret::run(&args),
        Task::Scaling(args) => scaling::run(&args),
        Task::Tasks(args) => tasks::run(&args),
        Task::Header(args) => header::run(&args),
        Task::Package(args) => package::run_all(&args),
        Task::Wheel(args) => wheel::run_all(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

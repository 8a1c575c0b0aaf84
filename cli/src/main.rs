//! `kiln`: compile, run, dump, verify and bench tensor contractions of concrete shape, and whole networks of them.
//!
//! Each subcommand has a file; the other files are shared by several. Exit codes: 0 for success, 1 when a check failed (or
//! Kiln itself did), 2 for bad usage or input.

#![deny(unsafe_code)]

mod bench;
mod check;
mod counter;
mod counts;
mod cut_off;
mod data;
mod dump;
mod error;
mod family;
mod kind;
mod mapped;
mod mark;
mod model;
mod output;
mod pack;
mod problems;
mod run;
mod scale;
mod target;
mod tensors;
mod threads;
mod timing;
mod trust;
mod unchecked;
mod verdict;
mod verify;
mod warm;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use error::Error;
use verdict::Verdict;

const AFTER_HELP: &str = "\
A problem is one string with every size in it:

    OP DTYPES DESCRIPTOR [stag=T] [wtag=T] [dtag=T] [strides=S:S:S] [beta=0|1] [fpmath=strict|bf16|any] [+POSTOP...]

    matmul f32 128x768:768x3072 +bias+relu
    matmul bf16:bf16:f32 12x128x64:12x64x128 wtag=acb +scale:0.125
    matmul f32 128x768:768x3072 strides=1024x1::4096x1 +bias
    ip f32 mb128ic768oc3072 fpmath=bf16 +bias+gelu_erf
    conv f32 mb1ic64ih56oc64kh3ph1 +bias+relu

OP DESCRIPTOR  matmul [Bx...]MxK:[Bx...]KxN, up to 4 batch dimensions, each equal on both sides or 1 on one;
               ip mbMicKocN, C = A W^T with weights of oc x ic, perhaps with id, ih, iw;
               conv [gG]mbNicCihHocOkhK[shS][phP][dhD], with d and w beside h, channels last unless a tag says abx
DTYPES         f32, bf16, f16, or of source, weights and result: T:T:f32, f32:T:f32 with T bf16 or f16;
               s8:s8:s32, u8:s8:s32 for matmul and ip
Tags           the dimensions from the outermost in memory to the innermost: ab is row-major, ba column-major
strides        elements from one neighbour to the next along each dimension of source, weights and result: 1024x1 for rows of 1024
               elements. A tensor whose strides are empty is dense, in the order of its tag
beta=1         add to what the result holds
fpmath         bf16 or any: f32 may be rounded to bf16 before it is multiplied; strict: it is not, whatever the default is
POSTOP         bias, bias:row, bias:MASK, add:MASK, mul:MASK (MASK: the dimensions of the result that the tensor has, such as
               ab), scale:A, shift:B, relu, leaky_relu:A, clamp:LO:HI, gelu_erf, gelu_tanh, silu, sigmoid, tanh, hardswish,
               hardsigmoid, softsign, exp, square, sqrt, abs; up to 32, in any order

or the path of a .kiln file with a tensor function that is one kernel:

    func @linear(%x: f32[128x768], %w: f32[768x3072], %b: f32[3072]) -> f32[128x3072] {
      %0 = matmul %x, %w
      %1 = add %0, %b
      %2 = relu %1
      return %2
    }

Targets: armv8, neoverse-n1, neoverse-v1, neoverse-v2, sve128 to sve2048, x86-64-v3, x86-64-v4, each with modifiers
such as -sve, +bf16, -avx512 or +l2=1m; `--target help` describes them. KILN_MAX_CPU_ISA limits what is detected of this machine: advanced_simd,
sve_128, sve_256, sve_512, avx2, avx512_core or default. KILN_FPMATH_MODE is the
fpmath of f32 problems that name none, in commands that run kernels and in those for networks. `kiln dump` and `kiln pack build` do not
read it.

Threads: KILN_NUM_THREADS, else OMP_NUM_THREADS, else RAYON_NUM_THREADS is the default of --threads in commands that run kernels or
compile networks. If none is set, problems and `kiln model test` have one thread, and other commands for networks as many as there are
processors that the process may use. KILN_NUM_STREAMS is the default of --streams. KILN_SPIN is for how many microseconds an idle
thread looks for work before it sleeps.

Files with code: what is in the FILE of --pack and in the DIR of --cache-dir is executed, so name those alone that nobody whom you
do not trust can write to. KILN_CACHE_DIR is used if it is a directory of your own: it and what is in it are yours, nobody else may
write to it or to directories that it is in (sticky ones may be shared), and it is no symbolic link. Otherwise a note says what to
change. KILN_STRICT_SETTINGS=1 makes errors of such notes.

Exit status: 0 success, 1 a check failed, 2 bad usage or input.";

/// A kernel compiler for tensor contractions of concrete shape.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, about, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Dump(dump::DumpArgs),
    Verify(verify::VerifyArgs),
    Bench(bench::BenchArgs),
    Pack(pack::PackArgs),
    Warm(warm::WarmArgs),
    Family(family::FamilyArgs),
    Model(model::ModelArgs),
}

fn main() -> ExitCode {
    cut_off::explain();
    if target::is_help(std::env::args_os()) {
        // The reader may have gone.
        let _ = write!(io::stdout(), "{}", target::help());
        return ExitCode::SUCCESS;
    }
    let cli = match arguments().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(e) => {
            // Help goes to stdout and may meet a closed pipe: nobody is left to tell.
            let _ = e.print();
            if let Some(tip) = other_command(&std::env::args().collect::<Vec<_>>()) {
                let _ = writeln!(io::stderr(), "\n{tip}");
            }
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    // Without its lock, which a compiling thread takes for each verbose line.
    let mut out = io::stdout();
    let result = match &cli.command {
        Command::Run(args) => run::run(args, &mut out),
        Command::Dump(args) => dump::dump(args, &mut out),
        Command::Verify(args) => verify::verify(args, &mut out),
        Command::Bench(args) => bench::bench(args, &mut out),
        Command::Pack(args) => pack::run(args, &mut out),
        Command::Warm(args) => warm::warm(args, &mut out),
        Command::Family(args) => family::family(args, &mut out),
        Command::Model(args) => model::run(args, &mut out),
    };
    match result.and_then(|verdict| out.flush().map(|()| verdict).map_err(Error::Output)) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        // The reader has seen enough. What was not checked has not passed, though.
        Err(Error::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => match cli.command {
            Command::Verify(_) => ExitCode::FAILURE,
            Command::Model(model) if model.is_test() => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        },
        Err(e) => {
            let _ = writeln!(io::stderr(), "error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// The arguments that there are. Negative numbers are values of options, so that each option says what it expects instead.
fn arguments() -> clap::Command {
    fn negative_numbers(command: clap::Command) -> clap::Command {
        let is_valued = |arg: &clap::Arg| !arg.is_positional() && arg.get_action().takes_values();
        let command = command.mut_args(|arg| if is_valued(&arg) { arg.allow_negative_numbers(true) } else { arg });
        command.mut_subcommands(negative_numbers)
    }
    let arguments = negative_numbers(Cli::command());
    arguments.mut_subcommand("model", |model| {
        model.mut_subcommands(
            |command| if command.get_name() == "scale" { model::takes_problems(command) } else { command },
        )
    })
}

/// Points from arguments that are wrong for problems to the same subcommand for networks, if they name a network, and the other
/// way round.
fn other_command(args: &[String]) -> Option<String> {
    const SHARED: [&str; 3] = ["run", "dump", "bench"];
    let subcommand = |at: usize| args.get(at).filter(|word| SHARED.contains(&word.as_str()));
    if let Some(subcommand) = subcommand(1) {
        let network = args[2..].iter().find(|word| model::files::is_network(word))?;
        return Some(format!("`{network}` is a network: see `kiln model {subcommand} --help`"));
    }
    let subcommand = subcommand(2).filter(|_| args[1] == "model")?;
    let word = args[3..].iter().find(|word| kiln_ir::problem::NAMES.contains(&word.as_str()))?;
    Some(format!("`{word}` begins a problem: see `kiln {subcommand} --help`"))
}

//! `kiln dump`: the stages of compilation as text.

use std::io::Write;

use kiln_compiler::schedule::Schedule;
use kiln_compiler::{Artifact, Options, Stage, compile};

use crate::error::Error;
use crate::problems::ProblemArgs;
use crate::target::TargetArgs;
use crate::verdict::Verdict;

/// Print the stages of compiling a problem, for any target on any machine
///
/// The text of a single stage is printed alone: that of `--stage asm` is source for GNU as and llvm-mc, and assembles to the same
/// bytes. If there are several texts, each has a comment above it that names the problem and the stage.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    #[command(flatten)]
    problems: ProblemArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The stage to print: problem, schedule, lowering, nest, microkernel, asm or all
    #[arg(long, default_value = "all", value_parser = stages)]
    stage: Stages,
    /// Show the bytes of each instruction in the comments of the asm stage
    #[arg(long)]
    bytes: bool,
    /// The weights are constant: kernels may read them packed
    #[arg(long)]
    packed: bool,
    /// Use this schedule instead of the cost model's
    #[arg(long, value_name = "TEXT")]
    schedule: Option<Schedule>,
}

/// The value of `--stage`.
#[derive(Clone, Copy, Debug)]
enum Stages {
    All,
    One(Stage),
}

fn stages(word: &str) -> Result<Stages, String> {
    if word == "all" {
        return Ok(Stages::All);
    }
    let one = word.parse().map(Stages::One);
    one.map_err(|e: kiln_compiler::artifact::UnknownStage| format!("{e}; or all"))
}

impl Stages {
    fn list(self) -> Vec<Stage> {
        match self {
            Stages::All => Stage::ALL.iter().map(|(_, stage)| *stage).collect(),
            Stages::One(stage) => vec![stage],
        }
    }
}

/// Dumps every problem.
pub fn dump(args: &DumpArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let problems = args.problems.load("kiln model dump")?;
    if args.bytes && !args.stage.list().contains(&Stage::Asm) {
        let why = "but only --stage asm and all show instructions".into();
        return Err(Error::Contradiction { option: "--bytes".into(), why });
    }
    let target = args.target.resolve()?;
    let options = Options { schedule: args.schedule.clone(), constant_weights: args.packed, ..Options::default() };
    let stages = args.stage.list();
    let bare = problems.len() * stages.len() == 1;
    for problem in &problems {
        let artifact = compile(problem, &target, &options)?;
        for &stage in &stages {
            if !bare {
                writeln!(out, "# {problem} @{target}  stage: {stage}")?;
            }
            let text = text(&artifact, stage, args.bytes);
            out.write_all(text.as_bytes())?;
            if !bare {
                writeln!(out)?;
            }
        }
    }
    Ok(Verdict::Passed)
}

fn text(artifact: &Artifact, stage: Stage, bytes: bool) -> String {
    match stage {
        Stage::Asm => artifact.listing(bytes),
        _ => artifact.dump(stage),
    }
}

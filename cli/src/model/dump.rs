//! `kiln model dump`: the stages between a network and its kernels, as text.

use std::collections::BTreeMap;
use std::io::Write;

use kiln_ir::pass::PASSES;
use kiln_model::{Bound, PlannedNetwork};

use super::bench::code_word;
use super::network::NetworkArgs;
use super::planned::PlanArgs;
use crate::error::Error;
use crate::target::TargetArgs;
use crate::verdict::Verdict;

/// Print a network: the function it is imported as, the function after each pass, its kernels and its plan of memory, for any
/// target on any machine
///
/// For the schedule, the loops and the machine code of a kernel, give its problem to `kiln dump PROBLEM --packed`.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    options: PlanArgs,
    /// The function as imported (import), below a table of the dimensions that the file leaves open; the function after a pass (its
    /// name) or after all passes (optimized); of the network as the target runs it its kernels or its plan; or all of these
    #[arg(long, default_value = "optimized", value_parser = stage)]
    stage: Stage,
}

impl DumpArgs {
    fn plan(&self, bound: Bound) -> Result<PlannedNetwork, Error> {
        let target = self.target.resolve()?;
        Ok(self.options.with(|options| bound.plan_for(&target, options))??)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    All,
    Import,
    Pass(&'static str),
    Optimized,
    Kernels,
    Plan,
}

fn stage(word: &str) -> Result<Stage, String> {
    Ok(match word {
        "all" => Stage::All,
        "import" => Stage::Import,
        "optimized" => Stage::Optimized,
        "kernels" => Stage::Kernels,
        "plan" => Stage::Plan,
        _ => {
            let passes = || PASSES.iter().map(|pass| pass.name);
            let found = passes().find(|name| *name == word);
            let names = || passes().collect::<Vec<_>>().join(", ");
            Stage::Pass(found.ok_or_else(|| format!("expected import, {}, optimized, kernels, plan or all", names()))?)
        }
    })
}

/// Prints the stages.
pub fn dump(args: &DumpArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let mut loaded = args.network.load()?;
    let bound = loaded.take()?;
    let is_all = args.stage == Stage::All;
    if matches!(args.stage, Stage::Kernels | Stage::Plan) {
        let planned = args.plan(bound)?;
        match args.stage {
            Stage::Kernels => kernels(&planned, out)?,
            _ => plan(&planned, out)?,
        }
        return Ok(Verdict::Passed);
    }
    let again = is_all.then(|| bound.clone());
    let import = format!("{:#}", bound.func());
    if is_all || args.stage == Stage::Import {
        headed(is_all, "import", &format!("{}{import}", loaded.open), out)?;
    }
    if args.stage == Stage::Import {
        return Ok(Verdict::Passed);
    }
    // Passes go on even if the reader has gone.
    let (mut last, mut outcome) = (import, Ok(()));
    let optimized = bound.optimize(|pass, func| {
        let text = format!("{func:#}");
        if outcome.is_ok() && (is_all || matches!(args.stage, Stage::Pass(name) if name == pass)) {
            let is_changed = text != last;
            outcome = headed(is_all, pass, if is_changed || !is_all { &text } else { "(unchanged)\n" }, out);
        }
        last = text;
    })?;
    outcome?;
    if args.stage == Stage::Optimized {
        write!(out, "{optimized:#}")?;
    }
    drop(optimized);
    if let Some(bound) = again {
        let planned = args.plan(bound)?;
        writeln!(out, "# stage: kernels")?;
        kernels(&planned, out)?;
        writeln!(out, "\n# stage: plan")?;
        plan(&planned, out)?;
    }
    Ok(Verdict::Passed)
}

fn headed(is_headed: bool, stage: &str, text: &str, out: &mut impl Write) -> Result<(), Error> {
    if is_headed {
        writeln!(out, "# stage: {stage}")?;
    }
    out.write_all(text.as_bytes())?;
    if is_headed {
        writeln!(out)?;
    }
    Ok(())
}

/// Each problem with the number of steps that it computes, in the order of the first of them.
fn kernels(network: &PlannedNetwork, out: &mut impl Write) -> Result<(), Error> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (at, problem) in network.steps().enumerate().filter_map(|(at, s)| Some((at, s.problem?.to_string()))) {
        counts.entry(problem).or_insert((at, 0)).1 += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, (first, _))| *first);
    for (problem, (_, steps)) in counts {
        writeln!(out, "{problem}  # {steps} step{}", if steps == 1 { "" } else { "s" })?;
    }
    Ok(())
}

/// Each step with the place of its result in the arena.
fn plan(network: &PlannedNetwork, out: &mut impl Write) -> Result<(), Error> {
    let memory = network.memory();
    writeln!(
        out,
        "# arena {} bytes, {} alive at once; packed weights {}, constants {}, code {}",
        memory.arena, memory.peak, memory.packed, memory.constants, memory.code
    )?;
    writeln!(out, "# step  offset      bytes       code")?;
    for (at, step) in network.steps().enumerate() {
        let bytes = step.memory.len();
        let over = if step.is_in_place { ", over an operand" } else { "" };
        let nodes = if step.nodes.is_empty() { String::new() } else { format!(", {}", step.layer) };
        writeln!(
            out,
            "{at:6}  {:<10}  {bytes:<10}  {:11} {}  # {}{nodes}{over}",
            step.memory.start,
            code_word(step.code),
            step.text,
            step.ty
        )?;
    }
    Ok(())
}

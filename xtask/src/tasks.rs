//! `cargo xtask tasks`: what the model of scaling says that each task of a kernel costs, beside the instructions that an emulated AArch64
//! processor executes for it.
//!
//! Both are relative to all tasks of the kernel's phase. Instructions are no cycles: most tasks of a kernel take equally many cycles for each,
//! and small tiles at edges take more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Result};

#[derive(clap::Args)]
pub struct TasksArgs {
    /// f32 problems, with or without a bias
    #[arg(default_values = PROBLEMS)]
    problems: Vec<String>,
    /// The target of the kernels, which the emulated processor must be able to run
    #[arg(long, default_value = "neoverse-v1")]
    target: String,
    /// The processor that qemu 7.2 emulates
    #[arg(long, default_value = "max,sve256=on")]
    cpu: String,
    /// Fail if a task's relative cost deviates by more, in percent of the mean task
    #[arg(long)]
    at_most: Option<f64>,
}

/// Kernels of BERT-base and ResNet-50, and others whose tiles do not divide them.
const PROBLEMS: [&str; 8] = [
    "ip f32 mb128ic768oc3072 +bias",
    "ip f32 mb128ic768oc3072 fpmath=bf16 +bias",
    "ip f32 mb100ic300oc1000 +bias",
    "ip f32 mb1ic2048oc1000 +bias",
    "conv f32 mb1ic64ih56oc64kh3ph1 stag=axb dtag=axb +bias+relu",
    "conv f32 mb1ic64ih56oc64kh3ph1 stag=axb dtag=axb fpmath=bf16 +bias+relu",
    "conv f32 mb1ic256ih14oc1024kh1 stag=axb dtag=axb +bias",
    "conv f32 mb1ic512ih7oc512kh3ph1 stag=axb dtag=axb +bias",
];

/// A task: predicted cycles, and instructions.
type Task = [f64; 2];

/// Counts and prints.
pub fn run(args: &TasksArgs) -> Result {
    let target = "aarch64-unknown-linux-gnu";
    let target_dir = process::target_dir().join("a64");
    std::fs::create_dir_all(&target_dir)?;
    let plugin = target_dir.join("marks.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tasks/marks.c");
    process::run(Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&plugin).arg(source))?;
    // The set-up's compiler for the target, in a shell that reads what it needs.
    let set_up = std::env::var_os("KILN_A64").map(PathBuf::from);
    let set_up = set_up.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/kiln/a64")));
    let set_up = set_up.map(|folder| folder.join("env.sh")).filter(|file| file.is_file());
    let set_up = set_up.ok_or("run tools/setup-aarch64.sh first")?;
    let build = format!("cargo build --locked --quiet --release --example tasks --target {target}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!(". \"$0\" && exec {build}")]).arg(set_up).current_dir(process::root());
    process::run(shell.env("CARGO_TARGET_DIR", &target_dir))?;
    let output = Command::new("/usr/bin/qemu-aarch64")
        .args(["-L", "/usr/aarch64-linux-gnu", "-cpu", &args.cpu, "-plugin"])
        .arg(&plugin)
        .arg(target_dir.join(target).join("release/examples/tasks"))
        .arg(&args.target)
        .args(&args.problems)
        .output()?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    if !output.status.success() {
        return Err(format!("the example failed: {err}").into());
    }
    let counted: BTreeMap<usize, f64> = err.lines().filter_map(counted).collect();
    println!(
        "| problem | phase's tasks | instructions | largest deviation | of a task with | and predicted | mean deviation |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let mut worst = 0.0f64;
    for (problem, phases) in phases(&out, &counted)? {
        for tasks in phases {
            let far = deviations(&tasks);
            worst = worst.max(far.largest);
            let count: f64 = tasks.iter().map(|t| t[1]).sum();
            let percent = |x: f64| format!("{:.1} %", 100.0 * x);
            let [largest, executed, predicted, mean] =
                [far.largest, far.executed, far.predicted, far.mean].map(percent);
            println!("| `{problem}` | {} | {count} | {largest} | {executed} | {predicted} | {mean} |", tasks.len());
        }
    }
    match args.at_most {
        Some(most) if worst * 100.0 > most => Err(format!("a task deviates by {:.1} %", worst * 100.0).into()),
        _ => Ok(()),
    }
}

/// A line of the plugin.
fn counted(line: &str) -> Option<(usize, f64)> {
    let (number, count) = line.strip_prefix("mark ")?.split_once(' ')?;
    Some((number.parse().ok()?, count.parse().ok()?))
}

/// The tasks of each phase of each problem, in order.
fn phases(out: &str, counted: &BTreeMap<usize, f64>) -> Result<Vec<(String, Vec<Vec<Task>>)>> {
    let mut all: Vec<(String, Vec<Vec<Task>>)> = vec![];
    let mut last = None;
    for line in out.lines() {
        let [number, problem, phase, cycles] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("an unexpected line: {line}").into());
        };
        let count = counted.get(&number.parse()?).ok_or_else(|| format!("mark {number} was not seen"))?;
        if all.last().is_none_or(|(known, _)| known != problem) {
            all.push((problem.into(), vec![]));
            last = None;
        }
        let (_, phases) = all.last_mut().ok_or("no problem")?;
        if last != Some(phase) {
            phases.push(vec![]);
            last = Some(phase);
        }
        phases.last_mut().ok_or("no phase")?.push([cycles.parse()?, *count]);
    }
    Ok(all)
}

/// The difference of the two costs of tasks, relative to the mean task.
struct Deviations {
    largest: f64,
    /// Of the task with the largest one.
    executed: f64,
    predicted: f64,
    mean: f64,
}

fn deviations(tasks: &[Task]) -> Deviations {
    let mean = |of: usize| tasks.iter().map(|t| t[of]).sum::<f64>() / tasks.len() as f64;
    let (cycles, instructions) = (mean(0), mean(1));
    let apart = |t: &Task| (t[0] / cycles - t[1] / instructions).abs();
    let worst = tasks.iter().max_by(|a, b| apart(a).total_cmp(&apart(b))).copied().unwrap_or([cycles, instructions]);
    Deviations {
        largest: apart(&worst),
        executed: worst[1] / instructions,
        predicted: worst[0] / cycles,
        mean: tasks.iter().map(apart).sum::<f64>() / tasks.len() as f64,
    }
}

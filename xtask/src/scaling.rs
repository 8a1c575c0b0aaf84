//! `cargo xtask scaling`: what `kiln model scale` predicts for several threads beside what networks take on this machine.
//!
//! Runs on one thread and on several take turns, each a process of its own, and the least time of each counts: what else the machine
//! does only adds.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::process::{self, Result, cargo};

#[derive(clap::Args)]
pub struct ScalingArgs {
    /// The networks
    #[arg(default_values = ["resnet50", "bert", "distilbert"])]
    networks: Vec<String>,
    /// The number of threads that is compared with one
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Processes on each number of threads
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Measured runs in each
    #[arg(long, default_value_t = 10)]
    runs: usize,
}

/// The used part of the output of `kiln model bench --json`.
#[derive(Deserialize)]
struct Bench {
    min_ns: f64,
    latency_ns: f64,
}

/// The used part of the output of `kiln model scale --json`.
#[derive(Deserialize)]
struct Scale {
    target: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    speedup: f64,
}

/// Measures and prints.
pub fn run(args: &ScalingArgs) -> Result {
    process::run(&mut cargo("build --locked --quiet --release --package kiln-compiler-cli"))?;
    let kiln = process::target_dir().join("release/kiln");
    let threads = args.threads.to_string();
    println!(
        "| network, {threads} threads | target | 1 thread | {threads} | measured | of medians | predicted | deviation |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    for network in &args.networks {
        let scale: Scale = json(&kiln, &["model", "scale", network, "--threads", &threads, "--json", "--quiet"])?;
        let [row] = &scale.rows[..] else { return Err("expected one row".into()) };
        let (mut least, mut medians) = ([f64::INFINITY; 2], [f64::INFINITY; 2]);
        for _ in 0..args.rounds {
            for (at, threads) in ["1", &threads].into_iter().enumerate() {
                let runs = args.runs.to_string();
                let bench = ["model", "bench", network, "--threads", threads, "--repeat", &runs, "--json", "--quiet"];
                let bench: Bench = json(&kiln, &bench)?;
                least[at] = least[at].min(bench.min_ns);
                medians[at] = medians[at].min(bench.latency_ns);
            }
        }
        let [measured, of_medians] = [least, medians].map(|[one, several]| one / several);
        println!(
            "| {network} | {} | {:.2} ms | {:.2} ms | {measured:.2} | {of_medians:.2} | {:.2} | {:+.1} % |",
            scale.target,
            least[0] / 1e6,
            least[1] / 1e6,
            row.speedup,
            100.0 * (row.speedup / measured - 1.0)
        );
    }
    Ok(())
}

fn json<T: serde::de::DeserializeOwned>(kiln: &Path, args: &[&str]) -> Result<T> {
    let output = process::output(Command::new(kiln).args(args), "")?;
    Ok(serde_json::from_str(&output).map_err(|e| e.to_string())?)
}

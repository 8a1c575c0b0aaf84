//! `cargo xtask figures`: what getting kernels costs a program that starts, what finding them costs afterwards, and what dividing a call
//! among two threads costs.
//!
//! Each sample of the first two is a process of its own, so that nothing is warm that would not be. The kinds of start take turns, and the least of
//! each counts: what else the machine does only adds.

use std::hint;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kiln_team::{Settings, Team};
use serde::Deserialize;

use crate::process::{self, Result, cargo};

/// The lists that are measured, in xtask/lists.
const LISTS: [(&str, &str); 2] = [("BERT-base, 128 tokens", "bert-base"), ("ResNet-50, one image", "resnet50")];

#[derive(clap::Args)]
pub struct FiguresArgs {
    /// Processes of each kind
    #[arg(long, default_value_t = 15)]
    samples: usize,
    /// Only the cost of dividing a call among threads
    #[arg(long)]
    threads: bool,
}

/// The used part of the output of `kiln warm --json`.
#[derive(Deserialize)]
struct Report {
    target: String,
    problems: usize,
    unpacked: u64,
    build_ns: f64,
    warm_ns: f64,
    code_bytes: usize,
    resident_bytes: usize,
    hit_ns: f64,
    hit_cycles: Option<f64>,
    hits_per_second: [f64; 2],
}

/// Measures and prints.
pub fn run(args: &FiguresArgs) -> Result {
    if args.threads {
        return fork_and_join();
    }
    process::run(&mut cargo("build --locked --quiet --release --package kiln-compiler-cli"))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let kiln = target.join("release/kiln");
    let folder = std::env::temp_dir().join(format!("kiln-figures-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let measured = measure(&kiln, &folder, args.samples);
    let _ = std::fs::remove_dir_all(&folder);
    measured?;
    fork_and_join()
}

/// The time that two threads take to begin and end a step of nothing, in which they meet, so that neither does it all.
fn fork_and_join() -> Result {
    let begun = AtomicUsize::new(0);
    let meet = || {
        let both = begun.fetch_add(1, Ordering::Relaxed) / 2 * 2 + 2;
        while begun.load(Ordering::Relaxed) < both {
            hint::spin_loop();
        }
    };
    println!("\nA fork and join of two threads\n\n| | least | median |\n|---|--:|--:|");
    let awake = Duration::from_millis(1);
    let kinds = [
        ("awake", awake, Duration::ZERO, 100_000),
        ("asleep", Duration::ZERO, Duration::from_millis(2), 500),
        ("a step that the calling thread does alone", awake, Duration::ZERO, 100_000),
    ];
    for (at, (title, spin, pause, count)) in kinds.into_iter().enumerate() {
        let settings = Settings { members: 1, spin, name: "figures".into() };
        let team = Team::start(&settings).map_err(|e| e.to_string())?;
        let is_alone = at == 2;
        let mut times: Vec<Duration> = (0..count)
            .map(|_| {
                if !pause.is_zero() {
                    thread::sleep(pause);
                }
                let start = Instant::now();
                match is_alone {
                    true => team.run(2, 1, &|_| {}),
                    false => team.run(2, 2, &|_| meet()),
                }
                start.elapsed()
            })
            .collect();
        times.sort();
        let us = |time: Duration| format!("{:.2} µs", time.as_secs_f64() * 1e6);
        println!("| {title} | {} | {} |", us(times[0]), us(times[times.len() / 2]));
    }
    Ok(())
}

fn measure(kiln: &Path, folder: &Path, samples: usize) -> Result {
    for (title, list) in LISTS {
        let batch = format!("xtask/lists/{list}.txt");
        let pack = folder.join(format!("{list}.pack"));
        process::run(Command::new(kiln).args(["pack", "build"]).arg(&pack).args(["--packed", "--batch", &batch]))?;
        let pack = pack.to_string_lossy().into_owned();
        let kinds: [&[&str]; 3] = [&[], &["--threads", "2"], &["--pack", &pack]];
        let mut best: [Option<Report>; 3] = [None, None, None];
        for _ in 0..samples {
            for (kind, best) in kinds.iter().zip(&mut best) {
                let report = warm(kiln, &batch, kind)?;
                if best.as_ref().is_none_or(|b| report.build_ns + report.warm_ns < b.build_ns + b.warm_ns) {
                    *best = Some(report);
                }
            }
        }
        let [Some(cold), Some(two), Some(unpacked)] = &best else { return Err("no samples were asked for".into()) };
        print(title, cold, two, unpacked);
    }
    Ok(())
}

fn warm(kiln: &Path, batch: &str, kind: &[&str]) -> Result<Report> {
    let output = Command::new(kiln).args(["warm", "--json", "--packed", "--batch", batch]).args(kind).output();
    let output = output.map_err(|e| format!("{}: {e}", kiln.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?)
}

fn print(title: &str, cold: &Report, two: &Report, unpacked: &Report) {
    let ms = |ns: f64| format!("{:.2} ms", ns / 1e6);
    println!("\n{title}: {} problems @{}\n", cold.problems, cold.target);
    println!("| | |\n|---|--:|");
    println!("| compiled cold, one thread | {} |", ms(cold.warm_ns));
    println!("| compiled cold, two threads | {} |", ms(two.warm_ns));
    println!("| from a pack ({} of them) | {} |", unpacked.unpacked, ms(unpacked.warm_ns));
    println!("| making the runtime; reading the pack as well | {}; {} |", ms(cold.build_ns), ms(unpacked.build_ns));
    println!("| cold, for each kernel | {} |", ms(cold.warm_ns / cold.problems as f64));
    println!(
        "| code of a kernel; memory of it | {} bytes; {} |",
        cold.code_bytes / cold.problems,
        cold.resident_bytes / cold.problems
    );
    let cycles = cold.hit_cycles.map_or(String::new(), |c| format!(", {c:.0} cycles"));
    println!("| a hit | {:.1} ns{cycles} |", cold.hit_ns);
    let [one, both] = cold.hits_per_second;
    println!(
        "| hits a second, one thread; two | {:.1} million; {:.1} ({:.2} times) |",
        one / 1e6,
        both / 1e6,
        both / one
    );
}

//! One network for sequences of any length: `cargo run --release -p kiln-model --example sequences -- [NETWORK] [LENGTH...]`.
//!
//! NETWORK is a built-in network (default: bert), which is compiled once. It is then called with sequences of each length
//! (default: 7, 25, 77, 128 and 200). The first call of a length must not wait for a compilation. After several calls, kernels
//! for that length are compiled in the background. At the end, networks that are compiled for one length each show how much
//! faster these are.
//!
//! The exit code is 1 if a first call compiled a kernel, or the results of the two networks differ.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use kiln_jit::Runtime;
use kiln_model::arch::{ArchOptions, Architecture};
use kiln_model::report::Agreement;
use kiln_model::{Bound, Flexible, ModelError, OpenDim, Tensor};

/// Calls for each length; the fastest is reported as the steady time.
const CALLS: usize = 5;
/// The tolerance for the results of the two networks, as a fraction of the largest element.
const TOLERANCE: f64 = 1e-4;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0} takes images: expected a network of sequences, such as bert or bert-tiny")]
    NoSequences(Architecture),
    #[error("`{0}`: expected the length of a sequence")]
    Length(String),
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the comparison; true if no first call compiled a kernel and all results agree.
fn run(words: Vec<String>) -> Result<bool, Box<dyn Error>> {
    let (name, lengths) = words.split_first().map_or(("bert", &[][..]), |(name, rest)| (name.as_str(), rest));
    let architecture: Architecture = name.parse()?;
    let longest = architecture.max_seq().ok_or(Failure::NoSequences(architecture))?;
    let lengths: Result<Vec<u64>, Failure> =
        lengths.iter().map(|word| word.parse().map_err(|_| Failure::Length(word.clone()))).collect();
    let lengths = match lengths? {
        none if none.is_empty() => vec![7, 25, 77, 128, 200],
        some => some,
    };
    let options = |length| ArchOptions { batch: 1, seq: Some(length) };
    // Also checks all lengths.
    let inputs: Vec<Vec<Tensor>> =
        lengths.iter().map(|length| architecture.sample_inputs(&options(*length))).collect::<Result<_, _>>()?;

    let runtime = Runtime::builder().build()?;
    println!("{architecture} on {}, {} threads; {}", runtime.target(), runtime.threads(), resident());
    let begin = Instant::now();
    let dims = [OpenDim::sequence(1..=longest)];
    let network =
        Flexible::compile(&runtime, &dims, |sizes| Bound::from_architecture(architecture, &options(sizes[0])))?;
    let compiled = runtime.stats().kernels.compilations;
    println!("compiled for up to {longest} tokens in {:.0} ms; {}", milliseconds(begin), resident());

    println!("length   first ms  second ms   exact ms");
    let (mut waited, mut results) = (0, vec![]);
    for (length, inputs) in lengths.iter().zip(&inputs) {
        // Kernels for lengths before this one are done, so what is compiled in this call is for this call.
        network.wait_for_compilation();
        let before = runtime.stats().kernels.compilations;
        let begin = Instant::now();
        results.push(network.run(inputs)?);
        let first = milliseconds(begin);
        waited += runtime.stats().kernels.compilations - before;
        let begin = Instant::now();
        network.run(inputs)?;
        let second = milliseconds(begin);
        // The third call asks for kernels of this length alone.
        network.run(inputs)?;
        network.wait_for_compilation();
        let exact = fastest(|| network.run(inputs))?;
        println!("{length:6} {first:10.2} {second:10.2} {exact:10.2}");
    }
    let stats = network.stats();
    println!("{waited} kernels compiled in first calls");
    println!("{} families, {} KiB of their general code", stats.families, stats.general_bytes / 1024);
    println!(
        "{} plans; {compiled} kernels compiled with the network, {} for lengths",
        stats.plans, stats.exact_kernels
    );
    println!("{} arena, {} packed weights; {}", mib(stats.arena_bytes), mib(runtime.stats().packed_bytes), resident());

    println!("length   alone ms: a network for this length alone; differences from it");
    let mut worst = 0.0f64;
    for ((length, inputs), flexible) in lengths.iter().zip(&inputs).zip(&results) {
        let alone = Bound::from_architecture(architecture, &options(*length))?.compile(&runtime)?;
        let expected = alone.run(inputs)?;
        let differences = flexible
            .iter()
            .zip(&expected)
            .map(|(result, expected)| Agreement::of(expected.ty(), &result.to_f64(), &expected.to_f64()).relative());
        let difference = differences.fold(0.0, f64::max);
        println!("{length:6} {:10.2} {difference:10.1e}", fastest(|| alone.run(inputs))?);
        worst = worst.max(difference);
    }
    Ok(waited == 0 && worst <= TOLERANCE)
}

/// Milliseconds of the fastest of some calls.
fn fastest(mut call: impl FnMut() -> Result<Vec<Tensor>, ModelError>) -> Result<f64, ModelError> {
    (0..CALLS).try_fold(f64::INFINITY, |best, _| {
        let begin = Instant::now();
        call()?;
        Ok(best.min(milliseconds(begin)))
    })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The memory of the process, if the operating system says it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let kib = line.and_then(|kib| kib.parse::<usize>().ok());
    kib.map_or("resident memory is not known here".into(), |kib| format!("{} resident", mib(kib * 1024)))
}

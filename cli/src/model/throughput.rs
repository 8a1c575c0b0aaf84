//! `kiln model bench --best-throughput`: how many streams of how many threads compute the most items in a second.

use std::io::Write;

use kiln_model::Tensor;
use serde::Serialize;

use super::compiled::CompileArgs;
use super::network::Loaded;
use super::streams::Workload;
use crate::error::Error;
use crate::timing::show_ns;
use crate::verdict::Verdict;

#[derive(Debug, Serialize)]
struct Report {
    network: String,
    target: String,
    /// The most of all streams together: as many as the environment says, else as there are processors that the process may use.
    threads: usize,
    fpmath: String,
    inputs: Vec<String>,
    pairs: Vec<Pair>,
    /// The pair with the most throughput.
    best: Pair,
}

#[derive(Clone, Debug, Serialize)]
struct Pair {
    streams: usize,
    /// The threads of each stream.
    threads: usize,
    /// Of all streams together.
    items_per_second: f64,
    /// Median, nanoseconds.
    latency_ns: f64,
    p90_ns: f64,
    p99_ns: f64,
    min_ns: f64,
    runs: usize,
}

/// Measures a network on pairs of streams and threads, each of which is compiled for a runtime of its own. `workload` says how, for a
/// number of streams.
pub fn compare(
    mut loaded: Loaded,
    args: &CompileArgs,
    workload: impl Fn(usize) -> Workload,
    json: bool,
    out: &mut impl Write,
) -> Result<Verdict, Error> {
    let most = kiln_jit::default_threads()?;
    let mut report: Option<Report> = None;
    let mut written = None;
    // Results depend on neither streams nor threads.
    let mut expected: Option<Vec<Tensor>> = None;
    for (streams, threads) in pairs(most) {
        // Only one is in memory at a time.
        let compiled = args.compile_on(loaded.take()?, args.builder().threads(threads).streams(streams))?;
        let network = &compiled.network;
        let results = network.run(&loaded.inputs)?;
        let expected = expected.get_or_insert(results);
        let measured = workload(streams).measure(expected, &|| Ok(network.run(&loaded.inputs)?))?;
        let pair = Pair {
            streams,
            threads,
            items_per_second: loaded.items as f64 * measured.calls_per_second,
            latency_ns: measured.percentile(0.5),
            p90_ns: measured.percentile(0.9),
            p99_ns: measured.percentile(0.99),
            min_ns: measured.min(),
            runs: measured.runs(),
        };
        let report = report.get_or_insert_with(|| Report {
            network: loaded.name.clone(),
            target: compiled.runtime.target().to_string(),
            threads: most,
            fpmath: compiled.fpmath(),
            inputs: network.inputs().map(|(name, ty)| format!("{name}: {ty}")).collect(),
            pairs: vec![],
            best: pair.clone(),
        });
        if pair.items_per_second > report.best.items_per_second {
            report.best = pair.clone();
        }
        report.pairs.push(pair);
        written = written.or(compiled.written);
    }
    let report = report.expect("there is a pair of one stream");
    if json {
        writeln!(out, "{}", serde_json::to_string(&report).map_err(|e| Error::File(e.into()))?)?;
        return Ok(Verdict::Passed);
    }
    print(&report, out)?;
    if let Some(file) = written {
        writeln!(out, "  pack       {} was written", file.display())?;
    }
    Ok(Verdict::Passed)
}

/// Streams and threads of so many threads in all: 1, 2, 4 threads and so on, each with as many streams as there are threads for, and
/// one stream of all of them.
fn pairs(most: usize) -> impl Iterator<Item = (usize, usize)> {
    let powers = std::iter::successors(Some(1), |threads| Some(2 * threads)).take_while(move |n| *n < most);
    powers.map(move |threads| (most / threads, threads)).filter(|(streams, _)| *streams > 1).chain([(1, most)])
}

fn print(r: &Report, out: &mut impl Write) -> Result<(), Error> {
    let plural = if r.threads == 1 { "" } else { "s" };
    writeln!(out, "{} @{}, {} thread{plural} in all, fpmath {}", r.network, r.target, r.threads, r.fpmath)?;
    writeln!(out, "  inputs     {}", r.inputs.join(", "))?;
    writeln!(out, "  streams  threads       items/s      median         p99")?;
    for pair in &r.pairs {
        writeln!(
            out,
            "  {:>7}  {:>7}  {:>12.2}  {:>10}  {:>10}",
            pair.streams,
            pair.threads,
            pair.items_per_second,
            show_ns(pair.latency_ns),
            show_ns(pair.p99_ns)
        )?;
    }
    writeln!(out, "  most throughput: --streams {} --threads {}", r.best.streams, r.best.threads)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_use_all_threads() {
        let of = |most| pairs(most).collect::<Vec<_>>();
        assert_eq!(of(1), [(1, 1)]);
        assert_eq!(of(2), [(2, 1), (1, 2)]);
        assert_eq!(of(6), [(6, 1), (3, 2), (1, 6)]);
        assert_eq!(of(8), [(8, 1), (4, 2), (2, 4), (1, 8)]);
        assert!((1..200).all(|n| pairs(n).all(|(streams, threads)| streams * threads <= n)));
    }
}

//! `kiln bench`, and its line protocol.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::onnx_file::network_of;
use crate::{SMALL, command, kiln};

#[test]
fn prints_and_writes_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figures.json");
    kiln(&["bench", SMALL, "--min-ms", "1", "--json", path.to_str().unwrap()])
        .exits(0)
        .says("  compile    ")
        .says("  cache hit  ")
        .says("  unchecked  ")
        .says("% of the peak of");
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let [report] = &json.as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!(report["problem"], SMALL);
    for figure in ["compile_ns", "hit_ns", "call_ns", "unchecked_ns", "gflops", "peak_gflops", "fraction_of_peak"] {
        let value = report[figure].as_f64().unwrap();
        assert!(value.is_finite() && value > 0.0, "{figure}: {value}");
    }
    kiln(&["bench", "ip bf16 mb64ic128oc96", "--packed", "--min-ms", "1"]).exits(0).says("  weights    packed, ");
    kiln(&["bench", SMALL, "--min-ms", "1", "--json", "/nonexistent/f.json"]).refuses(&["/nonexistent/f.json"]);
}

/// Element `i` of an operand, as the protocol defines it.
fn fill(i: u64, seed: u64) -> f64 {
    let x = i.wrapping_mul(2654435761).wrapping_add(seed * 40503);
    ((x >> 7 & 15) as f64 - 8.0) / 8.0
}

/// The checksum of `C = A B`, of `A B^T` for `ip`, with all sums exact.
fn checksum(op: &str, m: u64, n: u64, k: u64) -> f64 {
    let weight = |l, j| if op == "ip" { fill(j * k + l, 2) } else { fill(l * n + j, 2) };
    let element = |i, j| (0..k).map(|l| fill(i * k + l, 1) * weight(l, j)).sum::<f64>();
    (0..m * n).map(|c| element(c / n, c % n) * (c % 61 + 1) as f64).sum()
}

/// The checksum of a convolution of one image in NCHW order, three by three taps, stride 2 and padding 1, in two groups.
fn convolution_checksum(channels: u64, size: u64, outputs: u64) -> f64 {
    let (inputs, side) = (channels / 2, (size - 1) / 2 + 1);
    let source = |c: u64, y: i64, x: i64| match (u64::try_from(y), u64::try_from(x)) {
        (Ok(y), Ok(x)) if y < size && x < size => fill((c * size + y) * size + x, 1),
        _ => 0.0,
    };
    let element = |o: u64, y: u64, x: u64| {
        let taps = (0..inputs).flat_map(|c| (0..9).map(move |t| (c, t / 3, t % 3)));
        taps.map(|(c, v, u)| {
            let group = o / (outputs / 2);
            let at = |base: u64, tap: u64| (2 * base + tap) as i64 - 1;
            source(group * inputs + c, at(y, v), at(x, u)) * fill(((o * inputs + c) * 3 + v) * 3 + u, 2)
        })
        .sum::<f64>()
    };
    let pixels = side * side;
    (0..outputs * pixels).map(|i| element(i / pixels, i % pixels / side, i % side) * (i % 61 + 1) as f64).sum()
}

fn dialogue(threads: &str) {
    let mut command = command();
    command.args(["bench", "--worker", threads]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut read = || output.next().expect("an answer").unwrap();
    assert_eq!(read(), "ready");
    let mut ask = |line: &str| {
        writeln!(input, "{line}").unwrap();
        read()
    };

    assert!(ask("run 1000").starts_with("no "));
    for (op, m, n, k) in [("gemm", 5, 7, 3), ("linear", 64, 96, 32), ("ip", 64, 96, 32), ("gemm", 1, 1, 1)] {
        let answer = ask(&format!("prep {op} {m} {n} {k}"));
        let fields = answer.strip_prefix("ok ").unwrap_or_else(|| panic!("{answer}"));
        let fields: Vec<(&str, f64)> =
            fields.split(' ').map(|f| f.split_once('=').unwrap()).map(|(n, v)| (n, v.parse().unwrap())).collect();
        let names: Vec<&str> = fields.iter().map(|f| f.0).collect();
        assert_eq!(
            names,
            ["create_ns", "create_cyc", "first_ns", "first_cyc", "again_ns", "again_cyc", "sum"],
            "{answer}"
        );
        assert!(fields[0].1 > 0.0 && fields[2].1 > 0.0 && fields[4].1 > 0.0, "{answer}");
        assert_eq!(fields[6].1, checksum(op, m, n, k), "{answer}");

        let answer = ask("run 200000");
        let numbers: Vec<i64> = answer.split(' ').map(|n| n.parse().unwrap()).collect();
        let [calls, ns, user, all] = numbers[..] else { panic!("{answer}") };
        assert!(calls >= 1 && ns >= 200_000 && user >= -1 && all >= -1, "{answer}");
    }
    for op in ["conv", "convn", "convp"] {
        let answer = ask(&format!("prep {op} 1 6 9 9 10 3 3 2 1 2"));
        let sum: f64 = answer.split("sum=").nth(1).unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
        assert_eq!(sum, convolution_checksum(6, 9, 10), "{op}");
        assert_eq!(ask("run 1000").split(' ').count(), 4);
    }
    for line in ["prep conv 1 2 3", "prep", "prep gemm 1 2", "prep gemm 1 2 x", "prep gemm 0 1 1", "run", "hello"] {
        assert!(ask(line).starts_with("no "), "{line}");
    }
    // What could not be prepared left nothing behind, and the worker goes on.
    assert!(ask("run 1").starts_with("no "));
    assert!(ask("prep gemm 2 2 2").starts_with("ok "));
    assert!(ask("prep ip_bias_gelu 3 4 5").starts_with("ok "));
    writeln!(input, "quit").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_worker_answers_as_the_protocol_says() {
    dialogue("1");
}

#[test]
fn with_threads_too() {
    dialogue("2");
}

#[test]
fn the_worker_calls_whole_networks() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.onnx"), network_of("2", "Relu")).unwrap();
    std::fs::write(folder.path().join("open.onnx"), network_of("batch", "Relu")).unwrap();
    let lines = "prep model small\nrun 1000\nprep model open\nrun 1\nprep model none\nprep model ../x\nprep model\n";
    let mut command = command();
    command.args(["bench", "--worker", "1"]).env("PEER_MODELS", folder.path());
    let output = output_of(command, lines);
    let answers: Vec<&str> = output.lines().collect();
    let x: Vec<f64> = (0..6).map(|i| fill(i, 1)).collect();
    let y = [x[0] - x[1], x[1] - x[2], x[3] - x[4], x[4] - x[5]].map(|v| v.max(0.0));
    let sum: f64 = y.iter().zip(1..).map(|(y, i)| y * f64::from(i)).sum();
    assert!(answers[1].starts_with("ok create_ns=") && answers[1].contains(" again_ns=-1 again_cyc=-1"), "{output}");
    assert!(answers[1].ends_with(&format!(" sum={sum:?}")), "{output} {sum}");
    assert_eq!(answers[2].split(' ').count(), 4, "{output}");
    for (answer, words) in answers[3..].iter().zip(["`batch`", "nothing", "none.onnx", "`../x`", "name of a network"]) {
        assert!(answer.starts_with("no ") && answer.contains(words), "{answer}");
    }
    let mut command = self::command();
    command.args(["bench", "--worker", "1"]).env_remove("PEER_MODELS");
    assert!(output_of(command, "prep model small\n").contains("no PEER_MODELS is not set"));
}

/// The output of the tool for these lines of input.
fn output_of(mut command: std::process::Command, lines: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn the_end_of_the_input_ends_the_worker() {
    kiln(&["bench", "--worker", "1"]).exits(0).says("ready\n");
}

/// Threads beyond the processors compute nothing more.
#[test]
fn the_peak_is_that_of_the_processors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figures.json");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let peak = |threads: usize| {
        let threads = threads.to_string();
        let args = ["bench", SMALL, "--min-ms", "1", "--json", path.to_str().unwrap(), "--threads", &threads];
        kiln(&args).exits(0);
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        json[0]["peak_gflops"].as_f64().unwrap()
    };
    // Other programs may have slowed down one of them.
    let (one, many) = (peak(1), peak(16 * processors));
    assert!(many < 8.0 * processors as f64 * one, "{one} {many}");
}

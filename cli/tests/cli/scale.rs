//! `kiln model scale`.

use crate::{FOREIGN, SMALL, kiln};

fn json(args: &[&str]) -> serde_json::Value {
    let out = kiln(&[&["model", "scale"], args, &["--json", "--quiet"]].concat()).exits(0);
    serde_json::from_str(&out.stdout).unwrap()
}

/// The row for so many threads.
fn row(report: &serde_json::Value, threads: u64) -> &serde_json::Value {
    report["rows"].as_array().unwrap().iter().find(|row| row["threads"] == threads).unwrap()
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn networks_are_predicted_for_other_machines() {
    let report = json(&["bert-tiny", "--seq", "9", "--target", FOREIGN, "--threads", "1,2,16"]);
    assert_eq!((&report["network"], &report["target"]), (&"bert-tiny".into(), &FOREIGN.into()));
    assert_eq!((&report["fpmath"], &report["model"]), (&"strict".into(), &true.into()));
    assert_eq!(report["rows"].as_array().unwrap().len(), 3);
    let one = number(&row(&report, 1)["mcycles"]);
    for row in report["rows"].as_array().unwrap() {
        let threads = number(&row["threads"]);
        assert!((number(&row["mcycles"]) * number(&row["speedup"]) / one - 1.0).abs() < 1e-9);
        assert!((number(&row["efficiency"]) * threads / number(&row["speedup"]) - 1.0).abs() < 1e-9);
        assert!(number(&row["ms"]) > 0.0);
        assert_eq!(row["more_than_cores"], false);
        let limits = row["lost_mcycles"].as_object().unwrap();
        let names: Vec<&str> = limits.keys().map(String::as_str).collect();
        for name in ["imbalance", "barrier", "bandwidth", "serial", "copies"] {
            assert!(names.contains(&name), "{row}");
        }
        let lost: f64 = limits.values().map(number).sum();
        assert!((number(&row["mcycles"]) - one / threads - lost).abs() < 1e-9 * one, "{row}");
        let worst = row["worst"].as_array().unwrap();
        assert_eq!(worst.len(), if threads > 1.0 { 5 } else { 0 });
        // Both layers are one line.
        assert_eq!(worst.iter().any(|step| step["steps"].as_u64() > Some(1)), threads > 1.0, "{row}");
        assert!(worst.windows(2).all(|pair| number(&pair[0]["lost_mcycles"]) >= number(&pair[1]["lost_mcycles"])));
        assert!(worst.iter().all(|step| names.contains(&step["limit"].as_str().unwrap())));
        assert!(worst.iter().all(|step| step["layer"].is_string() && step["operation"].is_string()));
    }
    let bf16 = json(&["bert-tiny", "--target", "neoverse-v1", "--fpmath", "bf16", "--threads", "2"]);
    assert_eq!(bf16["fpmath"], "bf16");
    kiln(&["model", "scale", "bert-tiny", "--target", "neoverse-v1", "--quiet"])
        .exits(0)
        .says("a model, not a measurement: caches, 64 cores and clock (2.6 GHz) of Graviton3, which stands for neoverse-v1")
        .says("speed-up")
        .says("  2 x ")
        .says(" each  ")
        .says("steps that lose most on 64 threads");
}

#[test]
fn problems_are_predicted() {
    let problem = "ip f32 mb128ic768oc3072 +bias";
    let report = json(&[problem, "--packed", "--target", "neoverse-v1", "--threads", "64,1,16"]);
    assert_eq!(report["network"], problem);
    let order: Vec<u64> =
        report["rows"].as_array().unwrap().iter().map(|row| row["threads"].as_u64().unwrap()).collect();
    assert_eq!(order, [64, 1, 16]);
    assert!(number(&row(&report, 16)["speedup"]) > 13.0, "{report}");
    assert_eq!(row(&report, 64)["worst"][0]["operation"], problem);
    // Too little work for two threads.
    let small = json(&[SMALL, "--target", "neoverse-v1", "--threads", "64"]);
    assert!(number(&row(&small, 64)["speedup"]) < 1.01, "{small}");
    assert_eq!(row(&small, 64)["worst"][0]["limit"], "serial");
    let own = json(&["ip f32 mb128ic768oc3072 fpmath=bf16", "--target", "neoverse-v1", "--threads", "1"]);
    assert_eq!(own["fpmath"], "bf16");
}

/// The figures of a line of text for so many threads.
fn line<'a>(text: &'a str, threads: &str) -> Vec<&'a str> {
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.into_iter().find(|words| words.first() == Some(&threads)).unwrap_or_default()
}

#[test]
fn text_has_units_that_suit_and_names_a_problem_once() {
    let scale = |args: &[&str]| kiln(&[&["model", "scale"], args, &["--target", "neoverse-n1"]].concat()).exits(0);
    let small = scale(&["matmul f32 2x3:3x4", "--threads", "1, 2,2,1", "--fpmath", "bf16"]).stdout;
    let one = line(&small, "1");
    assert!(["cycles", "kcycles"].contains(&one[2]) && ["ns", "us"].contains(&one[4]), "{small}");
    assert!(one[1] != "0" && small.lines().filter(|line| line.contains(" % ")).count() == 2, "{small}");
    assert!(small.contains("fpmath bf16 (without effect: the target has no BF16 instructions"), "{small}");
    let large = scale(&["ip f32 mb128ic768oc3072 +bias", "--threads", "1,64"]).stdout;
    assert_eq!((line(&large, "1")[2], line(&large, "1")[4]), ("Mcycles", "ms"), "{large}");
    let (_, worst) = large.split_once("steps that lose most on 64 threads").unwrap();
    assert_eq!(worst.matches("ip f32 mb128ic768oc3072 +bias").count(), 1, "{large}");
    kiln(&["model", "scale", "--help"]).exits(0).says("or a problem").says("a chip that stands for the target");
}

#[test]
fn a_file_with_a_problem_is_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.kiln");
    std::fs::write(&file, "func @f(%x: f32[2x3], %w: f32[3x4]) -> f32[2x4] {\n %0 = matmul %x, %w\n return %0\n}\n")
        .unwrap();
    assert_eq!(json(&[file.to_str().unwrap(), "--threads", "1"])["network"], "matmul f32 2x3:3x4");
    std::fs::write(&file, "nothing").unwrap();
    kiln(&["model", "scale", file.to_str().unwrap()]).refuses(&["a.kiln"]);
    kiln(&["model", "scale", "none.kiln"]).refuses(&["none.kiln", "No such file"]);
}

#[test]
fn threads_beyond_the_cores_are_no_faster() {
    let args = ["bert-tiny", "--seq", "33", "--target", "neoverse-n1", "--threads", "64,65,128,1000,1001,1024"];
    let report = json(&args);
    assert_eq!(report["cores"], 64);
    let rows = report["rows"].as_array().unwrap();
    let cycles: Vec<f64> = rows.iter().map(|row| number(&row["mcycles"])).collect();
    assert!(cycles.is_sorted() && cycles[5] < 2.0 * cycles[0], "{cycles:?}");
    for row in rows {
        assert_eq!(row["more_than_cores"], row["threads"].as_u64() > Some(64), "{row}");
        assert!(number(&row["speedup"]) <= 64.0, "{row}");
    }
    let text = kiln(&[&["model", "scale", "--quiet"], &args[..]].concat()).exits(0).stdout;
    assert_eq!(text.matches("  more threads than cores\n").count(), 5, "{text}");
}

/// The speed-up that a version of the compiler or of the threads must not lose.
#[test]
fn large_networks_scale_to_sixteen_threads() {
    for network in ["resnet50", "bert"] {
        let report = json(&[network, "--target", "neoverse-v1", "--threads", "1,2,4,8,16"]);
        let speedups: Vec<f64> = report["rows"].as_array().unwrap().iter().map(|row| number(&row["speedup"])).collect();
        assert!(speedups[0] == 1.0 && speedups.windows(2).all(|pair| pair[0] < pair[1]), "{network}: {speedups:?}");
        assert!(speedups[4] >= 12.0 && speedups[4] <= 16.0, "{network}: {speedups:?}");
    }
}

#[test]
fn bad_questions_are_refused() {
    let scale = |args: &[&str]| kiln(&[&["model", "scale"], args].concat());
    for threads in ["0", "1025", "1,0", "", "1,", "1,,2", "two", "-1"] {
        let expected = ["--threads", "expected numbers from 1 to 1024 with commas between them"];
        scale(&["bert-tiny", &format!("--threads={threads}")]).refuses(&expected);
        scale(&["bert-tiny", "--threads", threads]).refuses(&expected);
    }
    for free in ["ip f32 mb?ic768oc3072", "matmul f32 ?x3:3x4", "conv f32 mb?ic3ih9oc4kh3"] {
        scale(&[free]).refuses(&["`?` stands for a free number, which is for families of kernels (`kiln family`)"]);
    }
    scale(&["bert-tiny", "--target", "neoverse-v9"]).refuses(&["neoverse-v9", "neoverse-v1"]);
    scale(&["resnet51"]).refuses(&["`resnet51`", "resnet50"]);
    scale(&["matmul f32 2x3:4x5"]).refuses(&["inner dimensions"]);
    scale(&["matmul f32"]).refuses(&["matmul"]);
    scale(&["none.onnx"]).refuses(&["none.onnx", "No such file"]);
    scale(&["bert-tiny", "--packed"]).refuses(&["--packed", "is for problems"]);
    for (option, value) in [("--batch", "2"), ("--seq", "3"), ("--dim", "n=3"), ("--input", "x.npy")] {
        scale(&[SMALL, option, value]).refuses(&[option, "is for networks"]);
    }
    scale(&["bert-tiny", "--fpmath", "half"]).refuses(&["half", "strict"]);
}

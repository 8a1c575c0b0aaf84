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
        let limits = row["limits"].as_object().unwrap();
        let names: Vec<&str> = limits.keys().map(String::as_str).collect();
        for name in ["imbalance", "barrier", "bandwidth", "serial", "copies"] {
            assert!(names.contains(&name), "{row}");
        }
        let lost: f64 = limits.values().map(number).sum();
        assert!((number(&row["mcycles"]) - one / threads - lost).abs() < 1e-9 * one, "{row}");
        let worst = row["worst"].as_array().unwrap();
        assert_eq!(worst.len(), if threads > 1.0 { 5 } else { 0 });
        assert!(worst.windows(2).all(|pair| number(&pair[0]["lost_mcycles"]) >= number(&pair[1]["lost_mcycles"])));
        assert!(worst.iter().all(|step| names.contains(&step["limit"].as_str().unwrap())));
        assert!(worst.iter().all(|step| step["layer"].is_string() && step["operation"].is_string()));
    }
    let bf16 = json(&["bert-tiny", "--target", "neoverse-v1", "--fpmath", "bf16", "--threads", "2"]);
    assert_eq!(bf16["fpmath"], "bf16");
    kiln(&["model", "scale", "bert-tiny", "--target", FOREIGN, "--quiet"])
        .exits(0)
        .says("a model, not a measurement: ")
        .says("speed-up")
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

/// What a version of the compiler or of the threads must not lose.
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
    for threads in ["0", "1025", "1,0", "", "1,,2", "two", "-1"] {
        let option = format!("--threads={threads}");
        scale(&["bert-tiny", &option]).refuses(&["--threads", "expected a number of threads from 1 to 1024"]);
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

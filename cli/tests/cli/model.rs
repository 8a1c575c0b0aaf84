//! `kiln model`.

use std::fs;

use crate::onnx_file::{named_network, network, set, test};
use crate::{Outcome, command, kiln, npy_bytes};

/// The output of the small network in its test.
const OUTPUT: [f32; 4] = [2.0, 0.0, 0.0, 2.0];

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn nodes_are_named_in_every_stage_and_in_profiles() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    fs::write(&file, named_network("/fc/MatMul", "/fc/Relu\n")).unwrap();
    let dump = |stage: &str| kiln(&["model", "dump", text(&file), "--stage", stage, "--quiet"]).exits(0);
    dump("import").says("matmul %x, %0  # /fc/MatMul\n").says("  # /fc/Relu\\n\n");
    dump("optimized").says("  # /fc/MatMul (+1)\n");
    dump("plan").says(", /fc/MatMul (+1)\n");
    let profile = |more: &[&str]| kiln(&[&["model", "profile", text(&file), "--quiet"], more].concat()).exits(0);
    profile(&[]).says("  /fc/MatMul (+1) f32[1x2]  matmul f32 1x3:3x2 +relu\n");
}

#[test]
fn built_in_networks_are_measured() {
    let bench = kiln(&["model", "bench", "bert-tiny", "--seq", "9", "--batch", "2", "--min-ms", "1", "--warm", "0"])
        .exits(0)
        .says("  latency    ")
        .says("; p90 ")
        .says(", p99 ")
        .says(" items/s, ")
        .says("last_hidden_state: f32[2x9x64], cosine similarity 1.0000")
        .says("  reference  the same network interpreted in double precision")
        .says("packed weights")
        .says(" % ")
        .says("kernel matmul: ");
    assert!(bench.stderr.contains("/7 matmul f32 "), "progress: {bench:?}");

    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("x.pack");
    let mut packed = 0;
    for unpacked in [false, true] {
        let args = ["model", "bench", "bert-tiny", "--repeat", "3", "--json", "--quiet", "--max-rel", "1e-5", "--pack"];
        let bench = kiln(&[&args[..], &[text(&pack)]].concat()).exits(0);
        assert_eq!(bench.stderr, "");
        let json: serde_json::Value = serde_json::from_str(&bench.stdout).unwrap();
        assert_eq!(json["runs"], 3);
        assert_eq!(json["kernels_unpacked"], if unpacked { json["kernels"].clone() } else { 0.into() });
        assert_eq!(json["weights_of_pack"], if unpacked { json["weights"].clone() } else { 0.into() });
        packed = json["weights"].as_u64().unwrap() as usize;
        assert_eq!(json["check"]["passed"], true);
        for figure in
            ["latency_ns", "p99_ns", "min_ns", "items_per_second", "gflops", "load_ns", "compile_ns", "first_ns"]
        {
            assert!(json[figure].as_f64().unwrap() > 0.0, "{figure}: {json}");
        }
        for figure in ["code_bytes", "constant_bytes", "arena_bytes", "arena_peak_bytes"] {
            assert!(json[figure].as_u64().unwrap() > 0, "{figure}: {json}");
        }
        let share: f64 = json["shares"].as_array().unwrap().iter().map(|s| s["share"].as_f64().unwrap()).sum();
        assert!((share - 1.0).abs() < 1e-9, "{json}");
    }
    let listed = kiln(&["pack", "list", text(&pack)]).exits(0).says("target ").stdout;
    assert_eq!(listed.lines().skip_while(|line| *line != "weights").skip(1).count(), packed);
    let bench = ["model", "bench", "bert-tiny", "--pack"];
    fs::write(&pack, "x").unwrap();
    kiln(&[&bench[..], &[text(&pack)]].concat()).refuses(&["x.pack", "not a kernel pack"]);
    let nowhere = folder.path().join("none/x.pack");
    kiln(&[&bench[..], &[text(&nowhere)]].concat()).refuses(&["none/x.pack", "No such file"]);
    kiln(&[&bench[..], &[text(folder.path())]].concat()).refuses(&["is a folder"]);
    kiln(&["model", "run", "bert-tiny", "--quiet", "--max-rel", "1e-30"])
        .exits(1)
        .says("FAILED: larger than --max-rel");
}

#[test]
fn streams_are_measured_side_by_side() {
    let bench = |more: &[&str]| kiln(&[&["model", "bench", "bert-tiny", "--quiet", "--seq", "9"], more].concat());
    bench(&["--streams", "2", "--threads", "1", "--min-ms", "1"])
        .exits(0)
        .says(", 2 streams of 1 thread, ")
        .says(" items/s, ")
        .says("packed weights (one copy for all streams), ")
        .says(" arena for each stream ");
    let json = |outcome: Outcome| -> serde_json::Value { serde_json::from_str(&outcome.exits(0).stdout).unwrap() };
    let one = json(bench(&["--threads", "1", "--repeat", "20", "--json", "--batch", "2"]));
    let two = json(bench(&["--threads", "1", "--repeat", "20", "--json", "--batch", "2", "--streams", "2"]));
    assert_eq!((&one["streams"], &two["streams"], &two["threads"]), (&1.into(), &2.into(), &1.into()));
    assert!(one["runs"] == 20 && two["runs"] == 40, "{two}");
    let figure = |json: &serde_json::Value, name: &str| json[name].as_f64().unwrap();
    for json in [&one, &two] {
        let order = ["min_ns", "latency_ns", "p90_ns", "p99_ns"].map(|name| figure(json, name));
        assert!(order[0] > 0.0 && order.is_sorted() && figure(json, "items_per_second") > 0.0, "{json}");
        assert_eq!(json["check"]["outputs"][0]["name"], "last_hidden_state");
    }
    // A stream more takes an arena more, and no weights.
    assert_eq!(one["packed_bytes"], two["packed_bytes"]);
    assert_eq!(figure(&two, "planned_bytes") - figure(&one, "planned_bytes"), figure(&one, "arena_bytes"));
    let variable = command()
        .args(["model", "bench", "bert-tiny", "--quiet", "--threads", "2", "--repeat", "3"])
        .env("KILN_NUM_STREAMS", "3")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&variable.stdout).into_owned();
    assert!(text.contains(", 3 streams of 2 threads, "), "{text}");

    let with = |threads: &str, streams: &str| {
        let args = ["model", "bench", "bert-tiny", "--quiet", "--seq", "9", "--repeat", "1"];
        let output = command().args(args).envs([("KILN_NUM_THREADS", threads), ("KILN_NUM_STREAMS", streams)]).output();
        let output = output.unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let expected =
        "513 streams of 2 threads: expected from 1 to 1024 threads in all; lower KILN_NUM_STREAMS or KILN_NUM_THREADS";
    assert!(with("2", "513").contains(expected), "{}", with("2", "513"));
    // Each stream has its part of the processors.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(with("", &processors.to_string()).contains(" of 1 thread, ") || processors == 1);
    bench(&["--streams", &processors.to_string(), "--repeat", "1"]).exits(0).says("1 thread, fpmath");

    bench(&["--streams", "513", "--threads", "2"])
        .refuses(&["513 streams of 2 threads: expected from 1 to 1024 threads in all; lower the number of streams"]);
    for value in ["-1", "0", "1025", "two", "1,2", ""] {
        let expected = "expected a number of streams from 1 to 1024";
        bench(&[&format!("--streams={value}")]).refuses(&["--streams", expected]);
        bench(&["--streams", value]).refuses(&["--streams", expected]);
    }
    for (option, value, expected) in [
        ("--threads", "-1", "expected a number of threads from 1 to 1024"),
        ("--repeat", "0", "expected a number of runs from 1 to 1000000000"),
        ("--repeat", "18446744073709551615", "expected a number of runs from 1 to 1000000000"),
        ("--warm", "-1", "expected a number of runs from 0 to 1000000000"),
        ("--batch", "0", "expected a whole number that is at least 1"),
        ("--batch", "-2", "expected a whole number that is at least 1"),
        ("--batch", "1000000", "expected 1 to 4096"),
        ("--min-ms", "18446744073709551615", "expected a number of milliseconds from 0 to 86400000, which is a day"),
    ] {
        bench(&[option, value]).refuses(&[expected]);
    }
}

#[test]
fn streams_with_the_most_throughput_are_found() {
    let bench = |more: &[&str]| {
        let args = ["model", "bench", "bert-tiny", "--quiet", "--seq", "9", "--min-ms", "1", "--best-throughput"];
        kiln(&[&args[..], more].concat())
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let text = bench(&[]).exits(0).says("  streams  threads ").says("  most throughput: --streams ").stdout;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |streams: usize, threads: usize| {
        rows.iter().any(|row| row.len() == 7 && row[..2] == [streams.to_string(), threads.to_string()])
    };
    assert!(has(processors, 1) && has(1, processors), "{processors} processors: {text}");
    let json = bench(&["--json"]).exits(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["threads"], processors);
    let pairs = json["pairs"].as_array().unwrap();
    let of = |pair: &serde_json::Value, name: &str| pair[name].as_f64().unwrap();
    assert!(pairs.iter().all(|p| of(p, "streams") * of(p, "threads") <= processors as f64), "{json}");
    assert!(pairs.contains(&json["best"]), "{json}");
    let three = command()
        .args(["model", "bench", "bert-tiny", "--quiet", "--seq", "9", "--min-ms", "1", "--best-throughput", "--json"])
        .env("KILN_NUM_THREADS", "3")
        .output()
        .unwrap();
    let three: serde_json::Value = serde_json::from_slice(&three.stdout).unwrap();
    assert_eq!(three["threads"], 3);
    assert_eq!(three["pairs"].as_array().unwrap().len(), 2, "{three}");
    let best = of(&json["best"], "items_per_second");
    assert!(pairs.iter().all(|p| (0.0..=best).contains(&of(p, "items_per_second")) && of(p, "p99_ns") > 0.0), "{json}");
    for option in [&["--streams", "2"][..], &["--threads", "1"], &["--check"], &["--max-rel", "1"]] {
        let refused = bench(option).exits(2);
        assert!(refused.stderr.contains("cannot be used with") && refused.stderr.contains(option[0]), "{refused:?}");
    }
}

#[test]
fn files_are_run_on_given_made_up_and_tested_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let (model, x, out) = (folder.path().join("a.onnx"), folder.path().join("x.npy"), folder.path().join("out"));
    fs::write(&model, network("Relu")).unwrap();
    fs::write(&x, npy_bytes("<f4", "False", "(2, 3)", &[3.0, 1.0, 2.0, 1.0, 2.0, 0.0])).unwrap();
    for given in [text(&x).to_owned(), format!("x={}", text(&x))] {
        kiln(&["model", "run", text(&model), "--input", &given, "--output", text(&out)]).exits(0).says("y: f32[2x2]");
        let bytes = fs::read(out.join("y.npy")).unwrap();
        let values: Vec<f32> =
            bytes[bytes.len() - 16..].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(values, OUTPUT);
    }
    kiln(&["model", "run", text(&model), "--batch", "5"]).exits(0).says("y: f32[5x2]").says("top of 3 ");
    kiln(&["model", "run", text(&model), "--dim", "batch=4"]).exits(0).says("y: f32[4x2]");
    kiln(&["model", "run", text(&model), "--shape", "x=3x3"]).exits(0).says("y: f32[3x2]");
    let ids = folder.path().join("ids.npy");
    fs::write(&ids, npy_bytes("<i8", "False", "(1, 4)", &[0.0; 8])).unwrap();
    let ids = format!("input_ids={}", text(&ids));
    let given = kiln(&["model", "run", "bert-tiny", "--seq", "4", "--input", &ids]).exits(0).says("1x4x64");
    assert_ne!(given.stdout, kiln(&["model", "run", "bert-tiny", "--seq", "4"]).exits(0).stdout);
    kiln(&["model", "run", "bert-tiny", "--seq", "5", "--input", &ids]).refuses(&["i64[1x4]", "takes i64[1x5]"]);
    kiln(&["model", "run", "bert-tiny", "--fpmath", "bf16", "--max-rel", "0.05"]).exits(0).says("fpmath bf16");
    // The test beside a file.
    let tested = test(&folder.path().join("t"), "Relu", OUTPUT);
    kiln(&["model", "run", text(tested.parent().unwrap()), "--max-rel", "1e-6"]).exits(0).says("test_data_set_0");
}

#[test]
fn bad_networks_and_inputs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, x, odd) = (folder.path().join("a.onnx"), folder.path().join("x.npy"), folder.path().join("odd.onnx"));
    fs::write(&model, network("Relu")).unwrap();
    fs::write(&odd, network("NoSuchOperator")).unwrap();
    fs::write(&x, npy_bytes("<f8", "False", "(1,)", &[0.0, 0.0])).unwrap();
    let (model, x, odd) = (text(&model), text(&x), text(&odd));
    kiln(&["model", "run", "resnet51"]).refuses(&["`resnet51`", "resnet50", "bert-tiny", ".onnx"]);
    kiln(&["model", "run", "none.onnx"]).refuses(&["none.onnx", "No such file"]);
    kiln(&["model", "run", x]).refuses(&["x.npy", "a NumPy array", "expected an ONNX network"]);
    kiln(&["model", "run", odd]).refuses(&["odd.onnx", "NoSuchOperator", "kiln model operators"]);
    kiln(&["model", "run", "bert-tiny", "--seq", "65"]).refuses(&["1 to 64", "65"]);
    kiln(&["model", "run", "bert-tiny", "--dim", "batch=1"]).refuses(&["--dim batch", "--batch"]);
    kiln(&["model", "run", "resnet50", "--seq", "4"]).refuses(&["images"]);
    kiln(&["model", "run", "bert-tiny", "--input", &format!("ids={x}")]).refuses(&["ids=", "input_ids"]);
    kiln(&["model", "run", model, "--input", x]).refuses(&["x.npy", "f64[1]", "`x` takes f32"]);
    kiln(&["model", "run", model, "--input", x, "--input", x]).refuses(&["no such input"]);
    kiln(&["model", "run", model, "--input", "x=/nonexistent/x.npy"]).refuses(&["/nonexistent/x.npy"]);
    kiln(&["model", "run", model, "--dim", "rows=1"]).refuses(&["a.onnx", "`rows`", "batch"]);
    kiln(&["model", "run", model, "--shape", "x=2x4"]).refuses(&["a.onnx", "`x`", "[batch, 3]"]);
    for (option, value) in [("--dim", "batch"), ("--shape", "x=2xa"), ("--batch", "0"), ("--fpmath", "f8")] {
        let outcome = kiln(&["model", "run", model, option, value]).exits(2);
        assert!(outcome.stderr.contains(option), "{outcome:?}");
    }
}

#[test]
fn stages_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("a.onnx");
    fs::write(&model, network("Relu")).unwrap();
    let dump = |stage: &str| kiln(&["model", "dump", text(&model), "--quiet", "--stage", stage]);
    dump("import").exits(0).says("func @small(%x: f32[1x3]) -> f32[1x2] {").says("= relu ");
    dump("recognise").exits(0).says("func @small");
    dump("optimized").exits(0).says("+relu\"}");
    let kernels = dump("kernels").exits(0).says("+relu").says("# 1 step");
    // A problem is what `kiln dump` takes.
    let problem = kernels.stdout.split("  #").next().unwrap();
    kiln(&["dump", problem, "--packed", "--stage", "schedule"]).exits(0);
    dump("plan").exits(0).says("# arena ").says("kernel      %");
    let all = dump("all").exits(0).says("# stage: import").says("(unchanged)").says("# stage: plan");
    assert!(all.stdout.contains("# stage: form_kernels"));
    let wrong = dump("nothing").exits(2);
    assert!(wrong.stderr.contains("simplify") && wrong.stderr.contains("plan"), "{wrong:?}");
}

/// Also for a processor that this machine is not.
#[test]
fn stages_are_printed_for_any_target() {
    let stages = |target: &str| {
        let args = ["model", "dump", "bert-tiny", "--seq", "8", "--quiet", "--stage", "all", "--target", target];
        kiln(&args).exits(0).says("# stage: form_kernels").says("# stage: kernels").stdout
    };
    let plan = |text: &str| text.split("# stage: plan").nth(1).unwrap().to_owned();
    let targets = ["armv8", "neoverse-v1", "sve512+bf16", "x86-64-v3", "x86-64-v4"];
    let plans: Vec<String> = targets.iter().map(|target| plan(&stages(target))).collect();
    // Code and panels of each are its own, and steps are the same.
    let steps = |plan: &String| plan.lines().filter(|l| l.contains(" kernel ")).count();
    assert!(plans.iter().all(|plan| steps(plan) >= 10 && steps(plan) == steps(&plans[0])));
    assert!((1..plans.len()).all(|at| plans[at] != plans[0]), "{plans:?}");
}

#[test]
fn steps_are_profiled() {
    let args = ["model", "profile", "bert-tiny", "--quiet", "--runs", "2", "--seq", "8"];
    let table =
        kiln(&[&args[..], &["--sort", "time"]].concat()).exits(0).says("GFLOP/s").says("native").says("matmul f32 ");
    assert!(table.stdout.contains("encoder.layer.1.output.LayerNorm f32[1x8x64]"), "{table:?}");
    let json = kiln(&[&args[..], &["--json"]].concat()).exits(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let kernel = rows.iter().find(|r| r["code"] == "kernel").unwrap();
    assert!(kernel["gflops"].as_f64().unwrap() > 0.0 && kernel["predicted"].as_f64().unwrap() > 0.0, "{kernel}");
    kiln(&[&args[..], &["--html", "/nonexistent/x.html"]].concat()).refuses(&["/nonexistent/x.html"]);
}

/// One file for several targets and sizes, made on this machine.
#[test]
fn networks_are_packed_for_any_targets_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.kiln");
    let target = kiln(&["model", "bench", "bert-tiny", "--quiet", "--repeat", "1", "--seq", "8"]).exits(0).stdout;
    let target = target.split(" @").nth(1).unwrap().split(',').next().unwrap().to_owned();
    // No test runs on the other two.
    let targets = format!("neoverse-v2,{target},sve2048");
    let pack = ["model", "pack", "bert-tiny", "--quiet", "-o", text(&file)];
    let sizes = ["--sizes", "seq=8,24", "--sizes", "batch=1,2"];
    let made = kiln(&[&pack[..], &sizes, &["--target", &targets]].concat()).exits(0).says(" packed weights, ");
    assert_eq!(made.stdout.lines().count(), 4, "{made:?}");
    for (batch, seq) in [("1", "8"), ("2", "8"), ("1", "24"), ("2", "24")] {
        let bench =
            ["model", "bench", "bert-tiny", "--quiet", "--repeat", "1", "--json", "--batch", batch, "--seq", seq];
        let json = kiln(&[&bench[..], &["--max-rel", "1e-5", "--pack", text(&file)]].concat()).exits(0).stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["kernels_unpacked"], json["kernels"], "{batch} {seq}");
        assert_eq!(json["weights_of_pack"], json["weights"], "{batch} {seq}");
    }
    let listed = kiln(&["pack", "list", text(&file)]).exits(0).stdout;
    assert_eq!(listed.lines().filter(|line| line.starts_with("target ")).count(), 3, "{listed}");
    // What was made for other machines only says so.
    kiln(&[&pack[..], &["--target", "neoverse-v2,sve2048+bf16", "--fpmath", "bf16"]].concat()).exits(0);
    let listed = kiln(&["pack", "list", text(&file)]).exits(0).stdout;
    assert!(listed.split("\nweights\n").nth(1).is_some_and(|weights| weights.lines().count() > 4), "{listed}");
    let bench = ["model", "bench", "bert-tiny", "--pack", text(&file)];
    kiln(&bench).refuses(&["x.kiln", "neoverse-v2, sve2048+bf16", &format!("--target {target}")]);
    kiln(&[&pack[..], &["--target", "neoverse-v1,neoverse-v1"]].concat()).refuses(&["neoverse-v1", "--target"]);
    kiln(&[&pack[..], &["--sizes", "seq=0"]].concat()).refuses(&["seq=64,128"]);
    kiln(&[&pack[..], &["--sizes", "seq=8", "--sizes", "seq=16"]].concat()).refuses(&["--sizes", "`seq`"]);
    kiln(&[&pack[..], &["--sizes", "seq=8,8"]].concat()).refuses(&["--sizes", "`seq=8`"]);
    kiln(&[&pack[..], &["--sizes", "seq=8", "--seq", "9"]].concat()).refuses(&["--seq 9", "--sizes seq="]);
    let variable = ["model", "pack", "bert-tiny", "--quiet", "-o", text(&file)];
    let output = command().args(variable).env("KILN_NUM_THREADS", "none").output().unwrap();
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("KILN_NUM_THREADS"));
    kiln(&["model", "pack", "bert-tiny", "-o", "/nonexistent/x.kiln"]).refuses(&["/nonexistent/x.kiln"]);
}

#[test]
fn operators_are_listed_with_their_versions() {
    let list = kiln(&["model", "operators"]).exits(0);
    let lines: Vec<Vec<&str>> = list.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines.contains(&vec!["Gelu", "20", "to", "28"]), "{list:?}");
    assert!(lines.contains(&vec!["com.microsoft.SkipLayerNormalization", "1", "to", "1"]), "{list:?}");
    let list = list.says("Not supported:").says("ai.onnx.ml: its operators are trees").says("float8e4m3fn");
    let supported = list.stdout.lines().take_while(|line| !line.is_empty()).count();
    assert!(supported > 200, "{supported}");
    let json = kiln(&["model", "operators", "--json"]).exits(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["supported"].as_array().unwrap().len(), supported);
    assert_eq!(json["supported"][0], serde_json::json!({"domain": "", "name": "Abs", "first": 1, "last": 28}));
    let refused = json["refused"].as_array().unwrap();
    assert!(refused.iter().any(|r| r["kind"] == "operators" && r["names"][0] == "Bernoulli"), "{refused:?}");
}

#[test]
fn tests_pass_fail_or_are_not_supported() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("deep").join(name);
    test(&at("good"), "Relu", OUTPUT);
    let root = text(folder.path());
    kiln(&["model", "test", root]).exits(0).says("PASSED ").says("1 tests: 1 passed, 0 failed, 0 unsupported");
    kiln(&["model", "test", root, "--interpret"]).exits(0).says("1 passed");
    test(&at("odd"), "NoSuchOperator", OUTPUT);
    kiln(&["model", "test", root]).exits(1).says("UNSUPPORTED ").says("NoSuchOperator").says("1 unsupported");
    kiln(&["model", "test", root, "--allow-unsupported"]).exits(0);
    kiln(&["model", "test", root, "--allow", "odd"]).exits(0).says("1 of them allowed");
    test(&at("wrong"), "Relu", [2.0, 0.0, 0.001, 2.0]);
    for mode in [&[][..], &["--interpret"], &["--max-rel", "2e-5"]] {
        let args = [&["model", "test", root, "--allow", "odd"], mode].concat();
        kiln(&args).exits(1).says("1 of 4 elements differ, the first is number 2: 0, expected 0.001");
    }
    kiln(&["model", "test", root, "--allow", "odd", "--max-rel", "1e-3"]).exits(0);
    kiln(&["model", "test", root, "--allow", "odd", "--atol", "0.01", "--quiet"]).exits(0);
    // Weights that are described only.
    fs::write(at("wrong").join("weights.json"), r#"{"seed":"1","tensors":[]}"#).unwrap();
    kiln(&["model", "test", text(&at("wrong"))]).exits(1).says("--materialize");
    kiln(&["model", "test", text(&at("wrong")), "--materialize", "--atol", "0.01"]).exits(0);
    assert!(at("wrong").join("weights.bin").exists());
    kiln(&["model", "test", "/nonexistent"]).refuses(&["/nonexistent"]);
}

#[test]
fn sets_of_any_sizes_and_networks_of_any_names_are_tested() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    test(folder.path(), "Relu", OUTPUT);
    set(&at("test_data_set_2"), &[1.0, 0.0, 0.0], &[1.0, 0.0]);
    set(&at("test_data_set_10"), &[0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 3.0, 0.0], &[0.0, 2.0, 0.0, 1.0, 0.0, 3.0]);
    let root = text(folder.path());
    kiln(&["model", "test", root]).exits(0).says("1 tests: 1 passed");
    // The last set is taken too, and by itself.
    set(&at("test_data_set_10"), &[0.0, 2.0, 0.0], &[0.0, 3.0]);
    kiln(&["model", "test", root]).exits(1).says("FAILED ").says(": test_data_set_10: `y`: 1 of 2 elements differ");
    kiln(&["model", "test", text(&at("test_data_set_2"))]).exits(0).says("1 passed");
    kiln(&["model", "test", text(&at("test_data_set_10"))]).exits(1).says("test_data_set_10: `y`");
    let sets = [at("test_data_set_0"), at("test_data_set_2")];
    kiln(&["model", "test", text(&sets[0]), text(&sets[1])]).exits(0).says("2 tests: 2 passed");
    kiln(&["model", "test", "test_data_set_9"]).refuses(&["test_data_set_9"]);
    // Several networks in one folder, of any names, and folders in it.
    fs::remove_dir_all(at("test_data_set_10")).unwrap();
    fs::rename(at("model.onnx"), at("a.onnx")).unwrap();
    fs::write(at("b.onnx"), network("Abs")).unwrap();
    test(&at("deep"), "Relu", OUTPUT);
    kiln(&["model", "test", root])
        .exits(1)
        .says("PASSED ")
        .says("a.onnx\n")
        .says("b.onnx: test_data_set_0: `y`")
        .says("3 tests: 2 passed, 1 failed");
    kiln(&["model", "test", root, "--allow", "b.onnx"]).exits(0).says("1 of them allowed");
    // A set without a network.
    let alone = tempfile::tempdir().unwrap();
    set(&alone.path().join("test_data_set_0"), &[1.0, 0.0, 0.0], &[1.0, 0.0]);
    kiln(&["model", "test", text(&alone.path().join("test_data_set_0"))]).refuses(&["another ONNX file"]);
}

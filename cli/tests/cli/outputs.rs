//! Files that are written, and readers that go away.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::onnx_file::{network, test};
use crate::{Outcome, SMALL, command, kiln, outcome};

/// A problem that no target has a kernel for.
const IMPOSSIBLE: &str = "matmul f32 2x1:1x16777217";

#[test]
fn what_cannot_be_written_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("odd.onnx");
    fs::write(&odd, network("NoSuchOperator")).unwrap();
    let odd = odd.to_str().unwrap();
    // Each would fail later for another reason, or take years.
    for bad in ["/nonexistent/x", "/proc/x", folder.path().to_str().unwrap()] {
        kiln(&["run", IMPOSSIBLE, "--dst", bad]).refuses(&[bad]);
        kiln(&["bench", SMALL, "--min-ms", "86400000", "--json", bad]).refuses(&[bad]);
        kiln(&["pack", "build", bad, IMPOSSIBLE]).refuses(&[bad]);
        kiln(&["model", "profile", "bert-tiny", "--runs", "1000000000", "--html", bad]).refuses(&[bad]);
        kiln(&["model", "bench", "bert-tiny", "--min-ms", "86400000", "--pack", bad]).refuses(&[bad]);
    }
    for bad in ["/proc/x", odd] {
        kiln(&["model", "run", odd, "--output", bad]).refuses(&[bad]);
    }
    // Nor is anything made for a command that fails.
    let out = folder.path().join("out");
    kiln(&["model", "run", odd, "--output", out.to_str().unwrap()]).refuses(&["NoSuchOperator"]);
    assert!(!out.exists());
}

#[test]
fn a_file_stays_as_it_was_if_the_command_fails() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (list, old) = (at("list"), at("old"));
    fs::write(&list, format!("{SMALL}\n{IMPOSSIBLE}\n")).unwrap();
    for args in [
        &["bench", "--batch", &list, "--min-ms", "1", "--json", &old][..],
        &["pack", "build", &old, "--batch", &list],
        &["run", IMPOSSIBLE, "--dst", &old],
    ] {
        fs::write(&old, "old").unwrap();
        kiln(args).exits(2);
        assert_eq!(fs::read(&old).unwrap(), b"old", "{args:?}");
    }
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["list", "old"], "no draft is left");
    // Standard output is a file too.
    let json = kiln(&["bench", SMALL, "--min-ms", "1", "--json", "/dev/stdout"]).exits(0).stdout;
    assert!(json.contains("\"compile_ns\""), "{json}");
}

/// The outcome with a reader of standard output who went away before the start.
fn without_reader(args: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command();
    command.args(args).envs(variables.iter().copied());
    outcome(command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let tested = test(&folder.path().join("t"), "Relu", [2.0, 0.0, 0.0, 2.0]);
    let (root, model) = (folder.path().to_str().unwrap(), tested.to_str().unwrap());
    let pack = folder.path().join("x.pack").to_str().unwrap().to_owned();
    kiln(&["pack", "build", &pack, SMALL]).exits(0);
    for (args, code) in [
        (&["--help"][..], 0),
        (&["run", SMALL, "--repeat", "1"], 0),
        (&["dump", SMALL], 0),
        (&["bench", SMALL, "--min-ms", "1"], 0),
        (&["bench", "--worker", "1"], 0),
        (&["pack", "list", &pack], 0),
        (&["pack", "build", &pack, SMALL], 0),
        (&["warm", SMALL], 0),
        (&["family", "ip f32 mb?ic16oc24", "--values", "3", "--min-ms", "1"], 0),
        (&["model", "run", model, "--quiet"], 0),
        (&["model", "bench", model, "--quiet", "--repeat", "1"], 0),
        (&["model", "profile", model, "--quiet", "--runs", "1"], 0),
        (&["model", "dump", model, "--quiet"], 0),
        // What was not checked has not passed.
        (&["verify", SMALL], 1),
        (&["model", "test", root], 1),
    ] {
        let outcome = without_reader(args, &[]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(code), ""), "{args:?}");
    }
    let outcome = without_reader(&["run", SMALL, "--repeat", "1"], &[("KILN_VERBOSE", "all")]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}

#[test]
fn verbose_lines_of_other_threads_block_nobody() {
    let mut command = command();
    command.args(["warm", "--threads", "2", "--batch", "-"]).env("KILN_VERBOSE", "2");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let list: String = (1..40).map(|n| format!("matmul f32 {n}x3:3x{n}\n")).collect();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), list.as_bytes()).unwrap();
    let reader = std::thread::spawn({
        let mut stdout = child.stdout.take().unwrap();
        move || std::io::read_to_string(&mut stdout).unwrap()
    });
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(100) {
            child.kill().unwrap();
            panic!("the command does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let lines = reader.join().unwrap();
    assert_eq!(lines.matches("create:cache_miss").count(), 39, "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("kiln_verbose,") || !line.contains("kiln_verbose")), "{lines}");
}

//! Environment variables and their effects.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::{SMALL, command};

fn run(variables: &[(&str, &str)]) -> Output {
    command().args(["run", SMALL, "--repeat", "2"]).envs(variables.iter().copied()).output().unwrap()
}

#[track_caller]
fn says(variables: &[(&str, &str)], words: &[&str]) -> String {
    let output = run(variables);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{variables:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(words.iter().all(|word| text.contains(word)), "{variables:?}: {text}");
    text
}

#[track_caller]
fn refuses(name: &str, value: &str, expected: &str) {
    let output = run(&[(name, value)]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(&format!("{name}=`{value}`: expected {expected}")), "{text}");
}

#[test]
fn verbose_words_are_heard_under_all_names() {
    let exec = "kiln_verbose,v1,primitive,exec,cpu,matmul,";
    for name in ["KILN_VERBOSE", "ONEDNN_VERBOSE", "DNNL_VERBOSE"] {
        says(&[(name, "profile_exec")], &[exec]);
    }
    says(&[("KILN_VERBOSE", "2")], &[exec, "primitive,create:cache_miss,cpu,matmul,"]);
    let silent = says(&[("KILN_VERBOSE", "none"), ("ONEDNN_VERBOSE", "all")], &[]);
    assert!(!silent.contains("kiln_verbose"), "the first name wins: {silent}");
    refuses("KILN_VERBOSE", "loud", "none, error, warn, profile_create");
}

/// The variable is a default: a problem that names its arithmetic keeps that, strict too.
#[test]
fn the_arithmetic_of_problems_that_name_none() {
    let problem = |fpmath: &str, variable: &str| {
        let text = format!("matmul f32 9x33:33x20{fpmath}");
        let output = command().args(["run", &text]).env("KILN_FPMATH_MODE", variable).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line = String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned();
        line.strip_prefix("problem    ").unwrap().split(" @").next().unwrap().to_owned()
    };
    for (fpmath, variable, named) in [
        ("", "", ""),
        ("", "strict", ""),
        ("", "bf16", " fpmath=bf16"),
        ("", "any", " fpmath=any"),
        (" fpmath=strict", "bf16", " fpmath=strict"),
        (" fpmath=strict", "any", " fpmath=strict"),
        (" fpmath=strict", "", " fpmath=strict"),
        (" fpmath=bf16", "strict", " fpmath=bf16"),
        (" fpmath=any", "bf16", " fpmath=any"),
    ] {
        assert_eq!(problem(fpmath, variable), format!("matmul f32 9x33:33x20{named}"), "{fpmath} with {variable}");
    }
}

#[test]
fn files_go_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let files = |name: &str| std::fs::read_dir(path(name)).map_or(0, Iterator::count);
    says(&[("KILN_JIT_DUMP", &path("dump")), ("KILN_CACHE_DIR", &path("cache"))], &[]);
    // With the key of the cache.
    assert_eq!((files("dump"), files("cache")), (2, 2));
    says(&[("KILN_CACHE_DIR", &path("cache")), ("KILN_VERBOSE", "profile_create")], &["create:from_cache_dir"]);
    says(&[("KILN_JIT_PROFILE", "4"), ("JITDUMPDIR", &path("perf"))], &[]);
    assert!(folder.path().join("perf/.debug/jit").is_dir());
    says(&[("ONEDNN_JIT_DUMP", "0"), ("ONEDNN_JIT_PROFILE", "1")], &[]);
}

/// The notes on standard error.
fn notes(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("note: ")).map(str::to_owned).collect()
}

#[test]
fn what_cannot_be_followed_is_said_once_or_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("shared")).unwrap();
    std::fs::set_permissions(path("shared"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::create_dir(path("own")).unwrap();
    std::os::unix::fs::symlink("own", path("link")).unwrap();
    for (name, value, words) in [
        ("KILN_CACHE_DIR", "/proc/x", "the cache directory is not used: it cannot be opened or made"),
        ("KILN_CACHE_DIR", &path("shared"), "(mode 777): name a directory of your own"),
        ("KILN_CACHE_DIR", &path("link"), "it is a symbolic link"),
        ("KILN_JIT_DUMP", "/proc/nope", "no code is dumped to the directory"),
    ] {
        let output = run(&[(name, value)]);
        let [note] = &notes(&output)[..] else { panic!("{output:?}") };
        assert!(
            output.status.success() && note.starts_with(&format!("note: {value}: ")) && note.contains(words),
            "{note}"
        );
        says(&[(name, value), ("KILN_VERBOSE", "warn")], &["kiln_verbose,v1,notice,", value]);
        let strict = run(&[(name, value), ("KILN_STRICT_SETTINGS", "1")]);
        let text = String::from_utf8_lossy(&strict.stderr);
        assert!(strict.status.code() == Some(2) && text.contains(&format!("error: {value}: ")), "{text}");
    }
    for folder in ["shared", "own"] {
        assert_eq!(std::fs::read_dir(path(folder)).unwrap().count(), 0, "{folder}");
    }
    refuses("KILN_STRICT_SETTINGS", "yes", "0 or 1");
}

#[test]
fn a_cached_kernel_that_was_changed_is_told_of_and_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let variables = [("KILN_CACHE_DIR", cache.to_str().unwrap()), ("KILN_VERBOSE", "profile_create")];
    says(&variables, &["create:cache_miss"]);
    let is_kernel = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "kernel");
    let kernel = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).find(is_kernel).unwrap();
    let mut bytes = std::fs::read(&kernel).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&kernel, bytes).unwrap();
    let output = run(&variables);
    let [note] = &notes(&output)[..] else { panic!("{output:?}") };
    assert!(note.contains(kernel.to_str().unwrap()) && note.contains("not sealed with the key"), "{note}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("create:cache_miss"), "{output:?}");
    says(&variables, &["create:from_cache_dir"]);
}

#[test]
fn numbers_are_checked() {
    refuses("KILN_CACHE_CAPACITY", "many", "a number of kernels");
    refuses("KILN_CACHE_BYTES", "1k", "a number of bytes");
    refuses("KILN_JIT_PROFILE", "64", "0 (off), 2 (perf map)");
    says(&[("KILN_CACHE_CAPACITY", "0"), ("KILN_CACHE_BYTES", "4096")], &["check      PASSED"]);
}

/// The variables for threads, given to a command.
fn with_threads(args: &[&str], name: &str, value: &str) -> Output {
    let none = ["KILN_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS"];
    none.iter()
        .fold(&mut command(), |command, name| command.env_remove(name))
        .args(args)
        .env(name, value)
        .output()
        .unwrap()
}

/// Every command that runs kernels reads them, and a broken value is an error for each.
#[test]
fn threads_are_those_of_the_environment_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 7] = [
        &["run", SMALL, "--repeat", "1"],
        &["verify", SMALL],
        &["bench", SMALL, "--min-ms", "1"],
        &["warm", SMALL],
        &["family", "ip f32 mb?ic16oc16", "--values", "3", "--min-ms", "1"],
        &["model", "test", folder.path().to_str().unwrap()],
        &["model", "bench", "bert-tiny", "--best-throughput", "--min-ms", "1"],
    ];
    for args in commands {
        for (name, value) in [
            ("KILN_NUM_THREADS", "2,abc"),
            ("KILN_NUM_THREADS", "2,1"),
            ("OMP_NUM_THREADS", "1,-7,0"),
            ("RAYON_NUM_THREADS", "many"),
        ] {
            let output = with_threads(args, name, value);
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?} {text}");
            assert!(text.contains(&format!("{name}=`{value}`: expected a number of threads from 1 to 1024")), "{text}");
        }
    }
    let bench = ["bench", SMALL, "--min-ms", "1"];
    for (name, value, says) in [
        ("KILN_NUM_THREADS", "2", ", 2 threads\n"),
        ("OMP_NUM_THREADS", "3, 2", ", 3 threads\n"),
        ("RAYON_NUM_THREADS", "0", ", 1 thread\n"),
        ("KILN_NUM_THREADS", "", ", 1 thread\n"),
    ] {
        let output = with_threads(&bench, name, value);
        assert!(String::from_utf8_lossy(&output.stdout).contains(says), "{name}={value}: {output:?}");
        let told = with_threads(&[&bench[..], &["--threads", "4"]].concat(), name, value);
        assert!(String::from_utf8_lossy(&told.stdout).contains(", 4 threads\n"), "{told:?}");
    }
    let marked = with_threads(&["run", SMALL, "--mark"], "KILN_NUM_THREADS", "2");
    let text = String::from_utf8_lossy(&marked.stderr);
    assert!(marked.status.code() == Some(2) && text.contains("give --threads 1"), "{text}");
}

//! Environment variables and their effects.

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
    refuses("KILN_VERBOSE", "loud", "none, error, profile_create");
}

#[test]
fn files_go_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let files = |name: &str| std::fs::read_dir(path(name)).map_or(0, Iterator::count);
    says(&[("KILN_JIT_DUMP", &path("dump")), ("KILN_CACHE_DIR", &path("cache"))], &[]);
    assert_eq!((files("dump"), files("cache")), (2, 1));
    says(&[("KILN_CACHE_DIR", &path("cache")), ("KILN_VERBOSE", "profile_create")], &["create:from_cache_dir"]);
    says(&[("KILN_JIT_PROFILE", "4"), ("JITDUMPDIR", &path("perf"))], &[]);
    assert!(folder.path().join("perf/.debug/jit").is_dir());
    says(&[("ONEDNN_JIT_DUMP", "0"), ("ONEDNN_JIT_PROFILE", "1")], &[]);
}

#[test]
fn numbers_are_checked() {
    refuses("KILN_CACHE_CAPACITY", "many", "a number of kernels");
    refuses("KILN_CACHE_BYTES", "1k", "a number of bytes");
    refuses("KILN_JIT_PROFILE", "64", "0 (off), 2 (perf map)");
    says(&[("KILN_CACHE_CAPACITY", "0"), ("KILN_CACHE_BYTES", "4096")], &["check      PASSED"]);
}

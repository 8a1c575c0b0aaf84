//! Seeing what a runtime does: verbose lines, dumped code, perf's files, strict plans, progress.

use std::fs;
use std::sync::{Arc, Mutex};

use kiln_jit::{Notice, Options, Problem, Runtime, RuntimeBuilder, RuntimeError};
use kiln_tests::data::Data;

fn problem(text: &str) -> Problem {
    text.parse().unwrap()
}

/// A runtime, and the lines it writes.
fn listening(builder: RuntimeBuilder, words: &str) -> (Runtime, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(vec![]));
    let sink = lines.clone();
    let builder = builder.verbose(words).verbose_sink(move |line| sink.lock().unwrap().push(line.into()));
    (builder.threads(1).build().unwrap(), lines)
}

fn call(runtime: &Runtime, problem: &Problem) {
    let data = Data::integers(problem, 5);
    let mut dst = data.before.clone();
    runtime.kernel(problem).unwrap().run(data.args(&mut dst)).unwrap();
}

#[test]
fn creations_and_executions_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem("matmul f32 4x8:8x16 +bias+relu");
    for (word, counts) in
        [("all", [1, 2, 0]), ("profile_create", [1, 0, 0]), ("profile_exec", [0, 2, 0]), ("none", [0; 3])]
    {
        let (runtime, lines) = listening(Runtime::builder(), word);
        (0..2).for_each(|_| call(&runtime, &problem));
        let lines = lines.lock().unwrap();
        let count = |what: &str| lines.iter().filter(|line| line.split(',').nth(3) == Some(what)).count();
        assert_eq!([count("create:cache_miss"), count("exec"), count("error")], counts, "{word}: {lines:#?}");
        let all_fields = |line: &String| {
            line.split(',').count() == 13 && line.split(',').nth(11) == Some("matmul f32 4x8:8x16 +bias+relu")
        };
        assert!(lines.iter().all(all_fields), "{lines:#?}");
    }
    for origin in ["create:cache_miss", "create:from_cache_dir"] {
        // SAFETY: the directory is this test's own.
        let builder = unsafe { Runtime::builder().cache_dir(folder.path()) };
        let (runtime, lines) = listening(builder, "profile_create");
        runtime.kernel(&problem).unwrap();
        assert!(lines.lock().unwrap()[0].contains(origin), "{lines:?}");
    }
}

#[test]
fn reasons_and_failures_are_told() {
    let target = if cfg!(target_arch = "x86_64") { "x86-64-v3" } else { "armv8" };
    let builder = || Runtime::builder().target(target.parse().unwrap());
    // SAFETY: there is no such pack.
    let with_pack = unsafe { builder().pack("/nowhere/x.pack") };
    let (runtime, lines) = listening(with_pack, "dispatch,error");
    runtime.kernel(&problem("ip f32 mb2ic16oc16 fpmath=bf16")).unwrap();
    let all = lines.lock().unwrap().join("\n");
    assert!(all.contains("v1,notice,the pack is not used") && all.contains(",/nowhere/x.pack\n"), "{all}");
    assert!(all.contains("fpmath=bf16 has no effect"), "{all}");
    let (runtime, lines) = listening(builder().strict(1.0), "error");
    assert!(runtime.kernel(&problem("matmul f32 1x1:1x1")).is_err());
    assert!(lines.lock().unwrap()[0].starts_with("kiln_verbose,v1,primitive,error,cpu,matmul,"), "{lines:?}");
}

/// Settings that cannot be followed: each is said once, to all that listen, and is an error where that is asked for.
#[test]
fn broken_settings_are_told_once_or_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("below");
    let builder = || {
        // SAFETY: neither is there.
        unsafe { Runtime::builder().pack(&below).cache_dir(&below) }.jit_dump(&below)
    };
    for (words, lines_told) in [("none", 0), ("warn", 3), ("profile_exec", 3)] {
        let heard = Arc::new(Mutex::new(vec![]));
        let sink = heard.clone();
        let builder = builder().on_notice(move |notice| sink.lock().unwrap().push(notice.to_string()));
        let (runtime, lines) = listening(builder, words);
        (2..5).for_each(|n| drop(runtime.kernel(&problem(&format!("matmul f32 {n}x3:3x4"))).unwrap()));
        let kinds: Vec<&str> = runtime
            .notices()
            .iter()
            .map(|notice| match notice {
                Notice::Pack { .. } => "pack",
                Notice::CacheDir { .. } => "directory",
                Notice::CodeDump { .. } => "dump",
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, ["pack", "directory", "dump"]);
        assert!(
            runtime.notices().iter().all(|notice| notice.path() == below && notice.to_string().contains("directory"))
        );
        assert_eq!(*heard.lock().unwrap(), runtime.notices().iter().map(Notice::to_string).collect::<Vec<_>>());
        let lines = lines.lock().unwrap();
        let told =
            lines.iter().filter(|line| line.starts_with("kiln_verbose,v1,notice,") && line.split(',').count() == 5);
        assert_eq!((told.count(), lines.len()), (lines_told, lines_told), "{words}: {lines:#?}");
    }
    let strict = || Runtime::builder().strict_settings(true);
    // SAFETY: neither is there.
    let builders = unsafe { [strict().pack(&below), strict().cache_dir(&below), strict().jit_dump(&below)] };
    for builder in builders {
        let e = builder.build().unwrap_err();
        assert!(matches!(&e, RuntimeError::Strict { notice } if notice.path() == below), "{e}");
        assert!(e.to_string().starts_with(&format!("{}: ", below.display())), "{e}");
    }
}

#[test]
fn strict_plans_refuse_slow_kernels_with_the_reason() {
    let runtime = Runtime::builder().strict(0.5).build().unwrap();
    let fast = runtime.kernel(&problem("matmul f32 240x256:256x240")).unwrap();
    assert!(fast.predicted_fraction() >= 0.5 && fast.predicted_fraction() <= 1.0, "{}", fast.predicted_fraction());
    let e = runtime.kernel(&problem("matmul f32 1x3:3x2")).unwrap_err();
    assert!(matches!(&e, RuntimeError::BelowBound { predicted, .. } if *predicted < 0.5));
    assert!(e.to_string().contains("below the 50 % asked for; it is bound by"), "{e}");
}

#[test]
fn code_is_dumped_under_the_problems_name() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().jit_dump(folder.path()).build().unwrap();
    let kernel = runtime.kernel(&problem("matmul f32 4x8:8x16 +bias")).unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 2);
    assert!(names[0].file_name().unwrap().to_str().unwrap().starts_with("kiln.matmul_f32_4x8_8x16_+bias_@"));
    assert_eq!(fs::read(&names[0]).unwrap().len(), kernel.code_bytes());
    assert!(fs::read_to_string(&names[1]).unwrap().contains("matmul f32 4x8:8x16 +bias"));
}

#[test]
fn perf_learns_where_kernels_are() {
    let runtime = Runtime::builder().jit_profile(2).build().unwrap();
    let kernel = runtime.kernel(&problem("matmul f32 5x7:7x11")).unwrap();
    let map = fs::read_to_string(format!("/tmp/perf-{}.map", std::process::id())).unwrap();
    let name = format!("kiln matmul f32 5x7:7x11 @{}", runtime.target());
    let line = map.lines().find(|line| line.ends_with(&name)).unwrap();
    let address = usize::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    assert_eq!(address, kernel.entry() as usize);
}

#[test]
fn warming_tells_its_progress_and_its_errors() {
    let runtime = Runtime::builder().threads(2).build().unwrap();
    let foreign = runtime.kernel(&problem("matmul f32 3x4:4x5")).unwrap().schedule().clone();
    let forced = Options { schedule: Some(foreign), ..Options::default() };
    let mut requests: Vec<_> =
        (1..20).map(|n| (problem(&format!("matmul f32 {n}x4:4x5")), Options::default())).collect();
    requests.push((problem("matmul f32 3x4:4x9"), forced));
    let told = Mutex::new(vec![]);
    let errors = runtime.warm(&requests, |p| told.lock().unwrap().push((p.done, p.total, p.error.is_some())));
    let told = told.into_inner().unwrap();
    assert_eq!(told.iter().map(|t| t.0).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert!(told.iter().all(|t| t.1 == 20) && told.iter().filter(|t| t.2).count() == 1);
    assert!(matches!(&errors[..], [(19, RuntimeError::Compile(_))]), "{errors:?}");
    assert_eq!(runtime.stats().kernels.entries, 19);
}

//! Faults around a runtime: no executable memory, a full disk, directories that cannot be written or disappear, processes that
//! write the same files or are killed while they do. The outcome is an error or a compilation, never a wrong result.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln_jit::{Notice, Options, Pack, Package, Problem, Runtime, RuntimeBuilder, RuntimeError, pack};
use kiln_tests::data::{Data, Random};

fn problem(text: &str) -> Problem {
    text.parse().unwrap()
}

#[track_caller]
fn assert_right(runtime: &Runtime, problem: &Problem) {
    let data = Data::integers(problem, 11);
    let mut dst = data.before.clone();
    runtime.kernel(problem).unwrap().run(data.args(&mut dst)).unwrap();
    assert!(data.wrong(&dst).is_none(), "{problem}");
}

#[test]
fn executable_memory_that_cannot_be_had_is_an_error_and_may_be_there_later() {
    const LIMIT: usize = 256 << 10;
    let runtime = Runtime::builder().threads(1).cache_capacity(0).code_limit(LIMIT).build().unwrap();
    let (mut kernels, mut error) = (vec![], None);
    for n in 1..1_000 {
        match runtime.kernel(&problem(&format!("matmul f32 {n}x1:1x1"))) {
            Ok(kernel) => kernels.push(kernel),
            Err(e) => {
                error = Some(e);
                break;
            }
        }
    }
    let error = error.expect("the limit is reached");
    assert!(matches!(&error, RuntimeError::CodeMemory(e) if e.to_string().contains("262144")), "{error}");
    assert!(runtime.stats().code.live <= LIMIT && kernels.len() > 3);
    drop(kernels);
    assert_eq!(runtime.stats().code.live, 0);
    assert_right(&runtime, &problem("matmul f32 7x5:5x3"));
}

/// The system itself refuses: a process whose memory may not become executable. Once per process, so in another. An emulated
/// program's memory never is executable for the system.
#[test]
#[cfg(not(target_arch = "aarch64"))]
fn a_system_that_forbids_executable_memory_is_an_error() {
    const ASKED: &str = "KILN_TEST_NO_EXECUTABLE_MEMORY";
    if std::env::var_os(ASKED).is_none() {
        let output = this_test("a_system_that_forbids_executable_memory_is_an_error").env(ASKED, "1").output().unwrap();
        assert_passed(&output);
        return;
    }
    let runtime = Runtime::builder().threads(1).build().unwrap();
    // PR_SET_MDWE: what is writable cannot become executable.
    // SAFETY: changes what later system calls of this process may do, no memory.
    assert_eq!(unsafe { libc::prctl(65, 1, 0, 0, 0) }, 0, "this test needs Linux 6.3 or later");
    let (small, options) = (problem("matmul f32 2x3:3x4"), Options::default());
    let e = runtime.kernel(&small).unwrap_err();
    assert!(e.to_string().contains("cannot make 4096 bytes of code memory executable"), "{e}");
    assert_eq!((runtime.stats().code.live, runtime.cached(&small, &options)), (0, None));
    assert!(runtime.kernel(&small).is_err() && runtime.stats().kernels.compilations == 1, "not tried again at once");
}

/// This program, running one of its tests, through the runner if there is one.
fn this_test(name: &str) -> Command {
    let runner = std::env::var("KILN_TEST_RUNNER").unwrap_or_default();
    let mut words: Vec<String> = runner.split_whitespace().map(str::to_owned).collect();
    words.push(std::env::current_exe().unwrap().to_str().unwrap().into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", name, "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
    command
}

/// Fails unless a process ran its one test, which passed.
#[track_caller]
fn assert_passed(output: &std::process::Output) {
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

fn builder(folder: &Path) -> RuntimeBuilder {
    // SAFETY: what is in the directories of these tests was compiled by their processes, or is damaged by accident.
    unsafe { Runtime::builder().threads(1).cache_dir(folder) }
}

fn with_folder(folder: &Path) -> Runtime {
    builder(folder).build().unwrap()
}

fn kernels_in(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "kernel")).collect()
}

/// The pack in a file of a cache directory, which ends with a seal.
fn pack_in(path: &Path) -> Pack {
    const SEAL: usize = 32;
    let mut bytes = fs::read(path).unwrap();
    assert!(bytes.len() > SEAL, "{}", path.display());
    bytes.truncate(bytes.len() - SEAL);
    Pack::parse(bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn directories_that_cannot_be_written_cost_nothing_but_the_compilation() {
    // The kernel's own file systems refuse new files, also to root, who may write everywhere else.
    for folder in ["/proc/kiln-memo", "/dev/null/cache", "/sys/kernel"] {
        let runtime = with_folder(Path::new(folder));
        (2..8).for_each(|n| assert_right(&runtime, &problem(&format!("matmul f32 {n}x4:4x5"))));
        assert_eq!((runtime.stats().from_files, runtime.stats().kernels.compilations), (0, 6));
        let [Notice::CacheDir { path, .. }] = &runtime.notices()[..] else { panic!("{:?}", runtime.notices()) };
        assert_eq!(path, Path::new(folder));
    }
}

/// A full disk: /dev/full is a file to which every write fails with ENOSPC, and a small tmpfs fails so too; here a limit on the
/// size of files does, in another process.
#[test]
fn a_full_disk_costs_nothing_but_the_compilation() {
    const FOLDER: &str = "KILN_TEST_FULL_DISK";
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let output =
            this_test("a_full_disk_costs_nothing_but_the_compilation").env(FOLDER, folder.path()).output().unwrap();
        assert_passed(&output);
        assert!(kernels_in(folder.path()).is_empty());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["key"], "what could not be finished is removed");
        return;
    };
    let limit = libc::rlimit { rlim_cur: 512, rlim_max: 512 };
    // SAFETY: ignoring a signal and limiting the size of files touch no memory. With the signal ignored, writing more is EFBIG.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
    let runtime = with_folder(&folder);
    (2..8).for_each(|n| assert_right(&runtime, &problem(&format!("matmul f32 {n}x4:4x5"))));
    assert_eq!(runtime.stats().kernels.compilations, 6);
    let [Notice::CacheWrite { error, .. }] = &runtime.notices()[..] else { panic!("{:?}", runtime.notices()) };
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
}

#[test]
fn a_directory_that_disappears_is_done_without() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("cache");
    let runtime = with_folder(&folder);
    assert_right(&runtime, &problem("matmul f32 3x4:4x5"));
    assert_eq!(kernels_in(&folder).len(), 1);
    fs::remove_dir_all(&folder).unwrap();
    (4..9).for_each(|n| assert_right(&runtime, &problem(&format!("matmul f32 {n}x4:4x5"))));
    runtime.clear();
    assert_right(&runtime, &problem("matmul f32 3x4:4x5"));
}

#[test]
fn a_pack_that_disappears_or_changes_under_a_runtime_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let (file, problem) = (folder.path().join("x.pack"), problem("matmul f32 6x7:7x8 +relu"));
    let target = Runtime::builder().build().unwrap().target().clone();
    let artifact = kiln_compiler::compile(&problem, &target, &Options::default()).unwrap();
    pack::write(&file, &target, [&Package::of(&artifact, &Options::default())]).unwrap();
    // SAFETY: the pack is of a kernel that was just compiled, and is read before it is cut off.
    let runtime = unsafe { Runtime::builder().threads(1).pack(&file) }.build().unwrap();
    // Cut off and overwritten in place, as no careful program does.
    let mut open = fs::OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
    open.write_all(&[0xcc; 64]).unwrap();
    assert_right(&runtime, &problem);
    assert_eq!(runtime.stats().from_files, 1);
    // SAFETY: what the file holds now is no pack, which is noticed.
    let late = unsafe { Runtime::builder().threads(1).pack(&file) }.build().unwrap();
    assert!(late.packs().next().unwrap().1.is_err());
    assert_right(&late, &problem);
    assert_eq!(late.stats().from_files, 0);
}

/// Processes that fill one directory, some of which are killed at any moment: every file there is whole.
#[test]
fn killed_writers_leave_whole_files() {
    const FOLDER: &str = "KILN_TEST_KILLED_WRITER";
    let shape = |i: u64| problem(&format!("matmul f32 {}x{}:{1}x{}", 1 + i % 5, 1 + i % 7, 1 + i % 11));
    if let Some(folder) = std::env::var_os(FOLDER) {
        // Without a cache in memory each request reads or writes a file, until the parent has had enough.
        let runtime = builder(Path::new(&folder)).cache_capacity(0).cache_dir_bytes(40_000).build().unwrap();
        for i in 0.. {
            assert_right(&runtime, &shape(i));
            if i % 3 == 0 {
                kernels_in(Path::new(&folder)).first().map(fs::remove_file);
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let emulated = cfg!(target_arch = "aarch64");
    let (rounds, mut random) = (if emulated { 2 } else { 8 }, Random(17));
    for _ in 0..rounds {
        let spawn = |_| {
            let mut child = this_test("killed_writers_leave_whole_files");
            child.env(FOLDER, folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut children: Vec<_> = (0..2).map(spawn).collect();
        // They write hundreds of files a second.
        let lifetime = if emulated { 2_000 } else { 150 };
        std::thread::sleep(Duration::from_millis(lifetime + random.below(100)));
        for child in &mut children {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "a writer failed by itself: {ended:?}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for path in kernels_in(folder.path()) {
            assert!(pack_in(&path).packages().all(|package| package.is_ok()));
        }
    }
    let left = kernels_in(folder.path());
    let problems: Vec<Problem> =
        left.iter().flat_map(|path| pack_in(path).kernels().map(|k| k.0.clone()).collect::<Vec<_>>()).collect();
    assert!(!problems.is_empty(), "nothing was written");
    let runtime = with_folder(folder.path());
    problems.iter().for_each(|problem| assert_right(&runtime, problem));
    assert_eq!(
        (runtime.stats().from_files, runtime.stats().kernels.compilations),
        (problems.len() as u64, problems.len() as u64)
    );
    (0..40).for_each(|i| assert_right(&runtime, &shape(i)));
}

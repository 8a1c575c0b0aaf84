//! Commands come to an end, whatever the cache, the disk, the clock, threads and files do.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::onnx_file::{self, network, network_beside};
use crate::{SMALL, command, kiln};

/// The result of a command.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// The longest that a command here may take, on a machine that does other things too. Emulators take their time.
const LONGEST: Duration = Duration::from_secs(if cfg!(target_arch = "aarch64") { 240 } else { 60 });

/// Runs a command, which is killed and fails the test if it does not come to an end.
#[track_caller]
fn ends(command: &mut Command) -> Ended {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool starts");
    let text = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = vec![];
            from.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        })
    };
    let (stdout, stderr) =
        (child.stdout.take().map(|o| text(Box::new(o))), child.stderr.take().map(|e| text(Box::new(e))));
    let status = wait(&mut child, start, command);
    let join = |reader: Option<thread::JoinHandle<String>>| reader.map_or(String::new(), |r| r.join().unwrap());
    let ended = Ended { status, stdout: join(stdout), stderr: join(stderr) };
    assert!(!ended.stderr.contains("panicked"), "{command:?}: {}", ended.stderr);
    ended
}

#[track_caller]
fn wait(child: &mut Child, start: Instant, command: &Command) -> ExitStatus {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} did not end in {LONGEST:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn two_problems(folder: &Path) -> String {
    let file = folder.join("two.txt");
    fs::write(&file, "matmul f32 2x3:3x4\nmatmul f32 5x6:6x7\n").unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_cache_without_room_is_not_compiled_into_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let list = two_problems(folder.path());
    let cases = [
        ("KILN_CACHE_CAPACITY", "1", 1),
        ("KILN_CACHE_CAPACITY", "0", 0),
        ("KILN_CACHE_BYTES", "4096", 1),
        ("KILN_CACHE_BYTES", "0", 0),
    ];
    for (name, value, kept) in cases {
        let ended = ends(command().args(["warm", "--batch", &list]).env(name, value));
        assert!(ended.status.success(), "{}", ended.stderr);
        let words = format!("the cache keeps {kept} of 2 kernels");
        assert!(ended.stdout.contains(&words) && ended.stdout.contains(name), "{name}={value}: {}", ended.stdout);
        for args in [
            &["run", SMALL][..],
            &["bench", SMALL, "--min-ms", "1"],
            &["verify", "--batch", &list],
            &["family", "ip f32 mb?ic16oc16", "--values", "3,5", "--min-ms", "5"],
            &["model", "bench", "bert-tiny", "--min-ms", "1", "--quiet"],
        ] {
            let ended = ends(command().args(args).env(name, value));
            assert!(ended.status.success(), "{name}={value} {args:?}: {}", ended.stderr);
        }
    }
    let json = ends(command().args(["warm", "--json", "--batch", &list]).env("KILN_CACHE_CAPACITY", "1")).stdout;
    assert!(json.contains("\"kept\":1") && !json.contains("hit_ns"), "{json}");
}

/// Lines about kernels come from other threads than the one that prints results, and may find nobody that reads them.
#[test]
fn verbose_lines_of_other_threads_wait_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let list = two_problems(folder.path());
    for args in [
        &["warm", "--threads", "2", "--batch", &list][..],
        &["run", "matmul f32 512x512:512x512", "--threads", "2", "--repeat", "2"],
        &["family", "ip f32 mb?ic16oc16", "--values", "3", "--min-ms", "1", "--threads", "2"],
        &["model", "bench", "bert-tiny", "--threads", "2", "--min-ms", "1", "--quiet"],
    ] {
        let ended = ends(command().args(args).env("KILN_VERBOSE", "all"));
        assert!(ended.status.success() && ended.stdout.contains("primitive,create"), "{args:?}: {}", ended.stderr);
        let mut child = command()
            .args(args)
            .env("KILN_VERBOSE", "all")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let start = Instant::now();
        let status = wait(&mut child, start, &command());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(status.success() && !stderr.contains("panicked"), "{args:?}: {status}, {stderr}");
    }
}

#[test]
fn threads_are_limited_and_start_at_once() {
    for threads in ["0", "1025", "4096", "100000000"] {
        for args in [&["run", SMALL][..], &["model", "bench", "bert-tiny"], &["bench", "--worker", threads]] {
            let more = if args.contains(&"--worker") { &[][..] } else { &["--threads", threads] };
            kiln(&[args, more].concat()).refuses(&["from 1 to 1024"]);
        }
    }
    // An emulator takes a second for each of a few dozen.
    let most = if cfg!(target_arch = "aarch64") { "64" } else { "1024" };
    for args in [
        &["run", "matmul f32 512x512:512x512", "--repeat", "2"][..],
        &["model", "bench", "bert-tiny", "--min-ms", "100", "--quiet"],
    ] {
        let ended = ends(command().args(args).args(["--threads", most]));
        assert!(ended.status.success(), "{args:?}: {}", ended.stderr);
        assert!(ended.stdout.contains(&format!("{most} threads")), "{}", ended.stdout);
    }
    let streams = ["model", "bench", "bert-tiny", "--min-ms", "10", "--quiet", "--threads", "1", "--streams", most];
    let ended = ends(command().args(streams));
    assert!(ended.status.success() && ended.stdout.contains(&format!("{most} streams")), "{}", ended.stderr);
}

/// Devices that never end, and pipes that nobody writes to.
#[test]
fn what_has_no_end_is_not_read_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // As a network, as its weights, and as an input of its test.
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::os::unix::fs::symlink(&pipe, at("pipe.onnx")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
    fs::write(at("beside_pipe.onnx"), network_beside("pipe", 4)).unwrap();
    fs::write(at("beside_zero.onnx"), network_beside("zero", 4)).unwrap();
    fs::write(at("small.onnx"), network("Relu")).unwrap();
    onnx_file::test(&folder.path().join("tested"), "Relu", [0.0; 4]);
    let input = folder.path().join("tested/test_data_set_0/input_0.pb");
    fs::remove_file(&input).unwrap();
    std::os::unix::fs::symlink(&pipe, input).unwrap();
    let names = ["pipe.onnx", "beside_pipe.onnx", "beside_zero.onnx", "tested", "small.onnx"].map(at);
    let [onnx_pipe, beside_pipe, beside_zero, tested, small] = names.each_ref().map(String::as_str);
    let pipe = pipe.to_str().unwrap();
    let zero = || Stdio::from(fs::File::open("/dev/zero").unwrap());
    for (args, input, words) in [
        (&["run", "-"][..], zero(), "expected a list of problems"),
        (&["warm", "--batch", "/dev/zero"], Stdio::null(), "expected a list of problems"),
        (&["bench", "--worker", "1"], zero(), "a line has more than 65536 bytes"),
        (&["pack", "list", "/dev/zero"], Stdio::null(), "not a regular file"),
        (&["pack", "list", pipe], Stdio::null(), "not a regular file"),
        (&["warm", SMALL, "--pack", pipe], Stdio::null(), "not a regular file"),
        (&["warm", SMALL, "--pack", "/dev/zero"], Stdio::null(), "not a regular file"),
        (&["model", "run", "bert-tiny", "--quiet", "--pack", pipe], Stdio::null(), "not a regular file"),
        (&["model", "run", onnx_pipe], Stdio::null(), "not a regular file"),
        (&["model", "run", beside_pipe], Stdio::null(), "not a regular file"),
        (&["model", "run", beside_zero], Stdio::null(), "not a regular file"),
        (&["model", "test", tested], Stdio::null(), "not a regular file"),
        (&["model", "run", small, "--input", &format!("x={pipe}")], Stdio::null(), "not a regular file"),
        (&["model", "run", small, "--input", "x=/dev/zero"], Stdio::null(), "not a regular file"),
        (&["run", SMALL, "--lhs", pipe], Stdio::null(), "not a regular file"),
    ] {
        let ended = ends(command().args(args).stdin(input));
        // A test that fails is told of on standard output.
        let (code, said) = if args[1] == "test" { (1, &ended.stdout) } else { (2, &ended.stderr) };
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

/// Weights that are cut off while they are mapped: the command says so, and is not killed.
#[test]
fn a_network_whose_weights_are_cut_off_ends_with_a_message() {
    const SIZE: u64 = 4096;
    let folder = tempfile::tempdir().unwrap();
    let (network, weights) = (folder.path().join("net.onnx"), folder.path().join("w.bin"));
    fs::write(&network, network_beside("w.bin", SIZE)).unwrap();
    let file = fs::File::create(&weights).unwrap();
    let mut said = 0;
    // It may be done with the weights before they are cut off.
    for _ in 0..50 {
        file.set_len(4 * SIZE * SIZE).unwrap();
        let mut command = command();
        command.args(["model", "run", network.to_str().unwrap(), "--quiet"]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let maps = format!("/proc/{}/maps", child.id());
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() && start.elapsed() < LONGEST {
            if fs::read_to_string(&maps).is_ok_and(|maps| maps.contains("w.bin")) {
                file.set_len(4096).unwrap();
                break;
            }
        }
        let status = wait(&mut child, start, &command);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        match status.code() {
            Some(0) => {}
            Some(2) if stderr.contains("it was cut off while it was used") => {
                assert!(stderr.contains("w.bin"), "{stderr}");
                said += 1;
            }
            // It was cut off before it was mapped.
            Some(2) if stderr.contains("bytes 0 to") => {}
            _ => panic!("{status}: {stderr}"),
        }
        if said == 3 {
            return;
        }
    }
    panic!("weights were never cut off in time: {said}");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    for args in [
        &["run", SMALL][..],
        &["dump", SMALL],
        &["verify", SMALL],
        &["bench", SMALL, "--min-ms", "1"],
        &["warm", SMALL],
        &["model", "run", "bert-tiny", "--quiet"],
        &["model", "bench", "bert-tiny", "--min-ms", "1", "--quiet"],
    ] {
        let mut child = command().args(args).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        let status = wait(&mut child, Instant::now(), &command());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains("cannot write: No space left on device"), "{args:?}: {stderr}");
    }
    kiln(&["bench", SMALL, "--min-ms", "1", "--json", "/dev/full"]).refuses(&["/dev/full", "No space left"]);
    // A device is not replaced by a file, as a pack of the name would be.
    kiln(&["pack", "build", "/dev/full", SMALL]).refuses(&["/dev/full", "not a regular file"]);
    assert!(!fs::metadata("/dev/full").unwrap().is_file());
}

/// A clock that stands still, or creeps: what measures says so. A library that is loaded before the C library has
/// the clock; only programs of the host can have it.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_clock_that_stands_still_ends_what_measures_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let library = |name: &str, advance: &str| {
        let (source, library) = (folder.path().join(format!("{name}.c")), folder.path().join(format!("{name}.so")));
        let text = format!(
            "#include <time.h>\nstatic _Atomic long ns;\n\
             int clock_gettime(clockid_t clock, struct timespec *t) {{\n\
             (void)clock; ns += {advance}; t->tv_sec = 1000; t->tv_nsec = ns; return 0; }}\n"
        );
        fs::write(&source, text).unwrap();
        let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
        assert!(status.success(), "a C compiler is there, as for building");
        library
    };
    let list = two_problems(folder.path());
    // Each has a loop of its own but the last one, which does not measure.
    let commands: &[(&[&str], &str)] = &[
        (&["bench", SMALL], ""),
        (&["bench", "--worker", "1"], "prep gemm 8 8 8\nrun 1000000\nquit\n"),
        (&["warm", "--batch", &list], ""),
        (&["model", "bench", "bert-tiny", "--quiet"], ""),
        (&["verify", SMALL], ""),
    ];
    let (still, creeping) = (library("still", "0"), library("creeping", "1"));
    let cases = commands.iter().map(|command| (&still, command)).chain([(&creeping, &commands[0])]);
    thread::scope(|scope| {
        for (library, (args, input)) in cases {
            scope.spawn(move || {
                let mut command = command();
                command.args(*args).env("LD_PRELOAD", library).stdin(Stdio::piped());
                let ended = match input {
                    &"" => ends(command.stdin(Stdio::null())),
                    lines => {
                        let mut file = tempfile::tempfile().unwrap();
                        std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
                        std::io::Seek::rewind(&mut file).unwrap();
                        ends(command.stdin(file))
                    }
                };
                let said = format!("{}{}", ended.stdout, ended.stderr);
                match args.contains(&"verify") {
                    true => assert!(ended.status.success(), "{args:?}: {said}"),
                    false => assert!(said.contains("stands still"), "{args:?}: {said}"),
                }
            });
        }
    });
}

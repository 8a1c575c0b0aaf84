//! Threads of the embedding program: any kind of pool gives the same bits, nested use does not deadlock, and panics and executors
//! that break their word harm nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_jit::{Executor, FamilyOptions, Input, Options, Problem, Runtime, RuntimeBuilder};
use kiln_tests::data::{Data, Values};

/// Large enough to be divided, small enough for an emulator.
const LARGE: &str = "matmul f32 96x256:256x512 +bias+relu";

fn run(runtime: &Runtime, data: &Data, problem: &Problem) -> Values {
    let kernel = runtime.kernel(problem).unwrap();
    assert!(kernel.tasks() > 1);
    let mut dst = data.before.clone();
    kernel.run(data.args(&mut dst)).unwrap();
    dst
}

fn rayon_pool(threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

/// New threads for each call, which nobody should do in earnest.
struct Scoped(AtomicUsize);

impl Executor for Scoped {
    fn threads(&self) -> usize {
        3
    }

    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| (0..count).for_each(|n| drop(scope.spawn(move || work(n)))));
    }
}

#[test]
fn every_kind_of_pool_gives_the_same_bits() {
    let problem: Problem = LARGE.parse().unwrap();
    let data = Data::reals(&problem, 3);
    let scoped = Arc::new(Scoped(AtomicUsize::new(0)));
    let backwards = |count: usize, work: &(dyn Fn(usize) + Sync)| (0..count).rev().for_each(work);
    let builders: Vec<RuntimeBuilder> = vec![
        Runtime::builder().threads(1),
        Runtime::builder().threads(2),
        Runtime::builder().threads(5),
        Runtime::builder().threads(if cfg!(target_arch = "aarch64") { 64 } else { kiln_jit::MAX_THREADS }),
        Runtime::builder().rayon_pool(rayon_pool(1)),
        Runtime::builder().rayon_pool(rayon_pool(3)),
        Runtime::builder().executor(scoped.clone()),
        Runtime::builder().executor(Arc::new((4, backwards))),
    ];
    let results = builders.into_iter().map(|b| run(&b.build().unwrap(), &data, &problem).bytes());
    let results: Vec<_> = results.collect();
    assert!(results.iter().all(|bytes| *bytes == results[0]));
    assert!(data.wrong(&Values::from_bytes(problem.dtypes().dst, &results[0])).is_none());
    assert_eq!(scoped.0.load(Ordering::Relaxed), 1);
}

/// Numbers of threads, of which most are more than any machine for tests has.
const COUNTS: [usize; 7] = [1, 2, 3, 7, 16, 64, 192];

/// Kernels of every form, cut along rows, columns, batches and groups; with blocks of K, copies, fused tensors and borders.
const DIVIDED: [&str; 13] = [
    "matmul f32 192x256:256x768 +bias+relu",
    "matmul f32 40x3072:3072x96 +add:ab+mul:b",
    "matmul f32 6x64x64:6x64x96 +scale:0.125",
    "ip f32 mb1ic512oc1024 +bias",
    "ip bf16 mb96ic256oc384 +bias+gelu_erf",
    "ip f16 mb96ic256oc384 +bias+gelu_erf",
    "ip f32 mb70ic512oc160 fpmath=bf16 +bias+add:ab",
    "conv f32 mb2ic64ih14oc72kh3ph1 +bias+add:abcd+relu",
    "conv f32 mb1ic192ih14oc96kh3ph1 stag=abx dtag=abx +bias",
    "conv f32 mb1ic64ih20oc64kh3sh2ph1 fpmath=bf16 +bias",
    "conv f32 mb1ic256ih14oc96kh1 stag=abx dtag=abx +relu",
    "conv f32 g4mb1ic64ih14oc64kh3ph1",
    "conv f32 g64mb1ic64ih28oc64kh3ph1 +bias",
];

/// Rows that are free: tiles of rows and blocks of columns are divided.
const FREE: [&str; 2] = ["ip f32 mb?ic256oc384 +bias+relu", "ip f32 mb?ic256oc384 fpmath=bf16 +bias"];

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let runtimes = COUNTS.map(|threads| Runtime::builder().threads(threads).build().unwrap());
    let mut most = 0;
    for (seed, text) in DIVIDED.into_iter().enumerate() {
        let problem: Problem = text.parse().unwrap();
        let data = Data::reals(&problem, seed as u64);
        for constant_weights in [false, true] {
            let options = Options { constant_weights, ..Options::default() };
            let bytes = runtimes.each_ref().map(|runtime| {
                let kernel = runtime.kernel_with(&problem, &options).unwrap();
                assert!(kernel.tasks() >= 2, "{kernel:?} has {} tasks", kernel.tasks());
                most = most.max(kernel.tasks());
                let packed = kernel.weights_layout().map(|_| kernel.pack_weights(data.inputs[1].input()).unwrap());
                let weights = packed.as_ref().map_or(data.inputs[1].input(), Input::from);
                let mut dst = data.before.clone();
                kernel.run(data.args_with(weights, &mut dst)).unwrap();
                let wrong = data.wrong(&dst);
                assert!(wrong.is_none(), "{text} on {} threads: {}", runtime.threads(), wrong.unwrap());
                dst.bytes()
            });
            for (bytes_of, threads) in bytes.iter().zip(COUNTS) {
                assert!(*bytes_of == bytes[0], "{text} on {threads} threads, constant weights: {constant_weights}");
            }
        }
    }
    assert!(most >= 192, "no kernel has a task for each thread, but at most {most}");
    for (pattern, n) in FREE.into_iter().flat_map(|pattern| [(pattern, 96), (pattern, 7)]) {
        let options = FamilyOptions { constant_weights: true, hot_calls: 0, ..FamilyOptions::default() };
        let bytes = runtimes.each_ref().map(|runtime| {
            let family = runtime.family(pattern, &options).unwrap();
            let data = Data::reals(&family.problem(n).unwrap(), n);
            let packed = family.weights_layout().map(|_| family.pack_weights(data.inputs[1].input()).unwrap());
            let weights = packed.as_ref().map_or(data.inputs[1].input(), Input::from);
            let mut dst = data.before.clone();
            family.run(n, data.args_with(weights, &mut dst)).unwrap();
            assert!(data.wrong(&dst).is_none(), "{pattern} of {n}");
            dst.bytes()
        });
        assert!(bytes.iter().all(|bytes_of| *bytes_of == bytes[0]), "{pattern} of {n}");
    }
}

/// A system that starts no more threads: a process may have only so many, or no memory is left for their stacks. Limits stay, so in
/// another process; an emulator has limits of its own.
#[test]
#[cfg(not(target_arch = "aarch64"))]
fn threads_that_the_system_refuses_are_an_error() {
    const ASKED: &str = "KILN_TEST_THREAD_LIMIT";
    const NOBODY: libc::uid_t = 65_534;
    let Ok(kind) = std::env::var(ASKED) else {
        for kind in ["processes", "memory"] {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "threads_that_the_system_refuses_are_an_error", "--nocapture", "--test-threads=1"])
                .env(ASKED, kind)
                .output()
                .unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && printed.contains("1 passed"), "{kind}: {printed}");
        }
        return;
    };
    // Loads what it needs.
    drop(Runtime::builder().threads(2).build().unwrap());
    let limit = |resource, most| {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: a limit touches no memory.
        assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
    };
    match &*kind {
        "processes" => {
            // Root has no such limit. The directory of the test need not be this user's any more.
            // SAFETY: changes who this process is, no memory.
            let is_root = unsafe { libc::geteuid() == 0 };
            // SAFETY: as above.
            assert!(!is_root || unsafe { libc::setuid(NOBODY) } == 0);
            limit(libc::RLIMIT_NPROC, 1);
        }
        // Room for a few stacks of 2 MiB.
        _ => {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            let now: u64 = pages.split(' ').next().unwrap().parse().unwrap();
            limit(libc::RLIMIT_AS, now * 4096 + (64 << 20));
        }
    }
    let start = std::time::Instant::now();
    let e = Runtime::builder().threads(1024).build().unwrap_err();
    assert!(matches!(&e, kiln_jit::RuntimeError::Threads { threads: 1024, .. }), "{e}");
    assert!(e.to_string().contains("the system starts no more: ") && start.elapsed().as_secs() < 20, "{e}");
    // The others have ended, and one thread is always there.
    let problem: Problem = LARGE.parse().unwrap();
    let data = Data::integers(&problem, 9);
    assert!(data.wrong(&run(&Runtime::builder().threads(1).build().unwrap(), &data, &problem)).is_none());
}

/// As many threads as processors that the program may use. The test's own thread is limited, whose mask is what counts.
#[test]
#[cfg(target_os = "linux")]
fn there_are_no_more_threads_than_processors_in_the_mask() {
    let limited = || {
        // SAFETY: a set of processors is valid if it is all zeros, and these calls read and write it within its size.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set), 0);
            let first = (0..libc::CPU_SETSIZE as usize).find(|i| libc::CPU_ISSET(*i, &set)).unwrap();
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(first, &mut one);
            assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one), 0);
        }
        Runtime::builder().build().unwrap().threads()
    };
    assert_eq!(std::thread::spawn(limited).join().unwrap(), 1);
}

/// Threads without work sleep soon. In another process, since the time of all threads of this one counts.
#[test]
#[cfg(not(target_arch = "aarch64"))]
fn an_idle_runtime_uses_no_processor_time() {
    use std::time::Duration;

    const ASKED: &str = "KILN_TEST_IDLE";
    if std::env::var_os(ASKED).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_idle_runtime_uses_no_processor_time", "--nocapture", "--test-threads=1"])
            .env(ASKED, "1")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        return assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    }
    let used = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes the time.
        assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) }, 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let problem: Problem = LARGE.parse().unwrap();
    let data = Data::integers(&problem, 9);
    let runtime = Runtime::builder().threads(4).spin(Duration::from_micros(100)).build().unwrap();
    assert!(data.wrong(&run(&runtime, &data, &problem)).is_none());
    std::thread::sleep(Duration::from_millis(10));
    let before = used();
    std::thread::sleep(Duration::from_millis(300));
    let idle = used() - before;
    assert!(idle < Duration::from_millis(3), "{idle:?} in 300 ms");
}

#[test]
fn small_problems_stay_on_the_calling_thread() {
    let scoped = Arc::new(Scoped(AtomicUsize::new(0)));
    let runtime = Runtime::builder().executor(scoped.clone()).build().unwrap();
    let problem: Problem = "matmul f32 16x16:16x16".parse().unwrap();
    let data = Data::integers(&problem, 1);
    let mut dst = data.before.clone();
    runtime.kernel(&problem).unwrap().run(data.args(&mut dst)).unwrap();
    assert!(data.wrong(&dst).is_none());
    assert_eq!(scoped.0.load(Ordering::Relaxed), 0);
}

/// Calls from the very threads that calls are divided among.
#[test]
fn nested_calls_finish() {
    let problem: Problem = LARGE.parse().unwrap();
    let data = Data::integers(&problem, 9);
    let pool = rayon_pool(2);
    let runtime = Runtime::builder().rayon_pool(pool.clone()).build().unwrap();
    let call = || assert!(data.wrong(&run(&runtime, &data, &problem)).is_none());
    pool.install(|| {
        rayon::join(call, || rayon::join(call, call));
    });
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(|| pool.install(call)))));
}

#[test]
fn an_executor_that_does_not_do_its_work_is_an_error() {
    let lazy = |count: usize, work: &(dyn Fn(usize) + Sync)| (1..count).for_each(work);
    let dying = |count: usize, work: &(dyn Fn(usize) + Sync)| {
        (0..count).for_each(|n| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match n {
                0 => panic!("expected by the test"),
                _ => work(n),
            }));
            drop(result);
        });
    };
    let problem: Problem = LARGE.parse().unwrap();
    let data = Data::integers(&problem, 9);
    let executors: [Arc<dyn Executor>; 2] = [Arc::new((3, lazy)), Arc::new((3, dying))];
    for executor in executors {
        let runtime = Runtime::builder().executor(executor).build().unwrap();
        let kernel = runtime.kernel(&problem).unwrap();
        let mut dst = data.before.clone();
        let e = kernel.run(data.args(&mut dst)).unwrap_err();
        assert!(e.to_string().contains("2 of 3 calls"), "{e}");
        // The runtime goes on.
        kernel.run_serial(data.args(&mut dst)).unwrap();
        assert!(data.wrong(&dst).is_none());
    }
    let twice = |count: usize, work: &(dyn Fn(usize) + Sync)| (0..2 * count).for_each(|n| work(n % count));
    let runtime = Runtime::builder().executor(Arc::new((3, twice))).build().unwrap();
    let kernel = runtime.kernel(&problem).unwrap();
    let e = kernel.run(data.args(&mut data.before.clone())).unwrap_err();
    assert!(e.to_string().contains("6 calls where 3 were asked for"), "{e}");
    let none = |_: usize, _: &(dyn Fn(usize) + Sync)| {};
    assert!(Runtime::builder().executor(Arc::new((0, none))).build().is_err());
}

/// A panic while one thread compiles or reports leaves the runtime as it was.
#[test]
fn a_panic_poisons_nothing() {
    let runtime = Runtime::builder()
        .threads(2)
        .verbose("profile_create")
        .verbose_sink(|line| assert!(!line.contains("13x13:13x13"), "expected by the test"))
        .build()
        .unwrap();
    let problem = |n: u64| Problem::matmul(n, n, n).build().unwrap();
    let panicked = std::thread::scope(|scope| scope.spawn(|| runtime.kernel(&problem(13))).join().is_err());
    assert!(panicked);
    assert!(runtime.kernel(&problem(14)).is_ok());
    let requests: Vec<_> = (1..9).map(|n| (problem(n), Options::default())).collect();
    assert!(runtime.warm(&requests, |_| {}).is_empty());
    assert_eq!(runtime.stats().kernels.entries, 9);
    let live = runtime.stats().code.live;
    runtime.clear();
    assert_eq!((runtime.stats().code.live, live > 0), (0, true), "nothing of the failed one is left");
}

/// Calls from several threads at once, each with threads of its own, and more calls than there are streams.
#[test]
fn streams_give_the_same_bits() {
    let problem: Problem = LARGE.parse().unwrap();
    let data = Data::reals(&problem, 3);
    let expected = run(&Runtime::builder().threads(1).build().unwrap(), &data, &problem).bytes();
    for (threads, spin) in [(2, 0), (3, 50)] {
        let spin = std::time::Duration::from_micros(spin);
        let runtime = Runtime::builder().threads(threads).streams(2).spin(spin).build().unwrap();
        assert_eq!(runtime.threads(), threads);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| assert!(run(&runtime, &data, &problem).bytes() == expected)));
            }
        });
    }
}

/// As many streams have calls at once as there are.
#[test]
fn each_stream_has_threads_of_its_own() {
    let runtime = Runtime::builder().threads(2).streams(2).build().unwrap();
    let inside = AtomicUsize::new(0);
    // Four threads meet, two of each call: with one stream they never would.
    let meet = |_, _| {
        inside.fetch_add(1, Ordering::SeqCst);
        let start = std::time::Instant::now();
        while inside.load(Ordering::SeqCst) < 4 && start.elapsed().as_secs() < 60 {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| runtime.parallel_for(2, &meet).unwrap()))));
    assert_eq!(inside.into_inner(), 4);
}

#[test]
fn work_is_done_on_no_more_threads_than_are_asked_for() {
    for builder in [Runtime::builder().threads(4), Runtime::builder().rayon_pool(rayon_pool(4))] {
        let runtime = builder.build().unwrap();
        for threads in 0..6 {
            let (at_once, most, sum) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            let work = |begin, end| {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_micros(200));
                sum.fetch_add((begin..end).sum::<u64>() as usize, Ordering::Relaxed);
                at_once.fetch_sub(1, Ordering::SeqCst);
            };
            runtime.parallel_for_on(threads, 32, &work).unwrap();
            assert_eq!(sum.into_inner(), 32 * 31 / 2);
            assert!(most.into_inner() <= threads.max(1), "{threads}");
        }
    }
}

/// In another process, since the environment is read by all of this one.
#[test]
fn the_environment_sets_streams_and_spinning() {
    const ASKED: &str = "KILN_TEST_THREAD_SETTINGS";
    if let Ok(expected) = std::env::var(ASKED) {
        let outcome = Runtime::builder().threads(2).build().map(|_| "fine".to_string());
        assert!(outcome.unwrap_or_else(|e| e.to_string()).contains(&expected), "{expected}");
        return;
    }
    for (streams, spin, expected) in [
        ("3", "0", "fine"),
        ("0", "20", "a number of streams from 1 to 1024"),
        ("513", "", "513 streams of 2 threads: expected from 1 to 1024 threads in all; lower KILN_NUM_STREAMS"),
        ("", "1ms", "a number of microseconds"),
    ] {
        let runner = std::env::var("KILN_TEST_RUNNER").unwrap_or_default();
        let mut words = runner.split_whitespace().map(Into::into).chain([std::env::current_exe().unwrap()]);
        let output = std::process::Command::new(words.next().unwrap())
            .args(words)
            .args(["--exact", "the_environment_sets_streams_and_spinning"])
            .envs([(ASKED, expected), ("KILN_NUM_STREAMS", streams), ("KILN_SPIN", spin)])
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{expected}: {printed}");
    }
}

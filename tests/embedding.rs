//! The runtime as a program embeds it: shared by threads, bounded in memory, strict about arguments, repeatable.

use std::sync::{Arc, Barrier};

use kiln_compiler::schedule::Schedule;
use kiln_runtime::{Args, Kernel, Options, Problem, Runtime, RuntimeError};
use kiln_tests::data::{Data, Random};
use kiln_tests::targets;

fn problem(text: &str) -> Problem {
    text.parse().unwrap()
}

/// The result for `data` on the runtime's threads.
fn run(kernel: &Kernel, data: &Data) -> Vec<f32> {
    let mut dst = vec![f32::NAN; kernel.problem().operands().last().unwrap().len() as usize];
    kernel.run(arguments(data, &mut dst)).unwrap();
    dst
}

fn arguments<'a>(data: &'a Data, dst: &'a mut [f32]) -> Args<'a> {
    let args = Args::new(&data.lhs, &data.rhs, dst);
    if data.bias.is_empty() { args } else { args.bias(&data.bias) }
}

#[test]
fn everything_shared_is_send_and_sync() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Runtime>();
    shared::<Kernel>();
    shared::<Arc<Kernel>>();
    shared::<RuntimeError>();
    shared::<Options>();
}

#[test]
fn threads_that_race_for_a_kernel_compile_it_once() {
    const THREADS: usize = 8;
    const ROUNDS: u64 = 20;
    let runtime = Runtime::builder().threads(1).build().unwrap();
    for round in 1..=ROUNDS {
        let problem = problem(&format!("matmul f32 {round}x19:19x33 +bias+relu"));
        let start = Barrier::new(THREADS);
        let ask = || {
            start.wait();
            runtime.kernel(&problem).unwrap()
        };
        let kernels: Vec<_> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..THREADS).map(|_| s.spawn(ask)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(kernels.iter().all(|k| Arc::ptr_eq(k, &kernels[0])), "all threads have the same kernel");
        let stats = runtime.stats().kernels;
        assert_eq!(stats.compilations, round);
        assert_eq!(stats.hits + stats.misses, round * THREADS as u64);
        assert_eq!(stats.waits, stats.misses - round, "who missed and did not compile waited");
    }
}

#[test]
fn a_kernel_in_use_survives_its_eviction() {
    const THREADS: u64 = 4;
    let runtime = Runtime::builder().threads(1).cache_capacity(2).build().unwrap();
    let work = |thread: u64| {
        let mut random = Random(thread);
        for _ in 0..100 {
            let (m, n) = (1 + random.below(9), 1 + random.below(9));
            let problem = problem(&format!("matmul f32 {m}x5:5x{n}"));
            let data = Data::integers(&problem, m * n);
            let kernel = runtime.kernel(&problem).unwrap();
            // Others evict it meanwhile.
            std::thread::yield_now();
            assert_eq!(run(&kernel, &data), data.exact(), "{problem}");
        }
    };
    std::thread::scope(|s| (0..THREADS).for_each(|t| drop(s.spawn(move || work(t)))));
    let stats = runtime.stats().kernels;
    assert!(stats.evictions > 100, "{stats:?}");
    assert!(stats.entries <= 2, "{stats:?}");
    assert_eq!(stats.compilations, stats.evictions + stats.entries as u64);

    let first = runtime.kernel(&problem("matmul f32 3x4:4x5 +relu")).unwrap();
    runtime.clear();
    for n in 1..20 {
        runtime.kernel(&problem(&format!("matmul f32 7x4:4x{n}"))).unwrap();
    }
    let data = Data::integers(first.problem(), 1);
    assert_eq!(run(&first, &data), data.exact());
    let live = runtime.stats().code.live;
    let resident = first.resident_bytes();
    drop(first);
    assert_eq!(runtime.stats().code.live, live - resident, "its pages came back");
}

#[test]
fn thousands_of_kernels_fit_in_bounded_code_memory() {
    const CACHED: usize = 8;
    let runtime = Runtime::builder().threads(1).cache_capacity(CACHED).build().unwrap();
    let (mut kernels, mut largest) = (0u64, 0);
    let limit = if targets::emulated() { 400 } else { 4000 };
    'all: for m in 1..=16 {
        for k in 1..=16 {
            for n in 1..=16 {
                let kernel = runtime.kernel(&Problem::matmul(m, k, n).build().unwrap()).unwrap();
                largest = largest.max(kernel.resident_bytes());
                kernels += 1;
                if kernels == limit {
                    break 'all;
                }
            }
        }
    }
    let stats = runtime.stats();
    assert_eq!((stats.kernels.compilations, stats.kernels.evictions), (limit, limit - CACHED as u64));
    // One more is compiled before another leaves.
    assert!(stats.code.peak <= (CACHED + 1) * largest, "{stats:?}, largest {largest}");
    assert!(stats.code.reserved <= 4 << 20, "{stats:?}");
    runtime.clear();
    assert_eq!(runtime.stats().code.live, 0);
    assert_eq!(runtime.stats().kernels.bytes, 0);
}

#[test]
fn cached_bytes_are_limited() {
    let page = 1 << 16;
    let runtime = Runtime::builder().threads(1).cache_bytes(page).build().unwrap();
    for n in 1..=64 {
        runtime.kernel(&problem(&format!("matmul f32 4x4:4x{n}"))).unwrap();
        assert!(runtime.stats().kernels.bytes <= page);
    }
    assert!(runtime.stats().kernels.evictions > 0);
}

#[test]
fn hits_and_misses_are_counted() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let a = problem("matmul f32 6x7:7x8");
    let first = runtime.kernel(&a).unwrap();
    let again = runtime.kernel(&a).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    // Options are part of the key; their absence and an explicit default are the same.
    let forced = Options { schedule: Some(first.schedule().clone()) };
    let other = runtime.kernel_with(&a, &forced).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    assert!(Arc::ptr_eq(&first, &runtime.kernel_with(&a, &Options::default()).unwrap()));
    let stats = runtime.stats().kernels;
    assert_eq!((stats.hits, stats.misses, stats.compilations, stats.entries), (2, 2, 2, 2));
    assert_eq!((stats.evictions, stats.waits), (0, 0));
    assert_eq!(stats.bytes, first.resident_bytes() + other.resident_bytes());
    assert!(stats.compile_time >= first.compile_time() && !first.compile_time().is_zero());
}

#[test]
fn wrong_arguments_are_named_and_nothing_is_written() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let with_bias = runtime.kernel(&problem("matmul f32 3x4:4x5 +bias")).unwrap();
    let without = runtime.kernel(&problem("matmul f32 3x4:4x5")).unwrap();
    let (lhs, rhs, bias) = ([1.0; 13], [1.0; 21], [1.0; 6]);
    let cases = [
        (11, 20, Some(5), 15, "lhs"),
        (13, 20, Some(5), 15, "lhs"),
        (12, 19, Some(5), 15, "rhs"),
        (12, 21, Some(5), 15, "rhs"),
        (12, 20, Some(4), 15, "bias"),
        (12, 20, Some(6), 15, "bias"),
        (12, 20, None, 15, "bias"),
        (12, 20, Some(5), 14, "dst"),
        (12, 20, Some(5), 16, "dst"),
        (0, 0, None, 0, "lhs"),
    ];
    for (l, r, b, d, wrong) in cases {
        let mut dst = [7.0f32; 16];
        for serial in [false, true] {
            let args = Args::new(&lhs[..l], &rhs[..r], &mut dst[..d]);
            let args = if let Some(b) = b { args.bias(&bias[..b]) } else { args };
            let result = if serial { with_bias.run_serial(args) } else { with_bias.run(args) };
            match result {
                Err(RuntimeError::Argument { name, .. }) => assert_eq!(name, wrong),
                other => panic!("{l} {r} {b:?} {d}: {other:?}"),
            }
        }
        assert_eq!(dst, [7.0; 16]);
    }
    let mut dst = [7.0f32; 15];
    let surplus = without.run(Args::new(&lhs[..12], &rhs[..20], &mut dst).bias(&bias[..5])).unwrap_err();
    assert!(matches!(surplus, RuntimeError::Argument { name: "bias", .. }), "{surplus}");
    assert!(surplus.to_string().contains("`bias`") && surplus.to_string().contains("none"), "{surplus}");
    without.run(Args::new(&lhs[..12], &rhs[..20], &mut dst)).unwrap();
    assert_eq!(dst, [4.0; 15]);
}

#[test]
fn wrong_settings_are_errors() {
    assert!(matches!(Runtime::builder().threads(0).build(), Err(RuntimeError::Threads { threads: 0, .. })));
    let elsewhere = if cfg!(target_arch = "x86_64") { "neoverse-v1" } else { "x86-64-v3" };
    let e = Runtime::builder().target(elsewhere.parse().unwrap()).build().unwrap_err();
    assert!(matches!(e, RuntimeError::CannotRun(_)) && e.to_string().contains("kiln dump"), "{e}");
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let foreign: Schedule =
        "sve parallel=n; n 0..9 tile 1x9 mc=1 nc=9 kc=99 unroll=4 order=nm lhs=inplace rhs=inplace".parse().unwrap();
    let options = Options { schedule: Some(foreign) };
    let e = runtime.kernel_with(&problem("matmul f32 1x2:2x9"), &options).unwrap_err();
    assert!(matches!(e, RuntimeError::Compile(_)), "{e}");
    // A failure is not cached as a kernel.
    assert_eq!(runtime.stats().kernels.entries, 0);
}

/// Large enough that a call is divided among threads.
const LARGE: [&str; 3] =
    ["matmul f32 256x256:256x250 +bias+relu", "matmul f32 61x512:512x517", "matmul f32 300x129:129x300 +bias"];

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for text in LARGE {
        let problem = problem(text);
        let data = Data::reals(&problem, 5);
        let mut results = vec![];
        for threads in [1, 2, 3] {
            let runtime = Runtime::builder().threads(threads).build().unwrap();
            assert_eq!(runtime.threads(), threads);
            let kernel = runtime.kernel(&problem).unwrap();
            assert!(kernel.tasks() > 1, "{problem} has one task");
            results.push(run(&kernel, &data));
            let mut serial = vec![f32::NAN; results[0].len()];
            kernel.run_serial(arguments(&data, &mut serial)).unwrap();
            results.push(serial);
        }
        let bits = |v: &Vec<f32>| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(results.iter().all(|r| bits(r) == bits(&results[0])), "{problem}");
        let (value, bound) = data.bounded();
        for (found, (value, bound)) in results[0].iter().zip(value.iter().zip(&bound)) {
            assert!((f64::from(*found) - value).abs() <= *bound, "{problem}: {found} instead of {value}");
        }
    }
}

#[test]
fn one_kernel_serves_many_threads_at_once() {
    let runtime = Runtime::builder().threads(2).build().unwrap();
    let problem = problem(LARGE[1]);
    let kernel = runtime.kernel(&problem).unwrap();
    let work = |seed: u64| {
        let data = Data::integers(&problem, seed);
        (0..3).for_each(|_| assert_eq!(run(&kernel, &data), data.exact()));
    };
    let work = &work;
    std::thread::scope(|s| (0..4).for_each(|seed| drop(s.spawn(move || work(seed)))));
}

#[test]
fn runtimes_are_independent() {
    let problem = problem("matmul f32 9x9:9x9 +relu");
    let data = Data::integers(&problem, 2);
    let a = Runtime::builder().threads(1).build().unwrap();
    let b = Runtime::builder().threads(2).cache_capacity(1).build().unwrap();
    let kernels = [a.kernel(&problem).unwrap(), b.kernel(&problem).unwrap()];
    assert!(!Arc::ptr_eq(&kernels[0], &kernels[1]));
    a.clear();
    assert_eq!((a.stats().kernels.entries, b.stats().kernels.entries), (0, 1));
    // Kernels outlive the runtimes they came from.
    drop((a, b));
    kernels.iter().for_each(|k| assert_eq!(run(k, &data), data.exact()));
}

#[test]
fn the_unchecked_call_computes_the_same() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    for text in ["matmul f32 5x6:6x7 +bias+relu", LARGE[0]] {
        let kernel = runtime.kernel(&problem(text)).unwrap();
        let data = Data::integers(kernel.problem(), 3);
        let exact = data.exact();
        let mut dst = vec![f32::NAN; exact.len()];
        let inputs = [&data.lhs, &data.rhs, &data.bias].map(|v| v.as_ptr().cast_mut().cast::<u8>());
        // SAFETY: lhs, rhs, bias and dst in operand order, each as long as `Data` makes it, none overlapping.
        unsafe { kernel.run_unchecked(&[inputs[0], inputs[1], inputs[2], dst.as_mut_ptr().cast()]) }.unwrap();
        assert_eq!(dst, exact, "{text}");
    }
}

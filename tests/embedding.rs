//! The runtime as a program embeds it: shared by threads, bounded in memory, strict about arguments, repeatable.

use std::collections::HashSet;
use std::sync::{Arc, Barrier};

use kiln_compiler::compile;
use kiln_compiler::schedule::{Form, Schedule};
use kiln_jit::{
    Args, Convolution, Family, FamilyOptions, Kernel, MathMode, Options, Pack, PackedWeights, Problem, Runtime,
    RuntimeBuilder, RuntimeError, Spatial, bf16,
};
use kiln_tests::data::{Data, Random, Values};
use kiln_tests::targets;

fn problem(text: &str) -> Problem {
    text.parse().unwrap()
}

/// The result for `data` on the runtime's threads.
fn run(kernel: &Kernel, data: &Data) -> Values {
    let mut dst = data.before.clone();
    kernel.run(data.args(&mut dst)).unwrap();
    dst
}

#[track_caller]
fn assert_right(kernel: &Kernel, data: &Data) {
    let wrong = data.wrong(&run(kernel, data));
    assert!(wrong.is_none(), "{}: {}", kernel.problem(), wrong.unwrap());
}

#[test]
fn everything_shared_is_send_and_sync() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Runtime>();
    shared::<Kernel>();
    shared::<Arc<Kernel>>();
    shared::<RuntimeError>();
    shared::<Options>();
    shared::<PackedWeights>();
    shared::<Family>();
    shared::<Pack>();
    shared::<RuntimeBuilder>();
    shared::<Args<'static>>();
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
        assert!(kernels.iter().all(|k| *k == kernels[0]), "all threads have the same kernel");
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
            assert_right(&kernel, &data);
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
    assert_right(&first, &data);
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
    assert!(first == again);
    // Options are part of the key; their absence and an explicit default are the same.
    let forced = Options { schedule: Some(first.schedule().clone()), ..Options::default() };
    let other = runtime.kernel_with(&a, &forced).unwrap();
    assert!(first != other);
    assert!(first == runtime.kernel_with(&a, &Options::default()).unwrap());
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
    assert!(matches!(&surplus, RuntimeError::Argument { name, .. } if name == "bias"), "{surplus}");
    assert!(surplus.to_string().contains("`bias`") && surplus.to_string().contains("none"), "{surplus}");
    without.run(Args::new(&lhs[..12], &rhs[..20], &mut dst)).unwrap();
    assert_eq!(dst, [4.0; 15]);
}

#[test]
fn wrong_settings_are_errors() {
    assert!(matches!(Runtime::builder().threads(0).build(), Err(RuntimeError::ThreadCount { threads: 0 })));
    let elsewhere = if cfg!(target_arch = "x86_64") { "neoverse-v1" } else { "x86-64-v3" };
    let e = Runtime::builder().target(elsewhere.parse().unwrap()).build().unwrap_err();
    assert!(matches!(e, RuntimeError::CannotRun(_)) && e.to_string().contains("kiln dump"), "{e}");
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let foreign: Schedule =
        "sve parallel=n; n 0..9 tile 1x9 mc=1 nc=9 kc=99 unroll=4 order=nm lhs=inplace rhs=inplace".parse().unwrap();
    let options = Options { schedule: Some(foreign), ..Options::default() };
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
            let mut serial = data.before.clone();
            kernel.run_serial(data.args(&mut serial)).unwrap();
            results.push(serial);
        }
        assert!(results.iter().all(|r| r.bytes() == results[0].bytes()), "{problem}");
        assert_eq!(data.wrong(&results[0]), None, "{problem}");
    }
}

#[test]
fn one_kernel_serves_many_threads_at_once() {
    let runtime = Runtime::builder().threads(2).build().unwrap();
    let problem = problem(LARGE[1]);
    let kernel = runtime.kernel(&problem).unwrap();
    let work = |seed: u64| {
        let data = Data::integers(&problem, seed);
        (0..3).for_each(|_| assert_right(&kernel, &data));
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
    assert!(kernels[0] != kernels[1]);
    a.clear();
    assert_eq!((a.stats().kernels.entries, b.stats().kernels.entries), (0, 1));
    // Kernels outlive the runtimes they came from.
    drop((a, b));
    kernels.iter().for_each(|k| assert_right(k, &data));
}

#[test]
fn the_unchecked_call_computes_the_same() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let packed = Options { constant_weights: true, ..Options::default() };
    for text in ["matmul f32 5x6:6x7 +bias+relu", LARGE[0], "ip bf16 mb9ic33oc65 beta=1 +bias+add:ab"] {
        for options in [&Options::default(), &packed] {
            let kernel = runtime.kernel_with(&problem(text), options).unwrap();
            let data = Data::integers(kernel.problem(), 3);
            let weights = kernel.weights_layout().map(|_| kernel.pack_weights(data.inputs[1].input()).unwrap());
            let mut dst = data.before.clone();
            let pointers =
                kernel.pointers(data.args_with(weights.as_ref().map_or(data.inputs[1].input(), Into::into), &mut dst));
            // SAFETY: the kernel checked these pointers to tensors that are still there, on this thread.
            unsafe { kernel.run_unchecked(pointers.unwrap().as_slice()) }.unwrap();
            assert_eq!(data.wrong(&dst), None, "{text}");
        }
    }
}

/// A kernel of packed weights: enough rows that packing pays on every target.
fn packing(runtime: &Runtime, text: &str) -> Arc<Kernel> {
    let options = Options { constant_weights: true, ..Options::default() };
    let kernel = runtime.kernel_with(&problem(text), &options).unwrap();
    assert!(kernel.weights_layout().is_some(), "{kernel:?} reads weights in place");
    kernel
}

#[test]
fn packed_weights_are_shared_by_threads_and_counted() {
    let runtime = Runtime::builder().threads(2).build().unwrap();
    let kernel = packing(&runtime, "ip f32 mb64ic200oc300 +bias");
    let data = Data::integers(kernel.problem(), 4);
    let weights = kernel.pack_weights(data.inputs[1].input()).unwrap();
    assert_eq!((weights.layout(), weights.bytes()), (kernel.weights_layout().unwrap(), weights.as_bytes().len()));
    assert!(weights.bytes() >= 200 * 300 * 2 && weights.as_bytes().as_ptr().addr().is_multiple_of(64));
    assert_eq!(runtime.stats().packed_bytes, weights.bytes());
    let work = |weights: PackedWeights| {
        let mut dst = data.before.clone();
        kernel.run(data.args_with((&weights).into(), &mut dst)).unwrap();
        assert_eq!(data.wrong(&dst), None);
    };
    let work = &work;
    std::thread::scope(|s| {
        for _ in 0..4 {
            let weights = weights.clone();
            s.spawn(move || work(weights));
        }
    });
    let other = kernel.pack_weights(data.inputs[1].input()).unwrap();
    assert_eq!(runtime.stats().packed_bytes, 2 * weights.bytes(), "clones share their memory");
    let bytes = weights.bytes();
    drop(weights);
    runtime.clear();
    assert_eq!(runtime.stats().packed_bytes, bytes);
    // Weights outlive the kernel and the runtime they came from.
    drop((runtime, kernel));
    drop(other);
}

#[test]
fn packed_weights_serve_every_kernel_of_their_layout_and_no_other() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let kernels = [64, 128, 256].map(|mb| packing(&runtime, &format!("ip f32 mb{mb}ic128oc96")));
    let data = Data::integers(kernels[0].problem(), 5);
    let weights = kernels[0].pack_weights(data.inputs[1].input()).unwrap();
    for kernel in &kernels {
        let own = Data::integers(kernel.problem(), 6);
        let mut own_data = own.clone();
        own_data.inputs[1] = data.inputs[1].clone();
        let mut dst = own_data.before.clone();
        let result = kernel.run(own_data.args_with((&weights).into(), &mut dst));
        if kernel.weights_layout() == Some(weights.layout()) {
            result.unwrap();
            assert_eq!(own_data.wrong(&dst), None, "{kernel:?}");
        } else {
            assert!(matches!(result, Err(RuntimeError::Weights { .. })), "{kernel:?}: {result:?}");
        }
    }

    let other = packing(&runtime, "ip f32 mb64ic128oc97");
    let data = Data::integers(other.problem(), 7);
    let mut dst = data.before.clone();
    let e = other.run(data.args_with((&weights).into(), &mut dst)).unwrap_err();
    let RuntimeError::Weights { expected, got } = &e else { panic!("{e}") };
    assert!(expected.contains("128x97") && got.contains("128x96") && e.to_string().contains("pack_weights"), "{e}");
    assert_eq!(dst.bytes(), data.before.bytes(), "nothing was written");
}

#[test]
fn weights_must_be_packed_for_those_who_want_it_and_not_for_others() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let text = "ip f32 mb64ic128oc96";
    let (packed, plain) = (packing(&runtime, text), runtime.kernel(&problem(text)).unwrap());
    assert!(packed != plain, "the option is part of the key");
    let data = Data::integers(plain.problem(), 8);
    let weights = packed.pack_weights(data.inputs[1].input()).unwrap();
    let mut dst = data.before.clone();
    let e = packed.run(data.args(&mut dst)).unwrap_err();
    assert!(matches!(&e, RuntimeError::Weights { got, .. } if got.contains("not packed")), "{e}");
    let e = plain.run(data.args_with((&weights).into(), &mut dst)).unwrap_err();
    assert!(matches!(&e, RuntimeError::Argument { name, got, .. } if name == "rhs" && got.contains("packed")), "{e}");
    let e = plain.pack_weights(data.inputs[1].input()).unwrap_err();
    assert!(matches!(&e, RuntimeError::NotPacked { .. }) && e.to_string().contains("constant_weights"), "{e}");
    for (weights, got) in [(&[1.0f32; 5][..], "5 of f32"), (&[], "0 of f32")] {
        let e = packed.pack_weights(weights).unwrap_err();
        assert!(
            matches!(&e, RuntimeError::Argument { name, .. } if name == "rhs") && e.to_string().contains(got),
            "{e}"
        );
    }
    assert!(packed.pack_weights(&weights).is_err() && packed.pack_weights(&vec![bf16::ONE; 128 * 96]).is_err());
}

#[test]
fn bf16_tensors_are_arguments_and_types_are_checked() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let kernel = runtime.kernel(&problem("matmul bf16:bf16:f32 2x3:3x4 +bias+add:ab")).unwrap();
    let (lhs, rhs) = ([bf16::ONE; 6], vec![bf16::from_f32(2.0); 12]);
    let (bias, add, mut dst) = ([1.0; 4], vec![0.5; 8], vec![f32::NAN; 8]);
    kernel.run(Args::new(&lhs, &rhs, &mut dst).bias(&bias).post_op(&add)).unwrap();
    assert_eq!(dst, [7.5; 8]);

    let narrow = runtime.kernel(&problem("matmul bf16 2x3:3x4")).unwrap();
    let mut out = [bf16::NAN; 8];
    narrow.run(Args::new(&lhs, &rhs, &mut out)).unwrap();
    assert_eq!(out, [bf16::from_f32(6.0); 8]);
    let e = narrow.run(Args::new(&lhs, &rhs, &mut dst)).unwrap_err().to_string();
    assert!(e.contains("`dst`") && e.contains("8 elements of bf16") && e.contains("8 of f32"), "{e}");
    let e = kernel.run(Args::new(&[1.0f32; 6], &rhs, &mut dst).bias(&bias).post_op(&add)).unwrap_err().to_string();
    assert!(e.contains("`lhs`") && e.contains("6 elements of bf16") && e.contains("6 of f32"), "{e}");
    let e = kernel.run(Args::new(&lhs, &rhs, &mut dst).bias(&bias).bias(&add)).unwrap_err().to_string();
    assert!(e.contains("`add`") && e.contains("Args::post_op"), "{e}");
}

#[test]
fn integers_are_arguments_and_types_are_checked() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let kernel = runtime.kernel(&problem("matmul u8:s8:s32 2x3:3x4")).unwrap();
    let (lhs, rhs) = ([255u8; 6], vec![-128i8; 12]);
    let mut dst = vec![i32::MIN; 8];
    kernel.run(Args::new(&lhs, &rhs, &mut dst)).unwrap();
    assert_eq!(dst, [3 * 255 * -128; 8]);

    let signed = runtime.kernel(&problem("ip s8:s8:s32 mb2ic3oc4")).unwrap();
    signed.run(Args::new(&rhs[..6], &rhs, &mut dst)).unwrap();
    assert_eq!(dst, [3 * 128 * 128; 8]);
    for (e, name, expected, got) in [
        (signed.run(Args::new(&lhs, &rhs, &mut dst)), "`lhs`", "6 elements of s8", "6 of u8"),
        (kernel.run(Args::new(&rhs[..6], &rhs, &mut dst)), "`lhs`", "6 elements of u8", "6 of s8"),
        (kernel.run(Args::new(&lhs, &[0u8; 12], &mut dst)), "`rhs`", "12 elements of s8", "12 of u8"),
        (kernel.run(Args::new(&lhs, &rhs, &mut [0f32; 8])), "`dst`", "8 elements of s32", "8 of f32"),
        (kernel.run(Args::new(&lhs, &rhs, &mut [0i16; 8])), "`dst`", "8 elements of s32", "8 of s16"),
        (kernel.run(Args::new(&lhs, &rhs, &mut dst[..7])), "`dst`", "8 elements of s32", "7 of s32"),
    ] {
        let e = e.unwrap_err().to_string();
        assert!(e.contains(name) && e.contains(expected) && e.contains(got), "{e}");
    }

    let packing = packing(&runtime, "ip u8:s8:s32 mb24ic96oc90");
    let data = Data::integers(packing.problem(), 8);
    let weights = packing.pack_weights(data.inputs[1].input()).unwrap();
    let mut dst = data.before.clone();
    packing.run(data.args_with((&weights).into(), &mut dst)).unwrap();
    assert_eq!(data.wrong(&dst), None);
    let e = packing.pack_weights(&vec![0u8; 96 * 90]).unwrap_err().to_string();
    assert!(e.contains("`rhs`") && e.contains("of s8") && e.contains("of u8"), "{e}");
}

#[test]
fn what_dst_holds_is_read_only_where_it_is_added_to() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    for dtypes in ["f32", "bf16"] {
        // One block of K, and sums long enough for several.
        for shape in ["3x4:4x5", "7x3000:3000x9"] {
            for beta in ["", " beta=1"] {
                let problem = problem(&format!("matmul {dtypes} {shape}{beta} +relu"));
                assert_right(&runtime.kernel(&problem).unwrap(), &Data::integers(&problem, 9));
            }
        }
    }
}

/// The variables that set the default, the first that is set wins.
const MATH: [&str; 3] = ["KILN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"];

/// Runs `test` once more in a process of its own, since the environment is the process's.
fn again_with<'a>(test: &str, variables: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let mut words: Vec<String> =
        std::env::var("KILN_TEST_RUNNER").unwrap_or_default().split_whitespace().map(Into::into).collect();
    words.push(std::env::current_exe().unwrap().to_str().unwrap().into());
    let mut command = std::process::Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", test]);
    let variables: Vec<(&str, &str)> = variables.into_iter().collect();
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{variables:?}: {printed}");
}

#[test]
fn the_math_mode_is_a_default_for_f32() {
    const CHILD: &str = "KILN_TEST_FPMATH";
    if let Ok(expected) = std::env::var(CHILD) {
        let found = match Runtime::builder().threads(1).build() {
            Ok(runtime) => runtime.fpmath().to_string(),
            Err(e) => e.to_string(),
        };
        assert_eq!(found, expected);
        return;
    }
    let runtime = Runtime::builder().threads(1).fpmath(MathMode::Bf16).build().unwrap();
    let text = |p: &str| runtime.kernel(&problem(p)).unwrap().problem().to_string();
    assert_eq!(text("matmul f32 5x6:6x7 +relu"), "matmul f32 5x6:6x7 fpmath=bf16 +relu");
    assert_eq!(text("matmul f32 5x6:6x7 fpmath=any"), "matmul f32 5x6:6x7 fpmath=any");
    assert_eq!(text("matmul bf16 5x6:6x7"), "matmul bf16 5x6:6x7");
    // The same kernel under both names.
    let compilations = runtime.stats().kernels.compilations;
    assert_eq!(text("matmul f32 5x6:6x7 fpmath=bf16 +relu"), text("matmul f32 5x6:6x7 +relu"));
    assert_eq!(runtime.stats().kernels.compilations, compilations);
    let data = Data::reals(&problem("matmul f32 5x6:6x7 fpmath=bf16 +relu"), 3);
    assert_right(&runtime.kernel(&problem("matmul f32 5x6:6x7 +relu")).unwrap(), &data);

    let mistake = "ONEDNN_DEFAULT_FPMATH_MODE=`fast`: expected strict, bf16 or any";
    for (values, expected) in [
        (["", "", ""], "strict"),
        (["BF16", "", ""], "bf16"),
        (["", "Any", "BF16"], "any"),
        (["", "", "bf16"], "bf16"),
        (["strict", "any", "fast"], "strict"),
        (["", "fast", "any"], mistake),
    ] {
        again_with("the_math_mode_is_a_default_for_f32", MATH.into_iter().zip(values).chain([(CHILD, expected)]));
    }
}

/// Whatever the environment and the builder say, a problem that names its arithmetic has that; one that names none has the
/// builder's, else the environment's. Kernels, their families and packs go by the same rule.
#[test]
fn a_named_math_mode_is_never_overridden() {
    const CHILD: &str = "KILN_TEST_NAMED_FPMATH";
    const MODES: [&str; 4] = ["", "strict", "bf16", "any"];
    let mode = |word: &str| word.parse::<MathMode>().ok();
    let Ok(environment) = std::env::var(CHILD) else {
        for environment in MODES {
            let variables = MATH.into_iter().zip([environment, "", ""]).chain([(CHILD, environment)]);
            again_with("a_named_math_mode_is_never_overridden", variables);
        }
        return;
    };
    let (folder, v1) = (tempfile::tempdir().unwrap(), "neoverse-v1".parse().unwrap());
    let mut made = HashSet::new();
    for builder in MODES {
        let settings = || mode(builder).into_iter().fold(Runtime::builder().threads(1), RuntimeBuilder::fpmath);
        // SAFETY: this test alone writes to the directory.
        let runtime = unsafe { settings().cache_dir(folder.path()) }.build().unwrap();
        let default = mode(builder).or(mode(&environment)).unwrap_or(MathMode::Strict);
        assert_eq!(runtime.fpmath(), default);
        for said in MODES {
            let with = |text: &str| match said {
                "" => text.to_owned(),
                said => format!("{text} fpmath={said}"),
            };
            let context = format!("{said:?} in the problem, {builder:?} in the builder, {environment:?} outside");
            let expected = mode(said).unwrap_or(default);
            for text in ["matmul f32 9x33:33x20", "ip f32 mb96ic256oc256", "conv f32 mb1ic16ih6oc24kh3ph1"] {
                let kernel = runtime.kernel(&problem(&with(text))).unwrap();
                assert_eq!(kernel.problem().math(), expected, "{context}");
                // What is named stays named; of defaults only one that is not strict is added.
                let named = mode(said).or(Some(default).filter(|mode| mode.allows_bf16()));
                assert_eq!(kernel.problem().fpmath(), named, "{context}");
                // The bound is that of the kernel's own arithmetic: rounded factors are beyond strict's.
                assert_right(&kernel, &Data::reals(kernel.problem(), 7));
                made.insert(kernel.problem().to_string());
            }
            // On a target that surely has the instructions: what a kernel's problem says is what is compiled.
            let kernel = runtime.kernel(&problem(&with("ip f32 mb96ic256oc256"))).unwrap();
            let artifact = compile(kernel.problem(), &v1, &Options::default()).unwrap();
            assert_eq!(artifact.choice().schedule.form == Form::Mmla, expected.allows_bf16(), "{context}");
        }
        // Files are of problems as they are compiled, so that runtimes with other defaults share them.
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let files = names.filter(|name| name != "key").count();
        assert_eq!(files, made.len(), "{builder:?} in the builder, {environment:?} outside: {made:?}");
        let runtime = settings().build().unwrap();
        let family = runtime.family("ip f32 mb?ic64oc64 fpmath=strict", &FamilyOptions::default()).unwrap();
        assert_eq!(family.problem(5).unwrap().fpmath(), Some(MathMode::Strict));
        let data = Data::reals(&family.problem(5).unwrap(), 3);
        for _ in 0..4 {
            let mut dst = data.before.clone();
            family.run(5, data.args(&mut dst)).unwrap();
            assert_eq!(data.wrong(&dst), None, "a family, {builder:?} in the builder, {environment:?} outside");
            family.wait_for_compilation();
        }
    }
}

#[test]
fn a_convolution_is_built_packed_and_called() {
    let side = Spatial::new(14, 3).pad(1);
    let shape = Convolution::new(2, 24, 40, &[side, side]).unwrap();
    let built = Problem::convolution(shape).bias().relu().build().unwrap();
    assert_eq!(built.to_string(), "conv f32 mb2ic24ih14oc40kh3ph1 +bias+relu");
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let kernel = packing(&runtime, &built.to_string());
    let data = Data::integers(&built, 11);
    let weights = kernel.pack_weights(data.inputs[1].input()).unwrap();
    let mut dst = data.before.clone();
    kernel.run(data.args_with((&weights).into(), &mut dst)).unwrap();
    assert_eq!(data.wrong(&dst), None);
    // Weights that are not packed are refused, and those of other taps.
    let e = kernel.run(data.args(&mut dst)).unwrap_err();
    assert!(matches!(e, RuntimeError::Weights { .. }), "{e}");
    let other = packing(&runtime, "conv f32 mb2ic24ih14oc40kh5ph2 +bias+relu");
    let data = Data::integers(other.problem(), 12);
    let mut dst = data.before.clone();
    let e = other.run(data.args_with((&weights).into(), &mut dst)).unwrap_err();
    assert!(matches!(e, RuntimeError::Weights { .. }), "{e}");
    assert_eq!(dst.bytes(), data.before.bytes(), "nothing was written");
}

//! Families of problems with a free number: right for every value, without waiting, within bounds.

use kiln_jit::{Args, Family, FamilyOptions, Input, Problem, Runtime, WeightsId};
use kiln_tests::data::{Data, Random, Values};

fn runtime() -> Runtime {
    Runtime::builder().threads(1).build().unwrap()
}

/// The result of the member for `n` on `data`, with the family's packed weights where it wants them.
fn run(family: &Family, n: u64, data: &Data) -> Values {
    let mut dst = data.before.clone();
    let packed = family.weights_layout().map(|_| family.pack_weights(data.inputs[1].input()).unwrap());
    let weights = packed.as_ref().map_or(data.inputs[1].input(), Input::from);
    family.run(n, data.args_with(weights, &mut dst)).unwrap();
    dst
}

#[track_caller]
fn assert_right(family: &Family, n: u64, seed: u64) {
    let problem = family.problem(n).unwrap();
    for data in [Data::integers(&problem, seed), Data::reals(&problem, seed)] {
        let wrong = data.wrong(&run(family, n, &data));
        assert!(wrong.is_none(), "{problem}: {}", wrong.unwrap());
    }
}

/// Patterns of all kinds of general code; whether weights are constant; the kind.
const PATTERNS: &[(&str, bool, &str)] = &[
    ("ip f32 mb?ic48oc100 +bias+gelu_erf", true, "tiles"),
    ("ip f32 mb?ic33oc17 +bias:row+add:ab+relu", true, "tiles"),
    ("ip f32 mb?ic96oc64 fpmath=bf16 +bias", true, "tiles"),
    ("ip bf16 mb?ic48oc40", true, "tiles"),
    ("matmul f32 ?x40:40x72 +relu", false, "tiles"),
    ("matmul f32 ?x40:40x72 beta=1", true, "tiles"),
    ("ip f32 mb?ic48oc100 +bias", false, "blocks"),
    ("matmul f32 ?x3x8:?x8x5 +add:abc", false, "blocks"),
    ("matmul f32 9x8:8x? wtag=ba dtag=ba +bias", false, "blocks"),
    ("conv f32 mb?ic8ih6oc16kh3ph1 +bias+add:abcd", true, "blocks"),
    ("matmul f32 3x?x16:3x16x? wtag=acb +scale:0.125", false, "padded"),
    ("matmul f32 3x?x?:3x?x16", false, "padded"),
    ("matmul bf16:bf16:f32 5x?:?x7 beta=1 +add:ab", true, "padded"),
    ("conv f32 mb2ic4ih?oc8kh3ph1 +bias", false, "padded"),
    ("conv f32 mb2ic?ih5oc?kh3ph1 +bias", false, "padded"),
    ("conv f32 mb1ic3ih?oc4kh7sh2ph3", false, "padded"),
];

#[test]
fn every_value_is_right_on_general_and_on_exact_code() {
    let emulated = cfg!(target_arch = "aarch64");
    let never = FamilyOptions { hot_calls: 0, ..FamilyOptions::default() };
    let at_once = FamilyOptions { hot_calls: 1, ..FamilyOptions::default() };
    for &(pattern, constant_weights, kind) in PATTERNS {
        let runtime = runtime();
        let general = runtime.family(pattern, &FamilyOptions { constant_weights, max: 64, ..never.clone() }).unwrap();
        assert_eq!(general.kind(), kind, "{pattern}");
        let values: &[u64] = if emulated { &[1, 5, 13, 64] } else { &[1, 2, 3, 5, 6, 7, 12, 13, 17, 31, 63, 64] };
        for n in values {
            assert_right(&general, *n, 100 + n);
        }
        let stats = general.stats();
        assert_eq!((stats.general_calls, stats.exact_kernels), (2 * values.len() as u64, 0), "{pattern}");
        let exact = runtime.family(pattern, &FamilyOptions { constant_weights, max: 64, ..at_once.clone() }).unwrap();
        for n in &values[..3] {
            assert_right(&exact, *n, 7);
            exact.wait_for_compilation();
            assert_right(&exact, *n, 8);
        }
    }
}

#[test]
fn a_value_becomes_hot_and_loses_its_kernel_again() {
    let runtime = runtime();
    let family = runtime
        .family("ip f32 mb?ic64oc96", &FamilyOptions { constant_weights: true, ..FamilyOptions::default() })
        .unwrap();
    assert_eq!(family.kind(), "tiles");
    let exact = || family.stats().exact_kernels;
    for call in 0..3 {
        assert_eq!((exact(), family.stats().general_calls), (0, call));
        assert_right_once(&family, 30);
    }
    family.wait_for_compilation();
    assert_eq!((exact(), family.stats().general_calls, family.stats().pending), (1, 3, 0));
    let hits = runtime.stats().kernels.hits;
    assert_right_once(&family, 30);
    assert_eq!((runtime.stats().kernels.hits, family.stats().general_calls), (hits + 1, 3));
    runtime.clear();
    assert_right_once(&family, 30);
    assert_eq!(family.stats().general_calls, 4, "evicted: general code again");
    (0..2).for_each(|_| assert_right_once(&family, 30));
    family.wait_for_compilation();
    assert_eq!(exact(), 2);
}

fn assert_right_once(family: &Family, n: u64) {
    let data = Data::integers(&family.problem(n).unwrap(), n);
    let wrong = data.wrong(&run(family, n, &data));
    assert!(wrong.is_none(), "{wrong:?}");
}

/// A thousand random values stay within the cache's budget, and no call after the family was made compiles.
#[test]
fn a_thousand_values_stay_within_the_budget() {
    const BUDGET: usize = 256 << 10;
    let calls = if cfg!(target_arch = "aarch64") { 100 } else { 1_000 };
    let runtime = Runtime::builder().threads(1).cache_bytes(BUDGET).build().unwrap();
    let options = FamilyOptions { constant_weights: true, hot_calls: 2, max: 512 };
    let family = runtime.family("ip f32 mb?ic32oc48 +bias", &options).unwrap();
    let made_with_the_family = runtime.stats().kernels.compilations;
    let mut random = Random(5);
    let weights = vec![0.5; 32 * 48];
    let packed = family.packed_weights(WeightsId::of(&weights), &weights).unwrap();
    let (src, bias) = (vec![1.0; 512 * 32], vec![1.0; 48]);
    let mut dst = vec![0.0; 512 * 48];
    for _ in 0..calls {
        let m = 1 + random.below(512) as usize;
        let (src, dst) = (&src[..m * 32], &mut dst[..m * 48]);
        family.run(m as u64, Args::new(src, &packed, &mut *dst).bias(&bias)).unwrap();
        assert!(dst.iter().all(|v| *v == 17.0));
        dst.fill(0.0);
        assert!(runtime.stats().kernels.bytes <= BUDGET);
    }
    family.wait_for_compilation();
    let stats = runtime.stats();
    assert_eq!(stats.kernels.compilations, made_with_the_family + family.stats().exact_kernels);
    assert!(stats.kernels.bytes <= BUDGET);
    // General code is the family's, whether the cache still has it or not.
    assert!(stats.code.live <= BUDGET + family.stats().general_bytes, "{stats:?} {family:?}");
    assert!(stats.code.peak <= BUDGET + family.stats().general_bytes + (64 << 10));
}

/// Without a cache there is no exact code, and none is made in vain; calls on general code are told like others.
#[test]
fn without_a_cache_general_code_is_all_there_is() {
    let lines = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let sink = lines.clone();
    let builder = Runtime::builder().threads(1).cache_capacity(0).verbose("profile_exec");
    let runtime = builder.verbose_sink(move |line| sink.lock().unwrap().push(line.to_owned())).build().unwrap();
    let family =
        runtime.family("ip f32 mb?ic16oc24", &FamilyOptions { hot_calls: 1, ..FamilyOptions::default() }).unwrap();
    let compilations = runtime.stats().kernels.compilations;
    (0..4).for_each(|_| assert_right_once(&family, 5));
    family.wait_for_compilation();
    assert_eq!((family.stats().exact_kernels, runtime.stats().kernels.compilations), (0, compilations));
    let lines = lines.lock().unwrap();
    assert!(lines.len() == 4 && lines.iter().all(|line| line.contains(",ip f32 mb5ic16oc24,")), "{lines:?}");
}

/// Memory for exact code may be there later.
#[test]
fn exact_code_that_found_no_memory_is_tried_again() {
    let pattern = "ip f32 mb?ic64oc96";
    let options = FamilyOptions { constant_weights: true, hot_calls: 1, max: 512 };
    let general = runtime().family(pattern, &options).unwrap().stats().general_bytes;
    // A page or so more than general code takes, and that in use by another kernel.
    let limit = general + (64 << 10);
    let runtime = Runtime::builder().threads(1).code_limit(limit).cache_capacity(1).build().unwrap();
    let family = runtime.family(pattern, &options).unwrap();
    let mut others = vec![];
    for n in 1.. {
        match runtime.kernel(&format!("matmul f32 {n}x3:3x4").parse().unwrap()) {
            Ok(kernel) => others.push(kernel),
            Err(_) => break,
        }
    }
    assert_right_once(&family, 30);
    family.wait_for_compilation();
    assert_eq!(family.stats().exact_kernels, 0);
    drop(others);
    // The failure is the answer for a second.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_right_once(&family, 30);
    family.wait_for_compilation();
    assert_eq!(family.stats().exact_kernels, 1);
}

#[test]
fn threads_share_a_family() {
    let runtime = Runtime::builder().threads(2).build().unwrap();
    let options = FamilyOptions { constant_weights: true, hot_calls: 2, max: 512 };
    let family = runtime.family("ip f32 mb?ic768oc256 +bias", &options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let family = &family;
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..if cfg!(target_arch = "aarch64") { 4 } else { 20 } {
                    assert_right_once(family, 1 + random.below(200));
                }
            });
        }
    });
    family.wait_for_compilation();
}

#[test]
fn bad_patterns_and_arguments_are_errors() {
    let runtime = runtime();
    let options = FamilyOptions::default();
    let error = |pattern: &str| runtime.family(pattern, &options).unwrap_err().to_string();
    assert!(error("ip f32 mb2ic3oc4").contains("expected a `?`"));
    assert!(error("ip f32 mb?ic3oc").contains("`oc`") || error("ip f32 mb?ic3oc").contains("oc"));
    let family = runtime.family("matmul f32 ?x3:3x4", &options).unwrap();
    assert!(
        family.run(0, Args::new(&[0.0f32; 0], &[0.0; 12], &mut [0.0; 0])).unwrap_err().to_string().contains("zero")
    );
    let e = family.run(2, Args::new(&[0.0f32; 5], &[0.0; 12], &mut [0.0; 8])).unwrap_err();
    assert!(e.to_string().contains("`lhs`"), "{e}");
    // What is no size would be another member's.
    for pattern in [
        "matmul f32 3x4:4x5 +scale:?",
        "ip f32 mb?ic3oc4 +clamp:0:?",
        "conv f32 mb1ic4ih9oc4kh3ph?",
        "conv f32 mb1ic4ih99oc4kh?",
        "conv f32 mb1ic4ih99oc4kh3sh?",
        "conv f32 mb1ic4ih99oc4kh3dh?",
        "conv f32 g2mb1ic?0ih9oc4kh3",
        "conv f32 g?mb1ic5040ih9oc5040kh3",
    ] {
        assert!(
            error(pattern).contains("may stand for sizes") || error(pattern).contains("multiple of g"),
            "{pattern}"
        );
    }
    // A window that small images are too small for.
    let image = runtime.family("conv f32 mb1ic3ih?oc4kh7", &options).unwrap();
    for n in [7, 8, 13] {
        assert_right_once(&image, n);
    }
    assert!(image.run(6, Args::new(&[0.0f32; 0], &[0.0; 0], &mut [0.0; 0])).unwrap_err().to_string().contains("conv"));
    // Beyond `max` a padded family compiles.
    let square = runtime.family("matmul f32 ?x?:?x?", &FamilyOptions { max: 4, ..options }).unwrap();
    let problem: Problem = square.problem(9).unwrap();
    let data = Data::integers(&problem, 3);
    assert!(data.wrong(&run(&square, 9, &data)).is_none());
}

//! Eight threads, random problems, and budgets so small that everything is evicted again and again: every result is right, memory
//! stays within the budgets, and no executable page is lost. `KILN_STRESS_SECONDS` says how long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kiln_jit::{FamilyOptions, Input, Options, Problem, Runtime, RuntimeError, WeightsId};
use kiln_tests::data::{Data, Random};

const THREADS: u64 = 8;
/// Of executable memory for cached kernels: some three hundred of them.
const CODE: usize = 2 << 20;
/// An emulator does not get so far; there the number of kernels is what is short.
const ENTRIES: usize = if cfg!(target_arch = "aarch64") { 16 } else { 2_000 };
/// Of packed weights: some threads at once.
const PACKED: usize = 6 << 10;

fn seconds() -> Duration {
    let set = std::env::var("KILN_STRESS_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(set.unwrap_or(4))
}

/// One of some thousands of small problems.
fn problem(random: &mut Random) -> Problem {
    let epilogue = *random.pick(&["", " +bias", " +bias+relu", " +scale:0.5+add:ab", " +bias+gelu_erf"]);
    let math = *random.pick(&["", "", " fpmath=bf16"]);
    let mut to = |most| 1 + random.below(most);
    let text = match to(3) {
        1 => format!("matmul f32 {m}x{k}:{k}x{n}{math}{epilogue}", m = to(24), k = to(24), n = to(40)),
        2 => format!("ip f32 mb{}ic{}oc{}{math}{epilogue}", to(24), to(24), to(40)),
        _ => {
            let epilogue = epilogue.replace(":ab", ":abcd");
            format!("conv f32 mb{}ic{}ih{}oc{}kh3ph1{math}{epilogue}", to(2), to(6), 2 + to(5), to(12))
        }
    };
    text.parse().unwrap()
}

/// One call of a random kernel in a random way. An error is about memory.
fn step(runtime: &Runtime, random: &mut Random) -> Result<(), RuntimeError> {
    let problem = problem(random);
    let data = Data::integers(&problem, random.bits());
    let mut dst = data.before.clone();
    match random.below(4) {
        0 => {
            let kernel = runtime.kernel(&problem)?;
            kernel.run(data.args(&mut dst))?;
        }
        1 => runtime.kernel(&problem)?.run_serial(data.args(&mut dst))?,
        _ => {
            let options = Options { constant_weights: true, ..Options::default() };
            let kernel = runtime.kernel_with(&problem, &options)?;
            let weights = data.inputs[1].input();
            let packed = match kernel.weights_layout() {
                Some(_) if random.below(2) == 0 => Some(kernel.pack_weights(weights)?),
                Some(_) => Some(runtime.packed_weights(&kernel, WeightsId::of(weights), weights)?),
                None => None,
            };
            kernel.run(data.args_with(packed.as_ref().map_or(weights, Input::from), &mut dst))?;
        }
    }
    let wrong = data.wrong(&dst);
    assert!(wrong.is_none(), "{problem}: {}", wrong.unwrap());
    match random.below(600) {
        0 => runtime.clear(),
        1 => drop(runtime.pin(&problem, &Options::default())?),
        2 => drop(runtime.unpin(&problem, &Options::default())),
        3 => {
            let requests: Vec<_> = (0..3).map(|_| (self::problem(random), Options::default())).collect();
            runtime.warm(&requests, |_| {}).into_iter().try_for_each(|(_, error)| Err(error))?;
        }
        _ => {}
    }
    Ok(())
}

#[test]
fn nothing_breaks_under_constant_eviction() {
    let folder = tempfile::tempdir().unwrap();
    // SAFETY: the directory is this test's own.
    let runtime = unsafe { Runtime::builder().cache_dir(folder.path()) }
        .threads(2)
        .cache_capacity(ENTRIES)
        .cache_bytes(CODE)
        .packed_limit(PACKED)
        .cache_dir_bytes(1 << 20)
        .build()
        .unwrap();
    let end = Instant::now() + seconds();
    let (steps, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let family = runtime
        .family("ip f32 mb?ic20oc24 +bias", &FamilyOptions { constant_weights: true, hot_calls: 2, max: 64 })
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (runtime, family, steps, refused) = (&runtime, &family, &steps, &refused);
            scope.spawn(move || {
                let mut random = Random(thread + 1);
                while Instant::now() < end {
                    match step(runtime, &mut random) {
                        Ok(()) => steps.fetch_add(1, Ordering::Relaxed),
                        Err(RuntimeError::PackedLimit { .. }) => refused.fetch_add(1, Ordering::Relaxed),
                        Err(e) => panic!("{e}"),
                    };
                    let n = 1 + random.below(64);
                    let data = Data::integers(&family.problem(n).unwrap(), n);
                    let (mut dst, weights) = (data.before.clone(), data.inputs[1].input());
                    match family.pack_weights(weights) {
                        Ok(packed) => {
                            family.run(n, data.args_with(Input::from(&packed), &mut dst)).unwrap();
                            assert!(data.wrong(&dst).is_none());
                        }
                        Err(RuntimeError::PackedLimit { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                    let stats = runtime.stats();
                    assert!(stats.kernels.bytes <= CODE && stats.kernels.entries <= ENTRIES, "{stats:?}");
                    assert!(stats.packed_bytes <= PACKED, "{stats:?}");
                    // What threads hold beyond the cache: a kernel each, and what is being compiled.
                    assert!(stats.code.live <= CODE + CODE / 10 + family.stats().general_bytes, "{stats:?}");
                }
            });
        }
    });
    family.wait_for_compilation();
    let stats = runtime.stats();
    println!("{} steps, {} refused, {stats:?}", steps.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    assert!(steps.load(Ordering::Relaxed) > 20, "the machine is too slow to tell anything");
    assert!(stats.kernels.evictions > 0, "{stats:?}");
    drop(family);
    runtime.clear();
    let stats = runtime.stats();
    assert_eq!((stats.code.live, stats.packed_bytes, stats.kernels.bytes), (0, 0, 0), "pages or weights are lost");
}

//! The loop of a server: threads answer requests of changing length, in bounded memory, and wait for no compilation.

use std::time::Instant;

use kiln::{Args, FamilyOptions, Runtime, RuntimeError, WeightsId};

const INPUTS: usize = 64;
const OUTPUTS: usize = 96;
const LONGEST: usize = 64;
const REQUESTS: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Requests are answered side by side, each on the thread that has it; kernels take 1 MiB at most, weights 64.
    let runtime = Runtime::builder().threads(1).cache_bytes(1 << 20).packed_limit(64 << 20).build()?;

    // One layer for any number of tokens, and its weights, packed once for all of them.
    let options = FamilyOptions { constant_weights: true, ..FamilyOptions::default() };
    let layer = runtime.family(&format!("ip f32 mb?ic{INPUTS}oc{OUTPUTS} +bias+relu"), &options)?;
    let (weights, bias) = (vec![0.5; OUTPUTS * INPUTS], vec![-1.0; OUTPUTS]);
    let weights = layer.packed_weights(WeightsId::from(1), &weights)?;

    let slowest = std::thread::scope(|scope| {
        let answer = |thread: usize| {
            let mut slowest = std::time::Duration::ZERO;
            for request in 0..REQUESTS {
                let tokens = 1 + (request * 37 + thread * 11) % LONGEST;
                let (src, mut dst) = (vec![0.25; tokens * INPUTS], vec![0.0; tokens * OUTPUTS]);
                let start = Instant::now();
                layer.run(tokens as u64, Args::new(&src, &weights, &mut dst).bias(&bias))?;
                slowest = slowest.max(start.elapsed());
                assert!(dst.iter().all(|&x| x == INPUTS as f32 * 0.125 - 1.0));
            }
            Ok::<_, RuntimeError>(slowest)
        };
        let threads: Vec<_> = (0..2).map(|thread| scope.spawn(move || answer(thread))).collect();
        threads.into_iter().map(|t| t.join().expect("no request panics")).collect::<Result<Vec<_>, _>>()
    })?;

    layer.wait_for_compilation();
    println!("{layer:?}\n{:?}\nslowest answer {:?}", runtime.stats(), slowest.iter().max());
    Ok(())
}

//! A layer of a residual network: convolution, bias, residual and relu as one kernel, weights packed once.

use kiln::{Args, Options, Problem, Runtime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::builder().build()?;
    // Channels innermost, as `axb` says; weights as PyTorch stores them.
    let layer: Problem = "conv f32 mb1ic64ih56oc64kh3ph1 +bias+add:abcd+relu".parse()?;
    let kernel = runtime.kernel_with(&layer, &Options { constant_weights: true, ..Options::default() })?;

    let weights = kernel.pack_weights(&vec![0.5; 64 * 64 * 3 * 3])?;
    let (image, bias, residual) = (vec![0.25; 56 * 56 * 64], vec![1.0; 64], vec![-60.0; 56 * 56 * 64]);
    let mut dst = vec![0.0; 56 * 56 * 64];
    kernel.run(Args::new(&image, &weights, &mut dst).bias(&bias).post_op(&residual))?;

    // Inside, all nine taps are on the image; in a corner, four.
    let sum = |taps: f32| taps * 64.0 * 0.125 + 1.0 - 60.0;
    assert_eq!((dst[(56 + 1) * 64], dst[0]), (sum(9.0), sum(4.0).max(0.0)));
    println!("{kernel:?}\n{} bytes of packed weights, {} bytes of code", weights.bytes(), kernel.code_bytes());
    Ok(())
}

//! A linear layer with bias and relu: compiled for this machine, called, and found in the cache.

use kiln::{Args, Problem, Runtime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::builder().build()?;
    let linear: Problem = "matmul f32 128x768:768x3072 +bias+relu".parse()?;
    let kernel = runtime.kernel(&linear)?;

    let (lhs, rhs, bias) = (vec![0.5; 128 * 768], vec![0.25; 768 * 3072], vec![-90.0; 3072]);
    let mut dst = vec![0.0; 128 * 3072];
    kernel.run(Args::new(&lhs, &rhs, &mut dst).bias(&bias))?;
    assert!(dst.iter().all(|&x| x == 768.0 * 0.125 - 90.0));

    runtime.kernel(&linear)?;
    println!("{kernel:?}\ncompiled in {:?}; {:?}", kernel.compile_time(), runtime.stats().kernels);
    Ok(())
}

//! Kiln inside an engine: layers of candle whose work is done by Kiln's kernels, as candle's custom operations.
//!
//! Each layer is computed by candle alone and by way of Kiln. The program prints the greatest difference of the two and the least time of
//! each, and fails if they are not the same layer.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Error, Layout, Shape, Tensor, bail};
use kiln::{Args, Kernel, Options, PreparedWeights, Problem, Role, Runtime};

/// The times that each layer is computed.
const RUNS: usize = 30;

/// A layer with constant weights: a product and what follows it, in one kernel.
struct Layer {
    kernel: Arc<Kernel>,
    weights: PreparedWeights<'static>,
    bias: Vec<f32>,
    /// Of the argument and of the result.
    shapes: [Vec<usize>; 2],
}

impl Layer {
    /// The layer that `problem` says, such as `ip f32 mb1ic768oc3072 +bias`.
    fn new(runtime: &Runtime, problem: &str, weights: &Tensor, bias: &Tensor) -> Result<Self> {
        let problem: Problem = problem.parse()?;
        let kernel = runtime.kernel_with(&problem, &Options { constant_weights: true, ..Options::default() })?;
        let values = weights.flatten_all()?.to_vec1::<f32>()?;
        Ok(Layer {
            weights: kernel.prepare_weights(&values)?.into_owned(),
            bias: bias.flatten_all()?.to_vec1()?,
            shapes: [Role::Lhs, Role::Dst].map(|role| problem.op().shape(role).iter().map(|n| *n as usize).collect()),
            kernel,
        })
    }
}

impl CustomOp1 for Layer {
    fn name(&self) -> &'static str {
        "kiln"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let [source, result] = &self.shapes;
        let Some((start, end)) = layout.contiguous_offsets().filter(|_| layout.dims() == source) else {
            bail!("expected a contiguous tensor of shape {source:?}, got {layout:?}")
        };
        let source = &storage.as_slice::<f32>()?[start..end];
        let elements = result.iter().product();
        let mut dst: Vec<f32> = Vec::with_capacity(elements);
        let args = Args::new(source, &self.weights, &mut dst.spare_capacity_mut()[..elements]).bias(&self.bias);
        self.kernel.run(args).map_err(Error::wrap)?;
        // SAFETY: the call succeeded, so it wrote all elements.
        unsafe { dst.set_len(elements) };
        Ok((CpuStorage::F32(dst), result.clone().into()))
    }
}

fn main() -> Result<()> {
    let runtime = Runtime::builder().build()?;
    println!("Kiln for {}, {} threads; the least of {RUNS} runs each", runtime.target(), runtime.threads());
    println!("| layer | candle | with Kiln | greatest difference |\n|---|--:|--:|--:|");
    let random = |shape: &[usize], spread: f32| Tensor::randn(0.0, spread, shape, &Device::Cpu);

    // The first linear layer of a block of BERT-base, with its activation.
    let (x, w, b) = (random(&[128, 768], 1.0)?, random(&[3072, 768], 0.04)?, random(&[3072], 0.1)?);
    let linear = Layer::new(&runtime, "ip f32 mb128ic768oc3072 +bias+gelu_erf", &w, &b)?;
    let transposed = w.t()?;
    compare("linear 128x768 to 3072, gelu", &linear, &x, || x.matmul(&transposed)?.broadcast_add(&b)?.gelu_erf())?;

    // A convolution of ResNet-50. Candle's images have channels first, which the tags say.
    let (x, w, b) = (random(&[1, 64, 56, 56], 1.0)?, random(&[64, 64, 3, 3], 0.06)?, random(&[1, 64, 1, 1], 0.1)?);
    let problem = "conv f32 mb1ic64ih56oc64kh3ph1 stag=abx dtag=abx +bias+relu";
    let conv = Layer::new(&runtime, problem, &w, &b)?;
    compare("conv 3x3, 64 to 64 channels of 56x56, relu", &conv, &x, || {
        x.conv2d(&w, 1, 1, 1, 1)?.broadcast_add(&b)?.relu()
    })
}

/// Prints a row for a layer by candle alone and by way of Kiln.
fn compare(name: &str, layer: &Layer, x: &Tensor, candle: impl Fn() -> candle_core::Result<Tensor>) -> Result<()> {
    let kiln = || x.apply_op1_no_bwd(layer);
    let difference = (candle()? - kiln()?)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    let mut least = [f64::INFINITY; 2];
    for _ in 0..RUNS {
        // By turns, so that what else the machine does falls on both.
        for (least, run) in least.iter_mut().zip([&candle as &dyn Fn() -> candle_core::Result<Tensor>, &kiln]) {
            let start = Instant::now();
            run()?;
            *least = least.min(start.elapsed().as_secs_f64());
        }
    }
    let [candle, kiln] = least.map(|seconds| 1e3 * seconds);
    println!("| {name} | {candle:.2} ms | {kiln:.2} ms | {difference:.1e} |");
    ensure!(difference < 1e-4, "{name}: the results differ by {difference:e}");
    Ok(())
}

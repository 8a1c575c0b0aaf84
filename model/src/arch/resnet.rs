//! ResNet-50, with the stride of a bottleneck in its 3x3 convolution, as PyTorch has it.

use kiln_ir::func::{Binary, Func, PoolKind, Real, ReduceKind, Structured, TensorType, Unary, ValueId};

use super::ArchError;
use super::net::Net;
use super::weights::Spread;

/// Pixels along each side of an image.
pub(super) const SIDE: u64 = 224;

/// Bottlenecks of each stage, and the channels inside them.
const STAGES: [(u64, u64); 4] = [(3, 64), (4, 128), (6, 256), (3, 512)];

/// Channels after a bottleneck, for one inside.
const EXPANSION: u64 = 4;

/// Classes of images.
const CLASSES: u64 = 1000;

/// A convolution and the normalisation after it.
struct Convolution<'a> {
    /// The name of its weights.
    name: &'a str,
    /// The name of the normalisation's.
    norm: &'a str,
    /// What the normalisation's scales are drawn from.
    scale: Spread,
    channels: u64,
    taps: u64,
    stride: u64,
}

pub(super) fn build(name: &str, inputs: &[(&'static str, TensorType)]) -> Result<Func, ArchError> {
    let (mut net, arguments) = Net::new(name, inputs)?;
    let stem = Convolution { name: "conv1", norm: "bn1", scale: Spread::Scale, channels: 64, taps: 7, stride: 2 };
    let x = convolve(&mut net, arguments[0], &stem)?;
    let x = net.push(Unary::Relu {}, &[x])?;
    let windows = net.shape(x)?[2..].iter().map(|pixels| pixels.div_ceil(2)).collect();
    let pool = Structured::Pool {
        kind: PoolKind::Max,
        p: 0,
        kernel: vec![3, 3],
        strides: vec![2, 2],
        pads: vec![1; 4],
        dilations: vec![1, 1],
        out: windows,
        channels_last: false,
    };
    let mut x = net.push(pool, &[x])?;
    for (stage, (blocks, channels)) in (1..).zip(STAGES) {
        for block in 0..blocks {
            let stride = if stage > 1 && block == 0 { 2 } else { 1 };
            x = bottleneck(&mut net, x, &format!("layer{stage}.{block}"), channels, stride, block == 0)?;
        }
    }
    let mean = Structured::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: false };
    let x = net.push(mean, &[x])?;
    let logits = net.linear(Some("logits"), x, "fc", CLASSES, 1.0)?;
    net.finish(&[logits])
}

/// Three convolutions and a shortcut around them, which the first of a stage changes to the new shape.
fn bottleneck(
    net: &mut Net,
    x: ValueId,
    name: &str,
    channels: u64,
    stride: u64,
    is_first: bool,
) -> Result<ValueId, ArchError> {
    let mut branch = x;
    for (i, channels, taps, stride) in [(1, channels, 1, 1), (2, channels, 3, stride), (3, EXPANSION * channels, 1, 1)]
    {
        let scale = if i == 3 { Spread::BranchScale } else { Spread::Scale };
        let (own, norm) = (format!("{name}.conv{i}"), format!("{name}.bn{i}"));
        branch = convolve(net, branch, &Convolution { name: &own, norm: &norm, scale, channels, taps, stride })?;
        if i < 3 {
            branch = net.push(Unary::Relu {}, &[branch])?;
        }
    }
    let mut shortcut = x;
    if is_first {
        let (own, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        let channels = EXPANSION * channels;
        let scale = Spread::Scale;
        shortcut = convolve(net, x, &Convolution { name: &own, norm: &norm, scale, channels, taps: 1, stride })?;
    }
    let sum = net.push(Binary::Add {}, &[branch, shortcut])?;
    net.push(Unary::Relu {}, &[sum])
}

fn convolve(net: &mut Net, x: ValueId, layer: &Convolution<'_>) -> Result<ValueId, ArchError> {
    let &Convolution { name, norm, scale, channels, taps, stride } = layer;
    let inputs = net.shape(x)?[1];
    let gain = std::f64::consts::SQRT_2;
    let weight = net.weight(&format!("{name}.weight"), &[channels, inputs, taps, taps], Spread::Sums { gain })?;
    let op = Structured::Conv {
        strides: vec![stride; 2],
        pads: vec![taps / 2; 4],
        dilations: vec![1; 2],
        groups: 1,
        channels_last: false,
    };
    let x = net.push(op, &[x, weight])?;
    let mut operands = vec![x];
    let parts =
        [("weight", scale), ("bias", Spread::Bias), ("running_mean", Spread::Bias), ("running_var", Spread::Variance)];
    for (part, spread) in parts {
        operands.push(net.weight(&format!("{norm}.{part}"), &[channels], spread)?);
    }
    net.push(Structured::BatchNorm { epsilon: Real(1e-5), channels_last: false }, &operands)
}

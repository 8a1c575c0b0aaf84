//! Residual networks of bottlenecks, such as ResNet-50, with the stride of a bottleneck in its 3x3 convolution, as PyTorch has it.

use kiln_ir::func::{Binary, ElementType, Func, PoolKind, Real, ReduceKind, Structured, TensorType, Unary, ValueId};

use super::error::ArchError;
use super::net::Net;
use super::weights::{Distribution, Weights};

/// Pixels along each side of an image.
const SIDE: u64 = 224;

/// Channels after a bottleneck, for one inside.
const EXPANSION: u64 = 4;

/// A residual network of bottlenecks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResNet {
    /// Whose names its weights have.
    pub names: Names,
    /// Channels of an image.
    pub colours: u64,
    /// Channels after the first convolution.
    pub stem: u64,
    /// Bottlenecks of each stage, and the channels inside them.
    pub stages: Vec<(u64, u64)>,
    /// Classes of images.
    pub classes: u64,
}

/// The names of a residual network's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// As torchvision and timm do: `layer1.0.conv1`.
    Torchvision,
    /// As transformers does: `resnet.encoder.stages.0.layers.0.layer.0.convolution`.
    Transformers,
}

impl Names {
    /// The stem: its convolution and its normalisation.
    fn stem(self) -> [String; 2] {
        match self {
            Names::Torchvision => ["conv1".into(), "bn1".into()],
            Names::Transformers => parts("resnet.embedder.embedder"),
        }
    }

    /// Convolution `i`, from 0, of a bottleneck and its normalisation. `stage` is from 0.
    fn branch(self, stage: usize, block: u64, i: usize) -> [String; 2] {
        match self {
            Names::Torchvision => ["conv", "bn"].map(|part| format!("layer{}.{block}.{part}{}", stage + 1, i + 1)),
            Names::Transformers => parts(&format!("resnet.encoder.stages.{stage}.layers.{block}.layer.{i}")),
        }
    }

    /// The shortcut around a bottleneck that changes the shape.
    fn shortcut(self, stage: usize, block: u64) -> [String; 2] {
        match self {
            Names::Torchvision => [0, 1].map(|part| format!("layer{}.{block}.downsample.{part}", stage + 1)),
            Names::Transformers => parts(&format!("resnet.encoder.stages.{stage}.layers.{block}.shortcut")),
        }
    }

    /// The last layer.
    pub(crate) fn classifier(self) -> &'static str {
        match self {
            Names::Torchvision => "fc",
            Names::Transformers => "classifier.1",
        }
    }
}

fn parts(layer: &str) -> [String; 2] {
    ["convolution", "normalization"].map(|part| format!("{layer}.{part}"))
}

/// A convolution and the normalisation after it.
struct Convolution {
    /// The names of its weights and of the normalisation's.
    names: [String; 2],
    /// The distribution of the normalisation's scales.
    scale: Distribution,
    channels: u64,
    taps: u64,
    stride: u64,
}

impl ResNet {
    /// ResNet-50.
    pub(super) fn resnet50() -> Self {
        ResNet {
            names: Names::Torchvision,
            colours: 3,
            stem: 64,
            stages: vec![(3, 64), (4, 128), (6, 256), (3, 512)],
            classes: 1000,
        }
    }

    /// The name and the type of the argument.
    pub(crate) fn input(&self, name: &'static str, batch: u64) -> Result<(&'static str, TensorType), ArchError> {
        Ok((name, TensorType::new(ElementType::F32, [batch, self.colours, SIDE, SIDE])?))
    }

    /// The network for these arguments, with weights from `weights`.
    pub(crate) fn build(
        &self,
        name: &str,
        inputs: &[(&'static str, TensorType)],
        weights: &dyn Weights,
    ) -> Result<Func, ArchError> {
        let (mut net, arguments) = Net::new(name, inputs, weights)?;
        let names = self.names.stem();
        let stem = Convolution { names, scale: Distribution::Scale, channels: self.stem, taps: 7, stride: 2 };
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
        for (stage, &(blocks, channels)) in self.stages.iter().enumerate() {
            for block in 0..blocks {
                x = self.bottleneck(&mut net, x, stage, block, channels)?;
            }
        }
        net.set_layer("pool");
        let mean = Structured::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: false };
        let x = net.push(mean, &[x])?;
        let logits = net.linear(Some("logits"), x, self.names.classifier(), self.classes, 1.0)?;
        net.finish(&[logits])
    }

    /// Three convolutions and a shortcut around them, which the first of a stage changes to the new shape.
    fn bottleneck(
        &self,
        net: &mut Net<'_>,
        x: ValueId,
        stage: usize,
        block: u64,
        channels: u64,
    ) -> Result<ValueId, ArchError> {
        let stride = if stage > 0 && block == 0 { 2 } else { 1 };
        let shapes = [(channels, 1, 1), (channels, 3, stride), (EXPANSION * channels, 1, 1)];
        let mut branch = x;
        for (i, (channels, taps, stride)) in shapes.into_iter().enumerate() {
            let is_last = i + 1 == shapes.len();
            let scale = if is_last { Distribution::BranchScale } else { Distribution::Scale };
            let names = self.names.branch(stage, block, i);
            branch = convolve(net, branch, &Convolution { names, scale, channels, taps, stride })?;
            if !is_last {
                branch = net.push(Unary::Relu {}, &[branch])?;
            }
        }
        let mut shortcut = x;
        let channels = EXPANSION * channels;
        // What is added is the input, unless it has another shape.
        if stride != 1 || net.shape(x)?[1] != channels {
            let names = self.names.shortcut(stage, block);
            shortcut = convolve(net, x, &Convolution { names, scale: Distribution::Scale, channels, taps: 1, stride })?;
        }
        let sum = net.push(Binary::Add {}, &[branch, shortcut])?;
        net.push(Unary::Relu {}, &[sum])
    }
}

fn convolve(net: &mut Net<'_>, x: ValueId, layer: &Convolution) -> Result<ValueId, ArchError> {
    let &Convolution { names: [ref name, ref norm], scale, channels, taps, stride } = layer;
    net.set_layer(name);
    let inputs = net.shape(x)?[1];
    let gain = std::f64::consts::SQRT_2;
    let weight = net.weight(&format!("{name}.weight"), &[channels, inputs, taps, taps], Distribution::Sums { gain })?;
    let op = Structured::Conv {
        strides: vec![stride; 2],
        pads: vec![taps / 2; 4],
        dilations: vec![1; 2],
        groups: 1,
        channels_last: false,
    };
    let x = net.push(op, &[x, weight])?;
    let mut operands = vec![x];
    let parts = [
        ("weight", scale),
        ("bias", Distribution::Bias),
        ("running_mean", Distribution::Bias),
        ("running_var", Distribution::Variance),
    ];
    for (part, distribution) in parts {
        operands.push(net.weight(&format!("{norm}.{part}"), &[channels], distribution)?);
    }
    net.push(Structured::BatchNorm { epsilon: Real(1e-5), channels_last: false }, &operands)
}

//! Attributes of every operator in every version: each that ONNX defines is honoured, or refused for a reason, and others are
//! refused by name.

use super::*;
use crate::import::schema::{self, Kind, Version};

/// Each operator: the operator set from which on the row is about it, its inputs, and the attributes that it needs. Inputs are
/// types, or integers or floating-point numbers that are known, perhaps with their shape after a colon; `_` is left out. Operators of
/// other domains than ONNX's have it before their name.
const EXAMPLES: &str = "
Abs 1 f32[2,3]
Acos 7 f32[2]
Acosh 9 f32[2]
Add 1 f32[2,3] f32[2,3]
AffineGrid 20 f32[1,2,3] i64{1,1,2,2}
And 1 bool[2,3] bool[2,3]
ArgMax 1 f32[2,3]
ArgMin 1 f32[2,3]
Asin 7 f32[2]
Asinh 9 f32[2]
Atan 7 f32[2]
Atanh 9 f32[2]
Attention 23 f32[1,2,3,4] f32[1,2,3,4] f32[1,2,3,4]
AveragePool 1 f32[1,2,6,6] | kernel_shape=2,2
BatchNormalization 1 f32[1,2,6] f32[2] f32[2] f32[2] f32[2] | is_test=1
BatchNormalization 7 f32[1,2,6] f32[2] f32[2] f32[2] f32[2]
BitCast 26 f32[2] | to=6
BitShift 11 u8[2] u8[2] | direction=LEFT
BitwiseAnd 18 u8[2] u8[2]
BitwiseNot 18 u8[2]
BitwiseOr 18 u8[2] u8[2]
BitwiseXor 18 u8[2] u8[2]
BlackmanWindow 17 i64{4}
Cast 1 f32[2] | to=INT64
Cast 6 f32[2] | to=7
CastLike 15 f32[2] i64[2]
CausalConvWithState 27 f32[1,2,4] f32[2,1,3] f32[2] f32[1,2,2]
Ceil 1 f32[2]
Celu 12 f32[2]
CenterCropPad 18 f32[2,3] i64{2}
Clip 1 f32[2]
Clip 11 f32[2] f32{1} f32{2}
Col2Im 18 f32[1,4,4] i64{3,3} i64{2,2}
Compress 9 f32[2,3] bool{1,0}
Concat 1 f32[2,3] f32[2,3] | axis=1
Constant 1 | value=1
Constant 11 |
ConstantOfShape 9 i64{2,3}
Conv 1 f32[1,2,6,6] f32[4,2,3,3]
ConvInteger 10 u8[1,2,6,6] u8[4,2,3,3]
ConvTranspose 1 f32[1,2,6,6] f32[2,4,3,3]
Cos 7 f32[2]
Cosh 9 f32[2]
CumProd 26 f32[2,3] i64{1}
CumSum 11 f32[2,3] i64{1}
DFT 17 f32[1,4,1]
DeformConv 19 f32[1,2,4,4] f32[2,2,2,2] f32[1,8,3,3]
DepthToSpace 1 f32[1,4,2,2] | blocksize=2
DequantizeLinear 10 u8[2,3] f32{0.5} u8{1}
Det 11 f32[2,2]
Div 1 f32[2,3] f32[2,3]
Dropout 1 f32[2] | is_test=1
Dropout 7 f32[2]
Dropout 12 f32[2] f32{0.5}
DynamicQuantizeLinear 11 f32[2]
Einsum 12 f32[2,3] f32[3,4] | equation=ij,jk->ik
Elu 1 f32[2]
Equal 1 f32[2,3] f32[2,3]
Erf 9 f32[2]
Exp 1 f32[2]
Expand 8 f32[3] i64{2,3}
EyeLike 9 f32[2,3]
Flatten 1 f32[2,3]
Floor 1 f32[2]
Gather 1 f32[2,3] i64[2]
GRU 1 f32[4,2,3] f32[1,6,3] f32[1,6,2]
GatherElements 11 f32[2,3] i64[2,3]
GatherND 11 f32[2,3] i64[2,1]
Gelu 20 f32[2]
Gemm 1 f32[3,3] f32[3,3] f32[3,3]
GlobalAveragePool 1 f32[1,2,6,6]
GlobalLpPool 1 f32[1,2,6,6]
GlobalMaxPool 1 f32[1,2,6,6]
Greater 1 f32[2,3] f32[2,3]
GreaterOrEqual 12 f32[2,3] f32[2,3]
GridSample 16 f32[1,1,2,2] f32[1,2,2,2]
GroupNormalization 18 f32[1,4,6] f32[2] f32[2] | num_groups=2
GroupNormalization 21 f32[1,4,6] f32[4] f32[4] | num_groups=2
HammingWindow 17 i64{4}
HannWindow 17 i64{4}
HardSigmoid 1 f32[2]
HardSwish 14 f32[2]
Hardmax 1 f32[2,3]
Identity 1 f32[2]
InstanceNormalization 1 f32[1,2,6] f32[2] f32[2]
IsInf 10 f32[2]
IsNaN 9 f32[2]
LSTM 1 f32[4,2,3] f32[1,8,3] f32[1,8,2]
LRN 1 f32[1,4,6,6] | size=3
LayerNormalization 17 f32[2,3] f32[3] f32[3]
LeakyRelu 1 f32[2]
Less 1 f32[2,3] f32[2,3]
LessOrEqual 12 f32[2,3] f32[2,3]
LinearAttention 27 f32[1,2,4] f32[1,2,4] f32[1,2,4] _ f32[1,2,2] f32[1,2,2] | q_num_heads=2 kv_num_heads=2
Log 1 f32[2]
LogSoftmax 1 f32[2,3]
LpNormalization 1 f32[2,3]
LpPool 1 f32[1,2,6,6] | kernel_shape=2,2
MatMul 1 f32[2,3] f32[3,4]
MatMulInteger 10 u8[2,3] u8[3,4]
Max 1 f32[2] f32[2]
MaxPool 1 f32[1,2,6,6] | kernel_shape=2,2
MaxUnpool 9 f32[1,1,2,2] i64[1,1,2,2] | kernel_shape=2,2
Mean 1 f32[2] f32[2]
MeanVarianceNormalization 9 f32[2,2,2,2]
MelWeightMatrix 17 i64{4} i64{8} i64{8000} f32{0} f32{4000}
Min 1 f32[2] f32[2]
Mish 18 f32[2]
Mod 10 f32[2] f32[2]
Mul 1 f32[2,3] f32[2,3]
Neg 1 f32[2]
NegativeLogLikelihoodLoss 12 f32[2,3] i64[2]
NonMaxSuppression 10 f32{0,0,1,1:1,1,4} f32{1:1,1,1} i64{1}
NonZero 9 i64{1,2}
Not 1 bool[2]
OneHot 9 i64[2] i64{3} f32{0,1}
Or 1 bool[2,3] bool[2,3]
PRelu 1 f32[2] f32[2]
Pad 1 f32[2,3] | paddings=1,1,1,1
Pad 2 f32[2,3] | pads=1,1,1,1
Pad 11 f32[2,3] i64{1,1,1,1}
Pow 1 f32[2,3] f32[2,3]
QLinearConv 10 u8[1,2,6,6] f32{0.5} u8{1} u8[4,2,3,3] f32{0.5} u8{1} f32{0.5} u8{1}
QLinearMatMul 10 u8[2,3] f32{0.5} u8{1} u8[3,4] f32{0.5} u8{1} f32{0.5} u8{1}
QuantizeLinear 10 f32[2,3] f32{0.5}
RNN 1 f32[4,2,3] f32[1,2,3] f32[1,2,2]
RMSNormalization 23 f32[2,3] f32[3]
Range 11 f32{1} f32{5} f32{2}
Reciprocal 1 f32[2]
ReduceL1 1 f32[2,3]
ReduceL2 1 f32[2,3]
ReduceLogSum 1 f32[2,3]
ReduceLogSumExp 1 f32[2,3]
ReduceMax 1 f32[2,3]
ReduceMean 1 f32[2,3]
ReduceMin 1 f32[2,3]
ReduceProd 1 f32[2,3]
ReduceSum 1 f32[2,3]
ReduceSumSquare 1 f32[2,3]
Relu 1 f32[2]
Reshape 1 f32[2,3] | shape=3,2
Reshape 5 f32[2,3] i64{3,2}
Resize 10 f32[2,3] f32{1,2}
Resize 11 f32[2,3] _ f32{1,2}
ReverseSequence 10 f32[2,3] i64[3]
RoiAlign 10 f32[1,1,4,4] f32[1,4] i64[1]
RotaryEmbedding 23 f32[1,2,3,4] f32[1,3,2] f32[1,3,2]
Round 11 f32[2]
STFT 17 f32[1,8,1] i64{2} f32[4]
Scatter 9 f32[2,3] i64[1,3] f32[1,3]
ScatterElements 11 f32[2,3] i64[1,3] f32[1,3]
ScatterND 11 f32[2,3] i64[1,1] f32[1,3]
Selu 1 f32[2]
Shape 1 f32[2,3]
Shrink 9 f32[2]
Sigmoid 1 f32[2]
Sign 9 f32[2]
SimplifiedLayerNormalization 1 f32[2,3] f32[3]
Sin 7 f32[2]
Sinh 9 f32[2]
Size 1 f32[2]
Slice 1 f32[2,3] | starts=0 ends=1
Slice 10 f32[2,3] i64{0} i64{1}
Softmax 1 f32[2,3]
SoftmaxCrossEntropyLoss 12 f32[2,3] i64[2]
Softplus 1 f32[2]
Softsign 1 f32[2]
SpaceToDepth 1 f32[1,4,2,2] | blocksize=2
Split 1 f32[2,3]
Split 18 f32[2,3]
Sqrt 1 f32[2]
Squeeze 1 f32[2,1]
Squeeze 13 f32[2,1]
Sub 1 f32[2,3] f32[2,3]
Sum 1 f32[2] f32[2]
SwiGLU 28 f32[2] f32[2]
Swish 24 f32[2]
Tan 7 f32[2]
Tanh 1 f32[2]
TensorScatter 24 f32[1,4,2] f32[1,2,2] i64[1]
ThresholdedRelu 10 f32[2]
Tile 1 f32[2,3] i64{2} i64{1}
Tile 6 f32[2,3] i64{2,1}
TopK 1 f32[2,3] | k=2
TopK 10 f32[2,3] i64{2}
Transpose 1 f32[2,3]
Trilu 14 f32[3,3]
Unique 11 f32{1,2,1}
Unsqueeze 1 f32[2] | axes=1
Unsqueeze 13 f32[2] i64{1}
Upsample 1 f32[1,1,2,2] | height_scale=2 width_scale=2
Upsample 7 f32[2,2] | scales=1,2
Upsample 9 f32[2,2] f32{1,2}
Where 9 bool[2] f32[2] f32[2]
Xor 1 bool[2,3] bool[2,3]
ai.onnx.preview.FlexAttention 1 f32[1,2,3,4] f32[1,2,3,4] f32[1,2,3,4]
com.microsoft.Attention 1 f32[1,2,4] f32[4,12] f32[12] | num_heads=2
com.microsoft.BiasGelu 1 f32[2] f32[2]
com.microsoft.DequantizeLinear 1 u8[2,3] f32{0.5} u8{1}
com.microsoft.DynamicQuantizeLSTM 1 f32[4,2,3] i8[1,3,8] i8[1,2,8] _ _ _ _ _ f32[1] i8[1] f32[1] i8[1]
com.microsoft.EmbedLayerNormalization 1 i64[1,2] i64[1,2] f32[5,4] f32[3,4] f32[2,4] f32[4] f32[4]
com.microsoft.FastGelu 1 f32[2] f32[2]
com.microsoft.FusedConv 1 f32[1,2,6,6] f32[4,2,3,3]
com.microsoft.FusedGemm 1 f32[3,3] f32[3,3] f32[3,3]
com.microsoft.FusedMatMul 1 f32[3,3,3] f32[3,3,3]
com.microsoft.Gelu 1 f32[2]
com.microsoft.GridSample 1 f32[1,1,2,2] f32[1,2,2,2]
com.microsoft.MultiHeadAttention 1 f32[1,2,4] f32[1,2,4] f32[1,2,4] | num_heads=2
com.microsoft.QuantizeLinear 1 f32[2,3] f32{0.5}
com.microsoft.QuickGelu 1 f32[2]
com.microsoft.RotaryEmbedding 1 f32[1,2,3,4] i64[1,3] f32[8,2] f32[8,2]
com.microsoft.SkipLayerNormalization 1 f32[1,2,4] f32[1,2,4] f32[4]
com.microsoft.SkipSimplifiedLayerNormalization 1 f32[1,2,4] f32[1,2,4] f32[4]
com.microsoft.TransposeMatMul 1 f32[3,3,3] f32[3,3,3]
com.microsoft.Trilu 1 f32[3,3]
";

/// A value for each attribute by its name, that of one operator before that of all.
const VALUES: &str = "
Attention.q_num_heads=2 Attention.kv_num_heads=2 RotaryEmbedding.num_heads=2 RotaryEmbedding.rotary_embedding_dim=4
ConvTranspose.output_shape=8,8 Gemm.broadcast=0 Squeeze.axes=1 Unsqueeze.axes=1 Transpose.perm=1,0 LpNormalization.p=1
GroupNormalization.stash_type=11 LayerNormalization.stash_type=11 RMSNormalization.stash_type=11 Slice.axes=1 Split.axis=1
QuantizeLinear.precision=11 Resize.axes=0,1 Split.split=2 AveragePool.auto_pad=VALID
QuantizeLinear.output_dtype=3 ReduceSum.axes=1
activation_alpha=0.5 activation_beta=0.5 LSTM.activations=Relu,Tanh,Tanh com.microsoft.DynamicQuantizeLSTM.activations=Relu,Tanh,Tanh
GRU.activations=Relu,Tanh activations=Relu clip=0.5
direction=reverse hidden_size=2 input_forget=1 layout=1 linear_before_reset=1 output_sequence=1
consumed_inputs=0 axis=1 broadcast=1 keepdims=0 select_last_index=1 is_causal=1 left_window_size=1 right_window_size=1
qk_matmul_output_mode=1 scale=0.5 softcap=2 softmax_precision=11 auto_pad=SAME_UPPER ceil_mode=1 count_include_pad=1
dilations=1,1 strides=2,2 pads=1,1,1,1 kernel_shape=3,3 epsilon=0.5 is_test=1 momentum=0.5 spatial=1 training_mode=0
saturate=0 round_mode=down to=7 alpha=0.5 beta=0.5 gamma=0.5 max=2 min=1 value=2 value_float=1 value_floats=1,2 value_int=1
value_ints=1,2 group=1 output_padding=0,0 exclusive=1 reverse=1 mode=DCR Pad.mode=edge Resize.mode=linear Upsample.mode=nearest
block_size=0 output_dtype=1 ratio=0.5 seed=7 approximate=tanh transA=1 transB=1 stash_type=11 p=2 axes=1
noop_with_empty_axes=1 fmod=1 storage_order=1 allowzero=1 coordinate_transformation_mode=asymmetric cubic_coeff_a=0.5
exclude_outside=1 extrapolation_value=0.5 nearest_mode=floor antialias=1 keep_aspect_ratio_policy=stretch interleaved=1
num_outputs=1 upper=0 bias=0.5 lambd=0.5 size=3 end=1 start=1 num_groups=2 blocksize=2 equation=ij,jk->ik scales=1,2
com.microsoft.GridSample.mode=bicubic GridSample.mode=nearest com.microsoft.RotaryEmbedding.rotary_embedding_dim=4
padding_mode=border align_corners=1 RoiAlign.mode=max RoiAlign.coordinate_transformation_mode=output_half_pixel
output_height=2 output_width=2 sampling_ratio=1 spatial_scale=0.5 TensorScatter.mode=circular Unique.axis=0 sorted=0 largest=0 k=1
direction=RIGHT prob_mod=g score_mod=g activation=silu activation_params=0.5 activation_alpha=0.5 activation_beta=0.5 activation_gamma=0.5 batch_dims=1
com.microsoft.FusedConv.activation=LeakyRelu com.microsoft.FusedGemm.activation=HardSigmoid Col2Im.strides=1,1 Col2Im.pads=0,0,0,0
inverse=1 onesided=1 DeformConv.kernel_shape=2,2 offset_group=1 dtype=7 detect_negative=0 detect_positive=0 chunk_size=16
update_rule=gated_delta MaxUnpool.pads=0,0,0,0 ignore_index=1 reduction=sum ScatterElements.reduction=add ScatterND.reduction=mul
center_point_box=1 batch_axis=1 time_axis=0 output_datatype=11 periodic=0 num_heads=2 do_rotary=1 mask_filter_value=-100
past_present_share_buffer=1 qkv_hidden_sizes=4,4,4 rotary_embedding_dim=2 unidirectional=1 mask_index_type=0 transBatchA=1
transBatchB=1 is_packed_batching=1 SimplifiedLayerNormalization.stash_type=11 MeanVarianceNormalization.axes=0,2
height_scale=2 width_scale=2 value_string=a value_strings=a sparse_value=0 shape=3,2 paddings=1,1,1,1 starts=0 ends=1
";

/// Attributes that ONNX defines and that are refused, with words of the reason.
const REFUSED: &[(&str, &str, &str)] = &[
    ("ai.onnx.preview.FlexAttention", "prob_mod", "change scores"),
    ("ai.onnx.preview.FlexAttention", "score_mod", "change scores"),
    ("com.microsoft.Attention", "do_rotary", "outside of it"),
    ("com.microsoft.Attention", "past_present_share_buffer", "of their own"),
    ("com.microsoft.RotaryEmbedding", "is_packed_batching", "one after another"),
    ("com.microsoft.RotaryEmbedding", "scale", "other than 1"),
    ("Constant", "sparse_value", "type that is not supported"),
    ("Constant", "value_string", "does not know"),
    ("Constant", "value_strings", "does not know"),
];

fn of_kind(name: &str, kind: Kind, text: &str) -> AttributeProto {
    let float = |text: &str| text.parse::<f32>().unwrap();
    let int = |text: &str| text.parse::<i64>().unwrap();
    match kind {
        Kind::Float => AttributeProto { f: float(text), ..attribute(name, 1) },
        Kind::Int => number(name, int(text)),
        Kind::Str => AttributeProto { s: text.to_owned().into(), ..attribute(name, 3) },
        Kind::Tensor => AttributeProto { t: Some(floats("", &[float(text)])), ..attribute(name, 4) },
        Kind::Floats => AttributeProto { floats: text.split(',').map(float).collect(), ..attribute(name, 6) },
        Kind::Ints => list(name, &text.split(',').map(int).collect::<Vec<_>>()),
        Kind::Strings => AttributeProto {
            strings: text.split(',').map(|word| word.to_owned().into()).collect(),
            ..attribute(name, 8)
        },
        Kind::SparseTensor => attribute(name, 11),
        Kind::Graph => AttributeProto { g: Some(graph(&[], &[], &[], &[])), ..attribute(name, 5) },
        Kind::Type => panic!("{name}: no example of such an attribute"),
    }
}

/// The row for an operator in an operator set.
fn example(op: &str, opset: i64) -> (&'static str, &'static str) {
    let row = |line: &'static str| {
        let (inputs, attributes) = line.split_once('|').unwrap_or((line, ""));
        let mut words = inputs.splitn(3, ' ');
        let (name, first) = (words.next()?, words.next()?.trim().parse::<i64>().ok()?);
        (name == op && first <= opset).then(|| (words.next().unwrap_or("").trim(), attributes.trim()))
    };
    let found = EXAMPLES.lines().filter_map(row).next_back();
    found.unwrap_or_else(|| panic!("{op} of operator set {opset} has no example: add a line to EXAMPLES"))
}

/// A graph of one node with these attributes, and with as many outputs.
fn one_node(op: &str, inputs: &str, attributes: &[AttributeProto], outputs: usize) -> GraphProto {
    let numbers = [("f32", 1), ("u8", 2), ("i8", 3), ("i64", 7), ("bool", 9)];
    let number = |word: &str| numbers.iter().find(|(name, _)| *name == word).unwrap().1;
    let (mut values, mut initializers, mut names) = (vec![], vec![], vec![]);
    for (index, input) in inputs.split_whitespace().enumerate() {
        let name = format!("x{index}");
        if let Some((element, dims)) = input.strip_suffix(']').and_then(|i| i.split_once('[')) {
            values.push(typed(&name, number(element), &dims.split(',').collect::<Vec<_>>()));
        } else if let Some((element, elements)) = input.strip_suffix('}').and_then(|i| i.split_once('{')) {
            let (elements, shape) = elements.split_once(':').unwrap_or((elements, ""));
            let all: Vec<f32> = elements.split(',').map(|e| e.parse().unwrap()).collect();
            // One number is a scalar but where a list is expected.
            let is_scalar = all.len() == 1 && !matches!(op, "Slice" | "Unsqueeze" | "Tile");
            let dims = match shape {
                "" if is_scalar => vec![],
                "" => vec![all.len() as i64],
                shape => shape.split(',').map(|n| n.parse().unwrap()).collect(),
            };
            let ints = all.iter().map(|v| *v as i64);
            initializers.push(match element {
                "f32" => TensorProto { float_data: all, ..tensor(&name, 1, &dims) },
                "i64" => TensorProto { int64_data: ints.collect(), ..tensor(&name, 7, &dims) },
                _ => TensorProto {
                    int32_data: ints.map(|i| i as i32).collect(),
                    ..tensor(&name, number(element), &dims)
                },
            });
        } else {
            assert_eq!(input, "_", "{inputs}");
            names.push(String::new());
            continue;
        }
        names.push(name);
    }
    let outputs: Vec<String> = (0..outputs).map(|i| format!("y{i}")).collect();
    let words = |names: &[String]| names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let (names, all) = (words(&names), words(&outputs));
    let split = |text: &'_ str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let names = if names.is_empty() { vec![] } else { split(&names) };
    let mut made = node(op.rsplit('.').next().unwrap(), &[], &[]);
    made.domain = op.rsplit_once('.').map_or("", |(domain, _)| domain).into();
    (made.input, made.output) = (names, split(&all));
    graph(&values, &initializers, &[with(made, attributes)], &outputs.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Each operator, with its domain before it if it has one, in each of its versions.
fn versions() -> Vec<(&'static str, &'static Version)> {
    let mut all = vec![];
    // A line of text makes no example of what has graphs, or takes sequences.
    let graphs = crate::import::control::OPS.iter().map(|(name, _)| *name);
    let others: Vec<&str> = graphs.chain(crate::import::sequence::OPS.iter().map(|(name, _)| *name)).collect();
    for operator in operators().into_iter().filter(|operator| !others.contains(&operator.name)) {
        let known = schema::versions(operator.name).iter().filter(|version| version.since <= *crate::OPSETS.end());
        if operator.domain.is_empty() && !schema::versions(operator.name).is_empty() {
            all.extend(known.map(|version| (operator.name, version)));
        } else {
            let name = match operator.domain {
                "" => operator.name.to_owned(),
                domain => format!("{domain}.{}", operator.name),
            };
            all.push((&*name.leak(), schema::other(operator.domain, operator.name).unwrap()));
        }
    }
    all
}

/// The model of a graph of one node of an operator in one version, with all domains.
fn model_of(graph: GraphProto, version: i64) -> ModelProto {
    let mut model = model(graph);
    model.opset_import[0].version = version;
    for domain in ["com.microsoft", "ai.onnx.preview"] {
        model.opset_import.push(OperatorSetIdProto { domain: domain.into(), version: 1 });
    }
    model
}

/// A name and a value for an attribute that an operator has in a version.
fn given(version: &Version, assignment: &str) -> AttributeProto {
    let (name, value) = assignment.split_once('=').unwrap();
    let kind = version.attributes.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{assignment}")).1;
    of_kind(name, kind, value)
}

fn value_of(op: &str, name: &str) -> &'static str {
    let all = || VALUES.split_whitespace().filter_map(|pair| pair.split_once('='));
    let own = format!("{op}.{name}");
    let found = all().find(|(key, _)| *key == own).or_else(|| all().find(|(key, _)| *key == name));
    found.unwrap_or_else(|| panic!("attribute `{name}` of {op} has no value: add one to VALUES")).1
}

#[test]
fn each_attribute_of_each_operator_is_honoured_or_refused_for_a_reason() {
    let mut wrong = vec![];
    let (mut honoured, mut refusals) = (0, vec![]);
    for (op, version) in versions() {
        {
            let (inputs, needed) = example(op, version.since);
            let needed: Vec<_> = needed.split_whitespace().map(|pair| given(version, pair)).collect();
            let most = version.outputs.min(match op {
                "Split" | "BatchNormalization" => 1,
                "com.microsoft.MultiHeadAttention" => 3,
                _ => 4,
            });
            for (name, kind) in version.attributes {
                let refusal = REFUSED.iter().find(|(o, n, _)| (o, n) == (&op, name));
                let mut attributes = needed.clone();
                if !needed.iter().any(|a| a.name == *name) {
                    attributes.push(of_kind(name, *kind, value_of(op, name)));
                }
                for outputs in [1, most] {
                    let model = model_of(one_node(op, inputs, &attributes, outputs), version.since);
                    let found = Model::from_bytes(model.encode_to_vec()).map_err(|e| e.to_string());
                    let found = found.and_then(|m| m.import(&Bindings::new()).map_err(|e| e.to_string()));
                    match (found, refusal) {
                        (Ok(_), None) => honoured += 1,
                        (Err(e), Some((.., words))) if e.contains(words) && e.contains(name) => {
                            refusals.push((op, *name))
                        }
                        (Ok(_), Some(_)) => wrong.push(format!("{op} {}: `{name}` is not refused", version.since)),
                        (Err(e), _) => wrong.push(format!("{op} {}: `{name}`: {e}", version.since)),
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(honoured > 700, "{honoured}");
    assert!(REFUSED.iter().all(|(op, name, _)| refusals.contains(&(*op, *name))), "{refusals:?}");
}

#[test]
fn attributes_that_no_operator_has_are_refused_by_name() {
    let mut refused = 0;
    for (op, version) in versions() {
        {
            let (inputs, needed) = example(op, version.since);
            let mut attributes: Vec<_> = needed.split_whitespace().map(|pair| given(version, pair)).collect();
            attributes.push(number("own_idea", 0));
            let model = model_of(one_node(op, inputs, &attributes, 1), version.since);
            let error = Model::from_bytes(model.encode_to_vec()).unwrap().import(&Bindings::new()).unwrap_err();
            let ImportError::Attribute { at, attribute, .. } = &error else { panic!("{op}: {error}") };
            let found = (at.name.as_str(), at.op.as_str(), at.opset, attribute.as_str());
            assert_eq!(found, ("y0", op.rsplit('.').next().unwrap(), version.since, "own_idea"));
            refused += 1;
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn attributes_of_other_versions_are_refused() {
    let x = || [value("x", &["2", "3"]), value("b", &["2", "3"])];
    let of = |opset: i64, node: NodeProto| import_as(opset, &graph(&x(), &[], &[node], &["y"]), &Bindings::new());
    let add = || with(node("Add", &["x", "b"], &["y"]), &[number("axis", 0), number("broadcast", 1)]);
    assert!(of(6, add()).is_ok());
    let message = of(7, add()).unwrap_err().to_string();
    assert_eq!(
        message,
        "node `y` (Add, operator set 7): attribute `axis` is not supported: ONNX does not define it there, and what it would change \
         is not known; it defines none"
    );
    let clip = || with(node("Clip", &["x"], &["y"]), &[AttributeProto { f: 1.0, ..attribute("max", 1) }]);
    assert!(of(10, clip()).is_ok());
    assert!(matches!(of(11, clip()), Err(ImportError::Attribute { attribute, .. }) if attribute == "max"));
    let gelu = of(19, node("Gelu", &["x"], &["y"])).unwrap_err().to_string();
    assert!(
        gelu.contains("Gelu") && gelu.contains("operator set 19") && gelu.contains("from operator set 20 on"),
        "{gelu}"
    );
    let text = with(node("Softmax", &["x"], &["y"]), &[AttributeProto { s: "1".into(), ..attribute("axis", 3) }]);
    assert!(of(13, text).unwrap_err().to_string().contains("`axis` is not supported: it must be an integer"));
}

#[test]
fn inputs_that_no_operator_has_are_refused() {
    let x = [value("x", &["2", "3"]), value("b", &["2", "3"])];
    let error = import(&graph(&x, &[], &[node("Relu", &["x", "b"], &["y"])], &["y"]), &Bindings::new()).unwrap_err();
    assert!(error.to_string().contains("has 2 inputs: ONNX defines 1"), "{error}");
    // Without a broadcast, the first versions add what has the same shape.
    let b = [value("x", &["2", "3"]), value("b", &["3"])];
    let error =
        import_as(6, &graph(&b, &[], &[node("Add", &["x", "b"], &["y"])], &["y"]), &Bindings::new()).unwrap_err();
    assert!(error.to_string().contains("`broadcast`"), "{error}");
}

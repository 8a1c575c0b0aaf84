//! Made from onnxruntime 1.32.0 by `tools/onnx_schema.py`. Versions that take the same as the one before are left out.

use super::Kind::{Float, Floats, Int, Ints, Str, Strings};
use super::{Operator, v};

/// Sorted by name.
#[rustfmt::skip]
pub(super) const OPERATORS: &[Operator] = &[
    ("Attention", &[v(1, 2, 7, 2, &[("do_rotary", Int), ("mask_filter_value", Float), ("num_heads", Int), ("past_present_share_buffer", Int), ("qkv_hidden_sizes", Ints), ("rotary_embedding_dim", Int), ("scale", Float), ("unidirectional", Int)])]),
    ("BiasGelu", &[v(1, 2, 2, 1, &[])]),
    ("DequantizeLinear", &[v(1, 2, 3, 1, &[("axis", Int)])]),
    ("DynamicQuantizeLSTM", &[v(1, 12, 12, 3, &[("activation_alpha", Floats), ("activation_beta", Floats), ("activations", Strings), ("clip", Float), ("direction", Str), ("hidden_size", Int), ("input_forget", Int)])]),
    ("EmbedLayerNormalization", &[v(1, 7, 9, 3, &[("epsilon", Float), ("mask_index_type", Int)])]),
    ("FastGelu", &[v(1, 1, 2, 1, &[])]),
    ("FusedConv", &[v(1, 2, 4, 1, &[("activation", Str), ("activation_params", Floats), ("auto_pad", Str), ("dilations", Ints), ("group", Int), ("kernel_shape", Ints), ("pads", Ints), ("strides", Ints)])]),
    ("FusedGemm", &[v(1, 2, 3, 1, &[("activation", Str), ("activation_alpha", Float), ("activation_beta", Float), ("activation_gamma", Float), ("alpha", Float), ("beta", Float), ("transA", Int), ("transB", Int)])]),
    ("FusedMatMul", &[v(1, 2, 2, 1, &[("alpha", Float), ("transA", Int), ("transB", Int), ("transBatchA", Int), ("transBatchB", Int)])]),
    ("Gelu", &[v(1, 1, 1, 1, &[])]),
    ("GridSample", &[v(1, 2, 2, 1, &[("align_corners", Int), ("mode", Str), ("padding_mode", Str)])]),
    ("LayerNormalization", &[v(1, 2, 3, 3, &[("axis", Int), ("epsilon", Float), ("stash_type", Int)])]),
    ("MultiHeadAttention", &[v(1, 1, 10, 4, &[("mask_filter_value", Float), ("num_heads", Int), ("scale", Float), ("unidirectional", Int)])]),
    ("QuantizeLinear", &[v(1, 2, 3, 1, &[("axis", Int)])]),
    ("QuickGelu", &[v(1, 1, 1, 1, &[("alpha", Float)])]),
    ("RotaryEmbedding", &[v(1, 4, 4, 1, &[("interleaved", Int), ("is_packed_batching", Int), ("num_heads", Int), ("rotary_embedding_dim", Int), ("scale", Float)])]),
    ("SimplifiedLayerNormalization", &[v(1, 2, 2, 2, &[("axis", Int), ("epsilon", Float), ("stash_type", Int)])]),
    ("SkipLayerNormalization", &[v(1, 3, 5, 4, &[("epsilon", Float)])]),
    ("SkipSimplifiedLayerNormalization", &[v(1, 3, 4, 4, &[("epsilon", Float)])]),
    ("TransposeMatMul", &[v(1, 2, 2, 1, &[("alpha", Float), ("transA", Int), ("transB", Int)])]),
    ("Trilu", &[v(1, 1, 2, 1, &[("upper", Int)])]),
];

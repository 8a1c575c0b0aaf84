//! Operators of the domain `com.microsoft`, which the optimizer and the quantization of ONNX Runtime make of ONNX's own, and those that
//! it writes into ONNX's domain although ONNX does not define them.

mod activation;
mod attention;
mod normalization;
mod product;

use super::Row;
use super::{quantization, recurrent, sampling, shapes};

pub(super) const DOMAIN: &str = "com.microsoft";

pub(super) const TABLES: &[&[Row]] =
    &[activation::OPS, attention::OPS, normalization::OPS, product::OPS, recurrent::MICROSOFT, SAME];

/// Those that are as ONNX's own of that name.
const SAME: &[Row] = &[
    ("DequantizeLinear", quantization::dequantize),
    ("GridSample", sampling::grid_sample),
    ("QuantizeLinear", quantization::quantize),
    ("Trilu", shapes::trilu),
];

/// Those that are in ONNX's domain, which has none of this name, or has it in later versions only.
pub(super) const IN_ONNX: &[Row] = &[
    ("LayerNormalization", super::normalization::layer_norm),
    ("SimplifiedLayerNormalization", normalization::simplified),
];

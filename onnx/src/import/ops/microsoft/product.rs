//! Matrix products and convolutions with what surrounds them.

use super::super::Row;
use super::super::contraction::{gemm, product};
use super::super::conv::{convolution, with_bias};
use super::activation::activated;
use crate::graph::Attribute;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[
    ("FusedConv", fused_conv),
    ("FusedGemm", fused_gemm),
    ("FusedMatMul", fused_matmul),
    ("TransposeMatMul", fused_matmul),
];

/// A factor with its axes as the attributes of these names say: the last but one first, then the last two swapped.
fn factor(c: &mut Ctx<'_>, index: usize, batch: &str, last: &str) -> Result<Val, Fault> {
    let mut x = c.input(index)?;
    let rank = c.rank(&x);
    let (is_batch, is_last) = (c.flag(batch, false)?, c.flag(last, false)?);
    if is_batch && rank > 2 {
        // The first axis becomes the last but one.
        let perm: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
        x = c.transpose(&x, &perm)?;
    }
    // A vector is its own transpose.
    if is_last && rank > 1 { c.matrix_transposed(&x) } else { Ok(x) }
}

fn fused_matmul(c: &mut Ctx<'_>) -> Outputs {
    let (a, b) = (factor(c, 0, "transBatchA", "transA")?, factor(c, 1, "transBatchB", "transB")?);
    let alpha = c.float("alpha", 1.0)?;
    let y = product(c, &a, &b)?;
    one(c.scaled(&y, alpha)?)
}

fn fused_gemm(c: &mut Ctx<'_>) -> Outputs {
    let y = gemm(c)?.remove(0);
    let mut parameters = vec![];
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        parameters.push(c.float_or_none(name)?);
    }
    let name = c.string("activation", "")?;
    one(activated(c, &y, &name, &parameters)?)
}

/// The tensor that is added last, before the activation, is of the result's shape.
fn fused_conv(c: &mut Ctx<'_>) -> Outputs {
    let (x, weights) = (c.input(0)?, c.input(1)?);
    let y = convolution(c, &x, &weights)?;
    let mut y = with_bias(c, &y, c.optional(2))?.remove(0);
    if let Some(sum) = c.optional(3) {
        y = c.add(&y, &sum)?;
    }
    let parameters = match c.attribute("activation_params") {
        None => vec![],
        Some(Attribute::Floats(list)) => list.iter().map(|v| Some(f64::from(*v))).collect(),
        Some(_) => return Err("attribute `activation_params` is not a list of floating-point numbers".into()),
    };
    let name = c.string("activation", "")?;
    one(activated(c, &y, &name, &parameters)?)
}

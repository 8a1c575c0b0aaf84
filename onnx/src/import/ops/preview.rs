//! Operators of ONNX's domain for what is not decided yet.

use kiln_ir::func::{ElementType, Structured};

use super::Row;
use super::attention::repeated;
use super::math::element;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};

pub(super) const DOMAIN: &str = "ai.onnx.preview";

pub(super) const OPS: &[Row] = &[("FlexAttention", flex_attention)];

/// Attention of heads `[batch, heads, tokens, size]`; scores have single precision at least.
fn flex_attention(c: &mut Ctx<'_>) -> Outputs {
    let (q, k, v) = (c.input(0)?, c.input(1)?, c.input(2)?);
    for name in ["score_mod", "prob_mod"] {
        if c.attribute(name).is_some() {
            let why = "graphs that change scores are not supported: export attention with a mask".into();
            return Err(Fault::Attribute { name: name.into(), why });
        }
    }
    let (&[_, heads, _, size], 4, 4) = (&c.shape(&q)[..], c.rank(&k), c.rank(&v)) else {
        return Err(format!("{}, {} and {}: expected rank 4", c.ty(&q), c.ty(&k), c.ty(&v)).into());
    };
    let own = c.element(&q);
    let precision = match c.int_or_none("softmax_precision")? {
        Some(number) => element(number)?,
        None if own == ElementType::F64 => ElementType::F64,
        None => ElementType::F32,
    };
    let scale = c.float_or_none("scale")?.unwrap_or(1.0 / (size as f64).sqrt());
    let (k, v) = (repeated(c, &k, heads)?, repeated(c, &v, heads)?);
    let transposed = c.matrix_transposed(&k)?;
    let scores = c.matmul(&q, &transposed)?;
    let scores = c.cast(&scores, precision)?;
    let scores = c.scaled(&scores, scale)?;
    let weights = c.push(Structured::Softmax { axis: 3 }, &[&scores])?;
    let weights = c.cast(&weights, own)?;
    one(c.matmul(&weights, &v)?)
}

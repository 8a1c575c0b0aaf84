//! Matrix products.

use kiln_ir::func::Structured;

use super::Row;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[("Det", det), ("Gemm", gemm), ("MatMul", matmul)];

fn matmul(c: &mut Ctx<'_>) -> Outputs {
    let (a, b) = (c.input(0)?, c.input(1)?);
    one(product(c, &a, &b)?)
}

/// A product of matrices; a vector is a row on the left and a column on the right, and its axis of 1 is not in the result.
pub(super) fn product(c: &mut Ctx<'_>, a: &Val, b: &Val) -> Result<Val, Fault> {
    let (rank_a, rank_b) = (c.rank(a), c.rank(b));
    let length = |c: &Ctx<'_>, v: &Val| c.ty(v).elements();
    let a = if rank_a == 1 { c.reshape(a, [1, length(c, a)])? } else { a.clone() };
    let b = if rank_b == 1 { c.reshape(b, [length(c, b), 1])? } else { b.clone() };
    let y = c.matmul(&a, &b)?;
    let mut shape = c.shape(&y);
    if rank_b == 1 {
        shape.pop();
    }
    if rank_a == 1 {
        shape.remove(shape.len() - if rank_b == 1 { 1 } else { 2 });
    }
    c.reshape(&y, shape)
}

pub(super) fn gemm(c: &mut Ctx<'_>) -> Outputs {
    let (mut a, mut b) = (c.input(0)?, c.input(1)?);
    if c.rank(&a) != 2 || c.rank(&b) != 2 {
        return Err(format!("{} and {}: expected matrices", c.ty(&a), c.ty(&b)).into());
    }
    if c.flag("transA", false)? {
        a = c.matrix_transposed(&a)?;
    }
    if c.flag("transB", false)? {
        b = c.matrix_transposed(&b)?;
    }
    let y = c.matmul(&a, &b)?;
    let y = c.scaled(&y, c.float("alpha", 1.0)?)?;
    let beta = c.float("beta", 1.0)?;
    let is_stretched = c.opset >= 7 || c.flag("broadcast", false)?;
    let Some(bias) = c.optional(2).filter(|_| beta != 0.0) else { return one(y) };
    let bias = c.scaled(&bias, beta)?;
    let sum = c.add(&y, &bias)?;
    if !is_stretched && c.shape(&bias) != c.shape(&y) {
        let (bias, y) = (c.ty(&bias), c.ty(&y));
        return Err(format!("its bias {bias} is not {y}: without its attribute `broadcast` it must be").into());
    }
    if c.shape(&sum) != c.shape(&y) {
        return Err(format!("its bias {} does not stretch to {}", c.ty(&bias), c.ty(&y)).into());
    }
    one(sum)
}

fn det(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    one(c.push(Structured::Det {}, &[&x])?)
}

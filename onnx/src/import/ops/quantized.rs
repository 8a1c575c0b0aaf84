//! Matrix products and convolutions of integers. Sums are exact.

use super::Row;
use super::contraction::product;
use super::conv::convolution;
use super::quantization::{centred, requantized, single};
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[
    ("ConvInteger", conv_integer),
    ("MatMulInteger", matmul_integer),
    ("QLinearConv", qlinear_conv),
    ("QLinearMatMul", qlinear_matmul),
];

/// A number for each row of the left matrix, as a column.
fn by_row(c: &mut Ctx<'_>, value: Val) -> Result<Val, Fault> {
    match single(c, &value)? {
        Some(single) => Ok(single),
        None if c.rank(&value) == 1 => {
            let rows = c.ty(&value).elements();
            c.reshape(&value, [rows, 1])
        }
        None => Ok(value),
    }
}

/// A number for each column of the right matrix, as a row.
fn by_column(c: &mut Ctx<'_>, value: Val) -> Result<Val, Fault> {
    Ok(single(c, &value)?.unwrap_or(value))
}

/// A number for each channel that comes out, along an axis of a tensor of some rank.
fn by_channel(c: &mut Ctx<'_>, value: Val, axis: usize, rank: usize) -> Result<Val, Fault> {
    match single(c, &value)? {
        Some(single) => Ok(single),
        None => c.along(&value, axis, rank),
    }
}

fn matmul_integer(c: &mut Ctx<'_>) -> Outputs {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let zero_a = c.optional(2).map(|zero| by_row(c, zero)).transpose()?;
    let zero_b = c.optional(3).map(|zero| by_column(c, zero)).transpose()?;
    let (a, b) = (centred(c, &a, zero_a)?, centred(c, &b, zero_b)?);
    one(product(c, &a, &b)?)
}

fn qlinear_matmul(c: &mut Ctx<'_>) -> Outputs {
    let [a, scale_a, zero_a, b, scale_b, zero_b, scale_y, zero_y] = inputs(c)?;
    let (scale_a, zero_a) = (by_row(c, scale_a)?, by_row(c, zero_a)?);
    let (scale_b, zero_b) = (by_column(c, scale_b)?, by_column(c, zero_b)?);
    let (scale_y, zero_y) = (by_row(c, scale_y)?, by_row(c, zero_y)?);
    let (a, b) = (centred(c, &a, Some(zero_a))?, centred(c, &b, Some(zero_b))?);
    let sum = product(c, &a, &b)?;
    one(requantized(c, &sum, [&scale_a, &scale_b, &scale_y], &zero_y)?)
}

fn inputs(c: &Ctx<'_>) -> Result<[Val; 8], Fault> {
    let all = (0..8).map(|i| c.input(i)).collect::<Result<Vec<_>, _>>()?;
    Ok(all.try_into().expect("eight"))
}

fn conv_integer(c: &mut Ctx<'_>) -> Outputs {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let rank = c.rank(&w);
    let zero_x = c.optional(2).map(|zero| by_column(c, zero)).transpose()?;
    let zero_w = c.optional(3).map(|zero| by_channel(c, zero, 0, rank)).transpose()?;
    let (x, w) = (centred(c, &x, zero_x)?, centred(c, &w, zero_w)?);
    one(convolution(c, &x, &w)?)
}

fn qlinear_conv(c: &mut Ctx<'_>) -> Outputs {
    let [x, scale_x, zero_x, w, scale_w, zero_w, scale_y, zero_y] = inputs(c)?;
    let rank = c.rank(&x);
    if rank < 3 || c.rank(&w) != rank {
        return Err(format!("{} and {}: expected images and weights", c.ty(&x), c.ty(&w)).into());
    }
    let (zero_x, zero_w) = (by_column(c, zero_x)?, by_channel(c, zero_w, 0, rank)?);
    let (x, w) = (centred(c, &x, Some(zero_x))?, centred(c, &w, Some(zero_w))?);
    let mut sum = convolution(c, &x, &w)?;
    if let Some(bias) = c.optional(8) {
        let bias = c.along(&bias, 1, rank)?;
        sum = c.add(&sum, &bias)?;
    }
    let (scale_x, scale_y) = (by_column(c, scale_x)?, by_column(c, scale_y)?);
    let scale_w = by_channel(c, scale_w, 1, rank)?;
    let zero_y = by_column(c, zero_y)?;
    one(requantized(c, &sum, [&scale_x, &scale_w, &scale_y], &zero_y)?)
}

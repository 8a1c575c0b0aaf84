//! Losses, which some networks for training have among their results.

use kiln_ir::func::{Binary, ElementType, ReduceKind, Structured, Unary};

use super::Row;
use super::indexed::elements_at;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};
use crate::import::program::{Val, scalar};

pub(super) const OPS: &[Row] =
    &[("NegativeLogLikelihoodLoss", negative_log_likelihood), ("SoftmaxCrossEntropyLoss", softmax_cross_entropy)];

fn negative_log_likelihood(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    one(loss(c, &x)?)
}

fn softmax_cross_entropy(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    if c.rank(&x) < 2 {
        return Err(format!("{}: expected scores of classes, so rank 2 or more", c.ty(&x)).into());
    }
    let logarithms = c.push(Structured::LogSoftmax { axis: 1 }, &[&x])?;
    Ok(vec![loss(c, &logarithms)?, logarithms])
}

/// The negative of what is predicted for the class that the second input has, `[n, classes, d...]` for `[n, d...]`, times the weight
/// of the class.
fn loss(c: &mut Ctx<'_>, x: &Val) -> Result<Val, Fault> {
    let (target, weights) = (c.input(1)?, c.optional(2));
    let (shape, wanted) = (c.shape(x), c.shape(&target));
    if shape.len() < 2 || wanted.len() + 1 != shape.len() || wanted[0] != shape[0] || wanted[1..] != shape[2..] {
        return Err(format!("classes {} for {}", c.ty(&target), c.ty(x)).into());
    }
    let mut target = c.cast(&target, ElementType::I64)?;
    let zero = c.number_like(x, 0.0);
    let mut ignored = None;
    if let Some(number) = c.int_or_none("ignore_index")? {
        // It may be no class, so that another takes its place.
        let number = scalar(ElementType::I64, number as f64);
        let is_ignored = c.push(Binary::Equal {}, &[&target, &number])?;
        target = c.select(&is_ignored, &scalar(ElementType::I64, 0.0), &target)?;
        ignored = Some(is_ignored);
    }
    let mut wide = wanted.clone();
    wide.insert(1, 1);
    let places = c.reshape(&target, wide)?;
    let picked = elements_at(c, x, &places, 1)?;
    let picked = c.reshape(&picked, wanted.clone())?;
    let mut loss = c.unary(Unary::Neg {}, &picked)?;
    let mut weight = match weights {
        Some(weights) => Some(c.push(Structured::Gather { axis: 0 }, &[&weights, &target])?),
        None => None,
    };
    if let Some(is_ignored) = ignored {
        loss = c.select(&is_ignored, &zero, &loss)?;
        let of = weight.unwrap_or_else(|| c.number_like(x, 1.0));
        weight = Some(c.select(&is_ignored, &zero, &of)?);
    }
    if let Some(weight) = &weight {
        loss = c.mul(&loss, weight)?;
    }
    let all: Vec<usize> = (0..wanted.len()).collect();
    match c.string("reduction", "mean")?.as_str() {
        "none" => Ok(loss),
        "sum" => c.reduce(&loss, ReduceKind::Sum, &all, false),
        "mean" => match weight {
            None => c.reduce(&loss, ReduceKind::Mean, &all, false),
            Some(weight) => {
                let sum = c.reduce(&loss, ReduceKind::Sum, &all, false)?;
                let weights = c.reduce(&weight, ReduceKind::Sum, &all, false)?;
                c.div(&sum, &weights)
            }
        },
        other => Err(format!("attribute `reduction` is `{other}`: expected `none`, `sum` or `mean`").into()),
    }
}

//! Normalisations of sums, and of embedded tokens.

use kiln_ir::func::{ElementType, ReduceKind, Structured};

use super::super::Row;
use super::super::indexed::count_along;
use super::super::movement::gathered;
use super::super::normalization::{moments, rms_norm, stash};
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axis_of};
use crate::import::program::{Val, scalar};

pub(super) const OPS: &[Row] = &[
    ("EmbedLayerNormalization", embed_layer_norm),
    ("SkipLayerNormalization", skip_layer_norm),
    ("SkipSimplifiedLayerNormalization", skip_simplified),
];

/// The epsilon of operators that have none.
const EPSILON: f32 = 1e-12;

pub(super) fn simplified(c: &mut Ctx<'_>) -> Outputs {
    let mut outputs = rms_norm(c)?;
    if c.wants(1) {
        let x = c.input(0)?;
        let axis = axis_of(c.int("axis", -1)?, c.rank(&x))?;
        let precision = (stash(c)?, c.float("epsilon", 1e-5)?);
        let [.., inverse] = moments(c, &x, axis, false, precision)?;
        outputs.push(inverse);
    }
    Ok(outputs)
}

/// The mean and the inverse deviation of a sum over its last axis, if they are asked for.
fn statistics(c: &mut Ctx<'_>, sum: &Val, is_centred: bool, epsilon: f64) -> Result<[Val; 2], Fault> {
    if !c.wants(1) && !c.wants(2) {
        // Nobody reads them.
        return Ok([sum.clone(), sum.clone()]);
    }
    let axis = c.rank(sum) - 1;
    let [_, mean, inverse] = moments(c, sum, axis, is_centred, (ElementType::F32, epsilon))?;
    Ok([mean, inverse])
}

/// The sum of an input, what skips a layer, and a bias.
fn skipped(c: &mut Ctx<'_>, bias: usize) -> Result<Val, Fault> {
    let (x, skip) = (c.input(0)?, c.input(1)?);
    let mut sum = c.add(&x, &skip)?;
    if let Some(bias) = c.optional(bias) {
        sum = c.add(&sum, &bias)?;
    }
    if c.shape(&sum) != c.shape(&x) || c.rank(&x) == 0 {
        return Err(format!("{} and {}", c.ty(&x), c.ty(&skip)).into());
    }
    Ok(sum)
}

fn skip_layer_norm(c: &mut Ctx<'_>) -> Outputs {
    let sum = skipped(c, 4)?;
    let axis = c.rank(&sum) - 1;
    let epsilon = c.float("epsilon", EPSILON)?;
    let (gamma, beta) = (c.input(2)?, c.optional(3));
    let operands: Vec<_> = [Some(&sum), Some(&gamma), beta.as_ref()].into_iter().flatten().collect();
    let op = Structured::LayerNorm { axis: axis as u64, epsilon: epsilon.into() };
    let mut outputs = vec![c.push(op, &operands)?];
    outputs.extend(statistics(c, &sum, true, epsilon)?);
    outputs.push(sum);
    Ok(outputs)
}

fn skip_simplified(c: &mut Ctx<'_>) -> Outputs {
    let sum = skipped(c, 3)?;
    let axis = c.rank(&sum) as u64 - 1;
    let epsilon = c.float("epsilon", EPSILON)?;
    let gamma = c.input(2)?;
    let mut outputs = vec![c.push(Structured::RmsNorm { axis, epsilon: epsilon.into() }, &[&sum, &gamma])?];
    outputs.extend(statistics(c, &sum, false, epsilon)?);
    outputs.push(sum);
    Ok(outputs)
}

/// Embeddings of words, positions and segments, normalised; and how many tokens of each sequence a mask keeps.
fn embed_layer_norm(c: &mut Ctx<'_>) -> Outputs {
    let ids = c.input(0)?;
    let &[batch, tokens] = &c.shape(&ids)[..] else { return Err(format!("{}: expected rank 2", c.ty(&ids)).into()) };
    let (words, places) = (c.input(2)?, c.input(3)?);
    if c.rank(&words) != 2 || c.rank(&places) != 2 {
        return Err(format!("tables {} and {}: expected matrices", c.ty(&words), c.ty(&places)).into());
    }
    let mut sum = gathered(c, &words, &ids, 0)?;
    let positions = match c.optional(8) {
        Some(positions) => positions,
        None => count_along(c, tokens, 0, 1)?,
    };
    let position = gathered(c, &places, &positions, 0)?;
    sum = c.add(&sum, &position)?;
    if let Some(segments) = c.optional(1) {
        let segment = gathered(c, &c.input(4)?, &segments, 0)?;
        sum = c.add(&sum, &segment)?;
    } else {
        // A table without tokens in it is not read.
        c.optional(4);
    }
    let (gamma, beta) = (c.input(5)?, c.input(6)?);
    let op = Structured::LayerNorm { axis: 2, epsilon: c.float("epsilon", EPSILON)?.into() };
    let y = c.push(op, &[&sum, &gamma, &beta])?;
    // The kind of the second output is a number of each sequence, or nothing.
    c.int("mask_index_type", 1)?;
    let kept = match c.optional(7) {
        Some(mask) => {
            let one = c.number_like(&mask, 1.0);
            let is_kept = c.push(kiln_ir::func::Binary::Equal {}, &[&mask, &one])?;
            let kept = c.cast(&is_kept, ElementType::I32)?;
            c.reduce(&kept, ReduceKind::Sum, &[1], false)?
        }
        None => c.broadcast(&scalar(ElementType::I32, 0.0), [batch])?,
    };
    Ok(vec![y, kept, sum])
}

//! Attention with its projections and masks, and positions by rotation.

use kiln_ir::func::{Binary, ElementType, Structured};

use super::super::Row;
use super::super::attention::{Rotation, rotated};
use super::super::indexed::count_along;
use super::super::shapes::triangle;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, numbers, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] =
    &[("Attention", attention), ("MultiHeadAttention", multi_head), ("RotaryEmbedding", rotary_embedding)];

fn count(c: &Ctx<'_>, name: &str) -> Result<u64, Fault> {
    let count = c.int_or_none(name)?.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    Ok(count.ok_or_else(|| format!("lacks its `{name}`"))?)
}

/// `[batch, tokens, heads * size]` as `[batch, heads, tokens, size]`.
fn split(c: &mut Ctx<'_>, x: &Val, heads: u64) -> Result<Val, Fault> {
    let &[batch, tokens, all] = &c.shape(x)[..] else { return Err(format!("{}: expected rank 3", c.ty(x)).into()) };
    if !all.is_multiple_of(heads) {
        return Err(format!("{} is not {heads} heads of one size", c.ty(x)).into());
    }
    let x = c.reshape(x, [batch, tokens, heads, all / heads])?;
    c.transpose(&x, &[0, 2, 1, 3])
}

/// One of several that lie beside each other before the last axis: `[batch, tokens, heads, parts, size]`, as heads.
fn packed(c: &mut Ctx<'_>, x: &Val, part: u64) -> Result<Val, Fault> {
    let &[batch, tokens, heads, _, size] = &c.shape(x)[..] else {
        return Err(format!("{}: expected rank 5", c.ty(x)).into());
    };
    let x = c.slice(x, 3, part, 1, 1)?;
    let x = c.reshape(&x, [batch, tokens, heads, size])?;
    c.transpose(&x, &[0, 2, 1, 3])
}

/// The numbers that a mask of keys adds to scores: 0, or a number that leaves little of a key. Masks are numbers of each key, of each query and
/// key, or how many keys there are and perhaps from which on.
fn mask_bias(c: &mut Ctx<'_>, mask: &Val, like: &Val, [batch, queries, keys]: [u64; 3]) -> Result<Val, Fault> {
    let shape = c.shape(mask);
    let zero = c.number_like(mask, 0.0);
    let keeps = match shape[..] {
        [n] if n == batch || n == 2 * batch => {
            let places = count_along(c, keys, 1, 2)?;
            let mask = c.cast(mask, ElementType::I64)?;
            let end = c.slice(&mask, 0, 0, 1, batch)?;
            let end = c.reshape(&end, [batch, 1])?;
            let mut keeps = c.push(Binary::Less {}, &[&places, &end])?;
            if n == 2 * batch {
                let first = c.slice(&mask, 0, batch, 1, batch)?;
                let first = c.reshape(&first, [batch, 1])?;
                let begins = c.push(Binary::GreaterOrEqual {}, &[&places, &first])?;
                keeps = c.push(Binary::And {}, &[&keeps, &begins])?;
            }
            c.reshape(&keeps, [batch, 1, 1, keys])?
        }
        [b, k] if (b, k) == (batch, keys) => {
            let keeps = c.push(Binary::Greater {}, &[mask, &zero])?;
            c.reshape(&keeps, [batch, 1, 1, keys])?
        }
        [b, q, k] if (b, q, k) == (batch, queries, keys) => {
            let keeps = c.push(Binary::Greater {}, &[mask, &zero])?;
            c.reshape(&keeps, [batch, 1, queries, keys])?
        }
        // A square for all positions, of which the last queries are asked for.
        [b, 1, rows, columns] if b == batch && rows >= keys && columns >= keys && keys >= queries => {
            let keeps = c.push(Binary::Greater {}, &[mask, &zero])?;
            let keeps = c.slice(&keeps, 2, keys - queries, 1, queries)?;
            c.slice(&keeps, 3, 0, 1, keys)?
        }
        _ => return Err(format!("a mask of {} for {batch} x {queries} queries of {keys} keys", c.ty(mask)).into()),
    };
    let filter = c.float("mask_filter_value", -10000.0)?;
    let (kept, masked) = (c.number_like(like, 0.0), c.number_like(like, filter));
    c.select(&keeps, &kept, &masked)
}

/// The inputs besides queries, keys and values.
#[derive(Default)]
struct Masks {
    mask: Option<Val>,
    bias: Option<Val>,
}

/// The attention of heads `[batch, heads, tokens, size]`, as `[batch, tokens, heads * size]`.
fn attend(c: &mut Ctx<'_>, q: &Val, k: &Val, v: &Val, masks: Masks) -> Result<Val, Fault> {
    let (&[batch, heads, queries, size], &[_, _, keys, _], &[_, _, _, out]) =
        (&c.shape(q)[..], &c.shape(k)[..], &c.shape(v)[..])
    else {
        return Err("its inputs have different ranks".into());
    };
    let scale = c.float("scale", 0.0)?;
    let scale = if scale == 0.0 { 1.0 / (size as f64).sqrt() } else { scale };
    let transposed = c.matrix_transposed(k)?;
    let mut scores = c.matmul(q, &transposed)?;
    scores = c.scaled(&scores, scale)?;
    if let Some(bias) = masks.bias {
        scores = c.add(&scores, &bias)?;
    }
    if let Some(mask) = masks.mask {
        let bias = mask_bias(c, &mask, q, [batch, queries, keys])?;
        scores = c.add(&scores, &bias)?;
    } else {
        // It says what a mask that is not there is.
        c.float("mask_filter_value", -10000.0)?;
    }
    if c.flag("unidirectional", false)? {
        let before = keys.saturating_sub(queries);
        let (zero, none) = (c.number_like(q, 0.0), c.number_like(q, f64::NEG_INFINITY));
        let key = (queries, keys, i64::MIN, before as i64, c.element(q));
        let causal = c.program.mask(key, |program| {
            let allowed = triangle(program, queries, keys, |query, key| key <= query.saturating_add(before as i64))?;
            program.push(Structured::Where {}, &[&allowed, &zero, &none])
        })?;
        scores = c.add(&scores, &causal)?;
    }
    if c.shape(&scores) != [batch, heads, queries, keys] {
        return Err(format!("its masks make scores {} of {:?}", c.ty(&scores), [batch, heads, queries, keys]).into());
    }
    let weights = c.push(Structured::Softmax { axis: 3 }, &[&scores])?;
    let y = c.matmul(&weights, v)?;
    let y = c.transpose(&y, &[0, 2, 1, 3])?;
    c.reshape(&y, [batch, queries, heads.saturating_mul(out)])
}

/// Attention of one input to itself, with the weights of all three projections beside each other.
fn attention(c: &mut Ctx<'_>) -> Outputs {
    let (x, weights, bias) = (c.input(0)?, c.input(1)?, c.optional(2));
    let heads = count(c, "num_heads")?;
    let refused = |name: &str, why: &str| Err(Fault::Attribute { name: name.into(), why: why.into() });
    if c.flag("do_rotary", false)? {
        return refused("do_rotary", "rotate queries and keys outside of it");
    }
    if c.flag("past_present_share_buffer", false)? {
        return refused("past_present_share_buffer", "past and present have memory of their own");
    }
    c.int("rotary_embedding_dim", 0)?;
    let (&[batch, tokens, _], &[_, all]) = (&c.shape(&x)[..], &c.shape(&weights)[..]) else {
        return Err(format!("{} and weights {}", c.ty(&x), c.ty(&weights)).into());
    };
    let sizes = match c.ints("qkv_hidden_sizes")? {
        Some(sizes) => numbers("qkv_hidden_sizes", &sizes)?,
        None => vec![all / 3; 3],
    };
    if sizes.len() != 3 || sizes.iter().try_fold(0u64, |all, n| all.checked_add(*n)) != Some(all) {
        return Err(format!("weights {} for parts of {sizes:?}", c.ty(&weights)).into());
    }
    let (mut parts, mut start) = (vec![], 0);
    for size in sizes {
        // Weights are cut, not products: a projection is read where it is needed.
        let own = c.slice(&weights, 1, start, 1, size)?;
        let mut part = c.matmul(&x, &own)?;
        if let Some(bias) = &bias {
            let own = c.slice(bias, 0, start, 1, size)?;
            part = c.add(&part, &own)?;
        }
        parts.push(split(c, &part, heads)?);
        start += size;
    }
    let mut both = vec![];
    for (i, part) in parts[1..].iter_mut().enumerate() {
        if let Some(past) = c.optional(4) {
            let &[2, b, h, before, size] = &c.shape(&past)[..] else {
                return Err(format!("a past of {}: expected [2, batch, heads, tokens, size]", c.ty(&past)).into());
            };
            let own = c.slice(&past, 0, i as u64, 1, 1)?;
            let own = c.reshape(&own, [b, h, before, size])?;
            *part = c.concat(&[&own, part], 2)?;
        }
        if c.wants(1) {
            let shape = [&[1], &c.shape(part)[..]].concat();
            both.push(c.reshape(part, shape)?);
        }
    }
    let masks = Masks { mask: c.optional(3), bias: c.optional(5) };
    let y = attend(c, &parts[0], &parts[1], &parts[2], masks)?;
    debug_assert_eq!(c.shape(&y)[..2], [batch, tokens]);
    let mut outputs = vec![y];
    if let [k, v] = &both[..] {
        outputs.push(c.concat(&[k, v], 0)?);
    }
    Ok(outputs)
}

/// Attention of projected queries to projected keys and values.
fn multi_head(c: &mut Ctx<'_>) -> Outputs {
    let (query, key, value, bias) = (c.input(0)?, c.optional(1), c.optional(2), c.optional(3));
    let heads = count(c, "num_heads")?;
    let with_bias = |c: &mut Ctx<'_>, x: Val, start: &mut u64| -> Result<Val, Fault> {
        let Some(bias) = &bias else { return Ok(x) };
        let size = c.shape(&x).last().copied().unwrap_or(0);
        let own = c.slice(bias, 0, *start, 1, size)?;
        *start += size;
        c.add(&x, &own)
    };
    let mut start = 0;
    let (q, mut k, mut v) = match (key, value) {
        (None, None) => (packed(c, &query, 0)?, packed(c, &query, 1)?, packed(c, &query, 2)?),
        (Some(key), None) => {
            let query = with_bias(c, query, &mut start)?;
            (split(c, &query, heads)?, packed(c, &key, 0)?, packed(c, &key, 1)?)
        }
        (Some(key), Some(value)) => {
            let query = with_bias(c, query, &mut start)?;
            let q = split(c, &query, heads)?;
            // Of another sequence they may be heads already, and have their bias.
            if c.rank(&key) == 4 {
                (q, key, value)
            } else {
                let key = with_bias(c, key, &mut start)?;
                let value = with_bias(c, value, &mut start)?;
                (q, split(c, &key, heads)?, split(c, &value, heads)?)
            }
        }
        (None, Some(_)) => return Err("has values without keys".into()),
    };
    if let Some(past) = c.optional(6) {
        k = c.concat(&[&past, &k], 2)?;
    }
    if let Some(past) = c.optional(7) {
        v = c.concat(&[&past, &v], 2)?;
    }
    let masks = Masks { mask: c.optional(4), bias: c.optional(5) };
    Ok(vec![attend(c, &q, &k, &v, masks)?, k, v])
}

/// Positions are a table's rows by number, or the number of the first of them.
fn rotary_embedding(c: &mut Ctx<'_>) -> Outputs {
    let (x, positions, cos, sin) = (c.input(0)?, c.input(1)?, c.input(2)?, c.input(3)?);
    let refused = |name: &str, why: &str| Err(Fault::Attribute { name: name.into(), why: why.into() });
    if c.float("scale", 1.0)? != 1.0 {
        return refused("scale", "other than 1 it is not defined what is scaled");
    }
    if c.flag("is_packed_batching", false)? {
        return refused("is_packed_batching", "sequences that lie one after another have no batch");
    }
    let size = c.shape(&cos).last().map_or(0, |half| 2 * half);
    let (dim, heads) = (c.int("rotary_embedding_dim", 0)?, c.int("num_heads", 0)?);
    let (tokens, heads) = match c.shape(&x)[..] {
        [_, _, tokens, _] => (tokens, 0),
        [_, tokens, _] if dim > 0 => (tokens, u64::try_from(heads).unwrap_or(0)),
        // Without a part to rotate, the tables say how large a head is.
        [_, tokens, all] => (tokens, all / size.max(1)),
        _ => return Err(format!("{}: expected rank 3 or 4", c.ty(&x)).into()),
    };
    let batch = c.shape(&x)[0];
    let positions = match c.shape(&positions)[..] {
        [1] => {
            let all = count_along(c, tokens, 0, 1)?;
            let first = c.cast(&positions, ElementType::I64)?;
            let all = c.add(&all, &first)?;
            c.broadcast(&all, [batch, tokens])?
        }
        _ => positions,
    };
    let dim = u64::try_from(dim).map_err(|_| format!("attribute `rotary_embedding_dim` is {dim}"))?;
    let is_interleaved = c.flag("interleaved", false)?;
    let rotation = Rotation { heads, dim, is_interleaved, positions: Some(positions) };
    one(rotated(c, &x, [cos, sin], rotation)?)
}

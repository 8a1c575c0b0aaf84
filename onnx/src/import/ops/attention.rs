//! Attention, and positions by rotation.

use kiln_ir::func::{Binary, ElementType, Structured, Tensor, TensorType, Unary};

use super::Row;
use super::math::element;
use super::movement::gathered;
use super::shapes::triangle;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};
use crate::import::program::{Val, scalar};

pub(super) const OPS: &[Row] = &[("Attention", attention), ("RotaryEmbedding", rotary_embedding)];

/// A number of heads from an attribute, if it is there and not 0.
fn count(c: &Ctx<'_>, attribute: &str) -> Result<Option<u64>, Fault> {
    match c.int(attribute, 0)? {
        0 => Ok(None),
        count => match u64::try_from(count) {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(format!("attribute `{attribute}` is {count}: expected a number of heads").into()),
        },
    }
}

/// `[batch, sequence, heads * size]` as `[batch, heads, sequence, size]`.
fn heads(c: &mut Ctx<'_>, x: &Val, attribute: &str) -> Result<Val, Fault> {
    let count = count(c, attribute)?.ok_or_else(|| format!("lacks its `{attribute}`"))?;
    let [batch, sequence, hidden] = c.shape(x)[..] else { return Err("its inputs have different ranks".into()) };
    if !hidden.is_multiple_of(count) {
        return Err(format!("{hidden} is not {count} heads of one size").into());
    }
    let x = c.reshape(x, [batch, sequence, count, hidden / count])?;
    c.transpose(&x, &[0, 2, 1, 3])
}

/// Heads of keys or values, each for several heads of queries.
pub(super) fn repeated(c: &mut Ctx<'_>, x: &Val, count: u64) -> Result<Val, Fault> {
    let [batch, own, sequence, size] = c.shape(x)[..] else { return Err("expected rank 4".into()) };
    if own == count {
        return Ok(x.clone());
    }
    if own == 0 || !count.is_multiple_of(own) {
        return Err(format!("{own} heads of keys or values for {count} of queries").into());
    }
    let x = c.reshape(x, [batch, own, 1, sequence, size])?;
    let x = c.broadcast(&x, [batch, own, count / own, sequence, size])?;
    c.reshape(&x, [batch, count, sequence, size])
}

/// 0 where a mask is true, else minus infinity.
fn bias_of(c: &mut Ctx<'_>, mask: &Val, like: &Val) -> Result<Val, Fault> {
    let (zero, none) = (c.number_like(like, 0.0), c.number_like(like, f64::NEG_INFINITY));
    c.select(mask, &zero, &none)
}

/// Which keys a query may see, by the number of a key less that of the query, both counted from the first key. The least and the
/// greatest number of `i64` are no limits.
#[derive(Clone, Copy)]
struct Reach {
    low: i64,
    high: i64,
}

impl Reach {
    /// The positions that causality and windows leave, or `None` if these are all.
    fn read(c: &Ctx<'_>) -> Result<Option<Reach>, Fault> {
        let side = |name: &str| match c.int(name, -1)? {
            -1 => Ok(None),
            // Tensors have no axis as long.
            size if size >= 1 << 40 => Ok(None),
            size if size >= 0 => Ok(Some(size)),
            size => Err(Fault::from(format!("attribute `{name}` is {size}: expected -1 or a number from 0"))),
        };
        let (left, right) = (side("left_window_size")?, side("right_window_size")?);
        let is_causal = c.flag("is_causal", false)?;
        let high = if is_causal { 0 } else { right.unwrap_or(i64::MAX) };
        let reach = Reach { low: left.map_or(i64::MIN, |left| -left), high };
        Ok((is_causal || left.is_some() || right.is_some()).then_some(reach))
    }

    /// The same for numbers of queries that are smaller by some: keys were there before the first query.
    fn moved(self, by: i64) -> Reach {
        let moved = |end: i64| if matches!(end, i64::MIN | i64::MAX) { end } else { end.saturating_add(by) };
        Reach { low: moved(self.low), high: moved(self.high) }
    }
}

/// All that is added to scores of the type and the shape of some queries by some keys.
fn bias(c: &mut Ctx<'_>, q: &Val, keys: u64, past: u64) -> Result<Option<Val>, Fault> {
    let (batch, queries) = (c.shape(q)[0], c.shape(q)[2]);
    let mut parts = vec![];
    if let Some(mut mask) = c.optional(3) {
        let is_bool = c.element(&mask) == ElementType::Bool;
        // A mask that is too short leaves the last keys out.
        let shape = c.shape(&mask);
        let missing = shape.last().and_then(|n| keys.checked_sub(*n)).filter(|n| *n > 0);
        if let Some(missing) = missing {
            let mut rest = shape;
            *rest.last_mut().expect("it is not empty") = missing;
            let value = if is_bool { 0.0 } else { f64::NEG_INFINITY };
            let rest = c.broadcast(&c.number_like(&mask, value), rest)?;
            let axis = c.rank(&mask) - 1;
            mask = c.concat(&[&mask, &rest], axis)?;
        }
        let to = c.element(q);
        parts.push(if is_bool { bias_of(c, &mask, q)? } else { c.cast(&mask, to)? });
    }
    let valid = c.optional(6);
    let valid = valid.map(|valid| c.cast(&valid, ElementType::I64)).transpose()?;
    let valid = valid.map(|valid| c.reshape(&valid, [batch, 1, 1, 1])).transpose()?;
    match (Reach::read(c)?, &valid) {
        (None, _) => {}
        (Some(reach), Some(valid)) => {
            // The last query is at the last valid key.
            let distance = distances(c, queries, keys)?;
            let queries = c.number_like(valid, queries as f64);
            let first = c.sub(valid, &queries)?;
            let distance = c.sub(&distance, &first)?;
            for (end, is_allowed) in [(reach.low, Binary::GreaterOrEqual {}), (reach.high, Binary::LessOrEqual {})] {
                if !matches!(end, i64::MIN | i64::MAX) {
                    let end = c.number_like(&distance, end as f64);
                    let allowed = c.push(is_allowed, &[&distance, &end])?;
                    parts.push(bias_of(c, &allowed, q)?);
                }
            }
        }
        (Some(reach), None) => {
            let Reach { low, high } = reach.moved(past as i64);
            let key = (queries, keys, low, high, c.element(q));
            let number = |value: f64| scalar(c.element(q), value);
            let (zero, none) = (number(0.0), number(f64::NEG_INFINITY));
            parts.push(c.program.mask(key, |program| {
                let allowed = triangle(program, queries, keys, |query, key| (low..=high).contains(&(key - query)))?;
                program.push(Structured::Where {}, &[&allowed, &zero, &none])
            })?);
        }
    }
    if let Some(valid) = &valid {
        let keys = distances(c, 1, keys)?;
        let is_valid = c.push(Binary::Less {}, &[&keys, valid])?;
        parts.push(bias_of(c, &is_valid, q)?);
    }
    let mut all = None;
    for part in parts {
        all = Some(match all {
            None => part,
            Some(all) => c.add(&all, &part)?,
        });
    }
    Ok(all)
}

/// A matrix of each key's number less each query's.
fn distances(c: &mut Ctx<'_>, queries: u64, keys: u64) -> Result<Val, Fault> {
    c.program.allow(&TensorType::new(ElementType::I64, [queries, keys])?)?;
    let numbers = (0..queries as i64).flat_map(|query| (0..keys as i64).map(move |key| key - query)).collect();
    Ok(Val::Known(Tensor::from_elements::<i64>([queries, keys], numbers).map_err(|e| e.to_string())?))
}

fn attention(c: &mut Ctx<'_>) -> Outputs {
    let (mut q, mut k, mut v) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let is_flat = c.rank(&q) == 3;
    if is_flat {
        q = heads(c, &q, "q_num_heads")?;
        k = heads(c, &k, "kv_num_heads")?;
        v = heads(c, &v, "kv_num_heads")?;
    }
    // Tensors of rank 4 say it themselves.
    for (attribute, x) in [("q_num_heads", &q), ("kv_num_heads", &k)] {
        let own = c.shape(x).get(1).copied();
        if let Some(count) = count(c, attribute)?.filter(|count| Some(*count) != own) {
            return Err(format!("attribute `{attribute}` is {count}, and it has {}", c.ty(x)).into());
        }
    }
    let (element_type, shape) = (c.element(&q), c.shape(&q));
    let ([_, count, _, size], 4, 4) = (&shape[..], c.rank(&k), c.rank(&v)) else {
        return Err(format!("{}, {} and {}: expected rank 3 or 4", c.ty(&q), c.ty(&k), c.ty(&v)).into());
    };
    let [past_key, past_value, valid] = [4, 5, 6].map(|input| c.optional(input).is_some());
    if past_key != past_value || (past_key && valid) {
        return Err("must have both of its inputs past_key and past_value, without nonpad_kv_seqlen, or neither".into());
    }
    let past = c.optional(4).map_or(0, |past| c.shape(&past).get(2).copied().unwrap_or(0));
    if let Some(past) = c.optional(4) {
        k = c.concat(&[&past, &k], 2)?;
    }
    if let Some(past) = c.optional(5) {
        v = c.concat(&[&past, &v], 2)?;
    }
    let (present_key, present_value) = (k.clone(), v.clone());
    let keys = c.shape(&k)[2];
    let bias = bias(c, &q, keys, past)?;
    let (k, v) = (repeated(c, &k, *count)?, repeated(c, &v, *count)?);

    let transposed = c.matrix_transposed(&k)?;
    let product = c.matmul(&q, &transposed)?;
    let scale = c.float_or_none("scale")?.unwrap_or(1.0 / (*size as f64).sqrt());
    let mut scores = c.scaled(&product, scale)?;
    let mut shown = scores.clone();
    let (softcap, mode) = (c.float("softcap", 0.0)?, c.int("qk_matmul_output_mode", 0)?);
    if !(0..=3).contains(&mode) {
        return Err(format!("attribute `qk_matmul_output_mode` is {mode}: expected 0, 1, 2 or 3").into());
    }
    if softcap > 0.0 {
        let small = c.scaled(&scores, 1.0 / softcap)?;
        let bent = c.unary(Unary::Tanh {}, &small)?;
        scores = c.scaled(&bent, softcap)?;
    }
    if mode == 1 {
        shown = scores.clone();
    }
    let is_masked = bias.is_some();
    if let Some(bias) = bias {
        scores = c.add(&scores, &bias)?;
    }
    if mode == 2 {
        shown = scores.clone();
    }
    if let Some(number) = c.int_or_none("softmax_precision")? {
        let precision = element(number)?;
        if !precision.is_float() {
            return Err(format!("attribute `softmax_precision` is {precision}: expected a floating-point type").into());
        }
        scores = c.cast(&scores, precision)?;
    }
    // A query that may see no key gets nothing.
    let softmax = if is_masked { Structured::MaskedSoftmax { axis: 3 } } else { Structured::Softmax { axis: 3 } };
    let weights = c.push(softmax, &[&scores])?;
    if mode == 3 {
        shown = weights.clone();
    }
    let v = c.cast(&v, c.element(&weights))?;
    let mut y = c.matmul(&weights, &v)?;
    y = c.cast(&y, element_type)?;
    if is_flat {
        let [batch, count, sequence, size] = c.shape(&y)[..] else { return Err("expected rank 4".into()) };
        y = c.transpose(&y, &[0, 2, 1, 3])?;
        y = c.reshape(&y, [batch, sequence, count.saturating_mul(size)])?;
    }
    let shown = if c.wants(3) { c.cast(&shown, element_type)? } else { shown };
    Ok(vec![y, present_key, present_value, shown])
}

/// Positions as angles: pairs of a head's elements are turned by angles of which tables have cosines and sines.
pub(super) struct Rotation {
    /// Heads that an input of rank 3 has beside each other; 0 if it has rank 4.
    pub heads: u64,
    /// Elements of a head that are turned; 0 for all.
    pub dim: u64,
    /// True if neighbours are pairs, not elements of both halves.
    pub is_interleaved: bool,
    /// Rows of the tables; without them tables have a row for each token.
    pub positions: Option<Val>,
}

fn rotary_embedding(c: &mut Ctx<'_>) -> Outputs {
    let (x, tables) = (c.input(0)?, [c.input(1)?, c.input(2)?]);
    let given = count(c, "num_heads")?;
    if let (Some(given), [_, heads, _, _]) = (given, &c.shape(&x)[..])
        && given != *heads
    {
        return Err(format!("{} with `num_heads` of {given}", c.ty(&x)).into());
    }
    let dim = c.int("rotary_embedding_dim", 0)?;
    let rotation = Rotation {
        heads: given.unwrap_or(0),
        dim: u64::try_from(dim).map_err(|_| format!("attribute `rotary_embedding_dim` is {dim}"))?,
        is_interleaved: c.flag("interleaved", false)?,
        positions: c.optional(3),
    };
    one(rotated(c, &x, tables, rotation)?)
}

/// Heads `[batch, heads, tokens, size]` or `[batch, tokens, heads * size]` after a rotation by tables of cosines and sines.
pub(super) fn rotated(c: &mut Ctx<'_>, x: &Val, tables: [Val; 2], rotation: Rotation) -> Result<Val, Fault> {
    let shape = c.shape(x);
    let Rotation { heads, dim, is_interleaved, positions } = rotation;
    // `[batch, sequence, heads, size]`
    let split = match shape[..] {
        [_, _, _, _] => c.transpose(x, &[0, 2, 1, 3])?,
        [batch, sequence, hidden] if heads > 0 && hidden.is_multiple_of(heads) => {
            c.reshape(x, [batch, sequence, heads, hidden / heads])?
        }
        _ => return Err(format!("{} with `num_heads` of {heads}", c.ty(x)).into()),
    };
    let [batch, sequence, heads, size] = c.shape(&split)[..] else { return Err("expected rank 4".into()) };
    let rotated = match dim {
        0 => size,
        n if n <= size => n,
        _ => return Err(format!("attribute `rotary_embedding_dim` is not from 0 to {size}").into()),
    };
    if !rotated.is_multiple_of(2) {
        return Err(format!("{rotated} elements are not pairs").into());
    }
    let half = rotated / 2;
    let mut caches = vec![];
    for mut cache in tables {
        if let Some(positions) = &positions {
            if c.rank(&cache) == 0 {
                return Err("its caches are scalars".into());
            }
            cache = gathered(c, &cache, positions, 0)?;
        }
        caches.push(c.reshape(&cache, [batch, sequence, 1, half])?);
    }
    let (cos, sin) = (&caches[0], &caches[1]);
    let (a, b) = if is_interleaved {
        (c.slice(&split, 3, 0, 2, half)?, c.slice(&split, 3, 1.min(size), 2, half)?)
    } else {
        (c.slice(&split, 3, 0, 1, half)?, c.slice(&split, 3, half, 1, half)?)
    };
    let products = [c.mul(cos, &a)?, c.mul(sin, &b)?, c.mul(sin, &a)?, c.mul(cos, &b)?];
    let (mut real, mut imaginary) = (c.sub(&products[0], &products[1])?, c.add(&products[2], &products[3])?);
    let mut axis = 3;
    if is_interleaved {
        real = c.reshape(&real, [batch, sequence, heads, half, 1])?;
        imaginary = c.reshape(&imaginary, [batch, sequence, heads, half, 1])?;
        axis = 4;
    }
    let mut y = c.concat(&[&real, &imaginary], axis)?;
    y = c.reshape(&y, [batch, sequence, heads, rotated])?;
    if rotated < size {
        let rest = c.slice(&split, 3, rotated, 1, size - rotated)?;
        y = c.concat(&[&y, &rest], 3)?;
    }
    if shape.len() == 4 {
        return c.transpose(&y, &[0, 2, 1, 3]);
    }
    c.reshape(&y, shape)
}

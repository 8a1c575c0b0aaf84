//! Attention by a state that goes from token to token, and the convolution before it.

use kiln_ir::func::{ElementType, Structured, Unary};

use super::Row;
use super::conv::with_bias;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs};
use crate::import::program::{Val, scalar};

pub(super) const OPS: &[Row] =
    &[("CausalConvWithState", causal_conv_with_state), ("LinearAttention", linear_attention)];

/// Tokens in one call at most: each is steps of its own.
const MOST_TOKENS: u64 = 512;

/// A convolution of each channel over its last elements; those before the first are the state of an earlier call.
fn causal_conv_with_state(c: &mut Ctx<'_>) -> Outputs {
    let (x, weights) = (c.input(0)?, c.input(1)?);
    let (&[batch, channels, _], &[own, 1, taps]) = (&c.shape(&x)[..], &c.shape(&weights)[..]) else {
        return Err(format!("{} and weights {}: expected rank 3", c.ty(&x), c.ty(&weights)).into());
    };
    let state = [batch, channels, taps.saturating_sub(1)];
    let past = match c.optional(3) {
        Some(past) => past,
        None => c.broadcast(&c.number_like(&x, 0.0), state)?,
    };
    if own != channels || taps == 0 || c.shape(&past) != state {
        return Err(format!("{}, weights {} and past {}", c.ty(&x), c.ty(&weights), c.ty(&past)).into());
    }
    let padded = c.concat(&[&past, &x], 2)?;
    let op = Structured::Conv {
        strides: vec![1],
        pads: vec![0, 0],
        dilations: vec![1],
        groups: channels,
        channels_last: false,
    };
    let y = c.push(op, &[&padded, &weights])?;
    let mut y = with_bias(c, &y, c.optional(2))?.remove(0);
    match c.string("activation", "none")?.as_str() {
        "none" => {}
        "silu" | "swish" => y = c.unary(Unary::Silu {}, &y)?,
        other => return Err(format!("attribute `activation` is `{other}`: expected `none`, `silu` or `swish`").into()),
    }
    let end = c.shape(&padded)[2] - state[2];
    let present = if state[2] == 0 { past } else { c.slice(&padded, 2, end, 1, state[2])? };
    Ok(vec![y, present])
}

/// A number of heads, which must be there.
fn heads(c: &Ctx<'_>, name: &str) -> Result<u64, Fault> {
    let count = c.int_or_none(name)?.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    Ok(count.ok_or_else(|| format!("lacks its `{name}`"))?)
}

/// `[batch, tokens, heads * size]` as `[batch, heads, tokens, size]`, in single precision.
fn split(c: &mut Ctx<'_>, x: &Val, heads: u64) -> Result<Val, Fault> {
    let &[batch, tokens, all] = &c.shape(x)[..] else { return Err(format!("{}: expected rank 3", c.ty(x)).into()) };
    if !all.is_multiple_of(heads) {
        return Err(format!("{} is not {heads} heads of one size", c.ty(x)).into());
    }
    let x = c.cast(x, ElementType::F32)?;
    let x = c.reshape(&x, [batch, tokens, heads, all / heads])?;
    c.transpose(&x, &[0, 2, 1, 3])
}

fn linear_attention(c: &mut Ctx<'_>) -> Outputs {
    let (query, key, value) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (past, decay, beta) = (c.optional(3), c.optional(4), c.optional(5));
    let (own, shared) = (heads(c, "q_num_heads")?, heads(c, "kv_num_heads")?);
    // How many tokens others take at once; results are the same.
    c.int("chunk_size", 64)?;
    let (is_gated, is_delta) = match c.string("update_rule", "gated_delta")?.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(format!("attribute `update_rule` is `{other}`, which is not known").into()),
    };
    if is_gated != decay.is_some() || is_delta != beta.is_some() || !own.is_multiple_of(shared) {
        return Err("its `update_rule` goes with other inputs than it has, or its heads with other heads".into());
    }
    let element = c.element(&query);
    let (q, k, v) = (split(c, &query, own)?, split(c, &key, shared)?, split(c, &value, shared)?);
    let (&[batch, _, tokens, size], &[_, _, _, out]) = (&c.shape(&q)[..], &c.shape(&v)[..]) else {
        return Err("expected rank 4".into());
    };
    if tokens > MOST_TOKENS {
        return Err(format!("{tokens} tokens at once: at most {MOST_TOKENS} are supported").into());
    }
    let scale = c.float("scale", 0.0)?;
    let scale = if scale == 0.0 { 1.0 / (size as f64).sqrt() } else { scale };
    let decay = decay.map(|decay| split(c, &decay, shared)).transpose()?;
    let beta = match beta {
        Some(beta) => {
            let count = c.shape(&beta).last().copied().unwrap_or(0);
            Some(split(c, &beta, count.max(1))?)
        }
        None => None,
    };
    let to = past.as_ref().map_or(element, |past| c.element(past));
    let mut state = match past {
        Some(past) => c.cast(&past, ElementType::F32)?,
        None => c.broadcast(&scalar(ElementType::F32, 0.0), [batch, shared, size, out])?,
    };
    if c.shape(&state) != [batch, shared, size, out] {
        return Err(format!("its past state is {}: expected {:?}", c.ty(&state), [batch, shared, size, out]).into());
    }
    let mut results = vec![];
    for token in 0..tokens {
        let column = |c: &mut Ctx<'_>, x: &Val| {
            let x = c.slice(x, 2, token, 1, 1)?;
            c.matrix_transposed(&x)
        };
        if let Some(decay) = &decay {
            let gate = column(c, decay)?;
            let gate = c.unary(Unary::Exp {}, &gate)?;
            state = c.mul(&state, &gate)?;
        }
        let mut v = c.slice(&v, 2, token, 1, 1)?;
        if let Some(beta) = &beta {
            let k = c.slice(&k, 2, token, 1, 1)?;
            let so_far = c.matmul(&k, &state)?;
            let missing = c.sub(&v, &so_far)?;
            let rate = c.slice(beta, 2, token, 1, 1)?;
            v = c.mul(&missing, &rate)?;
        }
        let k = column(c, &k)?;
        let product = c.mul(&k, &v)?;
        state = c.add(&state, &product)?;
        // Neighbouring heads of queries share a state.
        let q = c.slice(&q, 2, token, 1, 1)?;
        let q = c.reshape(&q, [batch, shared, own / shared, size])?;
        let y = c.matmul(&q, &state)?;
        results.push(c.reshape(&y, [batch, 1, own * out])?);
    }
    let y = match &results[..] {
        [] => c.broadcast(&scalar(ElementType::F32, 0.0), [batch, 0, own * out])?,
        _ => c.concat(&results.iter().collect::<Vec<_>>(), 1)?,
    };
    let y = c.scaled(&y, scale)?;
    Ok(vec![c.cast(&y, element)?, c.cast(&state, to)?])
}

"""Attention: the operators of scaled dot products, as two products with a softmax between them."""

from __future__ import annotations

import math

import torch

from kiln import Unsupported

from ..context import Context, Meta
from . import contraction, norm
from ..function import Value


def _causal(cx: Context, queries: int, keys: int) -> Value:
    """0 where a query may see a key, else minus infinity."""
    f = cx.f
    row, column = f.reshape(f.iota(queries), (queries, 1)), f.reshape(f.iota(keys), (1, keys))
    return _additive(cx, f.compare("less_or_equal", column, row))


def _additive(cx: Context, seen: Value) -> Value:
    f = cx.f
    return f.where(seen, f.constant(0, "f32", cx.dtype), f.constant(float("-inf"), "f32", cx.dtype))


def attention(cx: Context, query, key, value, mask=None, dropout=0.0, is_causal=False, scale=None, grouped=False):
    f = cx.f
    if dropout:
        raise Unsupported("dropout")
    query, key, value = (f.full(cx.operand(x, cx.dtype)) for x in (query, key, value))
    if not (query.element == key.element == value.element == "f32"):
        raise Unsupported("operands of several types")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    *outer, queries, width = query.shape
    keys = key.shape[-2]
    groups = 1
    if len(outer) >= 1 and key.shape[-3:-2] != query.shape[-3:-2]:
        # Several heads of queries share a head of keys and values.
        heads, shared = query.shape[-3], key.shape[-3]
        groups = heads // shared
        query = f.reshape(query, (*outer[:-1], shared, groups, queries, width))
        key, value = (f.reshape(x, (*x.shape[:-2], 1, *x.shape[-2:])) for x in (key, value))
    rank = len(key.shape)
    turned = f.transpose(key, [*range(rank - 2), rank - 1, rank - 2])
    scores = f.matmul(query, turned, cx.dtype)
    scores = f.binary("mul", scores, f.constant(float(scale), "f32", cx.dtype))
    if is_causal:
        mask = _causal(cx, queries, keys) if mask is None else mask
    elif mask is not None:
        mask = _additive(cx, mask) if mask.element == "bool" else cx.operand(mask, torch.float32)
        if groups > 1 and len(mask.full) >= 3:
            mask = _grouped(cx, mask, shared, groups)
    if mask is not None:
        scores = f.binary("add", scores, mask)
    scores = f.full(scores)
    word = "softmax" if mask is None or is_causal else "masked_softmax"
    weights = f.op(word, [scores], scores.shape, cx.dtype, axis=len(scores.shape) - 1)
    return f.reshape(f.matmul(weights, value, cx.dtype), cx.shape)


def _grouped(cx: Context, mask: Value, shared: int, groups: int) -> Value:
    """A mask with its axis of heads divided as that of the queries is."""
    f = cx.f
    if mask.shape[-3] != 1:
        full = f.full(mask)
        return f.reshape(full, (*full.shape[:-3], shared, groups, *full.shape[-2:]))
    shape = (*mask.shape[:-2], 1, *mask.shape[-2:])
    result = f.op("reshape", [mask], shape, mask.dtype, mask.element, shape=shape)
    result.full = (*mask.full[:-3], 1, 1, *mask.full[-2:])
    return result


def flash_for_cpu(cx: Context, query, key, value, dropout=0.0, is_causal=False, *, attn_mask=None, scale=None):
    cx.only(0)
    if attn_mask is not None and attn_mask.element == "bool":
        # scaled_dot_product_attention makes such a mask one of numbers before.
        raise Unsupported("a mask of booleans")
    return attention(cx, query, key, value, attn_mask, dropout, is_causal, scale), None


def scaled_dot_product(
    cx: Context, query, key, value, attn_mask=None, dropout=0.0, is_causal=False, *, scale=None, enable_gqa=False
):
    return attention(cx, query, key, value, attn_mask, dropout, is_causal, scale, enable_gqa)


def math_attention(
    cx: Context, query, key, value, attn_mask=None, dropout=0.0, is_causal=False, dropout_mask=None, *, scale=None,
    enable_gqa=False,
):
    cx.only(0)
    if attn_mask is not None and attn_mask.element == "bool":
        # scaled_dot_product_attention makes such a mask one of numbers before.
        raise Unsupported("a mask of booleans")
    return attention(cx, query, key, value, attn_mask, dropout, is_causal, scale, enable_gqa), None


def _self_attention(cx: Context, x: Value, heads: int, weight, bias, out_weight, out_bias) -> Value:
    """Attention of a sequence to itself, whose projections are one matrix."""
    f = cx.f
    batch, length, width = x.full
    three = _linear(cx, x, weight, bias)
    three = f.reshape(three, (batch, length, 3, heads, width // heads))
    three = f.transpose(three, [2, 0, 3, 1, 4])
    query, key, value = (
        f.reshape(f.slice(three, 0, at, 1), (batch, heads, length, width // heads)) for at in range(3)
    )
    inner = Context(f, [Meta(cx.dtype, query.full)], frozenset([0]))
    mixed = f.transpose(attention(inner, query, key, value), [0, 2, 1, 3])
    return _linear(cx, f.reshape(mixed, (batch, length, width)), out_weight, out_bias)


def _linear(cx: Context, x: Value, weight: Value, bias) -> Value:
    inner = Context(cx.f, [Meta(cx.dtype, (*x.full[:-1], weight.full[0]))], frozenset([0]))
    return contraction.linear(inner, x, weight, bias)


def encoder_layer(
    cx: Context, x, width, heads, qkv_weight, qkv_bias, out_weight, out_bias, use_gelu, norm_first, epsilon, weight1, bias1,
    weight2, bias2, up_weight, up_bias, down_weight, down_bias, mask=None, mask_type=None,
):
    """What torch.nn.TransformerEncoderLayer is without gradients."""
    f = cx.f
    if mask is not None or len(x.full) != 3:
        raise Unsupported("a mask, or no batch")
    x = f.full(cx.operand(x, cx.dtype))

    def normed(x, weight, bias):
        return norm.layer_norm(cx, x, [width], weight, bias, epsilon)

    def mixed(x):
        return _self_attention(cx, x, heads, qkv_weight, qkv_bias, out_weight, out_bias)

    def fed(x):
        x = f.unary("gelu_erf" if use_gelu else "relu", _linear(cx, x, up_weight, up_bias))
        return _linear(cx, x, down_weight, down_bias)

    if norm_first:
        x = f.binary("add", x, mixed(normed(x, weight1, bias1)))
        return f.binary("add", x, fed(normed(x, weight2, bias2)))
    x = normed(f.binary("add", x, mixed(x)), weight1, bias1)
    return normed(f.binary("add", x, fed(x)), weight2, bias2)


def multi_head(
    cx: Context, query, key, value, width, heads, qkv_weight, qkv_bias, out_weight, out_bias, mask=None, need_weights=True,
    average=True, mask_type=None,
):
    """What torch.nn.MultiheadAttention is without gradients, of a sequence to itself."""
    cx.only(0)
    if mask is not None or not (query.name == key.name == value.name) or len(query.full) != 3:
        raise Unsupported("a mask, or attention to another sequence")
    x = cx.f.full(cx.operand(query, cx.dtype))
    return _self_attention(cx, x, heads, qkv_weight, qkv_bias, out_weight, out_bias), None

"""Normalisations."""

from __future__ import annotations

import torch

from kiln import Unsupported

from ..context import Context
from ..function import Value


def layer_norm(cx: Context, x, shape, weight=None, bias=None, epsilon=1e-5, *args):
    f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
    axis = len(x.shape) - len(shape)
    own = x.shape[axis:]
    operands = [x]
    if weight is not None or bias is not None:
        if weight is None:
            weight = f.filled(1, "f32", cx.dtype, own)
        operands.append(f.full(cx.operand(weight, cx.dtype)))
    if bias is not None:
        operands.append(f.full(cx.operand(bias, cx.dtype)))
    return f.op("layer_norm", operands, x.shape, cx.dtype, axis=axis, epsilon=float(epsilon))


def native_layer_norm(cx: Context, x, shape, weight, bias, epsilon):
    cx.only(0)
    return layer_norm(cx, x, shape, weight, bias, epsilon), None, None


def rms_norm(cx: Context, x, shape, weight=None, epsilon=None):
    f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
    epsilon = torch.finfo(cx.dtype).eps if epsilon is None else epsilon
    operands = [x] + ([] if weight is None else [f.full(cx.operand(weight, cx.dtype))])
    return f.op("rms_norm", operands, x.shape, cx.dtype, axis=len(x.shape) - len(shape), epsilon=float(epsilon))


def fused_rms_norm(cx: Context, x, shape, weight, epsilon):
    cx.only(0)
    return rms_norm(cx, x, shape, weight, epsilon), None


def _batch_norm(cx: Context, x, weight, bias, mean, variance, epsilon) -> Value:
    f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
    if mean is None or variance is None:
        raise Unsupported("statistics of the batch")
    channels = (x.shape[1],)
    weight = f.filled(1, "f32", cx.dtype, channels) if weight is None else weight
    bias = f.filled(0, "f32", cx.dtype, channels) if bias is None else bias
    others = [f.full(cx.operand(value, cx.dtype)) for value in (weight, bias, mean, variance)]
    return f.op("batch_norm", [x, *others], x.shape, cx.dtype, epsilon=float(epsilon), channels_last=False)


def batch_norm_no_training(cx: Context, x, weight, bias, mean, variance, momentum, epsilon):
    cx.only(0)
    return _batch_norm(cx, x, weight, bias, mean, variance, epsilon), None, None


def native_batch_norm(cx: Context, x, weight, bias, mean, variance, training, momentum, epsilon):
    cx.only(0)
    if training:
        raise Unsupported("batch norm in training")
    return _batch_norm(cx, x, weight, bias, mean, variance, epsilon), None, None


def batch_norm(cx: Context, x, weight, bias, mean, variance, training, momentum, epsilon, cudnn=False):
    if training:
        raise Unsupported("batch norm in training")
    return _batch_norm(cx, x, weight, bias, mean, variance, epsilon)


def _group_norm(cx: Context, x, groups, weight, bias, epsilon) -> Value:
    f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
    images, channels, *pixels = x.shape
    count = channels // groups
    for size in pixels:
        count *= size
    rows = f.reshape(x, (images, groups, count))
    rows = f.op("layer_norm", [rows], rows.shape, cx.dtype, axis=2, epsilon=float(epsilon))
    result = f.reshape(rows, x.shape)
    for word, by in (("mul", weight), ("add", bias)):
        if by is not None:
            by = f.reshape(cx.operand(by, cx.dtype), (1, channels, *([1] * len(pixels))))
            result = f.binary(word, result, by)
    return result


def native_group_norm(cx: Context, x, weight, bias, images, channels, pixels, groups, epsilon):
    cx.only(0)
    return _group_norm(cx, x, groups, weight, bias, epsilon), None, None


def group_norm(cx: Context, x, groups, weight=None, bias=None, epsilon=1e-5, cudnn=True):
    return _group_norm(cx, x, groups, weight, bias, epsilon)

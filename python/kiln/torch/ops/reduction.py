"""Operators along axes: sums, extremes, places, order."""

from __future__ import annotations

import torch

from kiln import Unsupported

from ..context import Context, axes_of, axis_of
from ..function import Value


def _reduced(cx: Context, kind: str, x: Value, axes, keep: bool) -> Value:
    axes = axes_of(axes, len(x.full))
    if not axes:
        return x
    return cx.f.reduce(kind, x, axes, keep)


def reduce(kind: str):
    """A reduction over some axes, or all."""

    def write(cx: Context, x, axes=None, keep=False, *, dtype=None):
        return _reduced(cx, kind, cx.operand(x, cx.dtype), axes, keep)

    return write


def truth(kind: str):
    """Whether any or all elements are true: the greatest or the least."""

    def write(cx: Context, x, axes=None, keep=False):
        return _reduced(cx, kind, cx.operand(x, torch.bool), axes, keep)

    return write


def extreme(is_max: bool):
    """The greatest or the least along an axis, and where it is."""

    def write(cx: Context, x, axis, keep=False):
        value = x if not x.full else _reduced(cx, "max" if is_max else "min", cx.operand(x, cx.dtype), [axis], keep)
        place = None
        if 1 in cx.used:
            place = _place(cx, x, axis, keep, is_max)
        return value, place

    return write


def _place(cx: Context, x: Value, axis: int, keep: bool, is_max: bool) -> Value:
    f = cx.f
    if not x.full:
        return f.constant(0, "i64", torch.int64)
    axis, x = axis_of(axis, len(x.full)), f.full(f.wide(x))
    if x.element == "bool":
        x = f.cast(x, "u8")
    shape = [1 if at == axis else size for at, size in enumerate(x.shape) if keep or at != axis]
    return f.op("arg_reduce", [x], shape, torch.int64, "i64", max=is_max, axis=axis, keep=keep, last=False)


def place(is_max: bool):
    """Where the greatest or the least element is, along an axis or of all."""

    def write(cx: Context, x, axis=None, keep=False):
        if axis is not None:
            return _place(cx, x, axis, keep, is_max)
        count = 1
        for size in x.full:
            count *= size
        found = _place(cx, cx.f.reshape(x, (count,)), 0, False, is_max)
        return cx.f.reshape(found, cx.shape)

    return write


def cumulative(word: str):
    def write(cx: Context, x, axis, *, dtype=None):
        f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
        if not x.shape:
            return x
        axis = axis_of(axis, len(x.shape))
        return f.op(word, [x], x.shape, cx.dtype, axis=axis, exclusive=False, reverse=False)

    return write


def _variance(cx: Context, x: Value, axes, correction, keep: bool) -> tuple[Value, Value]:
    f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
    axes = axes_of(axes, len(x.shape))
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    correction = 1 if correction is None else correction
    if count <= correction:
        raise Unsupported("a variance of too few elements")
    mean = f.reduce("mean", x, axes, True)
    squares = f.reduce("sum_square", f.binary("sub", x, mean), axes, keep)
    variance = f.binary("mul", squares, f.constant(1 / (count - correction), "f32", cx.dtype))
    return variance, mean if keep else f.reshape(mean, variance.shape)


def variance(cx: Context, x, axes=None, *, correction=None, keepdim=False):
    return _variance(cx, x, axes, correction, keepdim)[0]


def variance_and_mean(cx: Context, x, axes=None, *, correction=None, keepdim=False):
    return _variance(cx, x, axes, correction, keepdim)


def deviation(cx: Context, x, axes=None, *, correction=None, keepdim=False):
    return cx.f.unary("sqrt", variance(cx, x, axes, correction=correction, keepdim=keepdim))


def vector_norm(cx: Context, x, order=2, axes=None, keep=False, *, dtype=None):
    kinds = {1: "l1", 2: "l2", float("inf"): "max"}
    if order not in kinds:
        raise Unsupported(f"the norm of order {order}")
    x = cx.operand(x, cx.dtype)
    if order == float("inf"):
        x = cx.f.unary("abs", x)
    axes = axes_of(axes, len(x.full))
    return cx.f.reduce(kinds[order], x, axes, keep) if axes else cx.f.unary("abs", x)


def softmax(word: str):
    def write(cx: Context, x, axis, half_to_float=False, **kwargs):
        f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
        if not x.shape:
            raise Unsupported("a scalar")
        return f.op(word, [x], x.shape, cx.dtype, axis=axis_of(axis, len(x.shape)))

    return write


def topk(cx: Context, x, k, axis=-1, largest=True, is_sorted=True):
    f, x = cx.f, cx.f.full(f_wide(cx, x))
    axis = axis_of(axis, len(x.shape))
    shape = cx.results[1].shape
    places = f.op("top_k", [x], shape, torch.int64, "i64", k=k, axis=axis, largest=largest)
    values = f.op("gather_elements", [x, places], shape, x.dtype, x.element, axis=axis)
    return values, places


def f_wide(cx: Context, x: Value) -> Value:
    x = cx.f.wide(x)
    if x.element == "bool" or not x.full:
        raise Unsupported("booleans or a scalar")
    return x


def sort(cx: Context, x, axis=-1, descending=False):
    return topk(cx, x, cx.results[1].shape[axis_of(axis, len(x.full))], axis, descending)


def stable_sort(cx: Context, x, *, stable=False, dim=-1, descending=False):
    return sort(cx, x, dim, descending)

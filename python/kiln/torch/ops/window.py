"""Pools."""

from __future__ import annotations

import torch

from kiln import Unsupported

from ..context import Context
from ..dtypes import is_float
from ..function import Value


def _listed(value, axes: int) -> list[int]:
    value = [value] if isinstance(value, int) else list(value)
    return value * axes if len(value) == 1 else value


def _windows(x: Value, shape, kernel, strides, pads, dilations=1) -> dict:
    axes = len(x.shape) - 2
    kernel = _listed(kernel, axes)
    strides = _listed(strides, axes) if strides or strides == 0 else kernel
    return {
        "kernel": kernel,
        "strides": strides,
        "pads": _listed(pads, axes) * 2,
        "dilations": _listed(dilations, axes),
        "out": list(shape[2:]),
    }


def _image(cx: Context, x, axes: int) -> tuple[Value, tuple[int, ...]]:
    """Images with a batch, and the shape of the result that goes with them."""
    f, x = cx.f, cx.f.full(cx.f.wide(x))
    if not is_float(x.element):
        raise Unsupported("images of integers")
    if len(x.shape) == axes + 2:
        return x, cx.shape
    return f.reshape(x, (1, *x.shape)), (1, *cx.shape)


def _pooled(cx: Context, x: Value, shape, kind: str, windows: dict) -> Value:
    f = cx.f
    result = f.op("pool", [x], shape, cx.dtype, kind=kind, p=0, **windows, channels_last=False)
    return f.reshape(result, cx.shape)


def max_pool(axes: int):
    def write(cx: Context, x, kernel, strides=(), pads=0, dilations=1, ceil_mode=False):
        image, shape = _image(cx, x, axes)
        return _pooled(cx, image, shape, "max", _windows(image, shape, kernel, strides, pads, dilations))

    return write


def max_pool_with_indices(axes: int):
    """The greatest of each window, and where it is in its plane."""

    def write(cx: Context, x, kernel, strides=(), pads=0, dilations=1, ceil_mode=False):
        image, shape = _image(cx, x, axes)
        windows = _windows(image, shape, kernel, strides, pads, dilations)
        pooled = _pooled(cx, image, shape, "max", windows)
        places = None
        if 1 in cx.used:
            f, plane = cx.f, 1
            for size in image.shape[2:]:
                plane *= size
            places = f.op("max_pool_indices", [image], shape, torch.int64, "i64", **windows, column_major=False)
            places = f.binary("rem", places, f.constant(plane, "i64", torch.int64))
            places = f.reshape(places, cx.shape)
        return pooled, places

    return write


def avg_pool(axes: int):
    def write(cx: Context, x, kernel, strides=(), pads=0, ceil_mode=False, count_include_pad=True, divisor=None):
        if divisor is not None:
            raise Unsupported("a divisor of its own")
        image, shape = _image(cx, x, axes)
        kind = "average_padded" if count_include_pad else "average"
        return _pooled(cx, image, shape, kind, _windows(image, shape, kernel, strides, pads))

    return write


def adaptive_avg_pool(axes: int):
    """Means of as many windows as asked for, if they are of one size."""

    def write(cx: Context, x, size):
        image, shape = _image(cx, x, axes)
        pixels, out = image.shape[2:], shape[2:]
        if all(size == 1 for size in out):
            mean = cx.f.reduce("mean", image, list(range(2, axes + 2)), True)
            return cx.f.reshape(mean, cx.shape)
        if any(size % count for size, count in zip(pixels, out)):
            raise Unsupported("windows of several sizes")
        kernel = [size // count for size, count in zip(pixels, out)]
        return _pooled(cx, image, shape, "average", _windows(image, shape, kernel, kernel, 0))

    return write

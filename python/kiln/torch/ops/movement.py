"""Operators that move elements: views, transposes, slices, concatenations, padding."""

from __future__ import annotations

import torch

from kiln import Unsupported

from ..context import Context, axes_of, axis_of
from ..dtypes import compute_element
from ..function import Value


def same(cx: Context, x, *args, **kwargs):
    """The tensor as it is: clone, alias, detach, and whatever concerns places in memory alone."""
    return x


def dropout(cx: Context, x, p, train):
    if train:
        raise Unsupported("dropout in training")
    return x


def native_dropout(cx: Context, x, p, train):
    cx.only(0)
    return dropout(cx, x, p, train), None


def view(cx: Context, x, *shape, **kwargs):
    """A reshape: the shape is the one that PyTorch says the result has."""
    return cx.f.reshape(x, cx.shape)


def unsqueeze(cx: Context, x, axis):
    f, axis = cx.f, axis_of(axis, len(x.full) + 1)
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    result = f.op("reshape", [x], shape, x.dtype, x.element, shape=shape)
    result.full = (*x.full[:axis], 1, *x.full[axis:])
    return result


def squeeze(cx: Context, x, axes=None):
    f = cx.f
    gone = [axis for axis in axes_of(axes, len(x.full)) if x.full[axis] == 1]
    if not gone:
        return x

    def kept(shape):
        return tuple(size for axis, size in enumerate(shape) if axis not in gone)

    result = f.op("reshape", [x], kept(x.shape), x.dtype, x.element, shape=kept(x.shape))
    result.full = kept(x.full)
    return result


def transpose(cx: Context, x, a, b):
    rank = len(x.full)
    if rank == 0:
        return x
    perm = list(range(rank))
    a, b = axis_of(a, rank), axis_of(b, rank)
    perm[a], perm[b] = perm[b], perm[a]
    return cx.f.transpose(x, perm)


def t(cx: Context, x):
    return cx.f.transpose(x, reversed(range(len(x.full))))


def permute(cx: Context, x, axes):
    return cx.f.transpose(x, [axis_of(axis, len(x.full)) for axis in axes])


def expand(cx: Context, x, shape, *, implicit=False):
    """Nothing is written: the value is known to have more equal elements."""
    rank = len(cx.shape)
    if len(x.shape) < rank:
        own = (1,) * (rank - len(x.shape)) + x.shape
        x = cx.f.op("reshape", [x], own, x.dtype, x.element, shape=own)
    return Value(x.name, x.element, x.dtype, x.shape, cx.shape, x.is_static)


def repeat(cx: Context, x, repeats):
    f = cx.f
    x = f.full(x)
    shape = (1,) * (len(repeats) - len(x.shape)) + x.shape
    pairs = [size for pair in zip((1,) * len(repeats), shape) for size in pair]
    stretched = [size for pair in zip(repeats, shape) for size in pair]
    x = f.reshape(x, pairs)
    x = Value(x.name, x.element, x.dtype, x.shape, tuple(stretched), x.is_static)
    return f.reshape(x, cx.shape)


def slice_(cx: Context, x, axis=0, start=None, end=None, step=1):
    axis = axis_of(axis, len(x.full))
    size = x.full[axis]
    start = 0 if start is None else start
    start = min(max(start + size if start < 0 else start, 0), size)
    return cx.f.slice(x, axis, start, cx.shape[axis], step)


def narrow(cx: Context, x, axis, start, length):
    return slice_(cx, x, axis, start, None)


def select(cx: Context, x, axis, index):
    f, axis = cx.f, axis_of(axis, len(x.full))
    index = index + x.full[axis] if index < 0 else index
    if not 0 <= index < x.full[axis]:
        raise Unsupported("an index outside of the tensor")
    return _without(f, f.slice(x, axis, index, 1), axis)


def _without(f, x: Value, axis: int) -> Value:
    """The value without an axis of one element."""
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    result = f.op("reshape", [x], shape, x.dtype, x.element, shape=shape)
    result.full = (*x.full[:axis], *x.full[axis + 1 :])
    return result


def _parts(cx: Context, x, axis: int) -> tuple[Value, ...]:
    axis, at, parts = axis_of(axis, len(x.full)), 0, []
    for number, result in enumerate(cx.results):
        count = result.shape[axis]
        # Parts that nobody reads are not written.
        parts.append(cx.f.slice(x, axis, at, count) if number in cx.used else None)
        at += count
    return tuple(parts)


def split(cx: Context, x, size, axis=0):
    return _parts(cx, x, axis)


def unbind(cx: Context, x, axis=0):
    f, axis = cx.f, axis_of(axis, len(x.full))
    return tuple(
        _without(f, f.slice(x, axis, at, 1), axis) if at in cx.used else None for at in range(len(cx.results))
    )


def cat(cx: Context, tensors, axis=0):
    tensors = [x for x in tensors if 0 not in x.full]
    axis = axis_of(axis, len(cx.shape))
    elements = {x.element for x in tensors}
    if len(elements) > 1 or len({x.dtype for x in tensors}) > 1:
        tensors = [cx.operand(x, cx.dtype) for x in tensors]
    return cx.f.concat(tensors, axis)


def stack(cx: Context, tensors, axis=0):
    f, axis = cx.f, axis_of(axis, len(cx.shape))
    tensors = [f.full(cx.operand(x, cx.dtype)) for x in tensors]
    return f.concat([f.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in tensors], axis)


def flip(cx: Context, x, axes):
    f, x, axes = cx.f, cx.f.full(x), axes_of(axes, len(x.full)) if axes else []
    if not axes:
        return x
    starts = [size - 1 if axis in axes else 0 for axis, size in enumerate(x.shape)]
    steps = [-1 if axis in axes else 1 for axis in range(len(x.shape))]
    return f.op("slice", [x], x.shape, x.dtype, x.element, starts=starts, steps=steps, counts=x.shape)


def roll(cx: Context, x, shifts, axes=()):
    f, x = cx.f, cx.f.full(x)
    if not axes:
        flat = f.reshape(x, (-1,) if not x.shape else (_count(x.shape),))
        return f.reshape(_rolled(f, flat, shifts[0], 0), x.shape)
    for shift, axis in zip(shifts, axes):
        x = _rolled(f, x, shift, axis_of(axis, len(x.shape)))
    return x


def _rolled(f, x: Value, shift: int, axis: int) -> Value:
    size = x.shape[axis]
    shift %= size
    if shift == 0:
        return x
    return f.concat([f.slice(x, axis, size - shift, shift), f.slice(x, axis, 0, size - shift)], axis)


def _count(shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def pad(cx: Context, x, pads, value=0):
    """Constants around a tensor; negative numbers cut off."""
    f, x, rank = cx.f, cx.f.full(cx.operand(x, cx.dtype)), len(x.full)
    before, after = [0] * rank, [0] * rank
    for at in range(len(pads) // 2):
        before[rank - 1 - at], after[rank - 1 - at] = pads[2 * at], pads[2 * at + 1]
    return _padded(f, x, "constant", before, after, float(value), cx.shape)


def _padded(f, x: Value, mode: str, before, after, value: float, shape) -> Value:
    for axis, (b, a) in enumerate(zip(before, after)):
        if b < 0 or a < 0:
            x = f.slice(x, axis, max(-b, 0), x.shape[axis] - max(-b, 0) - max(-a, 0))
    before, after = [max(b, 0) for b in before], [max(a, 0) for a in after]
    if not any(before) and not any(after):
        return x
    return f.op("pad", [x], shape, x.dtype, x.element, mode=mode, before=before, after=after, value=value)


def pad_by(mode: str):
    """Padding with the tensor's own elements, along its last axes."""

    def write(cx: Context, x, pads):
        f, x, rank = cx.f, cx.f.full(cx.operand(x, cx.dtype)), len(x.full)
        before, after = [0] * rank, [0] * rank
        for at in range(len(pads) // 2):
            before[rank - 1 - at], after[rank - 1 - at] = pads[2 * at], pads[2 * at + 1]
        if min(before) < 0 or min(after) < 0:
            raise Unsupported("padding that cuts off")
        return _padded(f, x, mode, before, after, 0.0, cx.shape)

    return write


def slice_scatter(cx: Context, x, source, axis=0, start=None, end=None, step=1):
    f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
    source = f.full(cx.operand(source, cx.dtype))
    axis = axis_of(axis, len(x.shape))
    size = x.shape[axis]
    if step != 1:
        raise Unsupported("a step other than 1")
    start = 0 if start is None else start
    start = min(max(start + size if start < 0 else start, 0), size)
    end = start + source.shape[axis]
    parts = [source]
    if start > 0:
        parts.insert(0, f.slice(x, axis, 0, start))
    if end < size:
        parts.append(f.slice(x, axis, end, size - end))
    return f.concat(parts, axis)


def select_scatter(cx: Context, x, source, axis, index):
    f, axis = cx.f, axis_of(axis, len(x.full))
    index = index + x.full[axis] if index < 0 else index
    source = f.full(cx.operand(source, cx.dtype))
    source = f.reshape(source, (*source.shape[:axis], 1, *source.shape[axis:]))
    return slice_scatter(cx, x, source, axis, index)


def pixel_shuffle(cx: Context, x, factor):
    f, x = cx.f, cx.f.full(x)
    *outer, channels, height, width = x.shape
    rank = len(outer)
    x = f.reshape(x, (*outer, channels // factor**2, factor, factor, height, width))
    x = f.transpose(x, [*range(rank), rank, rank + 3, rank + 1, rank + 4, rank + 2])
    return f.reshape(x, cx.shape)


def upsample_nearest2d(cx: Context, x, size, scale_h=None, scale_w=None):
    """Whole factors alone: each pixel is repeated."""
    f, x = cx.f, cx.f.full(x)
    (height, width), (to_h, to_w) = x.shape[-2:], cx.shape[-2:]
    if to_h % height or to_w % width:
        raise Unsupported("a size that is no multiple of the image's")
    x = f.reshape(x, (*x.shape[:-1], 1, width, 1))
    x = f.reshape(x, (*x.shape[:2], height, 1, width, 1))
    x = Value(x.name, x.element, x.dtype, x.shape, (*x.shape[:2], height, to_h // height, width, to_w // width),
              x.is_static)
    return f.reshape(x, cx.shape)


def upsample_nearest2d_vec(cx: Context, x, size, factors):
    return upsample_nearest2d(cx, x, size)


def unfold_like(cx: Context, x, axis, size, step):
    """Windows along an axis, by a gather of their elements."""
    f, x, axis = cx.f, cx.f.full(x), axis_of(axis, len(x.full))
    if not x.full:
        raise Unsupported("a scalar")
    count = cx.shape[axis]
    starts = f.binary("mul", f.reshape(f.iota(count), (count, 1)), f.constant(step, "i64", torch.int64))
    indices = f.binary("add", starts, f.reshape(f.iota(size), (1, size)))
    gathered_shape = (*x.shape[:axis], count, size, *x.shape[axis + 1 :])
    gathered = f.op("gather", [x, indices], gathered_shape, x.dtype, x.element, axis=axis)
    rest = range(axis + 2, len(gathered_shape))
    return f.transpose(gathered, [*range(axis + 1), *rest, axis + 1])


def filled(value: float | None):
    """A tensor of equal elements, of the shape and the type that PyTorch says."""

    def write(cx: Context, *args, **kwargs):
        number = value
        if number is None:
            number = args[-1]
        if isinstance(number, Value):
            raise Unsupported("an element that is not known")
        return cx.f.filled(number, compute_element(cx.dtype), cx.dtype, cx.shape)

    return write


def scalar_tensor(cx: Context, value, **kwargs):
    return cx.f.filled(value, compute_element(cx.dtype), cx.dtype, ())


def arange(start: int | None, end: int, step: int | None):
    """Numbers from a start; the settings say which argument is which."""

    def write(cx: Context, *args, **kwargs):
        f = cx.f
        first = args[start] if start is not None else 0
        by = args[step] if step is not None and len(args) > step else 1
        (count,) = cx.shape
        if count == 0:
            raise Unsupported("tensors without elements")
        numbers = f.iota(count)
        if cx.dtype.is_floating_point:
            numbers = f.cast(numbers, "f32")
            if count > 1 << 24:
                raise Unsupported("more elements than are exact")
        element, dtype = numbers.element, torch.float32 if cx.dtype.is_floating_point else torch.int64
        if by != 1:
            numbers = f.binary("mul", numbers, f.constant(by, element, dtype))
        if first != 0:
            numbers = f.binary("add", numbers, f.constant(first, element, dtype))
        return f.cast(numbers, compute_element(cx.dtype))

    return write


def diagonal_like(cx: Context, n, m=None, **kwargs):
    """The identity matrix."""
    f = cx.f
    rows, columns = cx.shape
    equal = f.compare("equal", f.reshape(f.iota(rows), (rows, 1)), f.reshape(f.iota(columns), (1, columns)))
    return f.cast(equal, compute_element(cx.dtype))

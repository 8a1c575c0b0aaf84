"""Operators that read or write at places that tensors name."""

from __future__ import annotations

import torch

from kiln import Unsupported

from ..context import Context, axis_of
from ..dtypes import compute_element
from ..function import Value, broadcast


def _indices(cx: Context, index: Value) -> Value:
    if index.element not in ("i64", "i32"):
        if index.element == "bool" or index.element == "u8":
            raise Unsupported("a mask as an index: the size of the result depends on data")
        index = cx.f.cast(index, "i64")
    return index


def embedding(cx: Context, weight, indices, padding=-1, scale_grad=False, sparse=False):
    return _gathered(cx, weight, _indices(cx, indices), 0)


def _gathered(cx: Context, x: Value, indices: Value, axis: int) -> Value:
    f, x = cx.f, cx.f.full(x)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    result = f.op("gather", [x, indices], shape, x.dtype, x.element, axis=axis)
    result.full = (*x.shape[:axis], *indices.full, *x.shape[axis + 1 :])
    return result


def index_select(cx: Context, x, axis, indices):
    f = cx.f
    if not x.full:
        return x
    return _gathered(cx, x, f.full(_indices(cx, indices)), axis_of(axis, len(x.full)))


def gather(cx: Context, x, axis, indices, *, sparse_grad=False):
    f, x, indices = cx.f, cx.f.full(x), cx.f.full(_indices(cx, indices))
    if not x.shape or not indices.shape:
        raise Unsupported("a scalar")
    axis = axis_of(axis, len(x.shape))
    for at, (own, wanted) in enumerate(zip(x.shape, indices.shape)):
        if at != axis and wanted > own:
            raise Unsupported("indices that are larger than the tensor")
    return f.op("gather_elements", [x, indices], indices.shape, x.dtype, x.element, axis=axis)


def _coordinates(cx: Context, indices: list[Value]) -> Value:
    """Rows of coordinates, one for each place, of indices that broadcast."""
    f = cx.f
    indices = [f.cast(_indices(cx, index), "i64") for index in indices]
    shape = broadcast(*[index.full for index in indices])
    parts = []
    for index in indices:
        own = (1,) * (len(shape) - len(index.shape)) + index.shape
        if own != index.shape:
            index = f.op("reshape", [index], own, index.dtype, index.element, shape=own)
        index = Value(index.name, index.element, index.dtype, index.shape, shape, index.is_static)
        parts.append(f.reshape(index, (*shape, 1)))
    return f.concat(parts, len(shape))


def _places(x: Value, indices) -> tuple[list[int], list[Value]]:
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    if not axes:
        raise Unsupported("an index that selects nothing")
    return axes, [indices[axis] for axis in axes]


def index(cx: Context, x, indices):
    """Elements at places that one or several tensors name."""
    f = cx.f
    axes, given = _places(x, indices)
    x = f.full(x)
    if len(axes) == 1:
        return _gathered(cx, x, _indices(cx, given[0]), axes[0])
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    coordinates = _coordinates(cx, given)
    places = coordinates.shape[:-1]
    shape = (*places, *(x.shape[axis] for axis in rest))
    found = f.op("gather_nd", [f.transpose(x, axes + rest), coordinates], shape, x.dtype, x.element, batch=0)
    if axes != list(range(axes[0], axes[0] + len(axes))) or axes[0] == 0:
        return found
    # Places go where the first index was, if the indices are neighbours.
    count, before = len(places), axes[0]
    return f.transpose(found, [*range(count, count + before), *range(count), *range(count + before, len(shape))])


def index_put(cx: Context, x, indices, values, accumulate=False):
    f = cx.f
    axes, given = _places(x, indices)
    x, values = f.full(cx.operand(x, cx.dtype)), cx.operand(values, cx.dtype)
    if axes != list(range(len(axes))):
        raise Unsupported("indices that do not begin with the first axis")
    if accumulate and x.element == "bool":
        raise Unsupported("booleans that are accumulated")
    coordinates = _coordinates(cx, given)
    shape = (*coordinates.shape[:-1], *x.shape[len(axes) :])
    values = _stretched(f, values, shape)
    merge = "add" if accumulate else "replace"
    return f.op("scatter_nd", [x, coordinates, values], x.shape, x.dtype, x.element, merge=merge)


def _stretched(f, value: Value, shape) -> Value:
    own = (1,) * (len(shape) - len(value.shape)) + value.shape
    if own != value.shape:
        value = f.op("reshape", [value], own, value.dtype, value.element, shape=own)
    return f.full(Value(value.name, value.element, value.dtype, value.shape, tuple(shape), value.is_static))


def index_copy(cx: Context, x, axis, indices, source):
    f, x, source = cx.f, cx.f.full(cx.operand(x, cx.dtype)), cx.f.full(cx.operand(source, cx.dtype))
    if not x.shape or not source.shape:
        raise Unsupported("a scalar")
    axis = axis_of(axis, len(x.shape))
    indices = f.full(_indices(cx, indices))
    count = indices.shape[0] if indices.shape else 1
    front = [axis, *(at for at in range(len(x.shape)) if at != axis)]
    rows = f.reshape(indices, (count, 1))
    x, source = f.transpose(x, front), f.transpose(source, front)
    result = f.op("scatter_nd", [x, rows, source], x.shape, x.dtype, x.element, merge="replace")
    return f.transpose(result, [front.index(at) for at in range(len(front))])


def scatter(merge: str):
    """Elements of a tensor, or a number, merged in where indices say."""

    def write(cx: Context, x, axis, indices, source):
        f, x, indices = cx.f, cx.f.full(cx.operand(x, cx.dtype)), cx.f.full(_indices(cx, indices))
        if not x.shape or not indices.shape:
            raise Unsupported("a scalar")
        if isinstance(source, Value):
            source = f.full(cx.operand(source, cx.dtype))
            for at, size in enumerate(indices.shape):
                source = f.slice(source, at, 0, size)
        else:
            source = f.full(f.filled(source, compute_element(cx.dtype), cx.dtype, indices.shape))
        axis = axis_of(axis, len(x.shape))
        return f.op("scatter_elements", [x, indices, source], x.shape, x.dtype, x.element, axis=axis, merge=merge)

    return write



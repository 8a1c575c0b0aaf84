"""Matrix products and convolutions."""

from __future__ import annotations

from kiln import Unsupported

from ..context import Context
from ..dtypes import is_float
from ..function import Value


def _factors(cx: Context, *values) -> list[Value]:
    factors = [cx.operand(value, cx.dtype) for value in values]
    if not is_float(factors[0].element):
        raise Unsupported("products of integers")
    return factors


def _matrix(f, x: Value) -> Value:
    """The value with all elements of its matrices; outer axes may be expanded."""
    return x if x.shape[-2:] == x.full[-2:] else f.full(x)


def matmul(cx: Context, a, b):
    """NumPy's rule: a vector is a row on the left, a column on the right."""
    f, (a, b) = cx.f, _factors(cx, a, b)
    if not a.full or not b.full:
        raise Unsupported("a scalar")
    if len(a.full) == 1:
        a = f.reshape(a, (1, *a.full))
    if len(b.full) == 1:
        b = f.reshape(b, (*b.full, 1))
    product = f.matmul(_matrix(f, a), _matrix(f, b), cx.dtype)
    if product.full == cx.shape:
        return product
    return f.reshape(product, cx.shape)


def _scaled(cx: Context, x: Value, by) -> Value:
    return x if by == 1 else cx.f.binary("mul", x, cx.operand(by, cx.dtype))


def addmm(cx: Context, bias, a, b, *, beta=1, alpha=1):
    """``beta * bias + alpha * a b``; also of batches."""
    product = _scaled(cx, matmul(cx, a, b), alpha)
    if beta == 0:
        return product
    return cx.f.binary("add", product, _scaled(cx, cx.operand(bias, cx.dtype), beta))


def linear(cx: Context, x, weight, bias=None):
    if len(weight.full) != 2:
        raise Unsupported("a weight that is no matrix")
    x = cx.f.full(x)
    rows = x
    if len(x.shape) > 2:
        # Rows of all batches are multiplied at once.
        count = 1
        for size in x.shape[:-1]:
            count *= size
        rows = cx.f.reshape(x, (count, x.shape[-1]))
    a, b = _factors(cx, rows, weight)
    b = cx.f.transpose(cx.f.full(b), [1, 0])
    vector = len(a.shape) == 1
    product = cx.f.matmul(cx.f.reshape(a, (1, *a.shape)) if vector else a, b, cx.dtype)
    if bias is not None:
        product = cx.f.binary("add", product, cx.operand(bias, cx.dtype))
    return cx.f.reshape(product, cx.shape)


def _listed(value, axes: int) -> list[int]:
    value = [value] if isinstance(value, int) else list(value)
    return value * axes if len(value) == 1 else value


def _biased(cx: Context, product: Value, bias) -> Value:
    if bias is None:
        return product
    bias = cx.operand(bias, cx.dtype)
    bias = cx.f.reshape(bias, (1, bias.full[0], *([1] * (len(product.shape) - 2))))
    return cx.f.binary("add", product, bias)


def convolution(cx: Context, x, weight, bias, strides, pads, dilations, transposed, output_pads, groups):
    f, (x, weight) = cx.f, _factors(cx, x, weight)
    x, weight = f.full(x), f.full(weight)
    axes = len(weight.shape) - 2
    if len(x.shape) != axes + 2:
        raise Unsupported("an image without a batch")
    strides, dilations = _listed(strides, axes), _listed(dilations, axes)
    pads = _listed(pads, axes) * 2
    f.contractions.add(cx.dtype)
    settings = {"strides": strides, "pads": pads, "dilations": dilations}
    if transposed:
        settings |= {"output_pads": _listed(output_pads, axes), "groups": groups}
        product = f.op("conv_transpose", [x, weight], cx.shape, cx.dtype, **settings)
    else:
        settings |= {"groups": groups, "channels_last": False}
        product = f.op("conv", [x, weight], cx.shape, cx.dtype, **settings)
    return _biased(cx, product, bias)


def conv(cx: Context, x, weight, bias=None, strides=1, pads=0, dilations=1, groups=1):
    """A convolution as torch.export leaves it."""
    return convolution(cx, x, weight, bias, strides, pads, dilations, False, 0, groups)


def dot(cx: Context, a, b):
    return matmul(cx, a, b)

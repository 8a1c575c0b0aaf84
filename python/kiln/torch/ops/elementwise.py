"""Operators on each element."""

from __future__ import annotations

import torch

from kiln import Unsupported

from ..context import Context
from ..dtypes import compute_element, element_of, is_float
from ..function import Value, is_narrow


def unary(word: str, **settings):
    """An operator that is one operation on floating-point numbers; integers are converted as PyTorch does."""

    def write(cx: Context, x):
        result = cx.f.unary(word, cx.operand(x, cx.dtype), **settings)
        result.dtype = cx.dtype
        return result

    return write


def rsqrt(cx: Context, x):
    return cx.f.unary("reciprocal", cx.f.unary("sqrt", cx.operand(x, cx.dtype)))


def square(cx: Context, x):
    x = cx.operand(x, cx.dtype)
    return cx.f.binary("mul", x, x)


def rounding(word: str):
    """Floor, ceil and round: integers stay as they are."""

    def write(cx: Context, x):
        x = cx.operand(x, cx.dtype)
        return cx.f.unary(word, x) if is_float(x.element) else x

    return write


def trunc(cx: Context, x):
    x = cx.operand(x, cx.dtype)
    if not is_float(x.element):
        return x
    f = cx.f
    return f.binary("mul", f.unary("sign", x), f.unary("floor", f.unary("abs", x)))


def logical_not(cx: Context, x):
    return cx.f.unary("not", cx.operand(x, torch.bool))


def bitwise_not(cx: Context, x):
    return cx.f.unary("not" if x.element == "bool" else "bit_not", x)


def gelu(cx: Context, x, *, approximate="none"):
    return cx.f.unary({"none": "gelu_erf", "tanh": "gelu_tanh"}[approximate], cx.operand(x, cx.dtype))


def leaky_relu(cx: Context, x, negative_slope=0.01):
    return cx.f.unary("leaky_relu", cx.operand(x, cx.dtype), alpha=float(negative_slope))


def elu(cx: Context, x, alpha=1.0, scale=1.0, input_scale=1.0):
    f, x = cx.f, cx.operand(x, cx.dtype)
    if input_scale != 1.0:
        raise Unsupported("an input_scale other than 1")
    if scale == 1.0:
        return f.unary("elu", x, alpha=float(alpha))
    return f.unary("selu", x, alpha=float(alpha), gamma=float(scale))


def softplus(cx: Context, x, beta=1.0, threshold=20.0):
    if beta != 1 or threshold < 20:
        raise Unsupported("a beta other than 1, or a threshold below 20")
    return cx.f.unary("softplus", cx.operand(x, cx.dtype))


def hardsigmoid(cx: Context, x):
    return cx.f.unary("hard_sigmoid", cx.operand(x, cx.dtype), alpha=1 / 6, beta=0.5)


def clamp(cx: Context, x, low=None, high=None):
    x = cx.operand(x, cx.dtype)
    low = float("-inf") if low is None else float(low)
    high = float("inf") if high is None else float(high)
    if low != low or high != high:
        raise Unsupported("a limit that is not a number")
    return cx.f.unary("clamp", x, low=low, high=high)


def clamp_min(cx: Context, x, low):
    return clamp(cx, x, low, None)


def clamp_max(cx: Context, x, high):
    return clamp(cx, x, None, high)


def hardtanh(cx: Context, x, low=-1.0, high=1.0):
    return clamp(cx, x, low, high)


def _scaled(cx: Context, x, factor):
    if factor == 1:
        return x
    return cx.f.binary("mul", x, cx.operand(factor, cx.dtype))


def add(cx: Context, a, b, *, alpha=1):
    a, b = cx.operand(a, cx.dtype), cx.operand(b, cx.dtype)
    if a.element == "bool":
        return cx.f.compare("or", a, b)
    return cx.f.binary("add", a, _scaled(cx, b, alpha))


def sub(cx: Context, a, b, *, alpha=1):
    a, b = cx.operand(a, cx.dtype), cx.operand(b, cx.dtype)
    return cx.f.binary("sub", a, _scaled(cx, b, alpha))


def rsub(cx: Context, a, b, alpha=1):
    return sub(cx, b, a, alpha=alpha)


def mul(cx: Context, a, b):
    a, b = cx.operand(a, cx.dtype), cx.operand(b, cx.dtype)
    return cx.f.compare("and", a, b) if a.element == "bool" else cx.f.binary("mul", a, b)


def div(cx: Context, a, b, *, rounding_mode=None):
    f, a, b = cx.f, cx.operand(a, cx.dtype), cx.operand(b, cx.dtype)
    if not is_float(a.element):
        # PyTorch raises for a divisor of 0, which Kiln's division makes 0.
        raise Unsupported("a division of integers")
    quotient = f.binary("div", a, b)
    if rounding_mode is None:
        return quotient
    if rounding_mode == "floor":
        return f.unary("floor", quotient)
    return f.binary("mul", f.unary("sign", quotient), f.unary("floor", f.unary("abs", quotient)))


def power(cx: Context, a, b):
    f = cx.f
    if not isinstance(b, Value):
        x = cx.operand(a, cx.dtype)
        if b == 1:
            return x
        if b == 2:
            return f.binary("mul", x, x)
        if b == 3:
            return f.binary("mul", f.binary("mul", x, x), x)
        if b == 0.5:
            return f.unary("sqrt", x)
        if b == -0.5:
            return f.unary("reciprocal", f.unary("sqrt", x))
        if b == -1:
            return f.unary("reciprocal", x)
    return f.binary("pow", cx.operand(a, cx.dtype), cx.operand(b, cx.dtype))


def arithmetic(word: str, on_bool: str | None = None):
    """An operator on pairs of numbers, and perhaps another operation on pairs of booleans."""

    def write(cx: Context, a, b):
        a, b = cx.operand(a, cx.dtype), cx.operand(b, cx.dtype)
        if a.element == "bool":
            if on_bool is None:
                raise Unsupported("booleans")
            return cx.f.compare(on_bool, a, b)
        return cx.f.binary(word, a, b)

    return write


def bitwise(on_bits: str, on_bool: str):
    """An operator on bits of integers, or on booleans."""
    return arithmetic(on_bits, on_bool)


def logical(word: str):
    def write(cx: Context, a, b):
        return cx.f.compare(word, cx.operand(a, torch.bool), cx.operand(b, torch.bool))

    return write


def _fits(value, dtype: torch.dtype) -> bool:
    """Whether a number is one of an integer dtype; comparisons with others would wrap around."""
    if isinstance(value, Value) or dtype.is_floating_point or dtype == torch.bool:
        return True
    info = torch.iinfo(dtype)
    return info.min <= value <= info.max


def compare(word: str, is_negated: bool = False):
    """A comparison of pairs of elements."""

    def write(cx: Context, a, b):
        dtype = cx.common(a, b)
        if not (_fits(a, dtype) and _fits(b, dtype)):
            raise Unsupported("a comparison with a number that the type does not have")
        if dtype == torch.bool and word != "equal":
            dtype = torch.uint8
        if is_narrow(dtype) and not (isinstance(a, Value) and isinstance(b, Value)):
            # PyTorch compares with the number rounded to the type.
            a, b = (v if isinstance(v, Value) else float(torch.tensor(v, dtype=dtype)) for v in (a, b))
        result = cx.f.compare(word, cx.operand(a, dtype), cx.operand(b, dtype))
        return cx.f.unary("not", result) if is_negated else result

    return write


def where(cx: Context, condition, a, b):
    f = cx.f
    element = compute_element(cx.dtype)
    return f.where(f.cast(condition, "bool"), f.cast(cx.operand(a, cx.dtype), element), cx.operand(b, cx.dtype))


def masked_fill(cx: Context, x, mask, value):
    return cx.f.where(mask, cx.operand(value, cx.dtype), cx.operand(x, cx.dtype))


def to_copy(cx: Context, x, *, dtype=None, layout=None, device=None, pin_memory=None, non_blocking=False,
            memory_format=None):
    """A conversion. Weights are rounded to bf16 and f16; other values stay f32 until they leave the function."""
    if device is not None and torch.device(device).type != "cpu" or pin_memory:
        raise Unsupported("a tensor on another device")
    f = cx.f
    if is_narrow(cx.dtype):
        # A weight is converted once, when it is bound.
        if x.is_static and x.element != element_of(cx.dtype):
            x = f.cast(x, element_of(cx.dtype))
        return x if x.is_static else f.cast(f.wide(x), "f32")
    if cx.dtype == x.dtype:
        return x
    return f.cast(f.wide(x), compute_element(cx.dtype))


def convert(cx: Context, x, dtype=None, *args, **kwargs):
    return to_copy(cx, x)


def remainder(cx: Context, a, b):
    f, a, b = cx.f, cx.operand(a, cx.dtype), cx.operand(b, cx.dtype)
    if not is_float(a.element):
        raise Unsupported("a division of integers")
    return f.binary("sub", a, f.binary("mul", f.unary("floor", f.binary("div", a, b)), b))


def fmod(cx: Context, a, b):
    a, b = cx.operand(a, cx.dtype), cx.operand(b, cx.dtype)
    if not is_float(a.element):
        raise Unsupported("a division of integers")
    return cx.f.binary("rem", a, b)


def addcmul(cx: Context, x, a, b, *, value=1):
    f = cx.f
    product = f.binary("mul", cx.operand(a, cx.dtype), cx.operand(b, cx.dtype))
    return f.binary("add", cx.operand(x, cx.dtype), _scaled(cx, product, value))



def lerp(cx: Context, a, b, weight):
    f, a = cx.f, cx.operand(a, cx.dtype)
    difference = f.binary("sub", cx.operand(b, cx.dtype), a)
    return f.binary("add", a, f.binary("mul", difference, cx.operand(weight, cx.dtype)))


def triangle(word: str):
    """The elements of matrices on one side of a diagonal, 0 elsewhere."""

    def write(cx: Context, x, diagonal=0):
        f, x = cx.f, cx.f.full(cx.operand(x, cx.dtype))
        rows, columns = x.shape[-2:]
        row = f.reshape(f.iota(rows), (rows, 1))
        column = f.reshape(f.iota(columns), (1, columns))
        row = f.binary("add", row, f.constant(diagonal, "i64", torch.int64)) if diagonal else row
        kept = f.compare(word, column, row)
        if x.element == "bool":
            return f.compare("and", x, kept)
        return f.where(kept, x, f.constant(0, x.element, x.dtype))

    return write

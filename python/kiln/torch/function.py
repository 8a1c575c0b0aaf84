"""A tensor function as it is written: values with their types, and the lines of Kiln's text."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from kiln import Unsupported

from .dtypes import NARROW, compute_element, element_of


@dataclass(eq=False)
class Value:
    """A value of the function.

    ``shape`` is what the text says; ``full`` is what PyTorch says. They differ by dimensions of 1 that a tensor is expanded along:
    operations that broadcast read it as it is, others ask for :meth:`Function.full`. ``element`` is the type in the text; ``dtype``
    is PyTorch's. A bf16 or f16 tensor that is not a weight is f32 in the text.
    """

    name: str
    element: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    full: tuple[int, ...]
    is_static: bool = False
    splat: float | int | None = None
    """The number that all elements are, if that is known."""


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all of these stretch to."""
    rank = max(map(len, shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for at, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                if result[at] not in (1, size):
                    raise Unsupported(f"shapes {shapes} that do not broadcast")
                result[at] = size
    return tuple(result)


def _setting(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(str(int(v)) for v in value) + "]"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value) -> str:
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "inf" if value > 0 else "-inf"
        return repr(value)
    return str(int(value))


def _type(element: str, shape: tuple[int, ...]) -> str:
    return f"{element}[{'x'.join(map(str, shape))}]"


@dataclass
class Function:
    """A function whose lines are written one after another."""

    name: str
    arguments: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    contractions: set[torch.dtype] = field(default_factory=set)
    """The dtypes that matrix products and convolutions have in PyTorch."""
    _constants: dict = field(default_factory=dict)
    _wide: dict = field(default_factory=dict)
    _full: dict = field(default_factory=dict)
    _count: int = 0

    def argument(self, dtype: torch.dtype, shape: tuple[int, ...], is_static: bool) -> Value:
        """The next argument. A bf16 or f16 one that is no weight arrives as f32."""
        element = element_of(dtype) if is_static else compute_element(dtype)
        name = f"%a{len(self.arguments)}"
        self.arguments.append(f"{name}: {_type(element, shape)}")
        return Value(name, element, dtype, shape, shape, is_static)

    def op(self, word: str, operands: list[Value], shape, dtype: torch.dtype, element: str | None = None, /, **settings):
        """A line with an operation; its result has ``shape`` in the text. Operands are as they are in the text."""
        if any(size == 0 for size in shape):
            raise Unsupported("tensors without elements")
        shape = tuple(shape)
        text = ", ".join(operand.name for operand in operands)
        if settings:
            text += " {" + " ".join(f"{key}={_setting(value)}" for key, value in settings.items()) + "}"
        name = self._line(f"{word} {text}")
        is_static = all(operand.is_static for operand in operands)
        return Value(name, element or compute_element(dtype), dtype, shape, shape, is_static)

    def _line(self, text: str) -> str:
        name = f"%{self._count}"
        self._count += 1
        self.lines.append(f"  {name} = {text}")
        return name

    def constant(self, value, element: str, dtype: torch.dtype) -> Value:
        """A scalar."""
        text = _number(float(value) if element in ("f32", "bf16", "f16") else int(value))
        key = (text, element)
        if key not in self._constants:
            self._constants[key] = self._line(f"constant {element}[] {{{text}}}")
        return Value(self._constants[key], element, dtype, (), (), True)

    def filled(self, value, element: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Value:
        """A tensor of equal elements: a scalar that is expanded."""
        scalar = self.constant(value, element, dtype)
        if shape:
            scalar = self.op("reshape", [scalar], (1,) * len(shape), dtype, element, shape=[1] * len(shape))
        scalar.full, scalar.splat = tuple(shape), value
        return scalar

    def cast(self, value: Value, element: str) -> Value:
        """The value with elements of another type in the text."""
        if value.element == element:
            return value
        key = (value.name, element)
        if key not in self._wide:
            self._wide[key] = self._line(f"cast {value.name} {{to={element}}}")
        return Value(self._wide[key], element, value.dtype, value.shape, value.full, value.is_static)

    def wide(self, value: Value) -> Value:
        """The value in the type that operations compute with: f32 for bf16 and f16."""
        return self.cast(value, "f32") if value.element in ("bf16", "f16") else value

    def full(self, value: Value) -> Value:
        """The value with all elements that PyTorch says it has."""
        if value.shape == value.full:
            return value
        key = (value.name, value.full)
        if key not in self._full:
            shape = _setting(value.full)
            self._full[key] = self._line(f"broadcast {value.name} {{shape={shape}}}")
        return Value(self._full[key], value.element, value.dtype, value.full, value.full, value.is_static)

    def reshape(self, value: Value, shape) -> Value:
        """The elements in the same order with another shape."""
        value, shape = self.full(value), tuple(shape)
        if value.shape == shape:
            return value
        return self.op("reshape", [value], shape, value.dtype, value.element, shape=shape)

    def transpose(self, value: Value, perm) -> Value:
        """The axes in another order."""
        perm = list(perm)
        if perm == list(range(len(perm))):
            return value
        shape = [value.shape[axis] for axis in perm]
        result = self.op("transpose", [value], shape, value.dtype, value.element, perm=perm)
        result.full = tuple(value.full[axis] for axis in perm)
        return result

    def unary(self, word: str, value: Value, **settings) -> Value:
        """An operation on each element."""
        result = self.op(word, [value], value.shape, value.dtype, value.element, **settings)
        result.full = value.full
        return result

    def binary(self, word: str, a: Value, b: Value, dtype: torch.dtype | None = None, element: str | None = None) -> Value:
        """An operation on pairs of elements of two tensors that broadcast and are of one type."""
        shape = broadcast(a.shape, b.shape)
        result = self.op(word, [a, b], shape, dtype or a.dtype, element or a.element)
        result.full = broadcast(a.full, b.full)
        return result

    def compare(self, word: str, a: Value, b: Value) -> Value:
        """A comparison, or an operation on booleans."""
        return self.binary(word, a, b, torch.bool, "bool")

    def where(self, condition: Value, a: Value, b: Value) -> Value:
        """Elements of the second where the first is true, else of the third."""
        shape = broadcast(condition.shape, a.shape, b.shape)
        result = self.op("where", [condition, a, b], shape, a.dtype, a.element)
        result.full = broadcast(condition.full, a.full, b.full)
        return result

    def slice(self, value: Value, axis: int, start: int, count: int, step: int = 1) -> Value:
        """Some elements along one axis."""
        if value.shape[axis] == 1 and value.full[axis] != 1:
            full = list(value.full)
            full[axis] = count
            return Value(value.name, value.element, value.dtype, value.shape, tuple(full), value.is_static)
        if start == 0 and count == value.shape[axis] and step == 1:
            return value
        rank = len(value.shape)
        starts, steps, counts = [0] * rank, [1] * rank, list(value.shape)
        starts[axis], steps[axis], counts[axis] = start, step, count
        result = self.op(
            "slice", [value], counts, value.dtype, value.element, starts=starts, steps=steps, counts=counts
        )
        full = list(value.full)
        full[axis] = count
        result.full = tuple(full)
        return result

    def concat(self, values: list[Value], axis: int) -> Value:
        """Tensors one after another along an axis."""
        values = [self.full(value) for value in values]
        if len(values) == 1:
            return values[0]
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self.op("concat", values, shape, values[0].dtype, values[0].element, axis=axis)

    def reduce(self, kind: str, value: Value, axes: list[int], keep: bool) -> Value:
        """One element for all along some axes."""
        value = self.full(value)
        axes = sorted(axes)
        shape = [1 if at in axes else size for at, size in enumerate(value.shape) if keep or at not in axes]
        return self.op("reduce", [value], shape, value.dtype, value.element, kind=kind, axes=axes, keep=keep)

    def matmul(self, a: Value, b: Value, dtype: torch.dtype) -> Value:
        """The matrix product; outer dimensions broadcast."""
        self.contractions.add(dtype)
        shape = (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        result = self.op("matmul", [a, b], shape, dtype)
        result.full = (*broadcast(a.full[:-2], b.full[:-2]), a.full[-2], b.full[-1])
        return result

    def iota(self, count: int) -> Value:
        """The integers from 0, i64."""
        one = self.filled(1, "i64", torch.int64, (count,))
        return self.op("cumsum", [self.full(one)], (count,), torch.int64, "i64", axis=0, exclusive=True, reverse=False)

    def text(self, results: list[Value]) -> str:
        """The whole function."""
        types = ", ".join(_type(value.element, value.shape) for value in results)
        names = ", ".join(value.name for value in results)
        lines = "\n".join(self.lines)
        return f"func @{self.name}({', '.join(self.arguments)}) -> {types} {{\n{lines}\n  return {names}\n}}\n"


def is_narrow(dtype: torch.dtype) -> bool:
    """Whether values of this dtype are kept as f32 between operations."""
    return dtype in NARROW

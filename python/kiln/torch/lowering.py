"""From a graph of ATen operators to the text of a tensor function, for sizes that are known."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import torch
from torch import fx
from torch._subclasses.fake_tensor import unset_fake_temporarily

from kiln import InternalError, Unsupported

from .context import Context, Meta
from .dtypes import compute_element, element_of
from .function import Function, Value, is_narrow
from .sizes import Sizes
from .table import TABLE

SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)


@dataclass
class Lowered:
    """A function with what a caller must know to call it."""

    text: str
    outputs: list[tuple[tuple[int, ...], tuple[int, ...], torch.dtype]]
    """Shape, strides and PyTorch's dtype of each result."""
    contractions: set[torch.dtype]


def is_size(node: fx.Node) -> bool:
    """Whether a node is a size or a number, not a tensor: those are known when a text is written."""
    return isinstance(node.meta.get("val"), SYMBOLIC)


def _meta(value, sizes: Sizes) -> Meta | None:
    if not isinstance(value, torch.Tensor):
        return None
    if value.device.type != "cpu":
        raise Unsupported(f"tensors on {value.device}")
    if value.layout is not torch.strided or value.is_quantized:
        raise Unsupported(f"tensors with the layout {value.layout}")
    element_of(value.dtype)
    return Meta(value.dtype, sizes.shape(value.shape))


def _empty(meta: Meta) -> Value:
    """A tensor without elements, for which nothing is written."""
    return Value("", compute_element(meta.dtype), meta.dtype, meta.shape, meta.shape)


def is_never(value) -> bool:
    """Whether a tensor has no elements, whatever the sizes are."""
    return any(type(size) is int and size == 0 for size in value.shape)


def _needs_elements(node: fx.Node, values: dict) -> None:
    """Refuses operands without elements, except where they add nothing."""
    if node.target is torch.ops.aten.cat.default:
        return
    for source in node.all_input_nodes:
        value = values.get(source)
        if isinstance(value, Value) and 0 in value.full:
            raise Unsupported("operands without elements")


def _results(node: fx.Node, sizes: Sizes) -> list[Meta | None]:
    value = node.meta.get("val")
    if value is None:
        raise Unsupported("a node of which PyTorch does not know the type")
    values = value if isinstance(value, (list, tuple)) else [value]
    used = _used(node)
    # Results that nobody reads may be anything.
    return [_meta(v, sizes) if at in used else _lenient(v, sizes) for at, v in enumerate(values)]


def _lenient(value, sizes: Sizes) -> Meta | None:
    try:
        return _meta(value, sizes)
    except Unsupported:
        return None


def _used(node: fx.Node) -> frozenset[int]:
    if not isinstance(node.meta.get("val"), (list, tuple)):
        return frozenset([0])
    return frozenset(user.args[1] if user.target is operator.getitem else -1 for user in node.users)


def write(f: Function, node: fx.Node, values: dict, sizes: Sizes):
    """Writes the lines of one node. ``values`` gives the values of the tensors that it reads."""
    if node.target is operator.getitem:
        value = values[node.args[0]]
        if not isinstance(value, tuple):
            raise Unsupported("an item of a tensor")
        if value[node.args[1]] is None:
            raise Unsupported("a result that is not written")
        return value[node.args[1]]
    row = TABLE.get(node.target)
    if row is None:
        raise Unsupported("not in the table")
    results = _results(node, sizes)

    def argument(x):
        if isinstance(x, fx.Node):
            return values[x] if x in values else number(x.meta["val"])
        return number(x)

    def number(x):
        if isinstance(x, torch.SymInt):
            return sizes.integer(x)
        if isinstance(x, (torch.SymFloat, torch.SymBool)):
            raise Unsupported("a number that is computed of sizes")
        return x

    if all(meta is not None and 0 in meta.shape for meta in results):
        return tuple(map(_empty, results)) if isinstance(node.meta["val"], (list, tuple)) else _empty(results[0])
    _needs_elements(node, values)
    args, kwargs = (fx.node.map_aggregate(x, argument) for x in (node.args, node.kwargs))
    context = Context(f, results, _used(node))
    result = row(context, *args, **kwargs)
    if isinstance(node.meta["val"], (list, tuple)):
        result = tuple(result) + (None,) * (len(results) - len(result))
        return tuple(
            _checked(node, value, meta) if at in context.used else None
            for at, (value, meta) in enumerate(zip(result, results))
        )
    return _checked(node, result, results[0])


class Known:
    """Tensors that are the same in each call, computed while the text is written.

    One whose elements are equal, such as a mask that hides nothing, is written as a number: what it is combined with keeps its size.
    """

    MOST = 1 << 20

    def __init__(self, sizes: Sizes):
        self._sizes = sizes
        self._tensors: dict[fx.Node, torch.Tensor] = {}

    def learn(self, node: fx.Node, value) -> None:
        """Notes a tensor whose elements are known to be equal."""
        if node in self._tensors or not isinstance(value, Value) or value.splat is None:
            return
        if math.prod(value.full) <= self.MOST:
            with unset_fake_temporarily():
                self._tensors[node] = torch.full(value.full, value.splat, dtype=value.dtype)

    def equal_elements(self, f: Function, node: fx.Node, values: dict) -> Value | None:
        """The node as a number, if all that it reads is known and its elements are equal."""
        result = node.meta.get("val")
        if node.target not in TABLE or not isinstance(result, torch.Tensor):
            return None
        sources = [source for source in node.all_input_nodes if not is_size(source)]
        if any(source not in self._tensors for source in sources):
            return None
        meta = _meta(result, self._sizes)
        if not 0 < math.prod(meta.shape) <= self.MOST:
            return None

        def argument(x):
            if isinstance(x, fx.Node):
                return self._tensors[x] if x in self._tensors else self._sizes.integer(x.meta["val"])
            return self._sizes.integer(x) if isinstance(x, torch.SymInt) else x

        try:
            args, kwargs = (fx.node.map_aggregate(x, argument) for x in (node.args, node.kwargs))
        except (TypeError, Unsupported):
            # A number that is computed of sizes: the row says what it does with such.
            return None
        with unset_fake_temporarily(), torch.no_grad():
            tensor = node.target(*args, **kwargs)
            first = tensor.flatten()[0]
            is_splat = bool((tensor == first).all())
            number = first.item()
        if tensor.device.type != "cpu" or tensor.shape != meta.shape or tensor.dtype != meta.dtype:
            return None
        self._tensors[node] = tensor
        if is_splat:
            return f.filled(number, compute_element(meta.dtype), meta.dtype, meta.shape)
        return None


def _checked(node: fx.Node, value: Value | None, meta: Meta | None) -> Value:
    if value is None or meta is None:
        raise Unsupported("one of its results")
    if value.full != meta.shape:
        raise InternalError(f"{node.target} has the shape {meta.shape}, and Kiln's importer says {value.full}")
    if value.element not in (compute_element(meta.dtype), element_of(meta.dtype)):
        raise InternalError(f"{node.target} has the type {meta.dtype}, and Kiln's importer says {value.element}")
    return Value(value.name, value.element, meta.dtype, value.shape, value.full, value.is_static, value.splat)


def check(node: fx.Node) -> str | None:
    """Why a node cannot be compiled with the sizes it was traced with; ``None`` if it can."""
    sizes = Sizes.hinted()
    f = Function("check")
    try:
        values = {}
        for source in node.all_input_nodes:
            if is_size(source):
                continue
            value = source.meta.get("val")
            if isinstance(value, (list, tuple)):
                metas = [_lenient(v, sizes) for v in value]
                values[source] = tuple(m and _given(f, m, False) for m in metas)
            else:
                values[source] = _placeholder(f, value, sizes)
        write(f, node, values, sizes)
    except Unsupported as unsupported:
        return str(unsupported)
    return None


def _placeholder(f: Function, value, sizes: Sizes) -> Value | None:
    meta = _meta(value, sizes)
    return None if meta is None else _given(f, meta, False)


def _given(f: Function, meta: Meta, is_static: bool) -> Value:
    return _empty(meta) if 0 in meta.shape else f.argument(meta.dtype, meta.shape, is_static)


def lower(nodes: list[fx.Node], results: list[fx.Node], static: set[fx.Node], sizes: Sizes, name: str) -> Lowered:
    """The text of the nodes of a graph. All tensors that are given are arguments, in order; those in ``static`` are weights."""
    f = Function(name)
    values: dict = {}
    known = Known(sizes)
    for node in nodes:
        if node.op in ("placeholder", "get_attr"):
            value = node.meta.get("val")
            if isinstance(value, torch.Tensor):
                meta = _meta(value, sizes)
                if 0 in meta.shape and not is_never(value):
                    raise Unsupported("tensors without elements")
                values[node] = _given(f, meta, node in static)
        elif node.op == "call_function" and not is_size(node):
            values[node] = known.equal_elements(f, node, values) or write(f, node, values, sizes)
            known.learn(node, values[node])
    present = [values[node] for node in results if 0 not in values[node].full]
    returned = [f.full(f.cast(value, compute_element(value.dtype))) for value in present]
    if not returned:
        raise Unsupported("results without elements")
    outputs = []
    for node in results:
        value = node.meta["val"]
        outputs.append((sizes.shape(value.shape), sizes.shape(value.stride()), value.dtype))
    return Lowered(f.text(returned), outputs, f.contractions)


def effective_fpmath(asked: str | None, contractions: set[torch.dtype]) -> str:
    """The arithmetic of f32 products: rounding to bf16 is allowed where all factors are bf16 in PyTorch."""
    if asked is not None:
        return asked
    return "bf16" if contractions == {torch.bfloat16} else "f32"


__all__ = ["Lowered", "check", "effective_fpmath", "is_narrow", "is_size", "lower"]

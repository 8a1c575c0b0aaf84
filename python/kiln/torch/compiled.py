"""A compiled part of a graph, and how it is called."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

import torch
from torch import fx

from kiln import Unsupported, set_num_threads
from kiln._kiln import Graph

from .lowering import effective_fpmath, is_narrow, is_never, lower
from .options import Options
from .sizes import Sizes

log = logging.getLogger("kiln")

_threads = 0


def _follow_threads() -> None:
    """Makes Kiln use as many threads as PyTorch does."""
    global _threads
    wanted = torch.get_num_threads()
    if wanted != _threads:
        set_num_threads(wanted)
        _threads = wanted


class Exact:
    """The function for one set of sizes."""

    def __init__(self, part: "Part", sizes: Sizes):
        begun = time.perf_counter()
        lowered = lower(part.nodes, part.results, part.static, sizes, part.name)
        self.contractions = lowered.contractions
        self.fpmath = effective_fpmath(part.options.fpmath, lowered.contractions)
        self.outputs = lowered.outputs
        strides = [list(strides) for shape, strides, _ in lowered.outputs if 0 not in shape]
        self.graph = Graph(
            lowered.text,
            static=part.static_arguments,
            fpmath=self.fpmath,
            output_strides=strides,
            release=part.options.release,
        )
        self.seconds = time.perf_counter() - begun
        self.run = self._closure(part)

    def _closure(self, part: "Part"):
        """What a call does: everything else was decided before."""
        run, empty, threads = self.graph.run, torch.empty_strided, torch.get_num_threads
        made = [(shape, strides, torch.float32 if is_narrow(d) else d) for shape, strides, d in self.outputs]
        narrowed = [(at, dtype) for at, (_, _, dtype) in enumerate(self.outputs) if is_narrow(dtype)]
        widened = part.widened
        has_empty = any(0 in shape for shape, _, _ in made)

        def call(inputs: list) -> list:
            if threads() != _threads:
                _follow_threads()
            for at in widened:
                inputs[at] = inputs[at].float()
            outputs = [empty(shape, strides, dtype=dtype) for shape, strides, dtype in made]
            run(inputs, [x for x in outputs if x.numel()] if has_empty else outputs)
            for at, dtype in narrowed:
                outputs[at] = outputs[at].to(dtype)
            return outputs

        return call


def _is_argument(value) -> bool:
    return isinstance(value, torch.Tensor) and not is_never(value)


class Part:
    """A part of a graph that is compiled, for any sizes that its arguments come with."""

    def __init__(
        self,
        nodes: list[fx.Node],
        results: list[fx.Node],
        static: set[fx.Node],
        fallback,
        options: Options,
        name: str,
    ):
        self.nodes, self.results, self.static, self.options, self.name = nodes, results, static, options, name
        self.fallback = fallback
        self.given = [node for node in nodes if node.op in ("placeholder", "get_attr")]
        self.tensors = [at for at, node in enumerate(self.given) if _is_argument(node.meta.get("val"))]
        arguments = [self.given[at] for at in self.tensors]
        self.static_arguments = [at for at, node in enumerate(arguments) if node in static]
        self.widened = [
            at for at, node in enumerate(arguments) if node not in static and is_narrow(node.meta["val"].dtype)
        ]
        self._bindings = self._symbols()
        self.is_dynamic = bool(self._bindings)
        self._shapes: OrderedDict[tuple, Exact | None] = OrderedDict()
        self._lock = threading.Lock()
        self.eager_shapes: dict[tuple, str] = {}
        if not self.is_dynamic:
            exact = self._make(())
            if exact is None:
                self.call = lambda given: list(self.fallback(*given))
            else:
                all_tensors = len(self.tensors) == len(self.given)
                self.call = exact.run if all_tensors else self._without_sizes(exact)
        else:
            self.call = self._dynamic

    def _symbols(self) -> list[tuple[int, int | None, torch.SymInt]]:
        """For each size that may differ, the argument and the axis that tell it."""
        found, seen = [], set()
        for at, node in enumerate(self.given):
            value = node.meta.get("val")
            if isinstance(value, torch.SymInt) and value.node.expr not in seen:
                seen.add(value.node.expr)
                found.append((at, None, value))
        for at, node in enumerate(self.given):
            value = node.meta.get("val")
            for axis, size in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
                if isinstance(size, torch.SymInt) and size.node.expr not in seen:
                    if size.node.expr.is_number:
                        continue
                    seen.add(size.node.expr)
                    found.append((at, axis, size))
        return found

    def _without_sizes(self, exact: Exact):
        run, tensors = exact.run, self.tensors
        return lambda given: run([given[at] for at in tensors])

    def _dynamic(self, given: list) -> list:
        key = tuple(given[at] if axis is None else given[at].shape[axis] for at, axis, _ in self._bindings)
        with self._lock:
            exact = self._shapes.get(key, self)
            if exact is not self:
                self._shapes.move_to_end(key)
        if exact is self:
            exact = self._make(key)
        if exact is None:
            return list(self.fallback(*given))
        return exact.run([given[at] for at in self.tensors])

    def _make(self, key: tuple) -> Exact | None:
        sizes = Sizes()
        for (_, _, size), value in zip(self._bindings, key):
            sizes.bind(size, int(value))
        try:
            exact = Exact(self, sizes)
        except Unsupported as unsupported:
            exact = None
            self.eager_shapes[key] = str(unsupported)
            if self.options.strict:
                raise
            log.warning("%s stays eager for the sizes %s: %s", self.name, list(key), unsupported)
        with self._lock:
            self._shapes[key] = exact
            while len(self._shapes) > self.options.max_shapes:
                self._shapes.popitem(last=False)
        return exact

    def exacts(self) -> list[tuple[tuple, Exact]]:
        """The functions that there are, with their sizes."""
        with self._lock:
            return [(key, exact) for key, exact in self._shapes.items() if exact is not None]

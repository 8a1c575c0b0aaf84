"""What a row of the table has at hand when it writes the lines of one node."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kiln import Unsupported

from .dtypes import compute_element
from .function import Function, Value


@dataclass(frozen=True)
class Meta:
    """A tensor as PyTorch says it is."""

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass
class Context:
    """One node: the function it is written to, and its results as PyTorch says they are."""

    f: Function
    results: list[Meta | None]
    used: frozenset[int]
    """Which results of a node with several others read."""

    @property
    def dtype(self) -> torch.dtype:
        return self.results[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.results[0].shape

    def only(self, *results: int) -> None:
        """Refuses a node of which other results are read."""
        others = self.used - set(results)
        if others:
            raise Unsupported(f"its results {sorted(others)}")

    def operand(self, value, dtype: torch.dtype) -> Value:
        """A tensor or a number as an operand of an operation that computes with ``dtype``."""
        element = compute_element(dtype)
        if isinstance(value, Value):
            return self.f.cast(self.f.wide(value), element)
        if isinstance(value, (bool, int, float)):
            return self.f.constant(value, element, dtype)
        raise Unsupported(f"an operand of type {type(value).__name__}")

    def common(self, *values) -> torch.dtype:
        """The dtype that PyTorch promotes these to."""

        def typed(value):
            if isinstance(value, Value):
                return torch.empty((1,) * min(len(value.full), 1), dtype=value.dtype, device="meta")
            return value

        with torch._subclasses.fake_tensor.unset_fake_temporarily():
            result = typed(values[0])
            for value in values[1:]:
                dtype = torch.result_type(result, typed(value))
                both = [v for v in (result, typed(value)) if isinstance(v, torch.Tensor)]
                rank = max((v.dim() for v in both), default=0)
                result = torch.empty((1,) * rank, dtype=dtype, device="meta")
            return result.dtype if isinstance(result, torch.Tensor) else torch.result_type(result, result)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the first."""
    return axis + max(rank, 1) if axis < 0 else axis


def axes_of(axes, rank: int) -> list[int]:
    """Axes counted from the first; all if there are none."""
    if axes is None or (isinstance(axes, (list, tuple)) and not axes):
        return list(range(rank))
    if isinstance(axes, int):
        axes = [axes]
    return [axis_of(axis, rank) for axis in axes] if rank else []

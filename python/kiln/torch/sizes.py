"""Sizes that are symbols: what they are in one call."""

from __future__ import annotations

import sympy
import torch

from kiln import Unsupported


class Sizes:
    """The values of symbolic sizes, by the expressions that a call's arguments give values for."""

    def __init__(self, known: dict | None = None):
        self._known = dict(known or {})

    @classmethod
    def hinted(cls) -> "HintedSizes":
        """The sizes that the graph was traced with."""
        return HintedSizes()

    def integer(self, value) -> int:
        """The value of a size, or of an expression of such."""
        if isinstance(value, torch.SymInt):
            return self._expression(value.node.expr)
        return int(value)

    def shape(self, shape) -> tuple[int, ...]:
        return tuple(size if type(size) is int else self.integer(size) for size in shape)

    def bind(self, size, value: int) -> None:
        """Says what a symbolic size is."""
        if isinstance(size, torch.SymInt):
            self._known[size.node.expr] = value

    def _expression(self, expression) -> int:
        value = self._known.get(expression)
        if value is None:
            result = expression.xreplace({e: sympy.Integer(v) for e, v in self._known.items()})
            result = result.doit() if not result.is_number else result
            if not result.is_number:
                raise Unsupported(f"the size {expression}, which the arguments do not decide")
            value = self._known[expression] = int(result)
        return value


class HintedSizes(Sizes):
    """The sizes that the graph was traced with."""

    def integer(self, value) -> int:
        if isinstance(value, torch.SymInt):
            hint = value.node.hint
            if hint is None:
                raise Unsupported(f"the size {value}, which depends on data")
            return int(hint)
        return int(value)

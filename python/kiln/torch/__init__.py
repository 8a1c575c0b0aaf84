"""Kiln as a backend of ``torch.compile``, and for programs of ``torch.export``.

>>> model = torch.compile(model, backend="kiln")  # doctest: +SKIP
"""

from .backend import backend
from .errors import UnsupportedGraph
from .exported import compile
from .refresh import refresh
from .report import report

__all__ = ["UnsupportedGraph", "backend", "compile", "refresh", "report"]

"""Kiln: kernels that are compiled for exactly the shapes they run on, for networks on CPUs.

With torch nothing need be imported: ``torch.compile(model, backend="kiln")``. Without it, a ``Network`` is read from an ONNX file, and
``compile_problem`` makes one kernel, called with the arrays of any library. Neither torch nor NumPy is required to import this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kiln._kiln import (
    InternalError,
    Kernel,
    Network,
    Profile,
    Runtime,
    Unsupported,
    Weights,
    __version__,
    compile_problem,
    counters,
    get_num_threads,
    set_num_threads,
)
from kiln.predictor import Predictor

if TYPE_CHECKING:
    from kiln.torch import compile, refresh, report

__all__ = [
    "InternalError",
    "Kernel",
    "Network",
    "Predictor",
    "Profile",
    "Runtime",
    "Unsupported",
    "Weights",
    "__version__",
    "compile",
    "compile_problem",
    "counters",
    "get_num_threads",
    "refresh",
    "report",
    "set_num_threads",
]

# What needs torch is imported when it is asked for.
_WITH_TORCH = frozenset({"compile", "refresh", "report"})


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        import importlib

        return getattr(importlib.import_module("kiln.torch"), name)
    raise AttributeError(f"module 'kiln' has no attribute {name!r}")

"""Kiln: kernels that are compiled for exactly the shapes they run on, for networks on CPUs.

With torch nothing need be imported: ``torch.compile(model, backend="kiln")``. Neither torch nor numpy is required to import this.
"""

from __future__ import annotations

from kiln import _kiln
from kiln._kiln import InternalError, Unsupported, __version__

__all__ = ["InternalError", "Unsupported", "__version__"]


def __getattr__(name: str):
    # What needs torch is imported when it is asked for.
    if name in _WITH_TORCH:
        import importlib

        return getattr(importlib.import_module("kiln.torch"), name)
    raise AttributeError(f"module 'kiln' has no attribute {name!r}")


_WITH_TORCH = ("compile", "report", "refresh")

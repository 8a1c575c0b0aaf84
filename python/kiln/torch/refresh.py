"""Weights that were written to where PyTorch does not notice."""

from __future__ import annotations

import torch


def refresh(module: torch.nn.Module) -> int:
    """Makes the next call look at all weights of a module again; the number of them is returned.

    A weight that is changed through ``.data`` or through NumPy has the same object, address and version as before, so that nobody can
    notice. After such a change, call this.
    """
    weights = [*module.parameters(), *module.buffers()]
    for weight in weights:
        if weight.is_inference():
            raise ValueError(
                "refresh: an inference tensor has no version. Make the module outside of torch.inference_mode(), or replace the weight"
            )
        torch.autograd.graph.increment_version(weight)
    return len(weights)

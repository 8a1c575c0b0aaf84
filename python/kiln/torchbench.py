"""Runs TorchBench's own ``run.py`` with a backend of ``torch.compile``.

Inside a checkout of pytorch/benchmark, ``python -m kiln.torchbench resnet50 -d cpu -t eval --use_cosine_similarity`` runs ``run.py`` with
these arguments and ``--backend kiln``. ``--with NAME`` as the first argument takes another backend that ``torch.compile`` knows.

Commit aa2a1903 of TorchBench is the last whose ``--backend`` and ``--use_cosine_similarity`` go together. At later ones ``--accuracy`` never
runs the backend.
"""

from __future__ import annotations

import os
import runpy
import sys


def _with_backend(name: str):
    """Makes a backend of ``torch.compile`` one of TorchBench's."""
    import torch
    from torchbenchmark.util.backends import create_backend

    if name == "kiln":
        from kiln.torch import backend as compiler
    else:
        compiler = name

    def backend(model, backend_args):
        def enable():
            module, _ = model.get_module()
            model.set_module(torch.compile(module, backend=compiler))

        return enable, backend_args

    backend.__name__ = name
    create_backend(backend)


def main(arguments: list[str] | None = None) -> None:
    """Runs ``run.py`` of the current folder."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = "kiln"
    if arguments[:1] == ["--with"] and len(arguments) > 1:
        name, arguments = arguments[1], arguments[2:]
    if not os.path.exists("run.py") or not os.path.isdir("torchbenchmark"):
        raise SystemExit("kiln.torchbench: run this in a checkout of pytorch/benchmark: there is no run.py here")
    sys.path.insert(0, os.getcwd())
    _with_backend(name)
    sys.argv = ["run.py", *arguments, "--backend", name]
    runpy.run_path("run.py", run_name="__main__")


if __name__ == "__main__":
    main()

"""Every snippet of docs/pytorch.md runs, one after another, and prints what the comments behind it say."""

import contextlib
import io
import re
from pathlib import Path

import torch

import kiln.torch

PAGE = Path(__file__).resolve().parents[3] / "docs/pytorch.md"


def test_snippets_run(monkeypatch):
    if "kiln" not in torch.compiler.list_backends():
        # On the path and not installed: the entry point is what the wheel adds.
        torch._dynamo.register_backend(kiln.torch.backend, "kiln")
    text = PAGE.read_text()
    snippets = list(re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S))
    assert len(snippets) == text.count("```python") >= 9
    names, before, expected = {}, torch.get_num_threads(), []
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            for found in snippets:
                line = text[: found.start()].count("\n") + 2
                exec(compile("\n" * (line - 1) + found[1], str(PAGE), "exec"), names)
                expected += re.findall(r"^# (.*)$", found[1], re.M)
    finally:
        torch.set_num_threads(before)
    lines = printed.getvalue().splitlines()
    assert len(expected) == 2
    for line in expected:
        assert line in lines, f"{line} is not in\n{printed.getvalue()}"

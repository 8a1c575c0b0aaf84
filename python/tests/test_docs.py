"""Every snippet of docs/python.md runs, one after another."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def snippets(path):
    """The snippets of a page, with the lines that they begin in."""
    text = path.read_text()
    return [(text[: found.start()].count("\n") + 2, found[1]) for found in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)]


def test_snippets_run(capsys):
    path = ROOT / "docs/python.md"
    all_snippets = snippets(path)
    assert len(all_snippets) == text_fences(path) >= 7
    names = {}
    for line, code in all_snippets:
        # Lines of errors are those of the page.
        exec(compile("\n" * (line - 1) + code, str(path), "exec"), names)
    printed = capsys.readouterr().out
    assert "(1, 16, 64)" in printed and "(4, 64)" in printed and "last_hidden_state" not in names
    with pytest.raises(ValueError):
        names["kiln"].compile_problem("matmul f32 2x3:4x5")


def text_fences(path):
    return path.read_text().count("```python")

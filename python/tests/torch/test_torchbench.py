"""``python -m kiln.torchbench`` in a folder that is laid out as TorchBench is."""

import subprocess
import sys

BACKENDS = """
BACKENDS = {}
def create_backend(fn):
    BACKENDS[fn.__name__] = fn
    return fn
"""

RUN = """
import argparse, torch
from torchbenchmark.util.backends import BACKENDS
parser = argparse.ArgumentParser()
parser.add_argument("name")
parser.add_argument("--backend")
arguments = parser.parse_args()
class Model:
    def __init__(self):
        self.module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()).eval()
    def get_module(self):
        return self.module, None
    def set_module(self, module):
        self.module = module
model, x = Model(), torch.ones(2, 8)
expected = model.module(x)
enable, rest = BACKENDS[arguments.backend](model, [])
enable()
with torch.no_grad():
    assert torch.allclose(model.module(x), expected)
import kiln
print(arguments.name, arguments.backend, "calls", kiln.counters()["calls"])
"""


def run(folder, *arguments):
    command = [sys.executable, "-m", "kiln.torchbench", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_it_runs_run_py(tmp_path):
    (tmp_path / "torchbenchmark/util").mkdir(parents=True)
    for name in ("torchbenchmark/__init__.py", "torchbenchmark/util/__init__.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "torchbenchmark/util/backends.py").write_text(BACKENDS)
    (tmp_path / "run.py").write_text(RUN)
    made = run(tmp_path, "resnet50")
    assert made.returncode == 0, made.stderr
    assert made.stdout.split() == ["resnet50", "kiln", "calls", "1"]
    made = run(tmp_path, "--with", "eager", "resnet50")
    assert made.stdout.split() == ["resnet50", "eager", "calls", "0"], made.stderr


def test_it_says_where_to_run(tmp_path):
    made = run(tmp_path, "resnet50")
    assert made.returncode != 0 and "checkout of pytorch/benchmark" in made.stderr

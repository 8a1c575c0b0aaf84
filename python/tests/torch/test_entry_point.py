"""An installed wheel makes the backend known by its name: nobody imports kiln."""

import subprocess
import sys

PROGRAM = """
import sys
import torch

assert "kiln" in torch.compiler.list_backends()
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()).eval()
assert "kiln" not in sys.modules
compiled, x = torch.compile(model, backend="kiln"), torch.randn(3, 8)
with torch.no_grad():
    torch.testing.assert_close(compiled(x), model(x))
print(sys.modules["kiln"].counters()["calls"])
"""


def test_no_import_of_kiln(tmp_path):
    made = subprocess.run([sys.executable, "-P", "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "1\n"

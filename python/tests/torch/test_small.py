"""Small networks on whatever processor this is, by the name of the backend alone: whole, in f32 and with products in bf16.

These are the tests that also run under emulation, where PyTorch takes its time: they compile little, and little else of PyTorch is used.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import kiln

# How far results may be from those of PyTorch, relative to the greatest of them. Of a factor that is rounded to bf16, eight bits are left.
BOUNDS = {"f32": 1e-4, "bf16": 2.0**-6}


def mlp():
    """Products with other rows, columns and sums than vectors have elements, with what follows them."""
    layers = [nn.Linear(70, 129), nn.GELU(), nn.LayerNorm(129), nn.Linear(129, 35), nn.Softmax(-1)]
    return nn.Sequential(*layers), torch.randn(13, 70)


def convolutions():
    """A stem, a strided one, one in groups, and a residual connection."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
            self.down, self.depthwise = nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.Conv2d(24, 24, 3, padding=1, groups=24)
            self.last = nn.Linear(24, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
            x = F.silu(self.down(x))
            return self.last((x + self.depthwise(x)).mean((2, 3)))

    return Net(), torch.randn(2, 3, 20, 20)


def attention():
    """A layer of a transformer, with a causal mask."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.qkv, self.out = nn.LayerNorm(48), nn.Linear(48, 144), nn.Linear(48, 48)

        def forward(self, x):
            q, k, v = self.qkv(self.norm(x)).view(2, 11, 3, 4, 12).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return x + self.out(y.transpose(1, 2).reshape(2, 11, 48))

    return Net(), torch.randn(2, 11, 48)


def products(made) -> list[str]:
    """The problems of the kernels that multiply."""
    steps = [step for graph in made.graphs for part in graph["partitions"] for step in part["steps"]]
    problems = [step["problem"] for step in steps if step["kind"] == "kernel"]
    return [problem for problem in problems if problem.split()[0] in ("ip", "matmul", "conv")]


@pytest.mark.parametrize("fpmath", BOUNDS)
@pytest.mark.parametrize("make", [mlp, convolutions, attention], ids=lambda make: make.__name__)
def test_a_small_network(make, fpmath):
    model, x = make()
    model.eval()
    fn = torch.compile(model, backend="kiln", options={"fpmath": fpmath, "strict": True})
    with torch.no_grad():
        expected, found = model(x), fn(x)
        again = fn(x)
    assert found.dtype == expected.dtype and found.stride() == expected.stride()
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error < BOUNDS[fpmath], error
    assert torch.equal(found, again)
    made = kiln.report(fn)
    assert made.partitions == 1 and made.kernels > 0 and made.eager == [], str(made)
    problems = products(made)
    assert problems and all(("fpmath=bf16" in problem) == (fpmath == "bf16") for problem in problems), problems
    if fpmath == "bf16":
        assert error > 0.0, "factors were not rounded"


def test_changed_weights():
    model, x = mlp()
    fn = torch.compile(model.eval(), backend="kiln", options={"strict": True})
    with torch.no_grad():
        before = fn(x)
        model[3].weight.mul_(2)
        found, expected = fn(x), model(x)
    assert not torch.equal(before, found)
    assert float((found - expected).abs().max() / expected.abs().max()) < BOUNDS["f32"]


def test_another_batch():
    model, x = mlp()
    fn = torch.compile(model.eval(), backend="kiln", options={"strict": True})
    with torch.no_grad():
        for rows in (13, 6, 9):
            assert float((fn(x[:rows]) - model(x[:rows])).abs().max()) < BOUNDS["f32"]

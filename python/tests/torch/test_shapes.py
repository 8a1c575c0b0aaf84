"""Dynamic shapes: exact functions for each, over shared weights."""

import gc

import pytest
import torch
from torch import nn

import kiln
from kiln.torch import backend, report


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 64)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(64, 4, 256, batch_first=True) for _ in range(2))
        self.out = nn.Linear(64, 8)

    def forward(self, ids):
        x = self.embed(ids) + torch.arange(ids.shape[1])[None, :, None] / 100
        for layer in self.layers:
            x = layer(x)
        return self.out(x[:, 0]), x.reshape(-1, 64)


def test_thirty_lengths_and_three_batches():
    model = Encoder().eval()
    calls = []

    def counting(gm, inputs, **kwargs):
        calls.append(gm)
        return backend(gm, inputs, **kwargs)

    compiled = torch.compile(model, backend=counting, options={"strict": True, "max_shapes": 16})
    gc.collect()
    before = kiln.counters()
    sizes = []
    with torch.no_grad(), torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for batch in (2, 3, 5):
            for length in range(3, 33):
                ids = torch.randint(0, 50, (batch, length))
                for found, expected in zip(compiled(ids), model(ids)):
                    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
                    assert found.stride() == expected.stride()
                sizes.append(kiln.counters()["packed_bytes"])
    assert len(calls) <= 4, f"{len(calls)} graphs for 90 shapes"
    weights = sum(p.numel() * 4 for p in model.parameters())
    assert max(sizes) - before["packed_bytes"] <= 3 * weights, "packed weights are shared by shapes"
    parts = [part for graph in report(compiled).graphs for part in graph["partitions"]]
    assert max(part["shapes"] for part in parts) <= 16


def test_lengths_of_one_specialise():
    model = Encoder().eval()
    compiled = torch.compile(model, backend=backend, options={"strict": True})
    with torch.no_grad():
        for shape in ((2, 5), (2, 1), (1, 5), (1, 1), (2, 7)):
            ids = torch.randint(0, 50, shape)
            torch.testing.assert_close(compiled(ids)[1], model(ids)[1], rtol=1e-4, atol=1e-4)


def test_dynamic_from_the_beginning():
    compiled = torch.compile(lambda x: (x.relu() @ x.t(), x.shape[0] * 2), backend=backend, dynamic=True, options={"strict": True})
    with torch.no_grad():
        for rows in (3, 4, 9):
            x = torch.randn(rows, 6)
            found, double = compiled(x)
            torch.testing.assert_close(found, x.relu() @ x.t())
            assert double == 2 * rows


def test_two_dimensions_and_an_eager_operator_between():
    def fn(x):
        y = (x @ x.transpose(-1, -2)).relu() + 1
        y = torch.special.bessel_j0(y)
        return (y @ y).reshape(-1)

    compiled = torch.compile(fn, backend=backend, dynamic=True)
    with torch.no_grad():
        for batch, rows in ((2, 3), (3, 5), (2, 6)):
            x = torch.randn(batch, rows, 4)
            torch.testing.assert_close(compiled(x), fn(x), rtol=1e-4, atol=1e-4)
    assert report(compiled).partitions == 2


def test_a_size_that_gives_no_elements():
    compiled = torch.compile(lambda x: (x[3:] * 2 + 1).relu(), backend=backend, dynamic=True, options={"min_nodes": 1})
    with torch.no_grad():
        for rows in (5, 3, 7):
            x = torch.randn(rows, 4)
            assert torch.equal(compiled(x), (x[3:] * 2 + 1).relu())


def test_a_size_that_is_not_compiled_raises_if_strict():
    @torch.compile(backend=backend, dynamic=True, options={"strict": True, "min_nodes": 1})
    def fn(x):
        return nn.functional.adaptive_avg_pool2d(x, (2, 2)).relu()

    with torch.no_grad():
        assert fn(torch.ones(1, 2, 4, 4)).shape == (1, 2, 2, 2)
        with pytest.raises(kiln.Unsupported, match="several sizes"):
            fn(torch.ones(1, 2, 5, 5))

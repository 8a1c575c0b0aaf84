"""Programs of torch.export."""

import pytest
import torch
from torch import nn

import kiln


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x, *, scale=None):
        x = nn.functional.gelu(self.norm(self.conv(x))).mean((2, 3))
        x = self.fc(x)
        return {"logits": x if scale is None else x * scale}


def test_an_exported_program():
    model, x = Net().eval(), torch.randn(2, 3, 9, 9)
    fn = kiln.compile(torch.export.export(model, (x,), {"scale": torch.tensor(2.0)}), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(fn(x, scale=torch.tensor(2.0)), model(x, scale=torch.tensor(2.0)), rtol=1e-5, atol=1e-5)
        model.fc.weight.mul_(2)
        torch.testing.assert_close(fn(x, scale=torch.tensor(3.0)), model(x, scale=torch.tensor(3.0)), rtol=1e-5, atol=1e-5)
    made = kiln.report(fn)
    assert made.partitions == 1 and made.kernels >= 2


def test_dynamic_dimensions():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    fn = kiln.compile(torch.export.export(model, (torch.randn(3, 16),), dynamic_shapes=({0: batch},)), strict=True)
    with torch.no_grad():
        for rows in (2, 7, 64):
            x = torch.randn(rows, 16)
            torch.testing.assert_close(fn(x), model(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="axis 0 is 65"):
        fn(torch.randn(65, 16))
    with pytest.raises(ValueError, match="axis 1 is 17"):
        fn(torch.randn(3, 17))
    with pytest.raises(TypeError, match="expected torch.float32"):
        fn(torch.randn(3, 16, dtype=torch.float64))


def test_attention_stays_whole():
    class Attention(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    q = torch.randn(2, 4, 8, 16)
    fn = kiln.compile(torch.export.export(Attention(), (q, q, q)), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(fn(q, q, q), Attention()(q, q, q), rtol=1e-5, atol=1e-5)


def test_a_buffer_that_is_mutated():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(3))

        def forward(self, x):
            self.count.add_(1)
            return x * self.count + 1

    model, other = Counting(), Counting()
    fn = kiln.compile(torch.export.export(model, (torch.ones(3),)), strict=True)
    for _ in range(3):
        assert torch.equal(fn(torch.ones(3)), other(torch.ones(3)))


def test_a_module_is_refused():
    with pytest.raises(TypeError, match="torch.compile"):
        kiln.compile(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no option 'fast'"):
        kiln.compile(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), fast=True)

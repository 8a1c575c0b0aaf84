"""Weights are never part of compiled code: what is changed is noticed, and only that is packed again."""

import copy

import pytest
import torch
from torch import nn

import kiln
from kiln.torch import backend, refresh


class Net(nn.Module):
    """Four layers, whose weights are packed."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(4))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


X = torch.randn(128, 256, generator=torch.Generator().manual_seed(1))


def packed() -> int:
    return kiln.counters()["packed_weights"]


def compiled(model):
    return torch.compile(model, backend=backend, options={"strict": True})


def agrees(fn, model, x=X, tolerance=1e-5):
    with torch.no_grad():
        torch.testing.assert_close(fn(x), model(x), rtol=tolerance, atol=tolerance)


def changed_by(change) -> tuple[int, int]:
    """Weights that were packed before a change and for it, of a net that agrees with eager before and afterwards."""
    model = Net().eval()
    fn = compiled(model)
    before = packed()
    agrees(fn, model)
    first = packed() - before
    agrees(fn, model)
    assert packed() - before == first, "nothing is packed twice"
    with torch.no_grad():
        change(model)
    agrees(fn, model)
    return first, packed() - before - first


def test_a_second_instance_of_a_class():
    a, b = Net().eval(), Net().eval()
    fa, fb = compiled(a), compiled(b)
    agrees(fa, a)
    agrees(fb, b)
    agrees(fa, a)


def test_sequentials_of_one_shape():
    nets = [nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 32)).eval() for _ in range(3)]
    for net in nets + nets:
        agrees(compiled(net), net)


def test_six_layers_compiled_one_by_one():
    layers = [nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval() for _ in range(6)]
    calls = []

    def counting(gm, inputs, **kwargs):
        calls.append(gm)
        return backend(gm, inputs, **kwargs)

    x = torch.randn(2, 16, 64)
    fns = [torch.compile(layer, backend=counting, options={"strict": True}) for layer in layers]
    with torch.no_grad():
        found = expected = x
        for fn, layer in zip(fns, layers):
            found, expected = fn(found), layer(expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(calls) == 1, "the layers share one artifact"


def test_in_place():
    first, again = changed_by(lambda model: model.layers[1].weight.mul_(2))
    assert (first, again) == (4, 1)


def test_a_bias_packs_nothing():
    assert changed_by(lambda model: model.layers[1].bias.add_(1))[1] == 0


def test_two_of_four():
    def change(model):
        model.layers[0].weight.add_(1)
        model.layers[3].weight.add_(1)

    assert changed_by(change)[1] == 2


def test_an_optimizer_step():
    model = Net().eval()
    fn = compiled(model)
    agrees(fn, model)
    optimizer = torch.optim.SGD(model.layers[2].parameters(), lr=0.5)
    model(X).sum().backward()
    before = packed()
    optimizer.step()
    agrees(fn, model)
    assert packed() - before == 1


def test_load_state_dict():
    assert changed_by(lambda model: model.load_state_dict(Net().state_dict()))[1] == 4


def test_load_state_dict_with_assign():
    other = Net()
    assert changed_by(lambda model: model.load_state_dict(other.state_dict(), assign=True))[1] == 4


def test_data_replaced():
    def change(model):
        model.layers[1].weight.data = torch.randn(256, 256)

    assert changed_by(change)[1] == 1


def test_a_parameter_replaced():
    kept = []

    def change(model):
        # What was compiled for weights goes when one of them dies; as long as this one lives, the others stay packed.
        kept.append(model.layers[1].weight)
        model.layers[1].weight = nn.Parameter(torch.randn(256, 256))

    assert changed_by(change)[1] == 1


def test_a_parameter_replaced_that_dies():
    def change(model):
        model.layers[1].weight = nn.Parameter(torch.randn(256, 256))

    first, again = changed_by(change)
    assert 1 <= again <= first


def test_data_written_to_needs_a_refresh():
    model = Net().eval()
    fn = compiled(model)
    agrees(fn, model)
    model.layers[1].weight.data.mul_(2)
    assert refresh(model) == 8
    agrees(fn, model)


def test_to_bfloat16():
    model = Net().eval()
    fn = compiled(model)
    agrees(fn, model)
    model.to(torch.bfloat16)
    x = X.to(torch.bfloat16)
    with torch.no_grad():
        found, expected = fn(x), model(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_autocast():
    model = Net().eval()
    fn = compiled(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = fn(X), model(X)
        before = packed()
        fn(X)
        assert packed() == before, "casts of weights are made once"
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_batch_norm_statistics():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    fn = compiled(model)
    x = torch.randn(2, 3, 9, 9)
    agrees(fn, model, x)
    with torch.no_grad():
        model[1].running_mean.add_(1)
        model[1].weight.mul_(3)
    agrees(fn, model, x)


def test_tied_and_copied_weights():
    model = Net().eval()
    model.layers[3].weight = model.layers[0].weight
    fn = compiled(model)
    agrees(fn, model)
    twin = copy.deepcopy(model)
    agrees(compiled(twin), twin)
    with torch.no_grad():
        model.layers[0].weight.mul_(2)
    agrees(fn, model)


def test_inference_tensors():
    with torch.inference_mode():
        model = Net().eval()
        fn = compiled(model)
        torch.testing.assert_close(fn(X), model(X), rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match="inference tensor"):
            refresh(model)


def test_originals_that_are_given_back():
    model = Net().eval()
    with torch.no_grad():
        expected = model(X)
        fn = torch.compile(model, backend=backend, options={"release": True})
        for _ in range(3):
            torch.testing.assert_close(fn(X), expected, rtol=1e-5, atol=1e-5)
        assert model.layers[0].weight.untyped_storage().nbytes() == 0
        with pytest.raises(ValueError, match="given back"):
            fn(X[:64])

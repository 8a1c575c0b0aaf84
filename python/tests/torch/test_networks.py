"""Networks as they are, with few layers: one partition each, nothing eager, equal to PyTorch."""

import networks
import pytest

PARTITIONS = dict.fromkeys(networks.NETWORKS, 1)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_network(name):
    result = networks.compare(name, small=True, options={"strict": True})
    made = result["report"]
    assert result["error"] < 1e-4
    assert made.partitions == PARTITIONS[name] and made.kernels > 0 and not made.eager
    assert all(step["kind"] != "interpreter" or step["bytes"] < 1 << 16 for g in made.graphs for p in g["partitions"] for step in p["steps"])


@pytest.mark.parametrize("name", ["resnet50", "bert"])
def test_network_in_bf16_autocast(name):
    import torch

    model, args, kwargs = networks.NETWORKS[name](True)
    from kiln.torch import backend

    compiled = torch.compile(model, backend=backend, options={"strict": True})
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = networks.tensors_of(model(*args, **kwargs))
        found = networks.tensors_of(compiled(*args, **kwargs))
    for a, b in zip(found, expected):
        assert a.dtype == b.dtype and a.stride() == b.stride()
        assert torch.nn.functional.cosine_similarity(a.float().flatten(), b.float().flatten(), dim=0) > 0.999

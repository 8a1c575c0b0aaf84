"""What the tests of the backend share."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from kiln.torch.backend import compile_graph  # noqa: E402
from kiln.torch.options import Options  # noqa: E402


@pytest.fixture(autouse=True)
def fresh():
    """No test sees what TorchDynamo compiled for another."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


def graph_of(op, args, kwargs):
    """A graph of one operator, with the tensors among its arguments as inputs."""
    from torch._subclasses import FakeTensorMode

    graph, tensors, mode, nodes = torch.fx.Graph(), [], FakeTensorMode(), {}

    def given(x):
        if not isinstance(x, torch.Tensor):
            return x
        if id(x) in nodes:
            return nodes[id(x)]
        node = nodes[id(x)] = graph.placeholder(f"x{len(tensors)}")
        node.meta["val"] = mode.from_tensor(x)
        tensors.append(x)
        return node

    args, kwargs = (torch.utils._pytree.tree_map(given, x) for x in (args, kwargs))
    call = graph.call_function(op, tuple(args), kwargs)

    def fake(x):
        return x.meta["val"] if isinstance(x, torch.fx.Node) else x

    with mode:
        value = op(*torch.utils._pytree.tree_map(fake, tuple(args)), **torch.utils._pytree.tree_map(fake, kwargs))
    call.meta["val"] = tuple(value) if isinstance(value, (list, tuple)) else value
    if not isinstance(value, (list, tuple)):
        graph.output([call])
    return graph, call, tensors


def run_op(op, args, kwargs, read=None, options=None):
    """The results of one operator by Kiln, and the ones that PyTorch has; ``read`` says which of several are read."""
    graph, call, tensors = graph_of(op, args, kwargs)
    value = call.meta["val"]
    expected = op(*args, **kwargs)
    if isinstance(value, tuple):
        read = range(len(value)) if read is None else read
        items = []
        for at in read:
            item = graph.call_function(__import__("operator").getitem, (call, at))
            item.meta["val"] = value[at]
            items.append(item)
        graph.output(items)
        expected = [expected[at] for at in read]
    else:
        expected = [expected]
    gm = torch.fx.GraphModule(torch.nn.Module(), graph)
    function = compile_graph(gm, set(), options or Options(min_nodes=1, strict=True))
    with torch.no_grad():
        found = function(list(tensors))
    return found, expected


def same(found, expected, tolerance=0.0):
    """Equal in type, shape, strides and elements, these up to a relative error."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.dtype == b.dtype and a.shape == b.shape, (a.dtype, a.shape, b.dtype, b.shape)
        significant = [at for at, size in enumerate(b.shape) if size != 1]
        if b.numel():
            assert [a.stride(at) for at in significant] == [b.stride(at) for at in significant], (a.stride(), b.stride())
        if tolerance == 0.0:
            assert torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0)), (a, b)
        else:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)

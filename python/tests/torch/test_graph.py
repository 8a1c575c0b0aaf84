"""Graphs whose weights are looked up in each call: the part that is written in Rust."""

import gc
import os
import threading

import pytest
import torch

from kiln import _kiln

LINEAR = """func @f(%x: f32[32x96], %w: f32[128x96], %b: f32[128]) -> f32[32x128] {
  %0 = transpose %w {perm=[1,0]}
  %1 = matmul %x, %0
  %2 = add %1, %b
  %3 = relu %2
  return %3
}"""


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def integers(*shape):
    """Small integers, of which sums of products are exact."""
    return torch.randint(-4, 5, shape).float()


def linear():
    module = torch.nn.Linear(96, 128)
    module.weight.copy_(integers(128, 96))
    module.bias.copy_(integers(128))
    return module


def graph(**options):
    return _kiln.Graph(LINEAR, static=[1, 2], **options)


def check(g, module, x):
    (y,) = g([x, module.weight, module.bias])
    assert torch.equal(y, torch.relu(x @ module.weight.t() + module.bias))
    return y


def packings(work):
    before = _kiln.counters()["packed_weights"]
    work()
    return _kiln.counters()["packed_weights"] - before


def test_weights_follow_every_change_and_are_packed_once_for_each():
    g, module, x = graph(), linear(), integers(32, 96)
    assert packings(lambda: check(g, module, x)) == 1
    assert packings(lambda: [check(g, module, x) for _ in range(3)]) == 0
    module.weight.mul_(2)
    assert packings(lambda: check(g, module, x)) == 1
    # A bias is not packed.
    module.bias.add_(1)
    assert packings(lambda: check(g, module, x)) == 0
    module.weight.data = integers(128, 96)
    assert packings(lambda: check(g, module, x)) == 1
    module.load_state_dict(linear().state_dict())
    assert packings(lambda: check(g, module, x)) == 1
    module.load_state_dict(linear().state_dict(), assign=True)
    assert packings(lambda: check(g, module, x)) == 1
    optimizer = torch.optim.SGD(module.parameters(), lr=1)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert packings(lambda: check(g, module, x)) == 1
    # The second of a class has its own, and the first keeps its.
    second = linear()
    assert packings(lambda: check(g, second, x)) == 1
    assert packings(lambda: [check(g, m, x) for m in [module, second] * 3]) == 0


def test_graphs_of_other_sizes_share_packed_weights():
    module = linear()
    assert packings(lambda: check(graph(), module, integers(32, 96))) == 1
    kept = graph()
    check(kept, module, integers(32, 96))
    other = _kiln.Graph(LINEAR.replace("32x", "48x"), static=[1, 2])
    assert packings(lambda: check(other, module, integers(48, 96))) == 0


def test_memory_goes_with_the_module():
    g, module, x = graph(), linear(), integers(32, 96)
    gc.collect()
    before = _kiln.counters()
    check(g, module, x)
    assert g.instances == 1 and _kiln.counters()["packed_bytes"] > before["packed_bytes"]
    del module
    gc.collect()
    after = _kiln.counters()
    assert g.instances == 0
    assert (after["packed_bytes"], after["sources"]) == (before["packed_bytes"], before["sources"])


def test_originals_are_given_back():
    g, module, x = graph(release=True), linear(), integers(32, 96)
    expected = torch.relu(x @ module.weight.t() + module.bias)
    for _ in range(2):
        assert torch.equal(g([x, module.weight, module.bias])[0], expected)
    # The bias is read as it is.
    assert module.weight.untyped_storage().nbytes() == 0 and module.bias.untyped_storage().nbytes() == 512
    with pytest.raises(ValueError, match="given back"):
        graph()([x, module.weight, module.bias])


def test_tensors_are_read_and_written_where_they_lie():
    module = linear()
    copies = lambda: _kiln.counters()["copies"]  # noqa: E731
    before = copies()
    check(graph(), module, integers(96, 32).t())
    module.weight = torch.nn.Parameter(integers(96, 128).t())
    check(graph(), module, integers(32, 96))
    for strides in [[128, 1], [1, 32]]:
        y = check(graph(output_strides=[strides]), module, integers(32, 96))
        assert list(y.stride()) == strides
    assert copies() == before
    # With gaps they are copied.
    check(graph(), module, integers(32, 192)[:, ::2])
    y = check(graph(output_strides=[[300, 2]]), module, integers(32, 96))
    assert y.stride() == (300, 2) and copies() == before + 2
    out = torch.full((32, 128), float("nan"))
    x = integers(32, 96)
    graph().run((x, module.weight, module.bias), [out])
    assert torch.equal(out, torch.relu(x @ module.weight.t() + module.bias))


def test_inference_tensors_have_no_version():
    with torch.inference_mode():
        module = linear()
    g = graph()
    for _ in range(2):
        check(g, module, integers(32, 96))
    assert g.instances == 1


def test_wrong_calls_are_errors():
    g, module, x = graph(), linear(), integers(32, 96)
    w, b = module.weight, module.bias
    for inputs, error, match in [
        ([x, w], ValueError, "2 inputs: the graph takes 3"),
        (3, TypeError, "expected a list"),
        ([x, w, 3], TypeError, "expected a torch.Tensor"),
        ([x[:5], w, b], ValueError, r"input 0: expected f32\[32x96\], found f32\[5x96\]"),
        ([x.double(), w, b], ValueError, r"found f64"),
        ([x, w.t(), b], ValueError, r"input 1: expected f32\[128x96\]"),
        ([x.to("meta"), w, b], ValueError, "move it to the CPU"),
        ([torch.complex(x, x), w, b], TypeError, "expected floats"),
    ]:
        with pytest.raises(error, match=match):
            g(inputs)
    with pytest.raises(ValueError, match="strides"):
        g.run([x, w, b], [torch.empty(128, 32).t()])
    both = torch.zeros(32 * 128)
    with pytest.raises(ValueError, match="output 0 shares memory"):
        g.run([both[: 32 * 96].view(32, 96), w, b], [both.view(32, 128)])
    for options in [{"static": [3]}, {"static": [1, 1]}, {"fpmath": "fast"}, {"output_strides": []}, {"output_strides": [[1]]}]:
        with pytest.raises(ValueError):
            _kiln.Graph(LINEAR, **options)
    with pytest.raises(ValueError, match="expected"):
        _kiln.Graph("func @f(")
    check(g, module, x)


def test_eight_threads_and_a_fork():
    g, modules = graph(), [linear() for _ in range(4)]
    wrong = []

    def work(module):
        with torch.no_grad():
            for _ in range(20):
                x = integers(32, 96)
                (y,) = g([x, module.weight, module.bias])
                if not torch.equal(y, torch.relu(x @ module.weight.t() + module.bias)):
                    wrong.append(module)

    threads = [threading.Thread(target=work, args=(modules[n % 4],)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == [] and g.instances == 4
    x = integers(32, 96)
    expected = torch.relu(x @ modules[0].weight.t() + modules[0].bias)
    child = os.fork()
    if child == 0:
        (y,) = g([x, modules[0].weight, modules[0].bias])
        os._exit(0 if y.tolist() == expected.tolist() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_that_see_a_module_first_share_what_is_known_of_it():
    """Whichever thread is first, all graphs learn that the weights are gone."""
    graphs = [graph() for _ in range(8)]
    gc.collect()
    before = _kiln.counters()["sources"]
    for _ in range(20):
        module, x, wrong = linear(), integers(32, 96), []
        expected, start = torch.relu(x @ module.weight.t() + module.bias), threading.Barrier(len(graphs))

        def work(g):
            start.wait()
            with torch.no_grad():
                (y,) = g([x, module.weight, module.bias])
            if not torch.equal(y, expected):
                wrong.append(g)

        threads = [threading.Thread(target=work, args=(g,)) for g in graphs]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert wrong == [] and _kiln.counters()["sources"] == before + 2
        del module, threads
        gc.collect()
        assert _kiln.counters()["sources"] == before and [g.instances for g in graphs] == [0] * len(graphs)


def test_steps_and_memory_are_told():
    g, module = graph(), linear()
    assert g.steps() == [] and g.memory() is None
    check(g, module, integers(32, 96))
    assert [step["kind"] for step in g.steps()] == ["kernel"] and "+bias+relu" in g.steps()[0]["problem"]
    assert g.memory()["packed"] >= 128 * 96 * 4

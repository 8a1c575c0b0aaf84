"""What graphs give back, what stays eager, and how that is said."""

import logging
import sys
import threading

import pytest
import torch
from conftest import run_op, same
from torch import nn

import kiln
from kiln.torch import backend, report

F = nn.functional


def kiln_of(fn, strict=True, **options):
    return torch.compile(fn, backend=backend, options={"strict": strict, "min_nodes": 1, **options})


def compare(fn, *args, tolerance=1e-5, **options):
    """Results of a function by Kiln and by PyTorch: equal, in strides too."""
    torch._dynamo.reset()
    compiled = kiln_of(fn, **options)
    with torch.no_grad():
        expected = fn(*(x.clone() if isinstance(x, torch.Tensor) else x for x in args))
        found = compiled(*args)
    flat_found, flat_expected = (torch.utils._pytree.tree_leaves(x) for x in (found, expected))
    assert len(flat_found) == len(flat_expected)
    for a, b in zip(flat_found, flat_expected):
        if isinstance(b, torch.Tensor):
            same([a], [b], tolerance)
        else:
            assert a == b and type(a) is type(b)
    return compiled, found


class Convs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)

    def forward(self, x):
        return self.b(F.relu(self.a(x)))


# Strides and views.


def test_channels_last_in_and_out():
    model = Convs().eval()
    x = torch.randn(2, 3, 9, 9).to(memory_format=torch.channels_last)
    _, found = compare(model, x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    compare(model.to(memory_format=torch.channels_last), torch.randn(2, 3, 9, 9))


def test_transposed_inputs_and_outputs():
    w = torch.randn(7, 5)
    compare(lambda x: (F.relu(x @ w)).t(), torch.randn(7, 3).t())
    compare(lambda x: F.relu(x).permute(2, 0, 1), torch.randn(2, 3, 4).transpose(0, 1))


def test_a_slice_and_a_stretched_input():
    compare(lambda x, y: x * 2 + y, torch.randn(6, 8)[1:5, ::2], torch.randn(1, 4).expand(4, 4))


def test_outputs_that_are_views_of_each_other():
    def fn(x):
        y = F.relu(x)
        return y, y.t(), y[0], y.view(-1)

    _, (y, t, row, flat) = compare(fn, torch.randn(3, 4))
    assert y.untyped_storage().data_ptr() == t.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()


def test_an_output_that_is_an_input():
    def fn(x):
        return x, x + 1, x.view(-1)

    x = torch.randn(3, 4)
    _, (same_x, _, view) = compare(fn, x)
    assert same_x is x and view.data_ptr() == x.data_ptr()


def test_the_same_output_twice():
    def fn(x):
        y = x * 2
        return y, y

    compare(fn, torch.randn(4))


def test_none_and_numbers_as_outputs():
    compare(lambda x: (x * 2, None, 3, "a", x.shape[0]), torch.randn(3, 4))


def test_nothing_to_compute():
    compare(lambda x: x.t(), torch.randn(3, 4))


def test_empty_tensors():
    compare(lambda x, y: (torch.cat([x, y]) * 2, x * 3), torch.randn(0, 4), torch.randn(3, 4), strict=False)


def test_scalars():
    compare(lambda x, y: x * y + 2, torch.tensor(3.0), torch.tensor(4))


def test_batch_of_one():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    for batch in (1, 5, 1):
        compare(model, torch.randn(batch, 16))


# Mutation.


def test_a_mutated_input():
    def fn(x):
        x.mul_(2)
        x.add_(1)
        return x * 3

    x = torch.arange(6.0)
    compiled = kiln_of(fn)
    with torch.no_grad():
        mine, theirs = x.clone(), x.clone()
        assert torch.equal(compiled(mine), fn(theirs))
    assert torch.equal(mine, theirs)


def test_a_mutated_buffer():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(3))

        def forward(self, x):
            self.count += 1
            return x * self.count

    a, b = Counting(), Counting()
    compiled = kiln_of(a)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(compiled(torch.ones(3)), b(torch.ones(3)))
    assert torch.equal(a.count, b.count)


def test_a_cache_that_is_written_to():
    def fn(cache, new, at):
        cache.index_copy_(1, at, new)
        return cache.sum(-1)

    cache, new, at = torch.zeros(2, 8, 4), torch.ones(2, 2, 4), torch.tensor([3, 5])
    other = cache.clone()
    compiled = kiln_of(fn)
    with torch.no_grad():
        assert torch.equal(compiled(cache, new, at), fn(other, new, at))
    assert torch.equal(cache, other)


# What stays eager.


def in_the_middle(x):
    x = F.relu(x @ x.t()) + 1
    x = torch.special.bessel_j0(x)
    return F.gelu(x @ x) * 2


def test_an_unsupported_operator_in_the_middle(caplog):
    from kiln.torch import partition

    partition._told.clear()
    with caplog.at_level(logging.WARNING, "kiln"):
        compiled, _ = compare(in_the_middle, torch.randn(6, 6), strict=False, tolerance=1e-4)
        with torch.no_grad():
            compiled(torch.randn(6, 6))
    made = report(compiled)
    assert made.partitions == 2 and made.kernels > 0
    assert made.eager == [("aten.special_bessel_j0.default", "not in the table")]
    named = [r.getMessage() for r in caplog.records if "bessel" in r.getMessage()]
    assert named == ["aten.special_bessel_j0.default stays eager: not in the table"]
    assert "bessel_j0" in str(made)


def test_strict_raises():
    compiled = kiln_of(in_the_middle, strict=True)
    with torch.no_grad(), pytest.raises(kiln.Unsupported, match="special_bessel_j0"):
        compiled(torch.randn(6, 6))


def test_float64_stays_eager():
    compiled, _ = compare(lambda x: (x @ x).relu(), torch.randn(4, 4, dtype=torch.float64), strict=False)
    assert report(compiled).partitions == 0
    assert "torch.float64" in report(compiled).eager[0][1]


def test_tiny_parts_stay_eager():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: torch.special.bessel_j0(x * 2), backend=backend)
    x = torch.randn(5)
    with torch.no_grad():
        assert torch.equal(compiled(x), torch.special.bessel_j0(x * 2))
    assert report(compiled).partitions == 0


def test_an_internal_error_surfaces(monkeypatch):
    from kiln.torch import table

    def broken(cx, x):
        raise ZeroDivisionError("injected")

    monkeypatch.setitem(table.TABLE, torch.ops.aten.relu.default, broken)
    compiled = torch.compile(lambda x: (x @ x).relu(), backend=backend)
    with torch.no_grad(), pytest.raises(Exception, match="injected"):
        compiled(torch.randn(4, 4))


def test_a_wrong_shape_is_an_internal_error(monkeypatch):
    from kiln.torch import table

    monkeypatch.setitem(table.TABLE, torch.ops.aten.relu.default, lambda cx, x: cx.f.reshape(x, (16,)))
    with pytest.raises(kiln.InternalError, match="relu"):
        run_op(torch.ops.aten.relu.default, (torch.randn(4, 4),), {})


def test_a_wrong_text_is_an_internal_error(monkeypatch):
    from kiln.torch import table

    monkeypatch.setitem(table.TABLE, torch.ops.aten.relu.default, lambda cx, x: cx.f.unary("no_such_word", x))
    with pytest.raises(Exception, match="no_such_word"):
        run_op(torch.ops.aten.relu.default, (torch.randn(4, 4),), {})


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"fpmth": "bf16"}, ValueError, "no option 'fpmth'"),
        ({"fpmath": "int8"}, ValueError, "'fpmath'"),
        ({"strict": 1}, TypeError, "'strict'"),
        ({"max_shapes": 0}, ValueError, "at least 1"),
    ],
)
def test_wrong_options_are_refused_by_name(options, error, says):
    del error
    compiled = torch.compile(lambda x: x + 1, backend=backend, options=options)
    with torch.no_grad(), pytest.raises(Exception, match=says):
        compiled(torch.randn(3))


def test_modes_are_refused():
    compiled = torch.compile(lambda x: x + 1, backend=backend, mode="max-autotune")
    with torch.no_grad(), pytest.raises(Exception, match="no mode 'max-autotune'"):
        compiled(torch.randn(3))


# Gradients.


def test_gradients_are_eagers(caplog):
    from kiln.torch import backend as module  # noqa: F401

    import kiln.torch.backend  # noqa: F401

    sys.modules["kiln.torch.backend"]._told_of_grad = False
    a, b = nn.Linear(4, 3), nn.Linear(4, 3)
    b.load_state_dict(a.state_dict())
    x = torch.randn(5, 4)
    compiled = torch.compile(a, backend=backend)
    with caplog.at_level(logging.WARNING, "kiln"):
        compiled(x).square().sum().backward()
        torch.compile(nn.Linear(4, 3), backend=backend)(torch.randn(2, 4))
    b(x).square().sum().backward()
    assert torch.equal(a.weight.grad, b.weight.grad) and torch.equal(a.bias.grad, b.bias.grad)
    assert sum("gradients are wanted" in r.getMessage() for r in caplog.records) == 1
    assert report(compiled).graphs[0]["reason"] == "gradients are wanted"
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), b(x))
    assert report(compiled).kernels == 1


def test_inference_mode():
    model = nn.Linear(4, 3).eval()
    compiled = kiln_of(model)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(torch.ones(2, 4)), model(torch.ones(2, 4)))


# Types.


def test_bf16_and_f16_modules():
    for dtype, tolerance in ((torch.bfloat16, 0.03), (torch.float16, 0.004)):
        model = nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 8)).eval().to(dtype)
        compare(model, torch.randn(5, 32).to(dtype), tolerance=tolerance)


def test_fpmath_is_shown():
    model = nn.Linear(64, 64).eval()
    for options, shown in (({}, "f32"), ({"fpmath": "bf16"}, "bf16")):
        compiled, _ = compare(model, torch.randn(32, 64), tolerance=0.02, **options)
        assert report(compiled).graphs[0]["partitions"][0]["fpmath"] == shown


# Threads.


def test_eight_threads_at_once():
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)).eval()
    compiled = kiln_of(model)
    inputs = [torch.randn(16, 64) for _ in range(8)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
        compiled(inputs[0])
    wrong = []

    def work(at):
        with torch.no_grad():
            for _ in range(50):
                if not torch.allclose(compiled(inputs[at]), expected[at], rtol=1e-5, atol=1e-5):
                    wrong.append(at)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_follow_torch():
    compiled = kiln_of(lambda x: x @ x)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with torch.no_grad():
                compiled(torch.ones(4, 4))
            assert kiln.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

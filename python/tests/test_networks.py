"""Whole networks without torch."""

import os
import pickle
import subprocess
import sys

import kiln
import numpy as np
import pytest

DTYPES = {"f32": np.float32, "i64": np.int64}


def inputs_of(network, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 2, shape).astype(DTYPES[ty]) for _, ty, shape in network.inputs]


def onnx_linear(path, weights, batch=None):
    """An ONNX file of `y = relu(x @ weights)`, written by hand: messages are fields with a number, a kind and a value."""

    def number(n):
        out = bytearray()
        while n > 0x7F:
            out.append(n & 0x7F | 0x80)
            n >>= 7
        return bytes(out + bytearray([n]))

    def field(tag, value):
        if isinstance(value, int):
            return number(tag << 3) + number(value)
        value = value.encode() if isinstance(value, str) else value
        return number(tag << 3 | 2) + number(len(value)) + value

    def tensor_type(name, dims):
        shape = b"".join(field(1, field(2, d) if isinstance(d, str) else field(1, d)) for d in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    rows, columns = weights.shape
    batch = "batch" if batch is None else batch
    node = field(1, field(1, "x") + field(1, "w") + field(2, "h") + field(4, "MatMul"))
    node += field(1, field(1, "h") + field(2, "y") + field(4, "Relu"))
    initializer = field(1, rows) + field(1, columns) + field(2, 1) + field(8, "w") + field(9, weights.tobytes())
    graph = node + field(2, "g") + field(5, initializer)
    graph += field(11, tensor_type("x", [batch, rows])) + field(12, tensor_type("y", [batch, columns]))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 17)))
    return path


@pytest.fixture
def weights():
    return np.random.default_rng(7).integers(-3, 4, (256, 512)).astype(np.float32)


@pytest.fixture
def linear(tmp_path, weights):
    return onnx_linear(tmp_path / "linear.onnx", weights)


def batch_of(rows, seed=0):
    return np.random.default_rng(seed).integers(-3, 4, (rows, 256)).astype(np.float32)


def test_an_onnx_file_is_bound_and_run(linear, weights):
    network = kiln.Network(linear)
    assert not network.is_bound and "not bound" in repr(network)
    with pytest.raises(ValueError, match="batch"):
        network(batch_of(2))
    for rows in [3, 32]:
        bound = network.bind(batch=rows)
        assert bound.inputs == [("x", "f32", [rows, 256])] and bound.outputs == [("y", "f32", [rows, 512])]
        x = batch_of(rows)
        expected = np.maximum(x @ weights, 0)
        assert np.array_equal(bound(x)["y"], expected)
        assert np.array_equal(bound(x=x)["y"], expected)
        # Neither order nor gaps matter to a reader.
        assert np.array_equal(bound(np.asfortranarray(x))["y"], expected)
        out = np.full((rows, 512), np.nan, np.float32)
        assert bound(x, out={"y": out})["y"] is out and np.array_equal(out, expected)
    for options in [{"batch": 5}, {"dims": {"batch": 5}}, {"shapes": {"x": [5, 256]}}, {"batch": 5, "mmap": True}]:
        x = batch_of(5)
        assert np.array_equal(kiln.Network(linear, **options)(x)["y"], np.maximum(x @ weights, 0))


def test_wrong_inputs_are_errors(linear, tmp_path):
    network = kiln.Network(linear, batch=4)
    x = batch_of(4)
    with pytest.raises(TypeError, match="`x` is missing"):
        network()
    with pytest.raises(TypeError, match="2 inputs: the network takes 1"):
        network(x, x)
    with pytest.raises(TypeError, match="given twice"):
        network(x, x=x)
    with pytest.raises(TypeError, match="no input `z`"):
        network(x, z=x)
    with pytest.raises(ValueError, match=r"`x`: expected f32\[4x256\], found f32\[3x256\]"):
        network(x[:3])
    with pytest.raises(TypeError, match=r"found f64\[4x256\]"):
        network(x.astype(np.float64))
    with pytest.raises(TypeError, match="expected an array"):
        network([[1.0]])
    with pytest.raises(ValueError, match="expected f32"):
        network(x, out={"y": np.empty((4, 511), np.float32)})
    with pytest.raises(ValueError, match="shares memory"):
        both = np.zeros(4 * 512, np.float32)
        network(both[: 4 * 256].reshape(4, 256), out={"y": both.reshape(4, 512)})
    with pytest.raises(FileNotFoundError, match="no built-in network"):
        kiln.Network(tmp_path / "missing.onnx")
    with pytest.raises(ValueError):
        network.bind(batch=4, nonsense=3)
    (tmp_path / "broken.onnx").write_bytes(b"\x00\x01\x02")
    with pytest.raises(ValueError):
        kiln.Network(tmp_path / "broken.onnx")
    with pytest.raises(ValueError, match="not both"):
        kiln.Network(linear, batch=1, runtime=kiln.Runtime(threads=1), threads=1)
    with pytest.raises(ValueError, match="linear.onnx"):
        kiln.Network(linear, batch=1, weights=linear)


def test_a_built_in_network_runs():
    network = kiln.Network("bert-tiny", seq=16, threads=1)
    inputs = inputs_of(network)
    first, again = network(*inputs), network(*inputs)
    assert set(first) == {"last_hidden_state", "pooler_output"}
    for name in first:
        assert np.isfinite(first[name]).all() and np.array_equal(first[name], again[name])
    assert network.memory()["arena"] > 0
    assert {step["kind"] for step in network.steps()} >= {"kernel", "native"}
    two = kiln.Network("bert-tiny", seq=16, threads=2)(*inputs)
    assert all(np.array_equal(first[name], two[name]) for name in first)


def test_a_profile_is_a_table_and_a_page():
    network = kiln.Network("bert-tiny", seq=16)
    profile = network.profile(runs=3)
    assert len(profile.rows) == len(network.steps())
    assert abs(sum(row["share"] for row in profile.rows) - 1) < 1e-6
    assert profile.microseconds > 0
    page = profile._repr_html_()
    assert page.count("<tr>") == 1 + len(profile.rows) and "bert-tiny" in page
    assert len(str(profile).splitlines()) == 1 + len(profile.rows)
    with pytest.raises(ValueError, match="runs=0"):
        network.profile(runs=0)


def test_stages_are_text():
    network = kiln.Network("bert-tiny", seq=16)
    assert network.dump("import").startswith("func @")
    assert "kernel" in network.dump("optimized")
    assert all(line.startswith("matmul f32") for line in network.dump("kernels").splitlines())
    assert len(network.dump("plan").splitlines()) == len(network.steps())
    with pytest.raises(ValueError, match="stage"):
        network.dump("soup")


def test_a_predictor_is_pickled_and_maps_its_weights(linear, weights, tmp_path):
    packed = tmp_path / "packed.kiln"
    predict = kiln.Predictor(linear, threads=1, weights=packed, columns={"x": "features"})
    x = batch_of(32)
    expected = np.maximum(x @ weights, 0)
    assert np.array_equal(predict({"features": x})["y"], expected)
    assert packed.stat().st_size >= weights.nbytes
    total, mapped = predict.network(32).packed_weights
    assert total == mapped == 1
    # Another process, started as Spark and Ray start them.
    (tmp_path / "predict.pickle").write_bytes(pickle.dumps(predict))
    np.save(tmp_path / "x.npy", x)
    program = (
        "import pickle, sys, numpy as np\n"
        "predict = pickle.loads(open(sys.argv[1] + '/predict.pickle', 'rb').read())\n"
        "y = predict({'features': np.load(sys.argv[1] + '/x.npy')})['y']\n"
        "assert predict.network(32).packed_weights == (1, 1)\n"
        "np.save(sys.argv[1] + '/y.npy', y)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)
    # Other sizes are other networks, of which the last ones are kept.
    small = kiln.Predictor(linear, shapes=2, keep_inputs=True)
    for rows in [1, 2, 3, 2]:
        x = batch_of(rows, rows)
        batch = small({"x": x, "id": np.arange(rows)})
        assert np.array_equal(batch["y"], np.maximum(x @ weights, 0)) and list(batch["id"]) == list(range(rows))
    assert len(small._networks) == 2
    with pytest.raises(ValueError, match="no column 'features'"):
        predict({"x": x})
    with pytest.raises(ValueError, match="empty batch"):
        predict({})
    with pytest.raises(ValueError, match="shapes=0"):
        kiln.Predictor(linear, shapes=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_has_threads():
    network = kiln.Network("bert-tiny", seq=16, threads=2)
    inputs = inputs_of(network)
    expected = network(*inputs)
    child = os.fork()
    if child == 0:
        found = network(*inputs)
        is_same = all(np.array_equal(found[name], expected[name]) for name in expected)
        threads = len(os.listdir("/proc/self/task"))
        os._exit(0 if is_same and threads >= 2 else 1)
    assert os.waitpid(child, 0)[1] == 0

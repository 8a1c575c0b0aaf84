"""Single kernels on arrays of any library, without torch."""

import array
import threading

import kiln
import numpy as np
import pytest


def small(shape, seed=0):
    """Small integers, of which sums of products are exact."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def test_import_needs_nothing():
    import subprocess
    import sys

    blocked = "import sys; sys.modules['numpy'] = sys.modules['torch'] = None; import kiln; print(kiln.__version__)"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == kiln.__version__


def test_a_linear_layer_is_exact():
    kernel = kiln.compile_problem("ip f32 mb7ic48oc33 +bias+relu")
    x, w, b = small((7, 48)), small((33, 48), 1), small(33, 2)
    out = np.full((7, 33), np.nan, np.float32)
    assert kernel(x, w, b, out=out) is out
    assert np.array_equal(out, np.maximum(x @ w.T + b, 0))
    assert [name for name, _, _ in kernel.operands] == ["lhs", "rhs", "bias", "dst"]
    assert kernel.problem == "ip f32 mb7ic48oc33 +bias+relu"
    assert kernel.code_bytes > 0


def test_gelu_is_close():
    from math import erf

    kernel = kiln.compile_problem("ip f32 mb3ic16oc8 +gelu_erf")
    x, w = small((3, 16)) / 8, small((8, 16), 1) / 8
    out = np.empty((3, 8), np.float32)
    kernel(x, w, out=out)
    y = (x @ w.T).astype(np.float64)
    expected = y * 0.5 * (1 + np.vectorize(erf)(y / np.sqrt(2)))
    assert np.abs(out - expected).max() < 1e-6


def test_packed_weights_give_the_same():
    runtime = kiln.Runtime(threads=1)
    kernel = runtime.compile_problem("ip f32 mb32ic96oc128", constant_weights=True)
    x, w = small((32, 96)), small((128, 96), 1)
    packed = kernel.pack(w)
    assert packed is not None and packed.nbytes >= w.nbytes
    assert runtime.stats()["packings"] == 1
    out = np.empty((32, 128), np.float32)
    kernel(x, packed, out=out)
    assert np.array_equal(out, x @ w.T)
    with pytest.raises(ValueError, match="rhs"):
        kernel(x, w, out=out)
    assert kiln.compile_problem("ip f32 mb2ic3oc4").pack(small((4, 3))) is None


def test_arrays_of_f16():
    x, w, b = small((7, 48)).astype(np.float16), small((33, 48), 1).astype(np.float16), small(33, 2)
    exact = np.maximum(x.astype(np.float32) @ w.astype(np.float32).T + b, 0)
    for dtypes, of_result in (("f16", np.float16), ("f16:f16:f32", np.float32)):
        kernel = kiln.compile_problem(f"ip {dtypes} mb7ic48oc33 +bias+relu")
        out = np.full((7, 33), np.nan, of_result)
        kernel(x, w, b, out=out)
        assert np.array_equal(out, exact)
    packing = kiln.compile_problem("ip f16 mb7ic48oc33", constant_weights=True)
    out = np.empty((7, 33), np.float16)
    packed = packing.pack(w)
    packing(x, w if packed is None else packed, out=out)
    assert np.array_equal(out, x.astype(np.float32) @ w.astype(np.float32).T)
    with pytest.raises((TypeError, ValueError), match="lhs"):
        packing(x.astype(np.float32), w if packed is None else packed, out=out)


def test_arrays_of_integers():
    random = np.random.default_rng(3)
    w = random.integers(-128, 128, (33, 48)).astype(np.int8)
    for dtypes, of_source, least in (("s8:s8:s32", np.int8, -128), ("u8:s8:s32", np.uint8, 0)):
        x = random.integers(least, least + 256, (7, 48)).astype(of_source)
        exact = x.astype(np.int32) @ w.astype(np.int32).T
        out = np.full((7, 33), np.iinfo(np.int32).min, np.int32)
        kernel = kiln.compile_problem(f"ip {dtypes} mb7ic48oc33")
        kernel(x, w, out=out)
        assert np.array_equal(out, exact)
        packing = kiln.compile_problem(f"ip {dtypes} mb7ic48oc33", constant_weights=True)
        packed = packing.pack(w)
        out.fill(0)
        packing(x, w if packed is None else packed, out=out)
        assert np.array_equal(out, exact)
        other = np.uint8 if of_source == np.int8 else np.int8
        for wrong in (x.astype(other), x.astype(np.int32), x.astype(np.float32)):
            with pytest.raises((TypeError, ValueError), match="lhs"):
                kernel(wrong, w, out=out)
        with pytest.raises((TypeError, ValueError), match="dst|out"):
            kernel(x, w, out=out.astype(np.float32))


def test_any_library_lends_arrays():
    kernel = kiln.compile_problem("matmul f32 2x3:3x2")
    lhs, rhs = array.array("f", range(6)), array.array("f", [1, 0, 0, 1, 1, 1])
    out = array.array("f", [9.0] * 4)
    kernel(memoryview(lhs), rhs, out=out)
    assert list(out) == [2, 3, 8, 9]

    class OnlyDlpack:
        """As libraries without the buffer protocol lend arrays."""

        def __init__(self, values):
            self.values = values

        def __dlpack__(self, **options):
            return self.values.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.values.__dlpack_device__()

    result = np.zeros((2, 2), np.float32)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    y = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    kernel(OnlyDlpack(x), OnlyDlpack(y), out=OnlyDlpack(result))
    assert np.array_equal(result, x @ y)


def test_a_result_is_added_to_where_the_problem_says_so():
    kernel = kiln.compile_problem("matmul f32 2x3:3x4 beta=1")
    x, y, out = small((2, 3)), small((3, 4), 1), small((2, 4), 2)
    expected = out + x @ y
    kernel(x, y, out=out)
    assert np.array_equal(out, expected)


def test_wrong_arrays_are_errors():
    kernel = kiln.compile_problem("matmul f32 2x3:3x4")
    x, y, out = small((2, 3)), small((3, 4)), np.zeros((2, 4), np.float32)
    with pytest.raises(TypeError, match="1 operands: expected 2"):
        kernel(x, out=out)
    with pytest.raises(TypeError):
        kernel(x, y)
    with pytest.raises(TypeError, match="lhs: expected elements of f32, found f64"):
        kernel(x.astype(np.float64), y, out=out)
    with pytest.raises(TypeError, match="rhs: expected an array"):
        kernel(x, 3, out=out)
    with pytest.raises(ValueError, match="rhs: expected 12 elements"):
        kernel(x, y[:2], out=out)
    with pytest.raises(ValueError, match="rhs: expected a C-contiguous array"):
        kernel(x, np.asfortranarray(y), out=out)
    with pytest.raises(ValueError, match="same memory"):
        both = np.zeros(14, np.float32)
        kernel(both[:6], y, out=both[4:12])
    bytes_between = np.zeros(8 * 4 + 1, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="no multiple of 4"):
        kernel(bytes_between[:6].reshape(2, 3), y, out=out)
    with pytest.raises(ValueError, match="no multiple of 4"):
        kernel(x, y, out=bytes_between.reshape(2, 4))
    frozen = out.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out: .*written"):
        kernel(x, y, out=frozen)
    assert not out.any()
    # What may not be written is read.
    frozen_x = x.copy()
    frozen_x.flags.writeable = False
    assert np.array_equal(kernel(frozen_x, y, out=out), x @ y)


def test_wrong_problems_and_settings_are_errors():
    for text in ["", "ip", "ip f32 mb4", "matmul f32 2x3:4x5", "matmul f99 2x3:3x4"]:
        with pytest.raises(ValueError):
            kiln.compile_problem(text)
    with pytest.raises(ValueError, match="threads"):
        kiln.Runtime(threads=0)
    with pytest.raises(ValueError, match="fpmath"):
        kiln.Runtime(fpmath="fast")
    with pytest.raises(ValueError, match="threads"):
        kiln.set_num_threads(0)
    with pytest.raises(OverflowError):
        kiln.Runtime(threads=-1)
    with pytest.raises(ValueError, match="unknown stage"):
        kiln.compile_problem("matmul f32 2x3:3x4").dump("soup")
    assert issubclass(kiln.Unsupported, NotImplementedError)
    assert issubclass(kiln.InternalError, RuntimeError)


def test_memory_for_packed_weights_is_limited():
    runtime = kiln.Runtime(threads=1, packed_limit=1000)
    kernel = runtime.compile_problem("ip f32 mb32ic96oc128", constant_weights=True)
    with pytest.raises(MemoryError, match="limit"):
        kernel.pack(small((128, 96)))


def test_stages_are_text():
    kernel = kiln.compile_problem("matmul f32 2x3:3x4 +relu")
    assert kernel.dump("problem").startswith("matmul f32 2x3:3x4 +relu")
    assert all(kernel.dump(stage) for stage in ["schedule", "lowering", "nest", "microkernel", "asm"])


def test_other_threads_run_during_a_call():
    kernel = kiln.Runtime(threads=1).compile_problem("matmul f32 1024x1024:1024x1024")
    x, y, out = small((1024, 1024)), small((1024, 1024), 1), np.empty((1024, 1024), np.float32)
    steps, is_over = [0], threading.Event()

    def work():
        for _ in range(20):
            kernel(x, y, out=out)
        is_over.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not is_over.is_set():
        steps[0] += 1
    thread.join()
    # With the lock held for a whole call, this thread gets one turn of a few thousand steps per call at most.
    assert steps[0] > 1000


def test_eight_threads_at_once():
    kernel = kiln.compile_problem("matmul f32 64x64:64x64")
    y = small((64, 64), 99)
    wrong = []

    def work(seed):
        x, out = small((64, 64), seed), np.empty((64, 64), np.float32)
        for _ in range(50):
            out.fill(np.nan)
            kernel(x, y, out=out)
            if not np.array_equal(out, x @ y):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []

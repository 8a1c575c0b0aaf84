"""Writes tests in ONNX's layout: folders with a model.onnx, inputs and expected outputs.

    pip install onnx==1.23.2 onnxruntime==1.32.0 ml_dtypes
    python3 tools/onnx_cases.py node DIR        # ONNX's own tests of operators, made by its reference implementation
    python3 tools/onnx_cases.py microsoft DIR   # operators of com.microsoft, with what ONNX Runtime computes
    python3 tools/onnx_cases.py sample DIR model/tests/conformance.tar.gz    # a selection of both, for the tests of Kiln itself

`kiln model test DIR` runs them. The sample is taken from the folders in DIR that are listed on standard input, one a line: those that
pass. It has a few small ones for each operator.
"""

import gzip
import io
import os
import shutil
import sys
import tarfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write(folder, model, inputs, outputs):
    """One test: each input and output is a message or an array."""
    data = f"{folder}/test_data_set_0"
    os.makedirs(data, exist_ok=True)
    with open(f"{folder}/model.onnx", "wb") as file:
        file.write(model.SerializeToString())
    for kind, values, signature in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
        for i, (value, typed) in enumerate(zip(values, signature)):
            if typed.type.HasField("sequence_type"):
                value = numpy_helper.from_list(value, typed.name)
            elif typed.type.HasField("optional_type"):
                value = numpy_helper.from_optional(value, typed.name)
            elif not isinstance(value, TensorProto):
                value = numpy_helper.from_array(np.asarray(value), typed.name)
            with open(f"{data}/{kind}_{i}.pb", "wb") as file:
                file.write(value.SerializeToString())


def node_tests(folder):
    from onnx.backend.test.case.node import collect_testcases

    count = 0
    for case in collect_testcases(None):
        if not case.data_sets:
            continue
        try:
            write(f"{folder}/{case.name}", case.model, *case.data_sets[0])
            count += 1
        except Exception as error:  # a type that this version of NumPy does not have
            shutil.rmtree(f"{folder}/{case.name}", ignore_errors=True)
            print(f"{case.name}: {error}", file=sys.stderr)
    print(f"{count} tests")


class Microsoft:
    """Tests of operators of com.microsoft, and of those of ONNX that its own tests do not have in a network."""

    def __init__(self, folder):
        self.folder = folder
        self.random = np.random.default_rng(7)
        self.count = 0

    def floats(self, *shape):
        return (self.random.standard_normal(shape) * 0.5).astype(np.float32)

    def bits(self, *shape):
        return self.random.integers(0, 2, shape).astype(np.int32)

    def save(self, name, model, inputs):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Its quantized LSTM has a scale for all sequences of a batch with one thread, and one for those of each thread with several.
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs = session.run(None, inputs)
        write(f"{self.folder}/{name}", model, [inputs[value.name] for value in model.graph.input], outputs)
        self.count += 1

    def node(self, name, op, inputs, outputs=("y",), known=(), domain="com.microsoft", opset=17, **attributes):
        """A model of one node; `None` is an input that is left out, and those that are `known` are constants."""
        names, given, constants = [], {}, []
        for i, value in enumerate(inputs):
            names.append("" if value is None else f"x{i}")
            if i in known:
                constants.append(numpy_helper.from_array(value, f"x{i}"))
            elif value is not None:
                given[f"x{i}"] = value
        node = helper.make_node(op, names, list(outputs), domain=domain, **attributes)
        typed = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in given.items()]
        results = [helper.make_empty_tensor_value_info(o) for o in outputs if o]
        graph = helper.make_graph([node], name, typed, results, constants)
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        self.save(name, helper.make_model(graph, opset_imports=imports, ir_version=8), given)

    def products(self):
        f = self.floats
        self.node("fused_matmul", "FusedMatMul", [f(3, 4, 5), f(3, 6, 5)], transB=1, alpha=0.5)
        self.node("fused_matmul_batch", "FusedMatMul", [f(4, 3, 5), f(6, 3, 5)], transBatchA=1, transBatchB=1, transB=1)
        self.node("fused_matmul_batch_of_two", "FusedMatMul", [f(4, 2, 3, 5), f(2, 3, 5, 6)], transBatchA=1)
        self.node("fused_matmul_batch_and_last", "FusedMatMul", [f(5, 3, 4), f(3, 5, 6)], transBatchA=1, transA=1)
        self.node("transpose_matmul", "TransposeMatMul", [f(5, 4), f(5, 6)], transA=1, alpha=2.0)
        for name, extra in [("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.2}), ("Tanh", {}),
                            ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4})]:
            inputs = [f(3, 4), f(4, 5), f(5)]
            self.node(f"fused_gemm_{name.lower()}", "FusedGemm", inputs, activation=name, alpha=0.7, beta=1.5, **extra)
        for name, parameters in [("Relu", None), ("LeakyRelu", [0.1]), ("Clip", [0.0, 0.5]), ("HardSigmoid", [0.2, 0.5])]:
            extra = {"activation_params": parameters} if parameters else {}
            inputs = [f(1, 2, 6, 6), f(3, 2, 3, 3), f(3)]
            self.node(f"fused_conv_{name.lower()}", "FusedConv", inputs, known=(1, 2), activation=name, pads=[1, 1, 1, 1], **extra)
        self.node("fused_conv_sum", "FusedConv", [f(1, 2, 6, 6), f(3, 2, 3, 3), f(3), f(1, 3, 4, 4)], known=(1, 2), activation="Relu")

    def activations(self):
        f = self.floats
        self.node("gelu", "Gelu", [f(3, 4)])
        self.node("fast_gelu", "FastGelu", [f(3, 4)])
        self.node("fast_gelu_bias", "FastGelu", [f(3, 4), f(4)])
        self.node("quick_gelu", "QuickGelu", [f(3, 4)])
        self.node("bias_gelu", "BiasGelu", [f(3, 4), f(4)])

    def normalizations(self):
        f = self.floats
        norm, sums = "SkipLayerNormalization", ("y", "", "", "sum")
        self.node("skip_layer_norm", norm, [f(2, 3, 8), f(2, 3, 8), f(8), f(8), f(8)], sums, epsilon=1e-5)
        self.node("skip_layer_norm_rows", norm, [f(2, 3, 8), f(3, 8), f(8), f(8)])
        self.node("skip_simplified", "SkipSimplifiedLayerNormalization", [f(2, 3, 8), f(2, 3, 8), f(8), f(8)], sums, epsilon=1e-5)
        self.node("simplified", "SimplifiedLayerNormalization", [f(2, 3, 8), f(8)], domain="", opset=13, axis=-1, epsilon=1e-5)
        self.node("layer_norm_13", "LayerNormalization", [f(2, 3, 8), f(8), f(8)], domain="", opset=13, axis=-1, epsilon=1e-5)
        words, segments = self.random.integers(0, 5, (2, 3)).astype(np.int32), self.bits(2, 3)
        tables = [f(5, 8), f(4, 8), f(2, 8), f(8), f(8)]
        mask, places = np.array([[1, 1, 0], [1, 1, 1]], np.int32), np.array([[2, 1, 0], [0, 1, 3]], np.int32)
        known, embed, two = (2, 3, 4, 5, 6), "EmbedLayerNormalization", ("y", "kept")
        self.node("embed", embed, [words, segments, *tables, mask], (*two, "sum"), known)
        self.node("embed_no_segments", embed, [words, None, *tables[:2], None, *tables[3:]], two, (2, 3, 5, 6))
        self.node("embed_positions", embed, [words, segments, *tables, mask, places], two, known)

    def recurrent(self):
        outputs = ("y", "h", "c")
        for name, kind, directions, by_column, extra in [
            ("forward", np.int8, 1, False, {}),
            ("reverse", np.uint8, 1, False, dict(direction="reverse")),
            ("bidirectional_by_column", np.int8, 2, True, dict(direction="bidirectional")),
        ]:
            steps, batch, size, hidden = 3, 2, 5, 4
            x, low, high = self.floats(steps, batch, size), np.iinfo(kind).min, np.iinfo(kind).max + 1
            shape = (directions, 4 * hidden) if by_column else (directions,)
            weights = []
            for rows in (size, hidden):
                integers = self.random.integers(low, high, (directions, rows, 4 * hidden)).astype(kind)
                scale = self.random.uniform(0.005, 0.01, shape).astype(np.float32)
                weights.append((integers, scale, np.full(shape, (low + high) // 2, kind)))
            (w, w_scale, w_zero), (r, r_scale, r_zero) = weights
            bias, states = self.floats(directions, 8 * hidden), [self.floats(directions, batch, hidden) for _ in range(2)]
            inputs = [x, w, r, bias, None, *states, None, w_scale, w_zero, r_scale, r_zero]
            known = (1, 2, 3, 8, 9, 10, 11)
            self.node(f"dynamic_quantize_lstm_{name}", "DynamicQuantizeLSTM", inputs, outputs, known, hidden_size=hidden, **extra)

    def attention(self):
        f = self.floats
        x, weights, bias, past = f(2, 3, 8), f(8, 24), f(24), f(2, 2, 2, 2, 4)
        mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
        long_mask = np.array([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]], np.int32)

        def attention(name, *more, outputs=("y",), weights=weights, bias=bias, **attributes):
            inputs = [x, weights, bias, *more]
            self.node(f"attention_{name}", "Attention", inputs, outputs, (1,) if bias is None else (1, 2), num_heads=2, **attributes)

        attention("plain")
        attention("no_bias", bias=None)
        attention("mask", mask)
        attention("mask_lengths", np.array([2, 3], np.int32))
        attention("mask_ends", np.array([2, 3, 1, 0], np.int32))
        attention("mask_of_queries", self.bits(2, 3, 3))
        attention("causal", unidirectional=1)
        attention("causal_mask", mask, unidirectional=1)
        attention("scale", scale=0.3)
        attention("filter", mask, mask_filter_value=-3.0)
        attention("sizes", weights=f(8, 20), bias=f(20), qkv_hidden_sizes=[8, 8, 4])
        attention("past", None, past, outputs=("y", "present"))
        attention("past_causal", None, past, outputs=("y", "present"), unidirectional=1)
        attention("past_mask", long_mask, past, outputs=("y", "present"))
        attention("bias", None, None, f(1, 2, 3, 3))

        def heads(name, *inputs, outputs=("y",), **attributes):
            self.node(f"heads_{name}", "MultiHeadAttention", list(inputs), outputs, num_heads=2, **attributes)

        q, k, v = f(2, 3, 8), f(2, 5, 8), f(2, 5, 8)
        past, three = [f(2, 2, 4, 4), f(2, 2, 4, 4)], ("y", "keys", "values")
        heads("plain", q, k, v)
        heads("bias", q, k, v, f(24))
        heads("mask", q, k, v, None, np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32))
        heads("mask_lengths", q, k, v, None, np.array([3, 5], np.int32))
        heads("mask_of_queries", q, k, v, None, self.bits(2, 3, 5))
        heads("added", q, k, v, None, None, f(1, 2, 3, 5))
        heads("causal", q, f(2, 3, 8), f(2, 3, 8), unidirectional=1)
        heads("sizes", q, k, f(2, 5, 12), scale=0.25)
        heads("cross", q, f(2, 2, 5, 4), f(2, 2, 5, 4))
        heads("past", q, f(2, 3, 8), f(2, 3, 8), None, None, None, *past, outputs=three)
        heads("past_causal", q, f(2, 3, 8), f(2, 3, 8), None, None, None, *past, outputs=three, unidirectional=1)

        places = np.array([[0, 3, 2], [5, 6, 7]], np.int64)
        tables = [np.cos(f(8, 4)), np.sin(f(8, 4))]

        def rotary(name, x, places=places, **attributes):
            self.node(f"rotary_{name}", "RotaryEmbedding", [x, places, *tables], **attributes)

        rotary("flat", f(2, 3, 16))
        rotary("from", f(2, 3, 16), np.array([4], np.int64))
        rotary("heads", f(2, 2, 3, 8))
        rotary("interleaved", f(2, 3, 16), interleaved=1)
        rotary("part", f(2, 3, 24), rotary_embedding_dim=8, num_heads=2)

    def same(self):
        f = self.floats
        quantized = [f(3, 4), np.array(0.02, np.float32), np.array(100, np.uint16)]
        self.node("grid_sample", "GridSample", [f(1, 2, 4, 4), f(1, 3, 3, 2)], mode="bicubic", padding_mode="reflection")
        self.node("trilu", "Trilu", [f(3, 3), np.array(1, np.int64)], known=(1,))
        self.node("quantize", "QuantizeLinear", quantized, known=(1, 2))
        codes = self.random.integers(0, 1 << 16, (3, 4)).astype(np.uint16)
        self.node("dequantize", "DequantizeLinear", [codes, *quantized[1:]], known=(1, 2))

    def older(self):
        """Operators of ONNX for which it has no tests any more."""
        f = self.floats
        places = self.random.integers(0, 3, (2, 2)).astype(np.int64)
        self.node("upsample", "Upsample", [f(1, 1, 2, 3), np.array([1, 1, 2, 2], np.float32)], known=(1,), domain="", opset=9)
        self.node("scatter", "Scatter", [f(2, 3), places, f(2, 2)], domain="", opset=9, axis=1)
        self.node("global_lp_pool", "GlobalLpPool", [f(2, 3, 4, 5)], domain="", p=3)

    def graph(self, name, nodes, given, outputs, constants=()):
        """A model of several nodes of ONNX."""
        typed = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in given.items()]
        results = [helper.make_empty_tensor_value_info(o) for o in outputs]
        constants = [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in dict(constants).items()]
        graph = helper.make_graph(nodes, name, typed, results, constants)
        self.save(name, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), given)

    def inner(self):
        """Sequences and optionals inside a network: those of ONNX's own tests are inputs of networks."""
        f, node = self.floats, helper.make_node
        self.graph("sequence_of_tensors", [
            node("SequenceConstruct", ["a", "b", "a"], ["s0"]),
            node("SequenceInsert", ["s0", "c", "one"], ["s1"]),
            node("SequenceErase", ["s1", "zero"], ["s2"]),
            node("SequenceAt", ["s2", "last"], ["at"]),
            node("SequenceLength", ["s2"], ["length"]),
            node("ConcatFromSequence", ["s2"], ["stack"], axis=1, new_axis=1),
        ], {"a": f(2, 3), "b": f(2, 3), "c": f(2, 3)}, ["at", "length", "stack"], {"zero": 0, "one": 1, "last": -1})
        self.graph("sequence_of_parts", [
            node("SplitToSequence", ["x", "parts"], ["s0"], axis=1),
            node("SequenceEmpty", [], ["none"], dtype=TensorProto.FLOAT),
            node("SequenceAt", ["s0", "one"], ["part"]),
            node("SequenceInsert", ["none", "part"], ["s1"]),
            node("SequenceInsert", ["s1", "part"], ["s2"]),
            node("ConcatFromSequence", ["s2"], ["y"], axis=0),
        ], {"x": f(3, 5)}, ["y"], {"parts": [2, 3], "one": 1})
        self.graph("sequence_of_slices", [
            node("SplitToSequence", ["x"], ["s0"], axis=0, keepdims=0),
            node("ConcatFromSequence", ["s0"], ["y"], axis=1, new_axis=1),
        ], {"x": f(3, 4)}, ["y"])
        float_value = lambda n: helper.make_tensor_value_info(n, TensorProto.FLOAT, None)
        body = helper.make_graph([node("Mul", ["each", "other"], ["made"])], "body", [float_value("each"), float_value("other")],
                                 [float_value("made")])
        self.graph("sequence_map", [
            node("SequenceConstruct", ["a", "b"], ["s0"]),
            node("SequenceMap", ["s0", "c"], ["s1"], body=body),
            node("ConcatFromSequence", ["s1"], ["y"], axis=0),
        ], {"a": f(2, 3), "b": f(4, 3), "c": f(3)}, ["y"])
        self.graph("optional", [
            node("Optional", ["x"], ["o"]),
            node("OptionalHasElement", ["o"], ["has"]),
            node("OptionalGetElement", ["o"], ["y"]),
        ], {"x": f(2, 3)}, ["has", "y"])

    def optimized(self):
        """What the optimizer makes of an encoder and of a small network of convolutions."""
        import onnxruntime

        hidden, heads, tokens, batch = 16, 2, 5, 2
        for activation in ("erf", "tanh"):
            b = Builder(self.floats)
            embedded = b("Add", b("Gather", b.weight(20, hidden), "tokens"), b.weight(1, tokens, hidden))
            x = b.norm(embedded, hidden)
            mask = b("Unsqueeze", b("Cast", "mask", to=1), b.constant(np.array([1, 2])))
            mask = b("Mul", b("Sub", b.constant(np.float32(1)), mask), b.constant(np.float32(-10000)))
            split = b.constant(np.array([0, 0, heads, hidden // heads]))
            q, k, v = [b("Transpose", b("Reshape", b.linear(x, hidden, hidden), split), perm=p)
                       for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])]
            scores = b("Add", b("Div", b("MatMul", q, k), b.constant(np.float32((hidden // heads) ** 0.5))), mask)
            y = b("Transpose", b("MatMul", b("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
            y = b.linear(b("Reshape", y, b.constant(np.array([0, 0, hidden]))), hidden, hidden)
            x = b.norm(b("Add", y, x), hidden)
            y = b.linear(x, hidden, 2 * hidden)
            if activation == "erf":
                inner = b("Erf", b("Div", y, b.constant(np.float32(2**0.5))))
            else:
                cubed = b("Mul", b("Pow", y, b.constant(np.float32(3))), b.constant(np.float32(0.044715)))
                inner = b("Tanh", b("Mul", b("Add", y, cubed), b.constant(np.float32(0.7978845608))))
            y = b("Mul", b("Mul", y, b("Add", inner, b.constant(np.float32(1)))), b.constant(np.float32(0.5)))
            x = b.norm(b("Add", b.linear(y, 2 * hidden, hidden), x), hidden)
            ints = lambda name: helper.make_tensor_value_info(name, TensorProto.INT64, [batch, tokens])
            model = b.model(x, [ints("tokens"), ints("mask")])
            kept = np.array([[1] * tokens, [1] * 3 + [0] * (tokens - 3)])
            inputs = {"tokens": self.random.integers(0, 20, (batch, tokens)), "mask": kept}
            self.save(f"encoder_{activation}", optimize(onnxruntime, model), inputs)
        b = Builder(self.floats)
        x = b("Relu", b("Conv", "x", b.weight(4, 3, 3, 3), b.weight(4), pads=[1, 1, 1, 1]))
        x = b("Relu", b("Add", b("Conv", x, b.weight(4, 4, 3, 3), b.weight(4), pads=[1, 1, 1, 1]), "z"))
        x = b("Flatten", b("LeakyRelu", b("Conv", x, b.weight(2, 4, 1, 1), b.weight(2)), alpha=0.1))
        x = b("Relu", b("Gemm", x, b.weight(32, 5), b.weight(5)))
        x = b("MatMul", x, b("Transpose", x, perm=[1, 0]))
        image = lambda name, c: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, c, 4, 4])
        model = b.model(x, [image("x", 3), image("z", 4)])
        self.save("convolutions", optimize(onnxruntime, model), {"x": self.floats(2, 3, 4, 4), "z": self.floats(2, 4, 4, 4)})


class Builder:
    """A graph by calls; each gives the name of a result."""

    def __init__(self, floats):
        self.floats, self.nodes, self.constants = floats, [], []

    def __call__(self, op, *inputs, **attributes):
        self.nodes.append(helper.make_node(op, list(inputs), [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def constant(self, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def weight(self, *shape):
        return self.constant(self.floats(*shape))

    def linear(self, x, size, out):
        return self("Add", self("MatMul", x, self.weight(size, out)), self.weight(out))

    def norm(self, x, size):
        centred = self("Sub", x, self("ReduceMean", x, axes=[-1]))
        variance = self("ReduceMean", self("Pow", centred, self.constant(np.float32(2))), axes=[-1])
        y = self("Div", centred, self("Sqrt", self("Add", variance, self.constant(np.float32(1e-5)))))
        return self("Add", self("Mul", y, self.weight(size)), self.weight(size))

    def model(self, result, inputs):
        output = helper.make_empty_tensor_value_info(result)
        graph = helper.make_graph(self.nodes, "graph", inputs, [output], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def optimize(onnxruntime, model):
    """The model as ONNX Runtime saves it after its extended optimizations."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = f"{folder}/model.onnx"
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def microsoft_tests(folder):
    tests = Microsoft(folder)
    for part in (tests.products, tests.activations, tests.normalizations, tests.attention, tests.same, tests.older, tests.inner,
                 tests.recurrent, tests.optimized):
        part()
    print(f"{tests.count} tests")


# Each operator has up to MOST tests by itself. A test of more than LARGEST bytes is taken only if an operator has none yet.
MOST, LARGEST = 4, 6000


def sample(folder, archive):
    """An archive of tests that pass, smallest first, until each operator has enough."""
    files = lambda test: sorted(os.path.join(at, name) for at, _, names in os.walk(test) for name in names)
    tests = [os.path.join(folder, line.strip()) for line in sys.stdin if line.strip()]
    if not tests:
        sys.exit("expected names of tests on standard input")
    size = {test: sum(map(os.path.getsize, files(test))) for test in tests}
    count, chosen = {}, []
    for test in sorted(tests, key=lambda test: (size[test], test)):
        model = onnx.load(f"{test}/model.onnx")
        operators = {(node.domain, node.op_type) for node in model.graph.node}
        alone = [op for op in operators if count.get(op, 0) < (MOST if len(operators) == 1 else 1)]
        if alone and (size[test] <= LARGEST or any(op not in count for op in operators)):
            chosen.append(test)
            for op in operators:
                count[op] = count.get(op, 0) + 1
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for test in sorted(chosen):
            for path in files(test):
                info = tarfile.TarInfo(f"{os.path.basename(test)}/{os.path.relpath(path, test)}")
                info.size = os.path.getsize(path)
                with open(path, "rb") as file:
                    tar.addfile(info, file)
    with open(archive, "wb") as file:
        file.write(gzip.compress(buffer.getvalue(), 9, mtime=0))
    print(f"{len(chosen)} tests of {len(count)} operators, {os.path.getsize(archive)} bytes")


if __name__ == "__main__":
    {"node": node_tests, "microsoft": microsoft_tests, "sample": sample}[sys.argv[1]](*sys.argv[2:])

#!/usr/bin/env python3
"""Writes the networks with open dimensions that model/tests/flexible.rs takes, with the results of ONNX's reference implementation.

    pip install onnx==1.23.2
    python3 tools/open_fixtures.py model/tests/fixtures
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def weights(rng, name, *shape):
    return constant(name, rng.uniform(-0.5, 0.5, shape).astype(np.float32))


def tokens(rng):
    """Embeddings and attention, with shapes that nodes compute, a flattened batch, and a mask that is gathered from a flattened one
    by indices that nodes compute, as exporters write them."""
    width, heads, words, longest = 8, 2, 16, 24
    node = helper.make_node
    head = width // heads

    def split(name):
        return [
            node("MatMul", ["x", f"w_{name}"], [f"{name}_all"]),
            node("Reshape", [f"{name}_all", "to_heads"], [f"{name}_heads"]),
            node("Transpose", [f"{name}_heads"], [name], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]

    nodes = [
        node("Shape", ["ids"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"]),
        node("Gather", ["shape", "one"], ["length"]),
        node("Gather", ["words", "ids"], ["embedded"]),
        node("Slice", ["places", "starts", "length", "starts"], ["place"]),
        node("Add", ["embedded", "place"], ["x"]),
        node("Concat", ["batch", "length", "head_sizes"], ["to_heads"], axis=0),
        *split("q"),
        *split("k"),
        *split("v"),
        node("MatMul", ["q", "k"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]),
        node("Cast", ["mask"], ["is_token"], to=TensorProto.BOOL),
        node("Reshape", ["is_token", "minus_one"], ["flat"]),
        node("Squeeze", ["batch"], ["batches"]),
        node("Squeeze", ["length"], ["lengths"]),
        node("Range", ["nothing", "batches", "step"], ["rows_of"]),
        node("Range", ["nothing", "lengths", "step"], ["columns_of"]),
        node("Mul", ["rows_of", "length"], ["row_starts"]),
        node("Unsqueeze", ["row_starts", "last_axes"], ["row_starts_4"]),
        node("Add", ["row_starts_4", "columns_of"], ["indices"]),
        node("Gather", ["flat", "indices"], ["is_seen"]),
        node("Where", ["is_seen", "zero_bias", "no_bias"], ["bias"]),
        node("Add", ["scaled", "bias"], ["biased"]),
        node("Softmax", ["biased"], ["probabilities"], axis=-1),
        node("MatMul", ["probabilities", "v"], ["mixed"]),
        node("Transpose", ["mixed"], ["mixed_back"], perm=[0, 2, 1, 3]),
        node("Reshape", ["mixed_back", "to_rows"], ["rows"]),
        node("Gemm", ["rows", "w_o", "b_o"], ["rows_out"]),
        node("Relu", ["rows_out"], ["active"]),
        node("Concat", ["batch", "length", "width"], ["to_sequences"], axis=0),
        node("Reshape", ["active", "to_sequences"], ["y"]),
    ]
    initializers = [
        constant("zero", np.array([0], np.int64)),
        constant("one", np.array([1], np.int64)),
        constant("starts", np.array([0], np.int64)),
        constant("minus_one", np.array([-1], np.int64)),
        constant("nothing", np.int64(0)),
        constant("step", np.int64(1)),
        constant("last_axes", np.array([1, 2, 3], np.int64)),
        constant("zero_bias", np.float32(0)),
        constant("no_bias", np.float32(-1e9)),
        constant("head_sizes", np.array([heads, head], np.int64)),
        constant("to_rows", np.array([-1, width], np.int64)),
        constant("width", np.array([width], np.int64)),
        constant("scale", np.float32(head**-0.5)),
        weights(rng, "words", words, width),
        weights(rng, "places", longest, width),
        *(weights(rng, f"w_{name}", width, width) for name in "qkvo"),
        weights(rng, "b_o", width),
    ]
    # The slice's axis is `starts`, which is 0 as well.
    ids, mask = (helper.make_tensor_value_info(name, TensorProto.INT64, ["s0", "s77"]) for name in ["ids", "mask"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["s0", "s77", width])
    graph = helper.make_graph(nodes, "tokens", [ids, mask], [y], initializers)

    def call(batch, length):
        # Each sequence is shorter than the one before it, and has a token at least.
        seen = [[int(at < max(1, length - row)) for at in range(length)] for row in range(batch)]
        return [rng.integers(0, words, (batch, length)), np.array(seen, np.int64)]

    calls = [call(*shape) for shape in [(1, 7), (1, 1), (6, 24), (3, 3), (2, 11)]]
    return graph, calls


def pixels(rng):
    """Convolutions of which one halves the sides, a pool, an upsampling to the size of the image, and a mean."""
    node = helper.make_node
    nodes = [
        node("Conv", ["pixels", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Sigmoid", ["c2"], ["s"]),
        node("Resize", ["s", "", "scales"], ["map"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("GlobalAveragePool", ["s"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "w3", "b3"], ["scores"]),
    ]
    initializers = [
        weights(rng, "w1", 4, 3, 3, 3),
        weights(rng, "b1", 4),
        weights(rng, "w2", 6, 4, 3, 3),
        weights(rng, "w3", 6, 5),
        weights(rng, "b3", 5),
        constant("scales", np.array([1, 1, 4, 4], np.float32)),
    ]
    image = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    outputs = [
        helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", 6, "4*((height//4))", "4*((width//4))"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 5]),
    ]
    graph = helper.make_graph(nodes, "pixels", [image], outputs, initializers)
    shapes = [(1, 3, 8, 8), (4, 3, 16, 16), (2, 3, 24, 40), (1, 3, 48, 8)]
    calls = [[rng.uniform(-1, 1, shape).astype(np.float32)] for shape in shapes]
    return graph, calls


def main():
    to = pathlib.Path(sys.argv[1])
    for seed, make in enumerate([tokens, pixels]):
        graph, calls = make(np.random.default_rng(seed))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="open_fixtures")
        onnx.checker.check_model(model)
        reference = ReferenceEvaluator(model)
        folder = to / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        for number, inputs in enumerate(calls):
            names = [value.name for value in graph.input]
            outputs = reference.run(None, dict(zip(names, inputs)))
            of = folder / f"test_data_set_{number}"
            of.mkdir(exist_ok=True)
            for kind, tensors in [("input", inputs), ("output", outputs)]:
                for at, tensor in enumerate(tensors):
                    (of / f"{kind}_{at}.pb").write_bytes(numpy_helper.from_array(tensor).SerializeToString())


if __name__ == "__main__":
    main()

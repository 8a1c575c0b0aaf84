#!/usr/bin/env python3
"""Random LSTM, GRU and RNN nodes with the results of ONNX Runtime.

ONNX Runtime does not clip cells before their activation, as ONNX's definition has it: an LSTM with `clip` has the results of that
definition, in double precision.

    recurrent_fixtures.py json FILE COUNT     # what model/tests/recurrent.rs reads
    recurrent_fixtures.py tests FOLDER COUNT  # ONNX's layout of tests, for `kiln model test`

Needs numpy, onnx and onnxruntime. ONNX Runtime has no layout 1: its results for layout 0 are transposed.
"""

import json
import os
import random
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ACTIVATIONS = ["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu",
               "Softsign", "Softplus"]
WITH_ALPHA = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}
WITH_BETA = {"Affine", "ScaledTanh", "HardSigmoid"}


def clipped_lstm(given, attributes, like):
    """The results of an LSTM of the usual activations, whose arguments are all clipped."""
    wide = lambda name, shape: given[name].astype(np.float64) if name in given else np.zeros(shape)
    y, state, cells = (np.zeros(value.shape) for value in like)
    dirs, batch, hidden = state.shape
    x, w, r = (wide(name, ()) for name in "XWR")
    bias, h0, c0 = wide("B", (dirs, 8 * hidden)), wide("initial_h", state.shape), wide("initial_c", state.shape)
    lens = given.get("sequence_lens", np.full(batch, x.shape[0]))
    clip = lambda value: np.clip(value, -attributes["clip"], attributes["clip"])
    sigmoid = lambda value: 1 / (1 + np.exp(-clip(value)))
    for d in range(dirs):
        is_backward = d == 1 or attributes["direction"] == "reverse"
        for b in range(batch):
            h, c = h0[d, b], c0[d, b]
            for step in range(lens[b]):
                at = lens[b] - 1 - step if is_backward else step
                sums = w[d] @ x[at, b] + r[d] @ h + bias[d, :4 * hidden] + bias[d, 4 * hidden:]
                i, o, f, new = np.split(sums, 4)
                keep = 1 - sigmoid(i) if attributes.get("input_forget") else sigmoid(f)
                c = keep * c + sigmoid(i) * np.tanh(clip(new))
                h = sigmoid(o) * np.tanh(clip(c))
                y[at, d, b] = h
            state[d, b], cells[d, b] = h, c
    return [value.astype(np.float32) for value in (y, state, cells)]


def case(rng, data):
    op = rng.choice(["LSTM", "LSTM", "GRU", "GRU", "RNN"])
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    count = {"LSTM": 3, "GRU": 2, "RNN": 1}[op]
    direction = rng.choice(["forward", "reverse", "bidirectional"])
    dirs = 2 if direction == "bidirectional" else 1
    seq, batch, size, hidden = rng.choice([1, 2, 5]), rng.choice([1, 2, 3]), rng.choice([1, 3, 4]), rng.choice([1, 2, 5])
    attributes = {"hidden_size": hidden, "direction": direction}
    if rng.random() < 0.4:
        names = [rng.choice(ACTIVATIONS) for _ in range(count * dirs)]
        attributes["activations"] = names
        alphas = [rng.choice([0.25, 0.5, 0.75]) for name in names if name in WITH_ALPHA]
        betas = [rng.choice([0.25, 0.5, 0.75]) for name in names if name in WITH_BETA]
        if alphas:
            attributes["activation_alpha"] = alphas
        if betas:
            attributes["activation_beta"] = betas
    if rng.random() < 0.25:
        attributes["clip"] = 0.75
    if op == "GRU" and rng.random() < 0.6:
        attributes["linear_before_reset"] = 1
    if op == "LSTM" and rng.random() < 0.2:
        attributes["input_forget"] = 1
    array = lambda *shape: (data.integers(-8, 9, shape) / 8).astype(np.float32)
    weights = {"W": array(dirs, gates * hidden, size), "R": array(dirs, gates * hidden, hidden)}
    if rng.random() < 0.7:
        weights["B"] = array(dirs, 2 * gates * hidden)
    inputs = {"X": array(seq, batch, size)}
    # Some weights are inputs of the model: they cannot be packed ahead.
    if rng.random() < 0.15:
        inputs["R"] = weights.pop("R")
    if rng.random() < 0.4:
        lens = data.integers(1, seq + 1, batch).astype(np.int32)
        (inputs if rng.random() < 0.5 else weights)["sequence_lens"] = lens
    if rng.random() < 0.5:
        inputs["initial_h"] = array(dirs, batch, hidden)
    if op == "LSTM":
        if rng.random() < 0.5:
            inputs["initial_c"] = array(dirs, batch, hidden)
        if rng.random() < 0.4:
            weights["P"] = array(dirs, 3 * hidden)
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h"] + (["initial_c", "P"] if op == "LSTM" else [])
    given = [name if name in inputs or name in weights else "" for name in names]
    outputs = ["Y", "Y_h"] + (["Y_c"] if op == "LSTM" else [])
    shapes = {"Y": [seq, dirs, batch, hidden], "Y_h": [dirs, batch, hidden], "Y_c": [dirs, batch, hidden]}

    def model(attributes, inputs, shapes):
        node = helper.make_node(op, given, outputs, **attributes)
        kind = lambda value: TensorProto.INT32 if value.dtype == np.int32 else TensorProto.FLOAT
        graph = helper.make_graph(
            [node], "recurrent",
            [helper.make_tensor_value_info(name, kind(value), value.shape) for name, value in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in weights.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)

    if op == "LSTM" and "clip" in attributes and ("activations" in attributes or "P" in weights):
        del attributes["clip"]
    made = model(attributes, inputs, shapes)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(outputs, inputs)
    if op == "LSTM" and "clip" in attributes:
        results = clipped_lstm({**weights, **inputs}, attributes, results)
    if rng.random() < 0.3:
        swap = lambda value: np.ascontiguousarray(np.swapaxes(value, 0, 1))
        inputs = {name: value if name in ("R", "sequence_lens") else swap(value) for name, value in inputs.items()}
        results = [np.ascontiguousarray(results[0].transpose(2, 0, 1, 3))] + [swap(value) for value in results[1:]]
        shapes = {name: value.shape for name, value in zip(outputs, results)}
        made = model({**attributes, "layout": 1}, inputs, shapes)
    return made, inputs, dict(zip(outputs, results))


def main():
    mode, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rng, data, all_cases = random.Random(7), np.random.default_rng(7), []
    while len(all_cases) < count:
        try:
            all_cases.append(case(rng, data))
        except Exception as error:  # What ONNX Runtime refuses is no case.
            print("refused by ONNX Runtime:", str(error)[:120], file=sys.stderr)
    if mode == "json":
        tensor = lambda value: {"shape": list(value.shape), "ints": value.dtype == np.int32,
                                "data": [float(v) for v in value.ravel()]}
        rows = [{"model": made.SerializeToString().hex(),
                 "inputs": [tensor(value) for value in inputs.values()],
                 "outputs": [tensor(value) for value in results.values()]} for made, inputs, results in all_cases]
        with open(path, "w") as file:
            file.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
        return
    for at, (made, inputs, results) in enumerate(all_cases):
        folder = os.path.join(path, f"case_{at:04}", "test_data_set_0")
        os.makedirs(folder, exist_ok=True)
        onnx.save(made, os.path.join(folder, "..", "model.onnx"))
        for kind, tensors in (("input", inputs), ("output", results)):
            for position, (name, value) in enumerate(tensors.items()):
                with open(os.path.join(folder, f"{kind}_{position}.pb"), "wb") as file:
                    file.write(numpy_helper.from_array(value, name).SerializeToString())


main()

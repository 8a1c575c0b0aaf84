#!/usr/bin/env python3
"""Exports networks with pseudo-random weights by both of PyTorch's exporters, as tests in ONNX's layout.

    export.py FOLDER [--size small|full] [--only NAME,...] [--exporter dynamo|torchscript] [--shapes static|dynamic]

Writes FOLDER/NAME_EXPORTER_SHAPES/{model.onnx,test_data_set_0/{input_i,output_i}.pb}. The expected results are those of the module
in eager mode, in double precision, rounded to the type that the file declares. `kiln model test --max-rel 2e-5 FOLDER` compares. Needs
torch, torchvision, transformers, onnx and onnxscript; what could not be exported is printed and makes the exit code 1. The weights of
small networks have eight significant bits, so that archives of them are small: `sample.py` makes one.
"""

import argparse
import copy
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import onnx
import torch
from onnx import numpy_helper

import networks

if not torch.cuda.is_available():
    # A CUDA build of PyTorch whose libraries are not there must not be asked.
    torch.cuda.is_current_stream_capturing = lambda: False
# Its fused attention has no symbol in the older exporter.
torch.backends.mha.set_fastpath_enabled(False)
EXPORTERS = ("dynamo", "torchscript")
SHAPES = ("static", "dynamic")


def open_dimensions(inputs, names):
    """For each input the names of its first dimensions; a flat list of names is for all inputs."""
    per_input = names if isinstance(names[0], list) else [names] * len(inputs)
    return [dict(enumerate(list_of)) for list_of in per_input]


def export(net, inputs, names, exporter, shapes, path):
    labels = [f"input_{i}" for i in range(len(inputs))]
    open_dims = open_dimensions(inputs, names)
    if exporter == "dynamo":
        dynamic = None
        if shapes == "dynamic":
            dynamic = tuple(dict.fromkeys(dims, torch.export.Dim.DYNAMIC) for dims in open_dims)
        torch.onnx.export(net, inputs, path, dynamo=True, input_names=labels, dynamic_shapes=dynamic, external_data=False,
                          verbose=False)
    else:
        axes = dict(zip(labels, open_dims)) if shapes == "dynamic" else None
        torch.onnx.export(net, inputs, path, dynamo=False, input_names=labels, dynamic_axes=axes, opset_version=17)


def write(folder, kind, tensors):
    for i, tensor in enumerate(tensors):
        array = tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else np.asarray(tensor)
        with open(f"{folder}/{kind}_{i}.pb", "wb") as file:
            file.write(numpy_helper.from_array(np.ascontiguousarray(array), f"{kind}_{i}").SerializeToString())


def one(name, size, exporter, shapes, into):
    torch.manual_seed(0)
    net, inputs, names = networks.ALL[name](size)
    net = net.eval()
    # Statistics that are not the initial zeros and ones, so that folding them is seen.
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    if size == "small":
        for tensor in [*net.parameters(), *net.buffers()]:
            if tensor.is_floating_point():
                tensor.data = tensor.data.bfloat16().float()
    folder = f"{into}/{name}_{exporter}_{shapes}"
    data = f"{folder}/test_data_set_0"
    os.makedirs(data, exist_ok=True)
    with torch.no_grad():
        wide = copy.deepcopy(net).double()
        expected = wide(*[x.double() if x.is_floating_point() else x for x in inputs])
        eager = net(*inputs)
        error = (eager.double() - expected).abs().max() / expected.abs().max()
        export(net, inputs, names, exporter, shapes, f"{folder}/model.onnx")
    model = onnx.load(f"{folder}/model.onnx")
    # The older exporter computes in double precision what a list of integers and a Python number are the sum of.
    declared = onnx.helper.tensor_dtype_to_np_dtype(model.graph.output[0].type.tensor_type.elem_type)
    write(data, "input", inputs)
    write(data, "output", [expected.numpy().astype(declared)])
    bytes_of_model = os.path.getsize(f"{folder}/model.onnx")
    operators = sorted({node.op_type for node in model.graph.node})
    print(f"{name} {exporter} {shapes}: {bytes_of_model} bytes, eager off by {error:.1e}: {' '.join(operators)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", default=",".join(networks.ALL))
    parser.add_argument("--exporter", choices=EXPORTERS)
    parser.add_argument("--shapes", choices=SHAPES)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    names = args.only.split(",")
    exporters = [args.exporter] if args.exporter else EXPORTERS
    shapes = [args.shapes] if args.shapes else SHAPES
    failed = []
    for name, exporter, shape in [(name, exporter, shape) for name in names for exporter in exporters for shape in shapes]:
        # An exporter that crashes takes its process with it.
        child = os.fork()
        if child == 0:
            try:
                one(name, args.size, exporter, shape, args.folder)
            except BaseException as error:
                print(f"{name} {exporter} {shape}: NOT EXPORTED: {type(error).__name__}: {str(error)[:300]}", flush=True)
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            failed.append(f"{name} {exporter} {shape}")
    if failed:
        sys.exit(f"not exported: {', '.join(failed)}")


main()

"""Programs of ``torch.export``."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from .backend import compile_graph
from .options import Options

aten = torch.ops.aten

WHOLE = (
    aten.linear.default,
    aten.matmul.default,
    aten.scaled_dot_product_attention.default,
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.layer_norm.default,
    aten.native_layer_norm.default,
    aten.rms_norm.default,
    aten.group_norm.default,
    aten.batch_norm.default,
    aten.gelu.default,
    aten.silu.default,
    aten.hardswish.default,
    aten.hardsigmoid.default,
    aten.mish.default,
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.max_pool3d.default,
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.stack.default,
    aten.split.Tensor,
    aten.unbind.int,
    aten.softmax.int,
    aten.log_softmax.int,
    aten.dropout.default,
)
"""Operators that are not taken apart: the table has them whole."""


def compile(program: ExportedProgram, **options) -> "Program":
    """Compiles an exported program; it is called as its module was. Weights are those of the module that was exported, and changes of
    them are noticed as by the backend of ``torch.compile``. Options are those of the backend.
    """
    if not isinstance(program, ExportedProgram):
        raise TypeError(
            f"kiln.compile takes what torch.export.export returns, not {type(program).__name__}: "
            'for a module use torch.compile(module, backend="kiln")'
        )
    return Program(program, Options.of(options, None))


class Program(torch.nn.Module):
    """A compiled exported program."""

    def __init__(self, program: ExportedProgram, options: Options):
        super().__init__()
        table = torch.export.default_decompositions()
        for op in WHOLE:
            table.pop(op, None)
        program = program.run_decompositions(table)
        signature = program.graph_signature
        self._in_spec, self._out_spec = program.call_spec.in_spec, program.call_spec.out_spec
        self._program = program
        self._given: list = []
        static = set()
        state = {**program.state_dict, **program.constants}
        self._places: dict[str, int] = {}
        for at, spec in enumerate(signature.input_specs):
            if spec.kind == InputKind.USER_INPUT:
                self._given.append(None)
                if hasattr(spec.arg, "value"):
                    self._given[-1] = spec.arg.value
                    self._places.setdefault("constant", at)
                continue
            self._given.append(state[spec.target])
            if spec.kind != InputKind.BUFFER or spec.target not in signature.buffers_to_mutate.values():
                static.add(at)
        self._user = [at for at, spec in enumerate(signature.input_specs) if spec.kind == InputKind.USER_INPUT]
        self._outputs = signature.output_specs
        self._names = {spec.arg.name: at for at, spec in enumerate(signature.input_specs) if hasattr(spec.arg, "name")}
        self._targets = {spec.target: at for at, spec in enumerate(signature.input_specs) if spec.target is not None}
        gm = torch.fx.GraphModule(program.graph_module, program.graph_module.graph)
        self._function = compile_graph(gm, static, options)
        self._kiln_artifact = self._function._kiln_artifact

    def forward(self, *args, **kwargs):
        flat, spec = pytree.tree_flatten((args, kwargs))
        if spec != self._in_spec:
            raise TypeError(f"expected arguments as the program was exported with, {self._in_spec}, found {spec}")
        check_shapes(self._program, flat)
        given = list(self._given)
        for at, value in zip(self._user, flat):
            given[at] = value
        results = []
        with torch.no_grad():
            outputs = self._function(list(given))
            for spec, value in zip(self._outputs, outputs):
                if spec.kind == OutputKind.USER_OUTPUT:
                    results.append(value)
                elif spec.kind == OutputKind.BUFFER_MUTATION:
                    given[self._targets[spec.target]].copy_(value)
                elif spec.kind == OutputKind.USER_INPUT_MUTATION:
                    given[self._names[spec.target]].copy_(value)
                else:
                    raise NotImplementedError(f"an exported program with an output of the kind {spec.kind}")
        return pytree.tree_unflatten(results, self._out_spec)


def check_shapes(program: ExportedProgram, flat: list) -> None:
    """Refuses tensors of other shapes, types or devices than the program was exported for."""
    names = [spec for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    known: dict = {}
    for spec, value in zip(names, flat):
        node = nodes.get(getattr(spec.arg, "name", None))
        expected = None if node is None else node.meta.get("val")
        if not isinstance(expected, torch.Tensor):
            continue
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{node.name}: expected a tensor, found {type(value).__name__}")
        if value.dtype != expected.dtype or value.device.type != "cpu":
            raise TypeError(f"{node.name}: expected {expected.dtype} on the CPU, found {value.dtype} on {value.device}")
        if value.dim() != expected.dim():
            raise ValueError(f"{node.name}: expected {expected.dim()} axes, found the shape {tuple(value.shape)}")
        for axis, (size, found) in enumerate(zip(expected.shape, value.shape)):
            if isinstance(size, torch.SymInt):
                expression = size.node.expr
                bounds = program.range_constraints.get(expression)
                if known.setdefault(expression, found) != found or (bounds is not None and found not in bounds):
                    raise ValueError(f"{node.name}: axis {axis} is {found}, and was exported as {expression} in {bounds}")
            elif size != found:
                raise ValueError(f"{node.name}: axis {axis} is {found}, and was exported as {size}")

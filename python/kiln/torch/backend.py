"""The backend of ``torch.compile``."""

from __future__ import annotations

import logging
import time

import torch
from torch import fx
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch._guards import CompileContext, TracingContext

from .aliases import take_out
from .compiled import Part
from .errors import UnsupportedGraph
from .lowering import is_size
from .options import Options
from .partition import Support, eager_nodes, partitions, tell, without_checks
from .report import Artifact, register

log = logging.getLogger("kiln")

_told_of_grad = False


def backend(gm: fx.GraphModule, example_inputs: list, *, mode: str | None = None, options: dict | None = None):
    """Compiles a graph of TorchDynamo for inference. ``torch.compile(model, backend="kiln")`` calls this.

    Where gradients are wanted, the graph runs eagerly, and a message says so once: call the model under ``torch.no_grad()`` or
    ``torch.inference_mode()``.
    """
    chosen = Options.of(options, mode)
    if torch.is_grad_enabled() and _wants_grad(gm, example_inputs):
        global _told_of_grad
        if not _told_of_grad:
            _told_of_grad = True
            log.warning(
                "gradients are wanted, so the model runs eagerly: Kiln compiles inference. "
                "Call it under torch.no_grad() or torch.inference_mode()"
            )
        register(Artifact(_compile_id(), eager_reason="gradients are wanted"))
        return gm.forward

    def compile_inference(graph_module: fx.GraphModule, inputs: list):
        context = TracingContext.try_get()
        metadata = context.fw_metadata if context is not None else None
        static = set(metadata.static_input_indices or ()) if metadata is not None else set()
        return compile_graph(graph_module, static, chosen)

    return aot_autograd(fw_compiler=compile_inference, inference_compiler=compile_inference)(gm, example_inputs)


def _wants_grad(gm: fx.GraphModule, inputs: list) -> bool:
    if any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs):
        return True
    return any(p.requires_grad for p in gm.parameters())


def _compile_id() -> str:
    current = CompileContext.current_compile_id()
    return "" if current is None else f"{current.frame_id}/{current.frame_compile_id}"


def compile_graph(gm: fx.GraphModule, static: set[int], options: Options):
    """A boxed function for a functional graph of ATen operators; ``static`` are the inputs that are weights."""
    begun = time.perf_counter()
    without_checks(gm)
    gm.graph.eliminate_dead_code()
    views = take_out(gm.graph)
    support = Support(gm.graph, set(views))
    artifact = Artifact(_compile_id())
    eager = [node for node in eager_nodes(gm.graph, support.kept) if node not in views]
    is_whole = not eager and support.kept
    if not is_whole and options.strict and eager:
        raise UnsupportedGraph(_listed(support.reasons))
    if is_whole:
        function = _whole(gm, static, options, artifact, views)
    else:
        function = _in_parts(gm, static, options, support, artifact)
    tell(support.reasons)
    artifact.eager = [(str(node.target), reason) for node, reason in support.reasons.items()]
    artifact.seconds = time.perf_counter() - begun
    function._kiln_artifact = register(artifact)
    function._boxed_call = True
    return function


def _listed(reasons: dict[fx.Node, str]) -> str:
    lines = sorted({f"{node.target}: {reason}" for node, reason in reasons.items()})
    return "Kiln does not compile these operators of the graph:\n" + "\n".join(f"  {line}" for line in lines)


def _outputs(graph: fx.Graph) -> list:
    output = next(iter(reversed(graph.nodes)))
    returned = output.args[0]
    return list(returned) if isinstance(returned, (list, tuple)) else [returned]


def _whole(gm: fx.GraphModule, static: set[int], options: Options, artifact: Artifact, views: list[fx.Node]):
    """The graph as one function."""
    placeholders = [node for node in gm.graph.nodes if node.op == "placeholder"]
    attributes = [node for node in gm.graph.nodes if node.op == "get_attr"]
    weights = {node for at, node in enumerate(placeholders) if at in static} | set(attributes)
    for node in attributes:
        node.meta.setdefault("val", _attribute(gm, node.target))
    returned = _outputs(gm.graph)
    needed = [*returned, *(source for view in views for source in view.all_input_nodes)]
    results = [node for node in dict.fromkeys(needed) if isinstance(node, fx.Node) and _is_computed(node)]
    results = [node for node in results if node not in views]
    part = Part(_inner(gm.graph, views), results, weights, None, options, "graph")
    part.fallback = _results_of(gm, results)
    artifact.parts.append(part)
    constants = [_attribute(gm, node.target) for node in part.given if node.op == "get_attr"]
    positions = {node: at for at, node in enumerate(placeholders)}
    order = [positions.get(node) for node in part.given]
    is_plain = order == list(range(len(placeholders))) and returned == results
    call = part.call
    if is_plain:

        def boxed(args: list):
            inputs = list(args)
            args.clear()
            return call(inputs)

        return boxed

    sizes = [node for node in needed if isinstance(node, fx.Node) and is_size(node) and node.op != "placeholder"]
    computed = _sizes_of(gm, sizes) if sizes else None
    passed = [(node, positions[node]) for node in dict.fromkeys(needed) if node in positions]

    def boxed_with_others(args: list):
        inputs = list(args)
        args.clear()
        rest = iter(constants)
        outputs = call([next(rest) if at is None else inputs[at] for at in order]) if results else []
        known = {node: inputs[at] for node, at in passed}
        known.update(zip(results, outputs))
        if computed is not None:
            known.update(zip(sizes, computed(*inputs)))

        def value(node):
            return known[node]

        for view in views:
            known[view] = view.target(*fx.node.map_arg(view.args, value), **fx.node.map_arg(view.kwargs, value))
        return [known[node] if isinstance(node, fx.Node) else node for node in returned]

    return boxed_with_others


def _inner(graph: fx.Graph, views: list[fx.Node]) -> list[fx.Node]:
    """The nodes that are compiled."""
    return [node for node in graph.nodes if node not in views]


def _is_computed(node: fx.Node) -> bool:
    return node.op != "placeholder" and not is_size(node)


def _attribute(gm: fx.GraphModule, name: str):
    value = gm
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _results_of(gm: fx.GraphModule, results: list[fx.Node]):
    """The graph run eagerly, with these nodes as results: for sizes that are not compiled."""
    made: list = []

    def run(*given):
        if not made:
            made.append(_subgraph(gm, results))
        return made[0](*given)

    return run


def _subgraph(gm: fx.GraphModule, results: list[fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    mapping: dict = {}
    for node in gm.graph.nodes:
        if node.op == "output":
            break
        if node.op == "get_attr":
            # Attributes are given, as they are to the compiled function.
            copied = graph.placeholder(node.name)
        else:
            copied = graph.node_copy(node, lambda n: mapping[n])
        mapping[node] = copied
    graph.output([mapping[node] for node in results])
    # Placeholders come first in the code of a graph whatever their place is.
    return fx.GraphModule(gm, graph)


def _sizes_of(gm: fx.GraphModule, sizes: list[fx.Node]):
    graph = fx.Graph()
    mapping: dict = {}
    for node in gm.graph.nodes:
        if node.op == "placeholder" or (node.op == "call_function" and is_size(node)):
            mapping[node] = graph.node_copy(node, lambda n: mapping[n])
    graph.output([mapping[node] for node in sizes])
    return fx.GraphModule(gm, graph)


def _in_parts(gm: fx.GraphModule, static: set[int], options: Options, support: Support, artifact: Artifact):
    """The graph with its parts that are compiled as modules, called one after another."""
    placeholders = [node for node in gm.graph.nodes if node.op == "placeholder"]
    weights = {node.name for at, node in enumerate(placeholders) if at in static}
    fused, calls = partitions(gm, support, options.min_nodes)
    for number, call in enumerate(calls):
        module = fused.get_submodule(call.target)
        inner = [node for node in module.graph.nodes if node.op == "placeholder"]
        own = {
            node
            for node, outer in zip(inner, call.args)
            if outer.op == "get_attr" or (outer.op == "placeholder" and outer.name in weights)
        }
        for node, outer in zip(inner, call.args):
            if "val" not in node.meta:
                node.meta["val"] = outer.meta["val"] if "val" in outer.meta else _attribute(gm, outer.target)
        returned = _outputs(module.graph)
        is_single = not isinstance(next(iter(reversed(module.graph.nodes))).args[0], (list, tuple))
        fallback = _as_list(module) if is_single else module.forward
        part = Part(list(module.graph.nodes), returned, own, fallback, options, f"part{number}")
        artifact.parts.append(part)
        setattr(fused, call.target, _Called(part.call, is_single))
    fused.recompile()
    return make_boxed_func(fused.forward)


def _as_list(module):
    return lambda *given: [module(*given)]


class _Called(torch.nn.Module):
    """A compiled part as a module of the graph around it."""

    def __init__(self, call, is_single: bool):
        super().__init__()
        self.call, self.is_single = call, is_single

    def forward(self, *given):
        outputs = self.call(list(given))
        return outputs[0] if self.is_single else tuple(outputs)


__all__ = ["backend", "compile_graph"]

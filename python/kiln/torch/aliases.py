"""Results that are views of one tensor: they share its memory, so PyTorch makes them from it after a call."""

from __future__ import annotations

import operator

import torch
from torch import fx


def _is_view(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return _is_view(node.args[0])
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)


def _chain(node: fx.Node) -> list[fx.Node]:
    """The views that a result is made by, the first one first; what they are of comes before them."""
    chain = []
    while _is_view(node):
        chain.append(node)
        node = node.args[0]
    return [node, *reversed(chain)]


def take_out(graph: fx.Graph) -> list[fx.Node]:
    """Makes results that share memory with others views of what they are views of, by nodes of their own at the end of the graph.

    These nodes are returned in order. Nothing else reads them.
    """
    output = next(iter(reversed(graph.nodes)))
    returned = output.args[0]
    if not isinstance(returned, (list, tuple)):
        return []
    chains = {}
    for node in returned:
        if isinstance(node, fx.Node) and isinstance(node.meta.get("val"), torch.Tensor) and node.op == "call_function":
            chains[node] = _chain(node)
    roots: dict[fx.Node, int] = {}
    for chain in chains.values():
        roots[chain[0]] = roots.get(chain[0], 0) + 1
    taken, made = [], {}
    for node, chain in chains.items():
        root = chain[0]
        # Views of arguments are made anew by AOTAutograd.
        if len(chain) == 1 or root.op != "call_function" or roots[root] == 1:
            continue
        copy = root
        with graph.inserting_before(output):
            for view in chain[1:]:
                copy = graph.call_function(view.target, (copy, *view.args[1:]), dict(view.kwargs))
                copy.meta = dict(view.meta)
                taken.append(copy)
        made[node] = copy
    if made:
        output.args = (type(returned)(made.get(node, node) for node in returned),)
        graph.eliminate_dead_code()
    return taken

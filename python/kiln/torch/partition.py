"""What of a graph is compiled: all of it, or the parts that may be, by PyTorch's partitioner."""

from __future__ import annotations

import logging
import operator

import torch
from torch import fx
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from .lowering import check, is_size

log = logging.getLogger("kiln")

aten = torch.ops.aten

HEAVY = {
    aten.mm.default,
    aten.bmm.default,
    aten.matmul.default,
    aten.addmm.default,
    aten.baddbmm.default,
    aten.linear.default,
    aten.convolution.default,
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_attention_math.default,
    aten.scaled_dot_product_attention.default,
    aten._transformer_encoder_layer_fwd.default,
    aten._native_multi_head_attention.default,
}
"""Operators of which one is worth a call."""

CHECKS = {
    aten._assert_tensor_metadata.default,
    aten.sym_constrain_range.default,
    aten.sym_constrain_range_for_size.default,
}
"""Nodes without a result that check what the importer checks too."""


class Support(OperatorSupportBase):
    """Which nodes Kiln compiles, and why not the others."""

    def __init__(self, graph: fx.Graph, apart: set[fx.Node]):
        self.reasons: dict[fx.Node, str] = {}
        self.kept: set[fx.Node] = set()
        for node in graph.nodes:
            if node.op != "call_function" or is_size(node) or node in apart:
                continue
            if node.target is operator.getitem and node.args[0] in self.reasons:
                continue
            reason = check(node)
            if reason is None:
                self.kept.add(node)
            else:
                self.reasons[node] = reason

    def is_node_supported(self, submodules, node: fx.Node) -> bool:
        return node in self.kept


def eager_nodes(graph: fx.Graph, kept: set[fx.Node]) -> list[fx.Node]:
    """The nodes of tensors that stay eager."""
    return [
        node
        for node in graph.nodes
        if node.op in ("call_function", "call_module", "call_method") and not is_size(node) and node not in kept
    ]


def without_checks(gm: fx.GraphModule) -> None:
    """Removes nodes that check what the importer checks too."""
    for node in list(gm.graph.nodes):
        if node.op == "call_function" and node.target in CHECKS and not node.users:
            gm.graph.erase_node(node)


def _is_worth(nodes, least: int) -> bool:
    counted = [node for node in nodes if node.target is not operator.getitem]
    return len(counted) >= least or any(node.target in HEAVY for node in counted)


def partitions(gm: fx.GraphModule, support: Support, least: int) -> tuple[fx.GraphModule, list[fx.Node]]:
    """The graph with the parts that are compiled as modules, and the nodes that call these."""
    partitioner = CapabilityBasedPartitioner(gm, support, allows_single_node_partition=True)
    kept = []
    for part in partitioner.propose_partitions():
        nodes = list(part.nodes)
        if _is_worth(nodes, least):
            kept.append(part)
        else:
            for node in nodes:
                support.kept.discard(node)
                if node.target is not operator.getitem:
                    support.reasons[node] = f"its part of the graph has fewer than {least} operators"
    before = set(gm.graph.nodes)
    fused = partitioner.fuse_partitions(kept, prefix="kiln_")
    calls = [node for node in fused.graph.nodes if node not in before and node.op == "call_module"]
    return fused, calls


_told: set[tuple[str, str]] = set()


def tell(reasons: dict[fx.Node, str]) -> None:
    """Names each operator that stays eager once, with its reason."""
    for node, reason in reasons.items():
        key = (str(node.target), reason)
        if key not in _told:
            _told.add(key)
            log.warning("%s stays eager: %s", *key)

"""What was compiled of a function, and what stayed eager."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import torch


@dataclass(eq=False)
class Artifact:
    """What became of one graph."""

    compile_id: str
    parts: list = field(default_factory=list)
    eager: list[tuple[str, str]] = field(default_factory=list)
    eager_reason: str | None = None
    seconds: float = 0.0


_artifacts: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_eager: dict[str, Artifact] = {}
_count = 0


def register(artifact: Artifact) -> Artifact:
    """Makes an artifact known to reports, as long as it is alive."""
    global _count
    _count += 1
    _artifacts[_count] = artifact
    if artifact.eager_reason is not None:
        # Nothing else holds it.
        _eager[artifact.compile_id] = artifact
    return artifact


@dataclass
class Report:
    """The graphs of a function, each with its partitions and what stayed eager."""

    graphs: list[dict]

    @property
    def partitions(self) -> int:
        """How many parts of graphs are compiled."""
        return sum(len(graph["partitions"]) for graph in self.graphs)

    @property
    def kernels(self) -> int:
        """How many steps are kernels."""
        return sum(part["kernels"] for graph in self.graphs for part in graph["partitions"])

    @property
    def eager(self) -> list[tuple[str, str]]:
        """The operators that stayed eager, each with its reason."""
        return [pair for graph in self.graphs for pair in graph["eager"]]

    def __str__(self) -> str:
        lines = []
        for graph in self.graphs:
            lines.append(f"graph {graph['id']}: compiled in {1000 * graph['seconds']:.1f} ms")
            if graph["reason"]:
                lines.append(f"  runs eagerly: {graph['reason']}")
            for part in graph["partitions"]:
                sizes = f" for {part['shapes']} shapes" if part["dynamic"] else ""
                lines.append(f"  {part['name']}: {part['nodes']} operators{sizes}, {part['kernels']} kernels, fpmath={part['fpmath']}")
                if part["memory"]:
                    lines.append("    bytes: " + ", ".join(f"{k} {v}" for k, v in part["memory"].items()))
                for step in part["steps"]:
                    lines.append(f"    {step['kind']:11} {step.get('problem') or step['text']}")
            for target, reason in graph["eager"]:
                lines.append(f"  eager: {target}: {reason}")
        return "\n".join(lines) or "nothing was compiled yet: call the function first"


def _described(artifact: Artifact) -> dict:
    parts = []
    for part in artifact.parts:
        exacts = part.exacts()
        graph = exacts[-1][1].graph if exacts else None
        steps = graph.steps() if graph else []
        parts.append(
            {
                "name": part.name,
                "nodes": sum(node.op == "call_function" for node in part.nodes),
                "dynamic": part.is_dynamic,
                "shapes": len(exacts),
                "fpmath": exacts[-1][1].fpmath if exacts else None,
                "seconds": sum(exact.seconds for _, exact in exacts),
                "kernels": sum(step["kind"] == "kernel" for step in steps),
                "steps": steps,
                "memory": graph.memory() if graph else None,
                "eager_shapes": dict(part.eager_shapes),
            }
        )
    return {
        "id": artifact.compile_id,
        "seconds": artifact.seconds,
        "partitions": parts,
        "eager": list(artifact.eager),
        "reason": artifact.eager_reason,
    }


def report(fn) -> Report:
    """What was compiled of a function or a module that ``torch.compile`` or ``kiln.compile`` returned, as far as it was called."""
    own = getattr(fn, "_kiln_artifact", None)
    if own is not None:
        return Report([_described(own)])
    ids = _compile_ids(fn)
    found = {}
    for number, artifact in sorted(_artifacts.items()):
        if artifact.compile_id in ids:
            # The ids of a process begin again after a reset: the last artifact of an id counts.
            found[artifact.compile_id] = artifact
    return Report([_described(artifact) for _, artifact in sorted(found.items())])


def _compile_ids(fn) -> set[str]:
    """The ids of all that TorchDynamo compiled for the code of a function, and for code that it goes on with."""
    ids, seen, todo = set(), set(), []
    modules = []
    if isinstance(fn, torch.nn.Module):
        inner = getattr(fn, "_orig_mod", fn)
        modules = list(inner.modules())
    for module in modules:
        todo.append(type(module).forward)
    for candidate in (fn, getattr(fn, "_torchdynamo_orig_callable", None), getattr(fn, "forward", None)):
        if candidate is not None:
            todo.append(candidate)
    while todo:
        candidate = todo.pop()
        candidate = getattr(candidate, "__func__", candidate)
        candidate = getattr(candidate, "_torchdynamo_orig_callable", candidate)
        candidate = getattr(candidate, "__func__", candidate)
        code = getattr(candidate, "__code__", None)
        if code is None or code in seen:
            continue
        seen.add(code)
        names = getattr(candidate, "__globals__", {})
        for entry in torch._dynamo.eval_frame._debug_get_cache_entry_list(code):
            ids.add(str(entry.compile_id))
            for name in entry.code.co_names:
                if name.startswith("__resume_at") and name in names:
                    todo.append(names[name])
    return ids


__all__ = ["Artifact", "Report", "register", "report"]

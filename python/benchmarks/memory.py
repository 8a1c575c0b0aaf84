"""What a network takes in memory with Kiln, beside what PyTorch takes without any network.

``python memory.py bert`` runs the full network of that name in ``networks.py``. The baseline is a process that has compiled a small
network with Kiln, so that all that is imported for that is there. ``--release`` gives the originals of packed weights back.
Prints MB (10^6 bytes) that are resident beyond the baseline, and the share of weights and packed weights that this is.
"""

from __future__ import annotations

import argparse
import ctypes
import gc

import torch


def resident() -> int:
    """Bytes of this process in memory, after what is free was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/smaps_rollup") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("Rss:"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", default="bert")
    parser.add_argument("--release", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    import networks

    import kiln

    options = {"release": arguments.release}
    # The same imports, passes of TorchDynamo and kernels of oneDNN, with weights that are small.
    model, args, kwargs = networks.NETWORKS[arguments.name](True)
    with torch.no_grad():
        model(*args, **kwargs)
        small = torch.compile(model, backend="kiln", options=options)
        small(*args, **kwargs)
    del small, model
    torch._dynamo.reset()
    packed_before = kiln.counters()["packed_bytes"]
    before = resident()
    print(f"{'torch and Kiln, a small network':44} {before / 1e6:8.1f} MB")

    def say(text: str) -> int:
        now = resident() - before
        print(f"{text:44} {now / 1e6:8.1f} MB more")
        return now

    model, args, kwargs = networks.NETWORKS[arguments.name](False)
    weights = sum(t.untyped_storage().nbytes() for t in {t.data_ptr(): t for t in [*model.parameters(), *model.buffers()]}.values())
    say(f"the network, with weights of {weights / 1e6:.1f} MB")
    with torch.no_grad():
        compiled = torch.compile(model, backend="kiln", options=options)
        compiled(*args, **kwargs)
        first = say("after the first call")
        for _ in range(3):
            compiled(*args, **kwargs)
    now = say("after the fourth call")
    packed = kiln.counters()["packed_bytes"] - packed_before
    for graph in kiln.report(compiled).graphs:
        for part in graph["partitions"]:
            print(f"    {part['name']}: " + ", ".join(f"{name} {value / 1e6:.1f}" for name, value in (part["memory"] or {}).items()))
    kept = sum(t.untyped_storage().nbytes() for t in {id(t): t for t in [*model.parameters(), *model.buffers()]}.values())
    print(f"packed weights {packed / 1e6:.1f} MB, originals {kept / 1e6:.1f} MB: {max(first, now) / (kept + packed):.3f} of both")


if __name__ == "__main__":
    main()

"""Kiln's backend beside eager, inductor, inductor with freezing, and OpenVINO and ONNX Runtime where they are installed.

``python compare.py resnet50 bert --threads 1 2`` runs each in a process of its own, since memory and caches are the process's. The
processes live at once, and their warm calls take turns, one after another, so that all see the same machine. For each: the time to the
first result (from ``torch.compile`` on), the time of a warm call (the median of the rounds), the greatest memory, and the error
against eager. ``--json FILE`` writes the same for ``chart.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

SUBJECTS = ("kiln", "eager", "inductor", "inductor+freezing", "openvino", "onnxruntime")


def session(subject: str, path: str, threads: int):
    """What runs the file on so many threads in f32: a function of arrays by name."""
    if subject == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in made.get_inputs()]
        return lambda arrays: made.run(None, dict(zip(names, arrays)))
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda arrays: list(request.infer(dict(enumerate(arrays))).values())


def exported(model, args: tuple, kwargs: dict, subject: str, threads: int):
    """A function like the module, which exports it to a file now and, from the first call on, runs that. The export is not timed: a user
    has the file."""
    import torch

    folder = tempfile.TemporaryDirectory()
    path = os.path.join(folder.name, "model.onnx")
    torch.onnx.export(model, args, path, kwargs=kwargs, dynamo=True, verbose=False)
    made = []

    def run(*args, **kwargs):
        if not made:
            made.append((session(subject, path, threads), folder))
        return [torch.from_numpy(x) for x in made[0][0]([value.numpy() for value in (*args, *kwargs.values())])]

    return run


def serve(name: str, subject: str, threads: int) -> None:
    """Compiles, says how that went, and makes one warm call for each line that comes in."""
    import torch

    torch.set_num_threads(threads)
    import networks

    torch.manual_seed(0)
    model, args, kwargs = networks.NETWORKS[name](False)
    with torch.no_grad():
        expected = networks.tensors_of(model(*args, **kwargs))
        if subject in ("onnxruntime", "openvino"):
            model = exported(model, args, kwargs, subject, threads)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        if subject == "kiln":
            from kiln.torch import backend

            model = torch.compile(model, backend=backend)
        elif subject.startswith("inductor"):
            import torch._inductor.config

            torch._inductor.config.freezing = subject.endswith("freezing")
            model = torch.compile(model, backend="inductor")
        found = networks.tensors_of(model(*args, **kwargs))
        first = time.perf_counter() - begun
        error = max(
            float((a - b).abs().max() / a.abs().max()) for a, b in zip(expected, found) if a.numel() and a.dtype.is_floating_point
        )
        for _ in range(3):
            model(*args, **kwargs)
        print(json.dumps({"first": first, "error": error, "before": before}), flush=True)
        for line in sys.stdin:
            calls = []
            for _ in range(int(line)):
                begun = time.perf_counter()
                model(*args, **kwargs)
                calls.append(time.perf_counter() - begun)
            print(json.dumps({"calls": calls, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)


def _ask(process, text: str | None = None) -> dict | None:
    if text is not None:
        process.stdin.write(text + "\n")
        process.stdin.flush()
    line = process.stdout.readline()
    return json.loads(line) if line else None


def measure(name: str, threads: int, subjects: list[str], rounds: int, calls: int) -> list[dict]:
    """Prints a table for one network, and gives its rows."""
    processes, started = {}, {}
    folder = tempfile.TemporaryDirectory()
    for subject in subjects:
        command = [sys.executable, __file__, "--serve", name, subject, str(threads)]
        # Inductor would otherwise find what it compiled for another process.
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder.name, subject)}
        errors = open(os.path.join(folder.name, f"{subject}.txt"), "w+")
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        answer = _ask(process)
        if answer is None:
            errors.seek(0)
            why = [line for line in errors.read().splitlines() if line.strip()] or [f"it ended with {process.wait()}"]
            print(f"{name} {subject}: does not run here: {why[-1]}", flush=True)
            continue
        processes[subject], started[subject] = process, answer
    times: dict[str, list[float]] = {subject: [] for subject in processes}
    last: dict[str, dict] = {}
    for at in range(rounds):
        order = list(processes)
        order = order[at % len(order) :] + order[: at % len(order)]
        for subject in order:
            last[subject] = _ask(processes[subject], str(calls))
            # The first of several calls finds the caches of another process.
            times[subject].append(statistics.median(last[subject]["calls"][1:]))
    print(f"{name}, {threads} thread(s), {rounds} rounds of {calls} calls, interleaved")
    print(f"  {'':18} {'warm call':>10} {'first result':>13} {'peak memory':>12} {'error':>8}")
    rows = []
    for subject, process in processes.items():
        process.stdin.close()
        process.wait()
        row = started[subject]
        warm = statistics.median(times[subject])
        print(
            f"  {subject:18} {1000 * warm:7.2f} ms {1000 * row['first']:10.0f} ms {last[subject]['peak'] / 1024:9.0f} MB {row['error']:8.1e}",
            flush=True,
        )
        peak = last[subject]["peak"] * 1024
        rows.append(
            {"network": name, "threads": threads, "subject": subject, "warm_s": warm, "first_s": row["first"], "peak_bytes": peak}
        )
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.names:
        for threads in arguments.threads:
            rows += measure(name, threads, arguments.subjects, arguments.rounds, arguments.calls)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()

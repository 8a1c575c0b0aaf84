#!/usr/bin/env python3
"""Makes an archive of some of the networks that export.py wrote: the smallest with which each exporter has all of its operators.

    export.py FOLDER
    kiln model test --max-rel 2e-5 FOLDER
    sample.py FOLDER model/tests/exported.tar.gz

An exporter's operators are those that its files in FOLDER have, with static and with dynamic shapes. `model/tests/exported.rs` runs the
archive and says what must be in it.
"""

import gzip
import io
import os
import sys
import tarfile

import onnx


def read(test):
    """The files of a test by their names in the archive."""
    paths = sorted(os.path.join(at, name) for at, _, names in os.walk(test) for name in names)
    return {f"{os.path.basename(test)}/{os.path.relpath(path, test)}": open(path, "rb").read() for path in paths}


def kinds(test):
    """What a test has: operators of its exporter, and its exporter with static or dynamic shapes."""
    _, exporter, shapes = os.path.basename(test).rsplit("_", 2)
    model = onnx.load(f"{test}/model.onnx")
    graphs, nodes = [model.graph, *model.functions], []
    while graphs:
        nodes.extend(more := list(graphs.pop().node))
        graphs.extend(a.g for node in more for a in node.attribute if a.HasField("g"))
    return {(exporter, shapes), *((exporter, node.domain, node.op_type) for node in nodes)}


def choose(size, of):
    """The tests to take: that with the most new kinds a byte first, and in the end none that the others do without."""
    every = set().union(*of.values())
    chosen, left = [], set(every)
    while left:
        chosen.append(max(size, key=lambda test: (len(of[test] & left) / size[test], test)))
        left -= of[chosen[-1]]
    for test in sorted(chosen, key=size.get, reverse=True):
        others = [other for other in chosen if other != test]
        if set().union(*(of[other] for other in others)) == every:
            chosen = others
    return sorted(chosen), every


def main(folder, archive):
    tests = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    size = {test: len(gzip.compress(b"".join(read(test).values()))) for test in tests}
    chosen, every = choose(size, {test: kinds(test) for test in tests})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for test in chosen:
            for name, content in read(test).items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    with open(archive, "wb") as file:
        file.write(gzip.compress(buffer.getvalue(), 9, mtime=0))
    print(f"{len(chosen)} of {len(tests)} networks, {os.path.getsize(archive)} bytes: {' '.join(map(os.path.basename, chosen))}")
    for exporter in sorted({kind[0] for kind in every}):
        print(f"{exporter}: {sum(kind[0] == exporter and len(kind) == 3 for kind in every)} operators")


if __name__ == "__main__":
    main(*sys.argv[1:])

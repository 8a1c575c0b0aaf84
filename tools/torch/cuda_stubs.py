#!/usr/bin/env python3
"""Makes a build of PyTorch for CUDA importable where CUDA is not installed.

    python cuda_stubs.py SITE_PACKAGES

PyPI's wheel for x86-64 is such a build. Its libraries name those of CUDA as needed, several gigabytes that no operator on a CPU calls. For each
of these names that the loader would not find, a small library is written beside PyTorch's own. It has the symbols that PyTorch's libraries
expect there. Functions of the CUDA runtime return that there is no device, all others return zero.

Needs ``nm`` and ``readelf`` of binutils, and ``cc``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

# cudaErrorNoDevice.
NO_DEVICE = 100
# Functions of the runtime that succeed nevertheless: each kernel's registration while a library is loaded, and the last error's query.
SUCCEED = re.compile(r"__cuda|cudaGetLastError$|cudaPeekAtLastError$")
# These return text.
TEXT = {"cudaGetErrorString", "cudaGetErrorName"}


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def needed(library: Path) -> set[str]:
    """The names of the libraries that one needs."""
    return set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.+?)\]", output("readelf", "-dW", library)))


def version_owners(library: Path) -> dict[str, str]:
    """Which library each version of symbols is expected of."""
    owners, owner = {}, ""
    for line in output("readelf", "-VW", library).splitlines():
        if found := re.search(r"\bFile: (\S+)", line):
            owner = found[1]
        elif found := re.search(r"\bName: (\S+)\s+Flags: \S+\s+Version: \d+", line):
            owners[found[1]] = owner
    return owners


def undefined(library: Path) -> set[tuple[str, str]]:
    """Symbols that must come from elsewhere, with their versions, which may be empty. Weak ones may stay undefined."""
    lines = (line.split() for line in output("nm", "-D", "--undefined-only", library).splitlines())
    names = (fields[-1] for fields in lines if fields[-2] == "U")
    return {(name, version.lstrip("@")) for name, _, version in (text.partition("@") for text in names)}


def defined(library: Path) -> set[str]:
    """Symbols that a library has."""
    return {line.split()[-1].partition("@")[0] for line in output("nm", "-D", "--defined-only", library).splitlines()}


def stub(name: str) -> str:
    """A function in C."""
    if name in TEXT:
        return f'const char *{name}(void) {{ return "there is no CUDA here"; }}'
    value = NO_DEVICE if name.startswith("cuda") and not SUCCEED.match(name) else 0
    return f"long {name}(void) {{ return {value}; }}"


def write(path: Path, symbols: dict[str, set[str]]) -> None:
    """Writes a library of stubs; the key of ``symbols`` is their version, which may be empty."""
    names = sorted(set().union(*symbols.values()))
    source = path.with_suffix(".c")
    source.write_text("\n".join(stub(name) for name in names) + "\n")
    command = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{path.name}", "-o", path, source]
    versions = [(version, names) for version, names in sorted(symbols.items()) if version]
    script = path.with_suffix(".map")
    if versions:
        script.write_text("".join(f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};\n" for version, names in versions))
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, check=True)
    source.unlink()
    script.unlink(missing_ok=True)


def main() -> None:
    folder = Path(sys.argv[1]) / "torch"
    libraries = sorted([*folder.glob("lib/*.so*"), *folder.glob("_C*.so")])
    if not libraries:
        sys.exit(f"{folder}: there are no libraries of PyTorch")
    there = {library.name for library in libraries} | set(re.findall(r"^\s+(\S+) \(", output("/sbin/ldconfig", "-p"), re.M))
    missing = set().union(*(needed(library) for library in libraries)) - there
    symbols: dict[str, dict[str, set[str]]] = {name: defaultdict(set) for name in missing}
    nobodys: set[str] = set()
    for library in libraries:
        owners = version_owners(library)
        for name, version in undefined(library):
            if not version:
                nobodys.add(name)
            elif owners[version] in missing:
                symbols[owners[version]][version].add(name)
    # A symbol without a version may come from any library. The interpreter has those of Python.
    nobodys = {name for name in nobodys - set().union(*(defined(library) for library in libraries)) if not re.match(r"_?Py", name)}
    if missing:
        symbols[min(missing)][""] |= nobodys
    for name in sorted(missing):
        write(folder / "lib" / name, symbols[name])
        print(f"{name}: {sum(len(names) for names in symbols[name].values())} stubs")


if __name__ == "__main__":
    main()

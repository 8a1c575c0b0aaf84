#!/usr/bin/env python3
"""Collects the licences of what a package is linked with: third_party.py PACKAGE TARGET FOLDER

The folder gets a subfolder for each package that is no part of this workspace and whose code is linked, with the files in which the package
states its licence, and that of code of others within it, and `README`, a list of all with their licences. What is needed only to build or
to test is left out. A dependency that a feature turns on is listed, also if this package does not turn it on.
"""

import json
import pathlib
import shutil
import subprocess
import sys

FILES = ("license", "licence", "copying", "notice", "copyright", "unlicense")


def linked(metadata, package):
    """The packages of other people that are linked into a package of the workspace."""
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    root = next(p["id"] for p in metadata["packages"] if p["name"] == package and p["id"] in metadata["workspace_members"])
    found, todo = set(), [root]
    while todo:
        here = todo.pop()
        if here in found:
            continue
        found.add(here)
        for dep in nodes[here]["deps"]:
            kinds = [kind["kind"] for kind in dep["dep_kinds"]]
            is_macro = any("proc-macro" in target["kind"] for target in packages[dep["pkg"]]["targets"])
            # None is the kind of what is neither for building nor for tests.
            if None in kinds and not is_macro:
                todo.append(dep["pkg"])
    others = [packages[one] for one in found - set(metadata["workspace_members"])]
    return sorted(others, key=lambda p: (p["name"], p["version"]))


def main():
    package, target, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    root = pathlib.Path(__file__).resolve().parent.parent
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)
    lines = [f"Packages that are linked into {package}, besides the standard library of Rust (MIT OR Apache-2.0):", ""]
    packages = linked(metadata, package)
    if not packages:
        sys.exit("third_party.py: no package is linked: this cannot be")
    for one in packages:
        name = f"{one['name']}-{one['version']}"
        if not one["license"]:
            sys.exit(f"third_party.py: {name} states no licence")
        source = pathlib.Path(one["manifest_path"]).parent
        entries = sorted([*source.glob("*"), *source.glob("*/*")])
        files = [f for f in entries if f.is_file() and f.name.lower().startswith(FILES)]
        text = "" if files else "; no file with its text"
        lines.append(f"{name}: {one['license']}; {one['repository'] or 'no repository named'}{text}")
        for file in files:
            copy = folder / name / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    (folder / "README").write_text("\n".join(lines) + "\n")
    print(f"licences of {len(packages)} packages")


if __name__ == "__main__":
    main()

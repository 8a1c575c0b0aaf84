#!/usr/bin/env python3
"""Runs the test programs that cargo has built, two at a time, where cargo would run one after another.

    cargo test --no-run --message-format=json-render-diagnostics ... > built.json
    tools/run_tests.py built.json [--runner COMMAND] [--first NAME,...] [NAME...]

Each program runs as cargo would run it, and its output is printed when it has ended. NAMEs are those of test targets; without any, all
programs run. Those that take longest are named by --first, so that no core is idle at the end. Fails if a program fails, if a NAME has no
program, or if there is none at all.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

AT_ONCE = 2


def built(messages):
    """The test programs by the names of their targets, with the folder of each one's package."""
    for line in messages:
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            yield message["target"]["name"], (message["executable"], os.path.dirname(message["manifest_path"]))


def run(runner, name, program, folder):
    """Runs a program and prints its output; true if it succeeds."""
    start = time.monotonic()
    environment = os.environ | {"CARGO_MANIFEST_DIR": folder}
    command = [*runner, program, "--quiet"]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    text = done.stdout.decode(errors="replace").strip("\n")
    failed = f": FAILED with status {done.returncode}" if done.returncode else ""
    print(f"{text}\n-- {name}: {time.monotonic() - start:.0f} s{failed}\n", flush=True)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("messages")
    parser.add_argument("--runner", default="")
    parser.add_argument("--first", default="")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_intermixed_args()
    with open(arguments.messages) as messages:
        programs = list(built(messages))
    first = arguments.first.split(",") if arguments.first else []
    missing = set(first + arguments.names) - {name for name, _ in programs}
    if missing or not programs:
        sys.exit(f"no program of these tests was built: {', '.join(sorted(missing)) or 'all'}")
    wanted = [(name, *rest) for name, rest in programs if not arguments.names or name in arguments.names]
    wanted.sort(key=lambda program: first.index(program[0]) if program[0] in first else len(first))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda program: run(arguments.runner.split(), *program), wanted))
    if not all(outcomes):
        sys.exit(f"{outcomes.count(False)} of {len(outcomes)} test programs failed")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Checks the workflows of the forge against the schema for them, which the tool brings along. Installs the tool from PyPI, in an environment
# of its own below the folder in which cargo builds.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=check-jsonschema==0.39.0
folder=${CARGO_TARGET_DIR:-$PWD/target}/check-workflows
if [ "$(cat "$folder/tool" 2>/dev/null)" != "$tool" ]; then
    python3 -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$tool"
    echo "$tool" >"$folder/tool"
fi
"$folder/bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml

#!/usr/bin/env bash
# Makes an environment of Python on x86-64 in which PyTorch runs on the CPU, from PyPI's packages alone.
#
#   tools/setup-torch.sh [PREFIX]     PREFIX defaults to $KILN_TORCH or ~/.cache/kiln/torch; a second run does nothing
#   PREFIX/bin/python                 has torch, torchvision, transformers, Ray Data and pytest, but not Kiln
#
# PyPI's torch is a build for CUDA. Its CUDA packages are not installed: small libraries take their place (torch/cuda_stubs.py).
# Needs python3 with venv (3.11 or later; $PYTHON names another), cc, nm and readelf.
set -euo pipefail
umask 022
here=$(dirname "$(realpath "$0")")
. "$here/apt.sh"

prefix=$(realpath -m "${1:-${KILN_TORCH:-$HOME/.cache/kiln/torch}}")
python=${PYTHON:-python3}
[ "$(uname -m)" = x86_64 ] || die "this set-up is for x86-64: elsewhere install torch with pip, whose packages need no CUDA there up to 2.10"

# The stamp names all that the result depends on.
stamp() { cat "$here/setup-torch.sh" "$here/torch/cuda_stubs.py" "$here/torch/requirements.txt" | sha256sum && "$python" -VV; }
one_at_a_time "$prefix"
if [ "$(cat "$prefix/stamp" 2>/dev/null)" = "$(stamp)" ]; then
    exit 0
fi
say "installing PyTorch into $prefix"
rm -rf "$prefix"
"$python" -m venv "$prefix"
"$prefix/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --no-compile --requirement "$here/torch/requirements.txt"
"$prefix/bin/python" "$here/torch/cuda_stubs.py" "$("$prefix/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
"$prefix/bin/python" - <<'PYTHON'
import torch

assert torch.backends.mkldnn.is_available() and not torch.cuda.is_available()
assert torch.equal(torch.ones(2, 3) @ torch.ones(3, 2), torch.full((2, 2), 3.0))
print("torch", torch.__version__)
PYTHON
stamp >"$prefix/stamp"
say "ready: $prefix"

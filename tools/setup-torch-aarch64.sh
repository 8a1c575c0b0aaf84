#!/usr/bin/env bash
# Unpacks Python with PyTorch for AArch64 on x86-64 Debian 12, to run under qemu: Debian's packages, and PyPI's wheels.
#
#   tools/setup-torch-aarch64.sh [PREFIX]     PREFIX defaults to $KILN_TORCH_A64 or ~/.cache/kiln/torch-a64; a second run does nothing
#   PREFIX/python SCRIPT                      after tools/setup-aarch64.sh, whose emulator it takes: Python 3.11 with torch and pytest, but
#                                             not Kiln. QEMU_CPU chooses the core, and PYTHONPATH is searched first
#
# torch 2.10.0 is the last wheel for AArch64 on PyPI that needs no CUDA. Nothing that is unpacked here is told to dpkg or pip.
set -euo pipefail
umask 022
here=$(dirname "$(realpath "$0")")
. "$here/apt.sh"

prefix=$(realpath -m "${1:-${KILN_TORCH_A64:-$HOME/.cache/kiln/torch-a64}}")
packages=(python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libffi8 libbz2-1.0
    liblzma5 libssl3 libsqlite3-0 libuuid1 libcrypt1)
# NumPy is left out: importing it under emulation takes seconds, and these tests do without.
for_aarch64=(torch==2.10.0 MarkupSafe==3.0.4)
for_any=(typing_extensions==4.16.0 sympy==1.14.0 mpmath==1.3.0 networkx==3.6.1 Jinja2==3.1.6 filelock==4.3.1 fsspec==2026.9.0
    packaging==26.4 pytest==9.2.0 pluggy==1.7.0 iniconfig==2.3.1 Pygments==2.21.0)

[ "$(uname -m)" = x86_64 ] || die "this set-up is for x86-64 hosts; on AArch64 install torch with pip"

# The stamp names all that the result depends on.
stamp() { cat "$here/setup-torch-aarch64.sh" "$here/apt.sh" | sha256sum; }
one_at_a_time "$prefix"
if [ "$(cat "$prefix/stamp" 2>/dev/null)" = "$(stamp)" ]; then
    exit 0
fi
rm -rf "$prefix"
mkdir -p "$prefix"/{fs,site}
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

say "unpacking Python and PyTorch for AArch64 into $prefix"
foreign_apt "$temporary"
(cd "$temporary/download" && APT_CONFIG=$temporary/apt.conf apt-get -qq download "${packages[@]/%/:arm64}")
for package in "$temporary"/download/*.deb; do
    dpkg-deb -x "$package" "$prefix/fs"
done

# Debian's own interpreter is of the same version: its pip unzips for another processor, and its bytecode is the same.
/usr/bin/python3.11 -m venv "$temporary/venv"
pip=("$temporary/venv/bin/pip" --disable-pip-version-check install --quiet --no-deps --no-compile --only-binary :all: --target "$prefix/site")
"${pip[@]}" "${for_any[@]}"
rm -rf "$prefix/site/bin"
"${pip[@]}" --python-version 3.11 --implementation cp --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 "${for_aarch64[@]}"
# A few files of tests are no programs, on purpose.
/usr/bin/python3.11 -m compileall -q -j 0 "$prefix/site" "$prefix/fs/usr/lib/python3.11" >/dev/null || true

cat >"$prefix/python" <<RUN
#!/bin/sh
export QEMU_CPU="\${QEMU_CPU:-neoverse-v1}" PYTHONHOME='$prefix/fs/usr' PYTHONNOUSERSITE=1
export PYTHONPATH="\${PYTHONPATH:+\$PYTHONPATH:}$prefix/site"
exec "\${KILN_QEMU:-\${KILN_A64:-\$HOME/.cache/kiln/a64}/bin/qemu-aarch64}" -L '$prefix/fs' '$prefix/fs/usr/bin/python3.11' "\$@"
RUN
chmod +x "$prefix/python"
"$prefix/python" -c 'import platform, ssl, sqlite3, ctypes, sys; assert platform.machine() == "aarch64", platform.machine(); print(sys.version)'
stamp >"$prefix/stamp"
say "ready: $prefix/python"

#!/usr/bin/env bash
# Installs all that tools/test.sh needs on x86-64 Debian 12, given rustup's cargo. Run as root; a second run does nothing.
#
#   cc, as           link native tests; assemble x86-64 listings back to the same bytes
#   pkg-config       says how C programs are linked with the installed C API
#   c++, valgrind    compile the C API's header as C++; watch C programs for errors of memory
#   chromium         runs the script of the page that `kiln model profile --html` writes
#   llvm-mc, -mca    the encoder's oracle; the model behind `cargo xtask mca`
#   aarch64-*-as     assembles AArch64 listings
#   python3          builds and tests the Python package, in environments of their own
#   AArch64          tools/setup-aarch64.sh
#   PyTorch          tools/setup-torch.sh, and for AArch64 tools/setup-torch-aarch64.sh
set -euo pipefail
here=$(dirname "$(realpath "$0")")
. "$here/apt.sh"

oldest=1.95.0
tools=(git cc c++ as pkg-config valgrind chromium llvm-mc-22 llvm-mca-22 aarch64-linux-gnu-as python3)
command -v apt-get >/dev/null || die "needs Debian's apt-get; docs/testing.md lists the tools to install by other means"
command -v cargo >/dev/null || die "needs cargo $oldest or later, from https://rustup.rs"
version=$(cargo --version | cut -d ' ' -f 2)
printf '%s\n' "$oldest" "$version" | sort --check=quiet --version-sort || die "needs cargo $oldest or later, found $version: rustup update"

packages=(git gcc g++ libc6-dev pkgconf valgrind binutils binutils-aarch64-linux-gnu llvm-22 chromium python3-venv)
if [ -n "$(missing "${packages[@]}")" ]; then
    install_packages "${packages[@]}"
fi
# What is missing is said here, not by a test after minutes.
for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null || die "$tool is not in PATH although its package is installed"
done
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done
"$here/setup-aarch64.sh"
"$here/setup-torch.sh"
"$here/setup-torch-aarch64.sh"

#!/usr/bin/env bash
# Installs all that tools/test.sh needs on x86-64 Debian 12, given rustup's cargo. Run as root; a second run does nothing.
#
#   cc, as           link native tests; assemble x86-64 listings back to the same bytes
#   c++, valgrind    the C API's header as C++; C programs watched for errors of memory
#   chromium         runs the script of the page that `kiln model profile --html` writes
#   llvm-mc, -mca    the encoder's oracle; the model behind `cargo xtask mca`
#   aarch64-*-as     assemble AArch64 listings
#   the rest         tools/setup-aarch64.sh
set -euo pipefail
here=$(dirname "$(realpath "$0")")
. "$here/apt.sh"

command -v apt-get >/dev/null || die "needs Debian's apt-get; docs/testing.md lists the tools to install by other means"
command -v cargo >/dev/null || die "needs cargo, version 1.95 or later"

packages=(git gcc g++ libc6-dev valgrind binutils binutils-aarch64-linux-gnu llvm-22 chromium)
if [ -n "$(missing "${packages[@]}")" ]; then
    install_packages "${packages[@]}"
fi
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done
"$here/setup-aarch64.sh"

#!/usr/bin/env bash
# Makes `cargo test --target aarch64-unknown-linux-gnu` work on x86-64 Debian 12, from Debian's packages alone.
#
#   tools/setup-aarch64.sh [PREFIX]     as root; PREFIX defaults to $KILN_A64 or ~/.cache/kiln/a64; a second run does nothing
#   . PREFIX/env.sh                     cargo then compiles, links and runs (under qemu) for that target
#
# Installed with apt: rustc-web, the C cross compiler as linker, qemu-user 7.2 (the build that has -plugin).
# Unpacked under PREFIX, without telling dpkg: rustc-web's arm64 standard library, and qemu-aarch64 from backports, which
# models `neoverse-v1`: an instruction that core lacks (SVE2, say) faults there, where 7.2's `max` would run it.
# Neither rustup's toolchains nor /usr/lib/rustlib are touched.
set -euo pipefail
umask 022

prefix=$(realpath -m "${1:-${KILN_A64:-$HOME/.cache/kiln/a64}}")
target=aarch64-unknown-linux-gnu
packages=(rustc-web gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
here=$(dirname "$(realpath "$0")")
. "$here/apt.sh"

[ "$(uname -m)" = x86_64 ] || die "this set-up is for x86-64 hosts; on AArch64 the native tests are the target's tests"

# The stamp names all that the result depends on: the scripts and the compiler that the standard library must match.
stamp() { cat "$here/setup-aarch64.sh" "$here/apt.sh" | sha256sum && dpkg-query -W -f '${Version}' rustc-web; }
if [ -z "$(missing "${packages[@]}")" ] && [ "$(cat "$prefix/stamp" 2>/dev/null)" = "$(stamp)" ]; then
    exit 0
fi
rm -f "$prefix/stamp"
install_packages "${packages[@]}" # also brings an installed rustc-web up to the version that the mirror has for arm64

apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
say "downloading the arm64 standard library and qemu"
foreign_apt "$apt"
(cd "$apt/download" && APT_CONFIG=$apt/apt.conf apt-get -qq download libstd-rust-web-dev:arm64 qemu-user:amd64)

rm -rf "$prefix/std" "$prefix/sysroot"
mkdir -p "$prefix"/{bin,sysroot/lib/rustlib}
dpkg-deb -x "$apt"/download/libstd-rust-web-dev_*_arm64.deb "$prefix/std"
dpkg-deb --fsys-tarfile "$apt"/download/qemu-user_*_amd64.deb | tar -x -C "$prefix/bin" --strip-components=3 ./usr/bin/qemu-aarch64
ln -s /usr/lib/rustlib/x86_64-unknown-linux-gnu "$prefix/sysroot/lib/rustlib/"
ln -s "$prefix/std/usr/lib/rustlib/$target" "$prefix/sysroot/lib/rustlib/"

script() { printf '#!/bin/sh\n%s\n' "$2" >"$prefix/bin/$1" && chmod +x "$prefix/bin/$1"; }
for tool in rustc rustdoc; do
    script $tool "exec /usr/bin/$tool --sysroot '$prefix/sysroot' \"\$@\""
done
# KILN_TEST_RUNNER tells a test how to start another program of the target.
script run "export QEMU_CPU=\"\${QEMU_CPU:-neoverse-v1}\" KILN_TEST_RUNNER='$prefix/bin/run'
exec \"\${KILN_QEMU:-$prefix/bin/qemu-aarch64}\" -L /usr/aarch64-linux-gnu \"\$@\""
cat >"$prefix/env.sh" <<ENV
export RUSTC='$prefix/bin/rustc' RUSTDOC='$prefix/bin/rustdoc'
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='$prefix/bin/run'
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
ENV

# Compiler and standard library belong together, the linker links, and both emulators run what comes out.
cat >"$apt/hello.rs" <<'RUST'
fn main() {
    assert!(std::env::consts::ARCH == "aarch64" && std::arch::is_aarch64_feature_detected!("sve"));
}
RUST
"$prefix/bin/rustc" --edition 2024 --target $target -C linker=aarch64-linux-gnu-gcc -o "$apt/hello" "$apt/hello.rs"
"$prefix/bin/run" "$apt/hello"
QEMU_CPU=max,sve256=on KILN_QEMU=/usr/bin/qemu-aarch64 "$prefix/bin/run" "$apt/hello"
stamp >"$prefix/stamp"
say "ready: $("$prefix/bin/rustc" -V); $("$prefix/bin/qemu-aarch64" --version | head -n 1); $prefix/env.sh"

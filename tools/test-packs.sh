#!/usr/bin/env bash
# A pack that this machine makes for an AArch64 core is, byte for byte, the one that the core makes, and starts a network there without
# compiling or packing anything.
#
#   tools/test-packs.sh KILN FOREIGN_KILN    # the program of this machine, and that for AArch64, which runs in the emulator
set -euo pipefail
kiln=$1
foreign=("${KILN_A64:?}/bin/run" "$2")
export QEMU_CPU=neoverse-v1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The same pack on both machines.
both() {
    "$kiln" model pack "$@" --quiet -o "$folder/host" >/dev/null
    "${foreign[@]}" model pack "$@" --quiet -o "$folder/core" >/dev/null
    cmp "$folder/host" "$folder/core"
}

both resnet50 --target neoverse-v1
both bert-tiny --sizes seq=16,64 --target neoverse-v1,neoverse-n1
both bert-tiny --sizes seq=16,64 --target neoverse-v1,neoverse-n1 --fpmath bf16

report=$("${foreign[@]}" model bench bert-tiny --seq 16 --fpmath bf16 --quiet --pack "$folder/host" --repeat 1 --warm 0 --json)
number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" <<<"$report"; }
kernels=$(number kernels) weights=$(number weights)
if [ "${kernels:-0}" = 0 ] || [ "${weights:-0}" = 0 ] || [ "$(number kernels_unpacked)" != "$kernels" ] || [ "$(number weights_of_pack)" != "$weights" ]; then
    echo "expected $kernels kernels and $weights weights from the pack: $report" >&2
    exit 1
fi
echo "$kernels kernels and $weights packed weights came from the pack of another machine"

#!/usr/bin/env bash
# A pack that this machine makes for an AArch64 core is, byte for byte, the one that the core makes, and starts ResNet-50 there without
# compiling or packing anything.
#
#   tools/test-packs.sh KILN FOREIGN_KILN    # the program of this machine, and that for AArch64, which runs in the emulator
set -euo pipefail
kiln=$1
foreign=("${KILN_A64:?}/bin/run" "$2")
export QEMU_CPU=neoverse-v1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for math in strict bf16; do
    "$kiln" model pack bert-tiny --quiet --fpmath $math --sizes seq=16,64 -o "$folder/host" --target neoverse-v1,neoverse-n1 >/dev/null
    "${foreign[@]}" model pack bert-tiny --quiet --fpmath $math --sizes seq=16,64 -o "$folder/core" --target neoverse-v1,neoverse-n1 >/dev/null
    cmp "$folder/host" "$folder/core"
done

"$kiln" model pack resnet50 --quiet -o "$folder/host" --target neoverse-v1
"${foreign[@]}" model pack resnet50 --quiet -o "$folder/core" --target neoverse-v1
cmp "$folder/host" "$folder/core"
report=$("${foreign[@]}" model bench resnet50 --quiet --pack "$folder/host" --repeat 1 --warm 0 --json)
number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" <<<"$report"; }
kernels=$(number kernels) weights=$(number weights)
if [ "${kernels:-0}" = 0 ] || [ "${weights:-0}" = 0 ] || [ "$(number kernels_unpacked)" != "$kernels" ] || [ "$(number weights_of_pack)" != "$weights" ]; then
    echo "expected $kernels kernels and $weights weights from the pack: $report" >&2
    exit 1
fi
echo "$kernels kernels and $weights packed weights came from the pack of another machine"

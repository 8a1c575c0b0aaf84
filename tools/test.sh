#!/usr/bin/env bash
# Installs what the tests need, then passes all of them: natively, and as AArch64 programs under qemu.
# Stops at the first failure. docs/testing.md tells how to run a part by hand.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where a tool is missing, a test fails instead of skipping; snapshots are compared and never written.
export CI=1
# What depends on the machine runs on this core; the compiler's own tests do not, and the snapshots show that it makes the
# same there.
core=neoverse-v1
machine=(cli a64_differential networks flexible bf16 f16)
for file in tests/*.rs; do machine+=("$(basename "$file" .rs)"); done
# The test targets that execute kernels run again on these: without SVE, with narrower and with wider vectors.
more_cores=("neoverse-n1" "max,sve128=on" "max,sve512=on")
executing=(verify epilogues a64_differential networks)
# The targets that tests/verify.rs must find on each, all of them and no others.
native=x86-64-v3
if grep -qw avx512bw /proc/cpuinfo && grep -qw avx512dq /proc/cpuinfo && grep -qw avx512vl /proc/cpuinfo; then
    v4=x86-64-v4
    if grep -qw avx512_vnni /proc/cpuinfo; then v4+=+vnni; fi
    native=$v4,$native
fi
declare -A targets=(
    [native]=$native
    [neoverse-v1]=neoverse-v1,neoverse-v1-sve,neoverse-v1-neon
    [neoverse-n1]=neoverse-n1
    # NEON was executed on the others.
    [max,sve128=on]=sve128+bf16+dotprod+i8mm-neon
    [max,sve512=on]=sve512+bf16+dotprod+i8mm-neon
)
# Cases of a property test under emulation, and on the further cores; natively proptest's own default holds.
emulated_proptest_cases=32
more_proptest_cases=16

stage() {
    local name=$1 start=$SECONDS
    shift
    echo "== $name"
    "$@" || { echo "== $name: FAILED after $((SECONDS - start)) s" >&2; exit 1; }
    echo "== $name: $((SECONDS - start)) s"
}

export KILN_A64=${KILN_A64:-$HOME/.cache/kiln/a64}
stage set-up tools/setup-tests.sh
# Each selection of packages has features of its own, and what they change is compiled again. So the commands here have two of them for this
# machine: the workspace with what its tests ask for, whose programs are called by their paths, and what users get.
release=${CARGO_TARGET_DIR:-$PWD/target}/release
xtask=$release/xtask
stage "build" cargo build --locked --quiet --release --workspace --lib --bins --examples
KILN_EXPECT_TARGETS=${targets[native]} stage native "$xtask" check
stage "C programs" tools/test-c.sh
for target in neoverse-v1 neoverse-v1-sve; do
    stage "K loop on $target" "$xtask" mca "matmul f32 512x512:512x512" --target $target --at-least 98
    stage "BFMMLA K loop on $target" "$xtask" mca "ip f32 mb128ic768oc3072 fpmath=bf16" --packed --target $target --at-least 98
    stage "SMMLA K loop on $target" "$xtask" mca "ip s8:s8:s32 mb128ic768oc3072" --packed --target $target --at-least 98
done
for conv in "mb1ic64ih56oc64kh3ph1" "mb1ic64ih56oc256kh1" "mb1ic64ih56oc64kh3ph1 fpmath=bf16" "mb1ic64ih56oc256kh1 fpmath=bf16"; do
    stage "K loops of $conv" "$xtask" mca "conv f32 $conv" --packed --target neoverse-v1 --at-least 97
done
# Interleavings of two and three threads. Another configuration, for which only the few dependencies of these crates are built.
stage "interleavings" env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/loom" \
    cargo test --locked --quiet --release --package kiln-memo --package kiln-team --test loom
# As a user builds it: without the features that only tests use.
stage "main job, build" cargo build --locked --quiet --release --package kiln-compiler-cli --package kiln-python --bins
stage "main job" "$release/kiln" model bench resnet50 --quiet --check --max-rel 2e-5
# The wheel for this machine, installed where nothing else is, for the package's tests that need no torch, and where PyTorch is, for all others.
stage "Python package" "$xtask" wheel --target x86_64 --test
stage "PyTorch backend" "$xtask" wheel --target x86_64 --torch

# A target directory of its own, for its own compiler. Doc tests ran natively and are left out here.
. "$KILN_A64/env.sh"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/a64 PROPTEST_CASES=$emulated_proptest_cases
# Optimising across the parts of each crate would take a quarter of the time of the build.
export CARGO_PROFILE_RELEASE_LTO=off
a64=(--locked --quiet --release --workspace --exclude xtask --exclude kiln-python --target aarch64-unknown-linux-gnu)
built=$CARGO_TARGET_DIR/tests.json
build_tests() {
    mkdir -p "$CARGO_TARGET_DIR"
    cargo test "${a64[@]}" --lib "${machine[@]/#/--test=}" --no-run --message-format=json-render-diagnostics >"$built"
}
emulated=(tools/run_tests.py "$built" --runner "$KILN_A64/bin/run" --first)
stage "aarch64 build" build_tests
# What tests start, and C programs link: with examples, the dependencies are those of tests, and Cranelift's features too.
stage "aarch64 libraries and examples" cargo build "${a64[@]}" --lib --bins --examples
KILN_EXPECT_TARGETS=${targets[$core]} QEMU_CPU=$core stage "aarch64 on $core" "${emulated[@]}" cli,verify,threads
QEMU_CPU=$core stage "C programs on $core" tools/test-c.sh aarch64-unknown-linux-gnu
stage "packs of any machine" tools/test-packs.sh "$release/kiln" "$CARGO_TARGET_DIR/aarch64-unknown-linux-gnu/release/kiln"
# The wheel for AArch64, and small networks with it and PyTorch. That is one thread, so the further cores are emulated beside it.
torch_log=$CARGO_TARGET_DIR/torch.log
QEMU_CPU=neoverse-v1 stage "PyTorch backend on neoverse-v1" "$xtask" wheel --target aarch64 --torch &>"$torch_log" &
torch=$!
trap 'kill "$torch" 2>/dev/null || true' EXIT
for core in "${more_cores[@]}"; do
    PROPTEST_CASES=$more_proptest_cases KILN_ONLY_TARGETS=${targets[$core]} KILN_EXPECT_TARGETS=${targets[$core]} QEMU_CPU=$core \
        stage "aarch64 on $core" "${emulated[@]}" verify "${executing[@]}"
done
wait "$torch" || { cat "$torch_log" >&2; exit 1; }
cat "$torch_log"
echo "== all passed: $SECONDS s"

#!/usr/bin/env bash
# Builds the C API, compiles C programs against its shared and its static library, and runs them.
#
#   tools/test-c.sh            for this machine; also under valgrind, and the header as C++
#   tools/test-c.sh TARGET     for another target, after `. env.sh` of tools/setup-aarch64.sh, by the runner that it sets
#
# Every function of the header must occur in the test programs.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-}
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
cc=${CC:-cc} cxx=${CXX:-c++} runner=
if [ -n "$target" ]; then
    variable=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")
    linker=${variable}_LINKER runner=${variable}_RUNNER
    cc=${!linker} runner=${!runner}
fi
libraries=$target_dir/${target:+$target/}release
out=$target_dir/c-tests/${target:-native}
rm -rf "$out"
mkdir -p "$out/files"

# With examples, which have the dependencies of tests: another selection could compile Cranelift again, with other features.
cargo build --locked --quiet --release --workspace ${target:+--exclude xtask --exclude kiln-python --target "$target"} --lib --bins --examples

flags=(-Wall -Wextra -pedantic -Werror -O1 -g -Icapi)
echo '#include "kiln.h"' >"$out/header.c"
"$cc" -std=c99 "${flags[@]}" -fsyntax-only "$out/header.c"
# A C++ compiler is needed for this machine only: the header is the same for every target.
if [ -z "$target" ]; then
    "$cxx" -std=c++11 -x c++ "${flags[@]}" -fsyntax-only "$out/header.c"
fi
for function in $(grep -o '\bkiln_[a-z0-9_]*(' capi/kiln.h | tr -d '(' | sort -u); do
    grep -qw "$function" capi/tests/*.c || { echo "no test calls $function" >&2; exit 1; }
done

run() { # [COMMAND...] PROGRAM [ARGUMENT...]: succeeds and ends with "ok"
    local output
    output=$("$@") || { echo "$*: failed" >&2; exit 1; }
    [ "$(tail -n 1 <<<"$output")" = ok ] || { printf '%s\n%s: did not end with "ok"\n' "$output" "$*" >&2; exit 1; }
}

for source in capi/tests/handles.c capi/tests/calls.c examples/linear.c; do
    name=$(basename "$source" .c)
    arguments=()
    [ "$name" != handles ] || arguments=("$out/files")
    "$cc" -std=c99 "${flags[@]}" -pthread "$source" -o "$out/$name-shared" -L"$libraries" -Wl,-rpath,"$libraries" -lkiln -lm
    # What the static library needs of the system, by `cargo rustc -- --print native-static-libs`.
    "$cc" -std=c99 "${flags[@]}" -pthread "$source" -o "$out/$name-static" "$libraries/libkiln.a" -lgcc_s -lutil -lrt -lm -ldl
    for program in "$out/$name-shared" "$out/$name-static"; do
        run ${runner:+"$runner"} "$program" ${arguments:+"${arguments[@]}"}
        echo "$(basename "$program"): ok"
    done
    if [ -z "$target" ]; then
        # Kernels replace each other in memory, which valgrind is to notice. No leak is suppressed; those that are merely possible
        # are no errors: two that pointers to their middle keep, std's of the main thread and crossbeam's of its last garbage.
        run valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
            --show-leak-kinds=definite --smc-check=all "$out/$name-shared" ${arguments:+"${arguments[@]}"}
        echo "$name-shared under valgrind: ok"
    fi
done

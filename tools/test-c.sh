#!/usr/bin/env bash
# Builds the C API, installs it, compiles C programs against its shared and its static library, as pkg-config says, and runs them.
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

flags=(-Wall -Wextra -pedantic -Werror -O1 -g)
fixtures=$PWD/model/tests/fixtures
echo '#include "kiln.h"' >"$out/header.c"
"$cc" -std=c99 "${flags[@]}" -Icapi -fsyntax-only "$out/header.c"
# A C++ compiler is needed for this machine only: the header is the same for every target.
if [ -z "$target" ]; then
    "$cxx" -std=c++11 -x c++ "${flags[@]}" -Icapi -fsyntax-only "$out/header.c"
fi
for function in $(grep -o '\bkiln_[a-z0-9_]*(' capi/kiln.h | tr -d '(' | sort -u); do
    grep -qw "$function" capi/tests/*.c || { echo "no test calls $function" >&2; exit 1; }
done

# Where programs find what they need, and nothing else that is installed here.
prefix=$out/prefix
tools/install.sh --prefix "$prefix" --built "$libraries" ${target:+--target "$target"}
export PKG_CONFIG_LIBDIR=$prefix/lib/pkgconfig PKG_CONFIG_PATH=
# The shared library offers the header's functions, and no others.
functions=$(grep -o '\bkiln_[a-z0-9_]*(' capi/kiln.h | tr -d '(' | sort -u)
exported=$(readelf --dyn-syms --wide "$prefix/lib/libkiln.so" | awk '$5 == "GLOBAL" && $7 != "UND" { sub(/@.*/, "", $8); print $8 }')
if [ "$functions" != "$(sort -u <<<"$exported")" ]; then
    diff <(echo "$functions") <(sort -u <<<"$exported") >&2 || echo "libkiln.so does not offer what kiln.h says" >&2
    exit 1
fi
version=$(pkg-config --modversion kiln)
if ! readelf -d "$prefix/lib/libkiln.so" | grep "SONAME.*\[libkiln.so.${version%%.*}\]" >/dev/null; then
    echo "libkiln.so has another SONAME" >&2
    exit 1
fi

run() { # [COMMAND...] PROGRAM [ARGUMENT...]: succeeds and ends with "ok"
    local output
    output=$("$@") || { echo "$*: failed" >&2; exit 1; }
    [ "$(tail -n 1 <<<"$output")" = ok ] || { printf '%s\n%s: did not end with "ok"\n' "$output" "$*" >&2; exit 1; }
}

read -ra shared <<<"$(pkg-config --cflags --libs kiln)"
# The shared library would win.
read -ra static <<<"$(pkg-config --static --cflags --libs kiln | sed 's/-lkiln\b/-l:libkiln.a/')"
for source in capi/tests/*.c examples/*.c; do
    name=$(basename "$source" .c)
    arguments=()
    case $name in
        handles) arguments=("$out/files") ;;
        networks) arguments=("$out/files" "$fixtures") ;;
        network) arguments=("$fixtures/pixels/model.onnx" batch=1 height=8 width=12) ;;
    esac
    "$cc" -std=c99 "${flags[@]}" -pthread "$source" -o "$out/$name-shared" "${shared[@]}" -Wl,-rpath,"$prefix/lib" -lm
    "$cc" -std=c99 "${flags[@]}" -pthread "$source" -o "$out/$name-static" "${static[@]}" -lm
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

# The archive holds the same, wherever it is unpacked, with the licences of what is linked; and another folder for libraries is found.
tools/install.sh --archive "$out/kiln-c.tar.gz" --libdir lib/here --built "$libraries" ${target:+--target "$target"}
mkdir "$out/unpacked"
tar -x -z -f "$out/kiln-c.tar.gz" -C "$out/unpacked" --strip-components=1
export PKG_CONFIG_LIBDIR=$out/unpacked/lib/here/pkgconfig
read -ra shared <<<"$(pkg-config --cflags --libs kiln)"
"$cc" -std=c99 "${flags[@]}" examples/linear.c -o "$out/linear-unpacked" "${shared[@]}" -Wl,-rpath,"$out/unpacked/lib/here" -lm
run ${runner:+"$runner"} "$out/linear-unpacked"
grep -q '^cranelift-codegen-' "$out/unpacked/share/licenses/kiln/third-party/README" || { echo "licences are missing" >&2; exit 1; }
[ -s "$out/unpacked/share/licenses/kiln/LICENSE-MIT" ] || { echo "LICENSE-MIT is missing" >&2; exit 1; }
echo "linear-unpacked: ok"

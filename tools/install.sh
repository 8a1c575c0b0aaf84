#!/usr/bin/env bash
# Builds the C API's libraries and installs them with header, pkg-config file and licences, or packs them into an archive.
#
#   tools/install.sh --prefix DIR              installs below DIR, as below /usr/local or ~/.local
#   tools/install.sh --archive FILE.tar.gz     packs the same into a file, with the licences of all that is linked; needs python3
#
#   --target TRIPLE    for another machine: cargo's target, whose linker cargo knows, as after `. env.sh` of tools/setup-aarch64.sh
#   --libdir NAME      where libraries go below DIR, such as lib64 or lib/x86_64-linux-gnu; `lib` unless given
#   --built DIR        takes libkiln.so and libkiln.a from there instead of building them
#
# As for `make install`, what is installed is put below $DESTDIR if that is set. SOURCE_DATE_EPOCH is the time of files in the archive.
#
#   include/kiln.h   lib/libkiln.so -> libkiln.so.MAJOR -> libkiln.so.VERSION   lib/libkiln.a   lib/pkgconfig/kiln.pc   share/licenses/kiln/
set -euo pipefail
here=$(dirname "$(dirname "$(realpath "$0")")")

die() { echo "install.sh: error: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

prefix= archive= target= libdir=lib built=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --archive | --target | --libdir | --built)
            [ $# -ge 2 ] && [ -n "$2" ] || die "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift 2
            ;;
        *) usage ;;
    esac
done
if [ -n "$prefix" ] && [ -n "$archive" ] || [ -z "$prefix$archive" ]; then
    die "either --prefix DIR or --archive FILE.tar.gz is needed"
fi
case $libdir in /* | *..*) die "--libdir $libdir: expected a folder below the prefix, such as lib64" ;; esac

if [ -z "$built" ]; then
    (cd "$here" && cargo build --locked --release --package kiln-capi ${target:+--target "$target"})
    target_dir=${CARGO_TARGET_DIR:-$here/target}
    built=$target_dir/${target:+$target/}release
fi
version=$(cargo pkgid --manifest-path "$here/capi/Cargo.toml")
version=${version##*[#@]}
major=${version%%.*}
for library in libkiln.so libkiln.a; do
    [ -f "$built/$library" ] || die "$built/$library is not there"
done

# install_to DIR
install_to() {
    local lib=$1/$libdir licenses=$1/share/licenses/kiln up
    # From the folder of kiln.pc to the prefix.
    up=$(sed 's,[^/][^/]*,..,g' <<<"$libdir/pkgconfig")
    install -d "$1/include" "$lib/pkgconfig" "$licenses"
    install -m 644 "$here/capi/kiln.h" "$1/include/kiln.h"
    install -m 755 "$built/libkiln.so" "$lib/libkiln.so.$version"
    install -m 644 "$built/libkiln.a" "$lib/libkiln.a"
    ln -sf "libkiln.so.$version" "$lib/libkiln.so.$major"
    ln -sf "libkiln.so.$major" "$lib/libkiln.so"
    sed -e '/^#/d' -e "s,@UP@,$up," -e "s,@LIBDIR@,$libdir," -e "s,@VERSION@,$version," "$here/capi/kiln.pc.in" >"$lib/pkgconfig/kiln.pc"
    chmod 644 "$lib/pkgconfig/kiln.pc"
    install -m 644 "$here/LICENSE-MIT" "$here/LICENSE-APACHE" "$licenses"
}

if [ -n "$prefix" ]; then
    case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
    install_to "${DESTDIR:-}$prefix"
    echo "installed: ${DESTDIR:-}$prefix/$libdir/pkgconfig/kiln.pc"
else
    machine=${target:-$(rustc -vV | sed -n 's/^host: //p')}
    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT
    name=kiln-c-$version-$machine
    install_to "$stage/$name"
    "$here/tools/third_party.py" kiln-capi "$machine" "$stage/$name/share/licenses/kiln/third-party"
    find "$stage" -type d -exec chmod 755 {} +
    # The same bytes from the same libraries.
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" -C "$stage" -c "$name" | gzip -n >"$archive"
    echo "packed: $archive"
fi

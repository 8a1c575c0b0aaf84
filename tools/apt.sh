# shellcheck shell=bash
# Sourced by the set-up scripts: apt without surprises.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

say() { printf '%s: %s\n' "$(basename "$0")" "$*"; }
die() { say "error: $*" >&2; exit 1; }

# missing PACKAGE...: prints those that are not installed
missing() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
    done
}

# install_packages PACKAGE...: installs or upgrades them. apt waits for dpkg's lock but not for that of its package lists.
install_packages() {
    local try log
    [ "$(id -u)" = 0 ] || die "run as root to install: $*"
    say "installing $*"
    for try in 1 2 3 4 5 6; do
        apt-get -qq update && break
        [ "$try" -lt 6 ] || die "apt-get update failed"
        sleep 10
    done
    log=$(mktemp)
    apt-get -o DPkg::Lock::Timeout=600 -qq -y --no-install-recommends install "$@" >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; die "apt-get install failed"; }
    rm -f "$log"
}

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

# one_at_a_time FOLDER: waits until no other process sets up that folder, and keeps others waiting until this one ends
one_at_a_time() {
    mkdir -p "$(dirname "$1")"
    exec 9>"$1.lock"
    flock 9
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

# foreign_apt FOLDER: an apt state in FOLDER, apart from the machine's, that knows packages for amd64 and arm64, and backports. Mirrors and
# components are the machine's own. `APT_CONFIG=FOLDER/apt.conf apt-get download NAME:arm64` then fetches one, which dpkg is not told of.
foreign_apt() {
    local apt=$1 key=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,download}
    touch "$apt/status"
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
        sort -u | while read -r suite uri; do
        echo "deb [arch=arm64 signed-by=$key] $uri $suite main"
        [ "$suite" != bookworm ] || echo "deb [arch=amd64 signed-by=$key] $uri bookworm-backports main"
    done >"$apt/sources.list"
    grep -q bookworm-backports "$apt/sources.list" || die "no Debian 12 (bookworm) main archive among this machine's apt sources"
    cat >"$apt/apt.conf" <<CONF
APT::Architecture "amd64"; APT::Architectures { "amd64"; "arm64"; }; APT::Sandbox::User "root";
Acquire::Languages "none"; Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false"; Acquire::Retries "3";
Dir::State "$apt"; Dir::State::status "$apt/status"; Dir::State::Lists "$apt/lists"; Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "/dev/null";
CONF
    APT_CONFIG=$apt/apt.conf apt-get -qq update
}

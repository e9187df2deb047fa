#!/usr/bin/env bash
# What `make test-docker` needs on Debian, as root: Docker Engine, debootstrap and prometheus where they
# are missing, and Compose 2 as a plugin in FOLDER (Debian 12 has only 1.29; this is Debian 13's).
# No daemon is started.
# Usage: scripts/install_docker.sh FOLDER           Safe to run again.
set -euo pipefail

readonly COMPOSE="http://deb.debian.org/debian/pool/main/d/docker-compose/docker-compose_2.26.1-4_amd64.deb"
readonly COMPOSE_SHA256="47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea"

fail() {
    echo "install_docker.sh: $*" >&2
    exit 2
}

[[ $# -eq 1 ]] || fail "usage: install_docker.sh FOLDER"
plugin="$1/cli-plugins/docker-compose"
export PATH="$PATH:/usr/sbin:/sbin"

packages=()
command -v dockerd >/dev/null || packages+=(docker.io)
command -v iptables >/dev/null || packages+=(iptables)
command -v debootstrap >/dev/null || packages+=(debootstrap)
command -v prometheus >/dev/null || packages+=(prometheus)
if ((${#packages[@]})); then
    [[ "$(id -u)" == 0 ]] || fail "not root: install ${packages[*]} yourself"
    command -v apt-get >/dev/null || fail "no apt-get: install ${packages[*]} yourself"
    # Debian starts the daemons of a package that it installs, unless this file says otherwise.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get -qq update || fail "apt-get update failed; check the network"
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
        "${packages[@]}" >/dev/null || fail "apt-get could not install ${packages[*]}"
fi

if [[ ! -x "$plugin" ]]; then
    [[ "$(uname -m)" == "x86_64" ]] || fail "put a docker-compose of 2.20 or newer at $plugin"
    work="$(mktemp -d)"
    python3 -c 'import sys, urllib.request as r; r.urlretrieve(*sys.argv[1:])' \
        "$COMPOSE" "$work/compose.deb" || fail "$COMPOSE can't be fetched; check the network"
    echo "$COMPOSE_SHA256  $work/compose.deb" | sha256sum --check --quiet ||
        fail "$COMPOSE is not the file that was expected"
    dpkg-deb -x "$work/compose.deb" "$work/files"
    install -D "$work/files/usr/libexec/docker/cli-plugins/docker-compose" "$plugin"
    rm -rf "$work"
fi

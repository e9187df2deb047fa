#!/usr/bin/env bash
# `docker compose` on this project, where it is new enough; one sentence where it is not.
# Usage: scripts/compose.sh [compose's arguments ...]
set -euo pipefail
readonly NEEDED="2.20" # depends_on: required

refuse() {
    echo "compose.sh: docker-compose.yml needs Compose $NEEDED or newer, and $*; install" \
        "Docker's package docker-compose-plugin (or that of Debian 13, docker-compose)" >&2
    exit 2
}

if found="$(docker compose version --short 2>/dev/null)"; then
    found="${found#v}"
    oldest="$(printf '%s\n' "$NEEDED" "$found" | sort --version-sort | head -n 1)"
    [[ "$oldest" == "$NEEDED" ]] || refuse "docker compose is $found"
    exec docker compose --project-directory "$(dirname "${BASH_SOURCE[0]}")/.." "$@"
fi
if found="$(docker-compose version --short 2>/dev/null)"; then
    refuse "docker-compose is ${found#v}"
fi
refuse "there is none"

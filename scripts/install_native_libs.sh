#!/usr/bin/env bash
# Put what no wheel installs into VENV/native, without root:
#   native/bin/perf_analyzer        the load generator, from the wheel tritonclient 2.48.0
#   native/lib/libb64.so.0d         Debian's libb64-0d, which perf_analyzer links against
#   native/lib/libpythonX.Y.so.1.0  Debian's libpythonX.Y, for Triton's Python backend; only
#                                   where neither the interpreter nor the system has it
# Usage: scripts/install_native_libs.sh [VENV]      (default: .venv). Safe to run again.
set -euo pipefail

# Newer wheels need glibc 2.38; this one (Triton 24.07) runs on Debian 12's 2.36.
readonly WHEEL="tritonclient==2.48.0"
readonly WHEEL_SHA256="7074885798e8a711fedaf94d6dd77f310973fe2ebf29fb2837db350a43e2d6a5"

fail() {
    echo "install_native_libs.sh: $*" >&2
    exit 2
}

venv="${1:-.venv}"
[[ -x "$venv/bin/python" ]] || fail "$venv is not a virtual environment: no $venv/bin/python"
venv="$(cd "$venv" && pwd)"
python="$venv/bin/python"
[[ "$(uname -s)-$(uname -m)" == "Linux-x86_64" ]] || fail "only Linux on x86_64 is supported"
mkdir -p "$venv/native/bin" "$venv/native/lib"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

install_perf_analyzer() {
    local target="$venv/native/bin/perf_analyzer"
    [[ -x "$target" ]] && return
    echo "$WHEEL --hash=sha256:$WHEEL_SHA256" >"$work/requirements.txt"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --platform manylinux1_x86_64 \
        --dest "$work/wheel" --requirement "$work/requirements.txt" ||
        fail "$WHEEL could not be downloaded; check the network and pip's index"
    "$python" - "$work/wheel" "$target.part" <<'PYTHON'
import shutil
import sys
import zipfile
from pathlib import Path

(wheel,) = Path(sys.argv[1]).glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = (n for n in archive.namelist() if n.endswith(".data/data/bin/perf_analyzer"))
    with archive.open(name) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
    chmod 755 "$target.part"
    mv "$target.part" "$target"
}

# Whether the dynamic linker, or a folder given after the name, has this library.
has_library() {
    local name="$1" folder
    shift
    for folder in "$venv/native/lib" "$@"; do
        [[ -e "$folder/$name" ]] && return 0
    done
    PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -F "$name " >/dev/null
}

# As root, apt would fetch as the user _apt, which may not write to our folder.
apt_options=(-o "APT::Sandbox::User=root")
apt_is_private=

# apt's package lists, in a private folder when the system's are missing (containers).
prepare_apt() {
    local package="$1"
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        fail "apt-get and dpkg-deb are needed to fetch $package; install that library yourself"
    fi
    [[ -n "$apt_is_private" ]] && return
    apt-cache show "$package" >/dev/null 2>&1 && return
    mkdir -p "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial"
    apt_is_private=1
    apt_options+=(
        -o "Dir::State=$work/apt/state" -o "Dir::State::Lists=$work/apt/state/lists"
        -o "Dir::Cache=$work/apt/cache" -o "Dir::State::status=/var/lib/dpkg/status"
    )
    apt-get -qq "${apt_options[@]}" update || fail "apt-get update failed; check the network"
}

install_debian_library() {
    local package="$1" pattern="$2" folder="$work/deb/$1"
    prepare_apt "$package"
    mkdir -p "$folder"
    (cd "$folder" && apt-get -qq "${apt_options[@]}" download "$package" >/dev/null) ||
        fail "apt-get has no package $package for this release; install that library yourself"
    dpkg-deb -x "$folder"/*.deb "$folder/files"
    find "$folder/files" -name "$pattern" -exec cp -P -t "$venv/native/lib" {} +
}

install_perf_analyzer
has_library libb64.so.0d || install_debian_library libb64-0d 'libb64.so.0d*'

version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
mapfile -t folders < <("$python" -c '
import sys, sysconfig
print(sysconfig.get_config_var("LIBDIR") or "", sys.base_prefix + "/lib", sep="\n")')
has_library "libpython$version.so.1.0" "${folders[@]}" ||
    install_debian_library "libpython$version" "libpython$version.so.1*"

echo "native tools are in $venv/native"

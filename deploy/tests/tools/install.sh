#!/usr/bin/env bash
# Installs the programs that the tests talk to. What is there already is left alone, so a second run costs nothing.
#
#   .test-tools/node    npm package rtmp-client, as pinned in package-lock.json here
#   .test-tools/python  venv with Py3AMF, moto, imageio-ffmpeg (ffmpeg 7) and grpcio, as pinned in requirements.txt here, and with
#                       python-librtmp, as pinned in requirements-librtmp.txt
#   Debian packages     ffmpeg, rtmpdump, librtmp with its headers, GStreamer with its RTMP elements, openssl, iproute2
#   cargo               cargo-nextest; cargo-deny and cargo-fuzz too when asked for with HEADWATER_TOOLS=all
#
# A tool that cannot be installed is named at the end. That is an error where tests must not be skipped (CI=true or
# HEADWATER_REQUIRE_TOOLS=1); elsewhere the tests that need the tool say that they were skipped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools=$root/.test-tools
missing=()

have() { command -v "$1" >/dev/null 2>&1; }

debian_packages() {
    local wanted=() package
    have ffmpeg && have ffprobe || wanted+=(ffmpeg)
    have rtmpdump || wanted+=(rtmpdump)
    have openssl || wanted+=(openssl)
    have ip || wanted+=(iproute2)
    [ -f /usr/include/librtmp/rtmp.h ] || wanted+=(librtmp-dev)
    have npm || wanted+=(nodejs npm)
    if ! have gst-inspect-1.0 || ! gst-inspect-1.0 --exists rtmp2sink; then
        wanted+=(gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
            gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav)
    fi
    have python3 && python3 -c 'import ensurepip' 2>/dev/null || wanted+=(python3 python3-venv)
    [ ${#wanted[@]} -gt 0 ] || return 0

    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! have sudo || ! sudo -n true 2>/dev/null; then
            missing+=("Debian packages (neither root nor sudo without a password; run: apt-get install ${wanted[*]})")
            return 0
        fi
        as_root=(sudo -n)
    fi
    if ! have apt-get; then
        missing+=("packages ${wanted[*]} (no apt-get here: install them your way)")
        return 0
    fi
    echo "installing ${wanted[*]}"
    "${as_root[@]}" apt-get update -q >/dev/null || true
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${wanted[@]}" >/dev/null; then
        missing+=("Debian packages ${wanted[*]} (apt-get failed)")
    fi
}

node_packages() {
    local folder=$tools/node
    cmp -s "$here/package-lock.json" "$folder/installed.json" && return 0
    if ! have npm; then
        missing+=("rtmp-client (npm is not installed)")
        return 0
    fi
    echo "installing rtmp-client"
    mkdir -p "$folder"
    cp "$here/package.json" "$here/package-lock.json" "$folder/"
    if npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error; then
        cp "$here/package-lock.json" "$folder/installed.json"
    else
        missing+=("rtmp-client (npm failed)")
    fi
}

python_packages() {
    local folder=$tools/python
    cmp -s "$here/requirements.txt" "$folder/installed.txt" && return 0
    echo "installing Py3AMF, moto, imageio-ffmpeg and grpcio"
    if python3 -m venv --clear "$folder" &&
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"; then
        cp "$here/requirements.txt" "$folder/installed.txt"
    else
        missing+=("Py3AMF, moto, imageio-ffmpeg and grpcio (python3 -m venv or pip failed)")
    fi
}

# Into the same venv, which the step before makes anew when it changes.
python_librtmp() {
    local folder=$tools/python
    [ -x "$folder/bin/python" ] || return 0
    cmp -s "$here/requirements-librtmp.txt" "$folder/installed-librtmp.txt" && return 0
    echo "installing python-librtmp"
    if "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements-librtmp.txt"; then
        cp "$here/requirements-librtmp.txt" "$folder/installed-librtmp.txt"
    else
        missing+=("python-librtmp (pip failed: it needs a C compiler and the headers of librtmp)")
    fi
}

cargo_tool() {
    have "$1" && return 0
    echo "installing $1 $2 (compiles for some minutes)"
    cargo install --quiet --locked "$1" --version "$2" || missing+=("$1 (cargo install failed)")
}

mkdir -p "$tools"
debian_packages
node_packages
python_packages
python_librtmp
cargo_tool cargo-nextest 0.9.143
if [ "${HEADWATER_TOOLS:-}" = all ]; then
    cargo_tool cargo-deny 0.18.9
    cargo_tool cargo-fuzz 0.13.2
fi

[ ${#missing[@]} -gt 0 ] || exit 0
for tool in "${missing[@]}"; do
    echo "not installed: $tool"
done
[ "${CI:-}" != true ] && [ "${HEADWATER_REQUIRE_TOOLS:-}" != 1 ]

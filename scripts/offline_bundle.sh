#!/bin/sh
# What a GPU machine without a network lacks, in parts of at most 60 MiB, and the one command that runs it there.
#
#   scripts/offline_bundle.sh build [DIR]     here: wheels, sources, SmolLM2, the boxes' root file system -> DIR/part-*
#   scripts/offline_bundle.sh --slim [OPTIONS] [DIR]         here: a folder of 25 MiB instead (`slim_bundle.sh`)
#   sh offline_bundle.sh run [MODEL] [EPISODES] [STEPS]     there, beside the parts: SFT -> DPO and GRPO
#
# There, torch must be present for the Python that PYTHON names (default: python3); nothing else is taken for granted.
# Heeded: PYTHON (of the machine it runs on), TARGET (Python of that machine, for wheels; default 3.12).
set -eu

build() {
    root=$(cd "$(dirname "$0")/.." && pwd)
    out=${1:-dist/bundle} python=${PYTHON:-$root/.venv/bin/python} target=${TARGET:-3.12}
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    rm -f "$out"/part-* "$out"/SHA256SUMS
    work=$(mktemp -d "$out/.work-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/bundle/wheels" "$work/bundle/devnull" "$work/bundle/cache/devnull"

    echo "sources" >&2
    git -C "$root" archive HEAD | tar -x -C "$work/bundle/devnull"

    echo "wheels for Python $target" >&2
    "$python" "$root/scripts/wheel_list.py" > "$work/bundle/wheels.txt"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version "$target" --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_24_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --platform any \
        --dest "$work/bundle/wheels" -r "$work/bundle/wheels.txt"

    echo "root file system" >&2
    # From the archived sources: the machine there computes its digest from them too.
    rootfs=$(PYTHONPATH="$work/bundle/devnull/src" "$python" -c '
import sys
from devnull.sandbox.image.rootfs import ensure_rootfs
print(ensure_rootfs(lambda line: print(line, file=sys.stderr)).parent)')
    tar -C "$(dirname "$rootfs")" --numeric-owner -czf "$work/bundle/rootfs.tar.gz" "$(basename "$rootfs")"

    tar -C "$work/bundle" -c . | split -b 58M - "$out/part-"
    cp "$0" "$out/offline_bundle.sh"
    (cd "$out" && sha256sum part-* > SHA256SUMS && du -m part-* SHA256SUMS offline_bundle.sh >&2)
}

run() {
    here=$(cd "$(dirname "$0")" && pwd)
    python=${PYTHON:-python3}
    # dill pickles a module by value unless its path holds site-packages; a virtual environment's does.
    if [ ! -f "$here/unpacked/.done" ]; then
        echo "checking and unpacking" >&2
        (cd "$here" && sha256sum --quiet -c SHA256SUMS)
        rm -rf "$here/unpacked" && mkdir "$here/unpacked"
        cat "$here"/part-* | tar -x -C "$here/unpacked"
        owner=$([ "$(id -u)" = 0 ] && echo --numeric-owner || echo "--no-same-owner -p")
        # two words or one
        tar -C "$here/unpacked/cache/devnull" $owner -xzf "$here/unpacked/rootfs.tar.gz"
        rm "$here/unpacked/rootfs.tar.gz"
        "$python" -m venv --system-site-packages "$here/unpacked/venv"
        # Where PYTHON is itself a virtual environment, its torch is not among the system's packages.
        "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
            > "$(echo "$here"/unpacked/venv/lib/python3*/site-packages)/machine.pth"
        "$here/unpacked/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
            --find-links "$here/unpacked/wheels" -r "$here/unpacked/wheels.txt"
        touch "$here/unpacked/.done"
    fi
    export XDG_CACHE_HOME="$here/unpacked/cache" PIP_NO_INDEX=1 PIP_FIND_LINKS="$here/unpacked/wheels"
    export HF_HUB_OFFLINE=1 PYTHON="$here/unpacked/venv/bin/python" OUT="${OUT:-$here/runs}"
    export PYTHONPATH="$here/unpacked/devnull/src"
    cd "$here/unpacked/devnull"
    exec sh examples/gpu/run.sh "${@:-smollm2}"
}

case ${1:-} in
    build) shift && build "$@" ;;
    run) shift && run "$@" ;;
    --slim) shift && exec sh "$(dirname "$0")/slim_bundle.sh" "$@" ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
